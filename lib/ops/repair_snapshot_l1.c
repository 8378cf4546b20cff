/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where a snapshot's entry names an L1 table that cannot be, or somebody else's: the one it had
 * is searched for, or what is left is kept.  The table of entries is repair_snapshot.c's.
 */
#include "ops/repair_snapshot.h"

#include <stdlib.h>

/* Entries that the snapshot needs, where its table is in the file but for a size that is too large. */
static uint64_t real_size(const struct rep *r, const struct qd_rep_snapshot *s)
{
	uint64_t needed = qd_geom_l1_entries(&r->geom, s->mapped_size);

	if (s->l1_off == 0 || !qd_is_aligned(s->l1_off, r->geom.cluster_size) || needed >= s->l1_entries ||
	    !qd_range_within(s->l1_off, needed * 8, r->file_size))
		return 0;
	return needed;
}

/* The snapshot's table is at `off` from now on, for searches of this round, too. */
static int switch_l1(struct rep *r, struct qd_rep_snapshot *s, uint64_t off, uint32_t nentries,
		     struct qd_err *err)
{
	uint8_t buf[12];

	s->l1_off = off;
	s->l1_entries = nentries;
	qd_put_be64(buf, off);
	qd_put_be32(buf + 8, nentries);
	return qd_plan_write(r->plan, buf, sizeof(buf), s->entry_off, QD_PLAN_SWITCH, err);
}

/* The first `keep` entries, in a table of the snapshot's own. */
static int move_l1(struct rep *r, struct qd_rep_snapshot *s, uint64_t keep, struct qd_err *err)
{
	uint64_t to = 0, nbytes = keep * 8;
	uint8_t *buf = malloc(nbytes ? nbytes : 1);
	int rc = buf ? 0 : qd_err_nomem(err, "an L1 table");

	if (rc == 0)
		rc = qd_plan_alloc(r->plan, qd_div_up((uint64_t)s->l1_entries * 8, r->geom.cluster_size), &to,
				   err);
	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, nbytes, s->l1_off, err);
	for (uint64_t i = 0; rc == 0 && i < keep; i++)
		qd_put_be64(buf + i * 8, qd_get_be64(buf + i * 8) & ~QD_COPIED);
	if (rc == 0)
		rc = qd_plan_write(r->plan, buf, nbytes, to, QD_PLAN_NEW, err);
	free(buf);
	return rc ? rc : switch_l1(r, s, to, s->l1_entries, err);
}

int qd_rep_empty_snapshot(struct rep *r, const struct qd_finding *f, uint64_t number, struct qd_err *err)
{
	struct qd_rep_snapshot *s = &r->snaps[number];
	uint8_t none[12] = { 0 };

	qd_rep_plan(r, QD_REPAIR_DROP, f);
	s->l1_off = s->l1_entries = 0;
	return qd_plan_write(r->plan, none, sizeof(none), s->entry_off, QD_PLAN_DROP, err);
}

/* What the end of the file has left of a table; *ret_keep 0: nothing that looks like one. */
static int what_is_left(struct rep *r, const struct qd_rep_snapshot *s, uint64_t *ret_keep,
			struct qd_err *err)
{
	uint64_t used;
	int rc;

	*ret_keep = 0;
	if (!qd_is_aligned(s->l1_off, r->geom.cluster_size) || s->l1_off == 0 || s->l1_off >= r->file_size ||
	    (uint64_t)s->l1_entries * 8 > QD_MAX_L1_BYTES)
		return 0;
	*ret_keep = qd_min_u64(s->l1_entries, (r->file_size - s->l1_off) / 8);
	rc = qd_rep_looks_like_l1(r, s->l1_off, *ret_keep, &used, err);
	if (used == 0)
		*ret_keep = 0;
	return rc;
}

/* With as many entries as it says, or, where that are too many, as it needs; *ret_off 0: none. */
static int search_own_l1(struct rep *r, const struct qd_rep_snapshot *s, uint64_t *ret_off,
			 uint64_t *ret_entries, struct qd_err *err)
{
	uint64_t needed = qd_geom_l1_entries(&r->geom, s->mapped_size);
	int rc;

	*ret_entries = s->l1_entries ? s->l1_entries : needed;
	rc = qd_rep_search_l1(r, s->l1_off, *ret_entries, ret_off, err);
	if (rc || *ret_off || needed >= *ret_entries || needed == 0)
		return rc;
	*ret_entries = needed;
	return qd_rep_search_l1(r, s->l1_off, needed, ret_off, err);
}

int qd_rep_replace_snapshot_l1(struct rep *r, const struct qd_finding *f, uint64_t number, bool in_the_way,
			       struct qd_err *err)
{
	struct qd_rep_snapshot *s = &r->snaps[number];
	uint64_t off, nentries;
	int rc = search_own_l1(r, s, &off, &nentries, err);

	if (rc)
		return rc;
	if (off && off != s->l1_off) {
		qd_rep_plan(r, QD_REPAIR_FOUND, f);
		return switch_l1(r, s, off, (uint32_t)nentries, err);
	}
	return in_the_way ? qd_rep_empty_snapshot(r, f, number, err) : 0;
}

int qd_rep_find_snapshot_l1(struct rep *r, const struct qd_finding *f, uint64_t number, struct qd_err *err)
{
	struct qd_rep_snapshot *s;
	uint64_t off, nentries, keep = 0;
	uint8_t buf[4];
	int rc;

	if (number >= r->nsnaps)
		return 0;
	s = &r->snaps[number];
	if (f->type == QD_F_L1_PAST_END && real_size(r, s)) {
		qd_rep_plan(r, QD_REPAIR_SET, f);
		qd_put_be32(buf, (uint32_t)real_size(r, s));
		return qd_plan_write(r->plan, buf, sizeof(buf), s->entry_off + 8, QD_PLAN_DROP, err);
	}
	rc = search_own_l1(r, s, &off, &nentries, err);
	if (rc == 0 && off && off != s->l1_off) {
		qd_rep_plan(r, QD_REPAIR_FOUND, f);
		return switch_l1(r, s, off, (uint32_t)nentries, err);
	}
	if (rc == 0 && f->type == QD_F_L1_PAST_END)
		rc = what_is_left(r, s, &keep, err);
	if (rc)
		return rc;
	if (keep == 0)
		return qd_rep_empty_snapshot(r, f, number, err);
	qd_rep_plan(r, QD_REPAIR_DROP, f);
	return move_l1(r, s, keep, err);
}

static bool overlap(uint64_t a, uint64_t a_entries, uint64_t b, uint64_t b_entries, uint64_t cluster_size)
{
	return a < qd_align_up(b + b_entries * 8, cluster_size) &&
	       b < qd_align_up(a + a_entries * 8, cluster_size);
}

/* Does the active table, or the header, claim the place of snapshot i's? */
static bool is_foreign(const struct rep *r, uint32_t i)
{
	const struct qd_rep_snapshot *s = &r->snaps[i];
	uint64_t size = r->geom.cluster_size;

	return (s->l1_off < size && s->l1_entries) ||
	       overlap(s->l1_off, s->l1_entries, r->header.l1_off, r->header.l1_entries, size);
}

/* Likewise the table of a snapshot before it. */
static bool is_taken(const struct rep *r, uint32_t i)
{
	const struct qd_rep_snapshot *s = &r->snaps[i];
	uint64_t size = r->geom.cluster_size;

	for (uint32_t k = 0; k < i; k++)
		if (overlap(s->l1_off, s->l1_entries, r->snaps[k].l1_off, r->snaps[k].l1_entries, size))
			return true;
	return false;
}

/* What separating many snapshots has learned: of equals only the first is looked at. */
struct separation {
	uint64_t off;		/* of the table looked at last */
	uint32_t nentries;
	uint64_t used;
	uint32_t none_of;	/* no lost table of so many entries is left; 0: not known */
};

static int look_at_l1(struct rep *r, const struct qd_rep_snapshot *s, struct separation *sep,
		      struct qd_err *err)
{
	if (s->l1_off == sep->off && s->l1_entries == sep->nentries)
		return 0;
	sep->off = s->l1_off;
	sep->nentries = s->l1_entries;
	return qd_rep_looks_like_l1(r, s->l1_off, s->l1_entries, &sep->used, err);
}

/*
 * Its own table may be there still, with nobody to name it.  But which of two snapshots
 * it would belong to is not known: they go on reading the same.
 */
static int find_own_l1(struct rep *r, const struct qd_rep_snapshot *s, struct separation *sep,
		       uint64_t *ret_off, struct qd_err *err)
{
	int rc;

	*ret_off = 0;
	if (s->l1_entries == sep->none_of)
		return 0;
	rc = qd_rep_search_l1(r, 0, s->l1_entries, ret_off, err);
	if (*ret_off == 0)
		sep->none_of = s->l1_entries;
	return rc;
}

static int separate_one(struct rep *r, uint32_t i, struct separation *sep, struct qd_err *err)
{
	struct qd_rep_snapshot *s = &r->snaps[i];
	struct qd_finding f = {
		.type = QD_F_OVERLAP, .nitems = 1,
		.place = { QD_AT_L1, i + 1, 0, QD_NOWHERE, s->l1_off },
	};
	bool foreign = is_foreign(r, i);
	uint64_t off = 0;
	int rc = look_at_l1(r, s, sep, err);

	if (rc)
		return rc;
	if (sep->used == 0 && s->l1_entries)
		return qd_rep_find_snapshot_l1(r, &f, i, err);
	if (!foreign && !is_taken(r, i))
		return 0;
	if (foreign)
		rc = find_own_l1(r, s, sep, &off, err);
	if (rc)
		return rc;
	qd_rep_plan(r, off ? QD_REPAIR_FOUND : QD_REPAIR_COPY, &f);
	return off ? switch_l1(r, s, off, s->l1_entries, err) : move_l1(r, s, s->l1_entries, err);
}

int qd_rep_separate_snapshots(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	struct separation sep = { .off = QD_NOWHERE };
	uint64_t before = r->nplanned;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < r->nsnaps; i++)
		rc = separate_one(r, i, &sep, err);
	if (rc == 0 && r->nplanned == before)
		qd_rep_rebuild(r, f);
	return rc;
}
