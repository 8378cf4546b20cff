/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot table is changed in place where that is one word; otherwise it is written
 * anew and the header switched to it, count and offset in one write of 12 bytes:
 *
 *	header 60: count (4) | 64: offset (8)
 */
#include "ops/repair_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "format/snapshot.h"

static int switch_table(struct rep *r, uint32_t count, uint64_t off, enum qd_plan_step step,
			struct qd_err *err)
{
	uint8_t buf[12];

	qd_put_be32(buf, count);
	qd_put_be64(buf + 4, off);
	return qd_plan_write(r->plan, buf, sizeof(buf), QD_HEADER_OFF_SNAPSHOT_COUNT, step, err);
}

/* ---- writing it anew ---- */

static int copy_entry(struct rep *r, const struct qd_rep_snapshot *s, uint64_t to, size_t *ret_nbytes,
		      struct qd_err *err)
{
	struct qd_snapshot_entry e;
	size_t nbytes = 0, room = (size_t)s->nbytes + QD_SNAPSHOT_MAX_EXTRA;
	uint8_t *from = malloc(room), *out = calloc(1, room);
	int rc = from && out ? 0 : qd_err_nomem(err, "the snapshot table");

	if (rc == 0)
		rc = qd_plan_read(r->plan, from, (size_t)s->nbytes, s->entry_off, err);
	if (rc == 0)
		rc = qd_snapshot_decode(from, (size_t)s->nbytes, r->header.virtual_size, &e, &nbytes, err);
	if (rc == 0)
		rc = qd_plan_write(r->plan, out, nbytes = qd_snapshot_encode(&e, out), to, QD_PLAN_NEW, err);
	free(from);
	free(out);
	if (rc == 0)
		*ret_nbytes = nbytes;
	return rc;
}

static int rewrite_table(struct rep *r, struct qd_err *err)
{
	uint64_t room = 0, off = 0, at;
	size_t nbytes = 0;
	int rc = 0;

	for (uint32_t i = 0; i < r->nsnaps; i++)
		room += r->snaps[i].nbytes + 24;
	if (room)
		rc = qd_plan_alloc(r->plan, qd_div_up(room, r->geom.cluster_size), &off, err);
	at = off;
	for (uint32_t i = 0; rc == 0 && i < r->nsnaps; i++) {
		rc = copy_entry(r, &r->snaps[i], at, &nbytes, err);
		at += nbytes;
	}
	return rc ? rc : switch_table(r, r->nsnaps, off, QD_PLAN_SWITCH, err);
}

/* ---- entries and their number ---- */

/* Entries at off, up to max, whose L1 tables can be. */
static int count_sound(struct rep *r, uint64_t off, uint32_t max, uint32_t *ret_count, struct qd_err *err)
{
	struct qd_rep_snapshot *snaps = calloc(max ? max : 1, sizeof(*snaps));
	uint32_t n = 0;
	int rc = snaps ? 0 : qd_err_nomem(err, "the snapshot table");

	*ret_count = 0;
	if (rc == 0 && off && qd_is_aligned(off, r->geom.cluster_size))
		rc = qd_rep_read_snapshots(r, off, max, snaps, &n, err);
	while (rc == 0 && *ret_count < n && (snaps[*ret_count].l1_off || snaps[*ret_count].l1_entries == 0) &&
	       qd_is_aligned(snaps[*ret_count].l1_off, r->geom.cluster_size) &&
	       snaps[*ret_count].l1_off < r->file_size)
		++*ret_count;
	free(snaps);
	return rc;
}

/* Bytes of the name before the first zero byte; a wrong length takes in what follows. */
static int measure_name(struct rep *r, uint64_t off, uint16_t claimed, uint16_t *ret_nbytes,
			struct qd_err *err)
{
	char *name = malloc((size_t)claimed + 1);
	int rc = name ? qd_plan_read(r->plan, name, claimed, off, err) : qd_err_nomem(err, "a name");

	if (rc == 0)
		*ret_nbytes = (uint16_t)strnlen(name, claimed);
	free(name);
	return rc;
}

/*
 * Lets the name of the entry at off end at its first zero byte.  *ret_next is where the
 * next entry is, 0 when this can be none.
 */
static int mend_name(struct rep *r, uint64_t off, bool write, uint64_t *ret_next, uint32_t *ret_nmended,
		     struct qd_err *err)
{
	uint8_t buf[QD_SNAPSHOT_FIXED];
	uint16_t claimed, is;
	uint64_t l1_off, name_off;
	int rc = qd_plan_read(r->plan, buf, sizeof(buf), off, err);

	*ret_next = 0;
	if (rc)
		return rc;
	l1_off = qd_get_be64(buf);
	claimed = qd_get_be16(buf + 14);
	name_off = off + sizeof(buf) + qd_get_be32(buf + 36) + qd_get_be16(buf + 12);
	if (qd_get_be32(buf + 36) > QD_SNAPSHOT_MAX_EXTRA || l1_off == 0 || l1_off >= r->file_size ||
	    !qd_is_aligned(l1_off, r->geom.cluster_size) || name_off >= r->file_size)
		return 0;
	rc = measure_name(r, name_off, claimed, &is, err);
	if (rc)
		return rc;
	*ret_next = qd_align_up(name_off + is, 8);
	if (is == claimed)
		return 0;
	++*ret_nmended;
	qd_put_be16(buf + 14, is);
	return write ? qd_plan_write(r->plan, buf + 14, 2, off + 14, QD_PLAN_DROP, err) : 0;
}

/* Behind the last entry its cluster is zero; an entry has an ID, and so is not. */
static int is_end(struct rep *r, uint64_t off, bool *ret_is, struct qd_err *err)
{
	static const uint8_t zeros[QD_SNAPSHOT_FIXED];
	uint8_t buf[QD_SNAPSHOT_FIXED];
	int rc = qd_plan_read(r->plan, buf, sizeof(buf), off, err);

	*ret_is = rc == 0 && memcmp(buf, zeros, sizeof(buf)) == 0;
	return rc;
}

/* *ret_count: the entries there are, as many as the header counts or up to the end; 0 when none was mended. */
static int mend_names(struct rep *r, bool write, uint32_t *ret_count, struct qd_err *err)
{
	uint64_t off = r->header.snapshots_off;
	uint32_t nmended = 0, i;
	bool end = false;
	int rc = 0;

	*ret_count = 0;
	if (!qd_is_aligned(off, r->geom.cluster_size))
		return 0;
	for (i = 0; off && i < qd_min_u64(r->header.snapshot_count, QD_MAX_SNAPSHOTS); i++) {
		rc = is_end(r, off, &end, err);
		if (rc || end)
			break;
		rc = mend_name(r, off, write, &off, &nmended, err);
		if (rc)
			break;
	}
	if (rc == 0 && nmended && off && (end || i == r->header.snapshot_count))
		*ret_count = i;
	return rc;
}

/*
 * With names that end at their first zero byte, do as many entries follow each other as
 * the header counts, or up to where nothing more is?  Then the length of a name was what is
 * wrong, and in the latter case the count, too.
 */
static int fix_names(struct rep *r, const struct qd_finding *f, bool *ret_fixed, struct qd_err *err)
{
	uint32_t count;
	int rc = mend_names(r, false, &count, err);

	*ret_fixed = rc == 0 && count;
	if (!*ret_fixed)
		return rc;
	qd_rep_plan(r, QD_REPAIR_SET, f);
	rc = mend_names(r, true, &count, err);
	if (rc || count == r->header.snapshot_count)
		return rc;
	return switch_table(r, count, r->header.snapshots_off, QD_PLAN_DROP, err);
}

int qd_rep_find_snapshots(struct rep *r, const struct qd_finding *f, bool believe, struct qd_err *err)
{
	uint32_t count = r->header.snapshot_count, sound;
	uint64_t off = 0;
	bool fixed;
	int rc;

	if (count == 0) {
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return switch_table(r, 0, 0, QD_PLAN_DROP, err);
	}
	rc = fix_names(r, f, &fixed, err);
	if (rc || fixed)
		return rc;
	if (believe && count <= QD_MAX_SNAPSHOTS) {
		rc = count_sound(r, r->header.snapshots_off, count, &sound, err);
		if (rc)
			return rc;
		if (sound == count) {
			qd_rep_rebuild(r, f);
			return 0;
		}
	}
	if (count <= QD_MAX_SNAPSHOTS)
		rc = qd_rep_search_snapshots(r, r->header.snapshots_off, count, &off, err);
	if (rc)
		return rc;
	if (off == r->header.snapshots_off)
		off = 0;
	qd_rep_plan(r, off ? QD_REPAIR_FOUND : QD_REPAIR_REMOVE, f);
	return switch_table(r, off ? count : 0, off, QD_PLAN_SWITCH, err);
}

/* The first entry that is broken: with another length of its extra data everything may fit. */
static int fix_entry(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	static const uint32_t lengths[] = { 24, 16, 0 };
	uint64_t off = f->value[0];
	uint32_t left = (uint32_t)f->value[1], sound;
	uint8_t was[4], is[4];
	bool fixed, taken;
	int rc = qd_rep_is_named_table(r, off, &taken, err);

	if (rc)
		return rc;
	if (taken)
		return qd_rep_find_snapshots(r, f, false, err);
	rc = fix_names(r, f, &fixed, err);
	if (rc || fixed)
		return rc;
	rc = qd_plan_read(r->plan, was, sizeof(was), off + 36, err);
	for (size_t i = 0; rc == 0 && i < sizeof(lengths) / sizeof(lengths[0]); i++) {
		qd_put_be32(is, lengths[i]);
		rc = qd_plan_write(r->plan, is, sizeof(is), off + 36, QD_PLAN_DROP, err);
		if (rc == 0 && off % r->geom.cluster_size == 0)
			rc = count_sound(r, off, left, &sound, err);
		else
			sound = 0;
		if (rc == 0 && sound == left) {
			qd_rep_plan(r, QD_REPAIR_SET, f);
			return 0;
		}
	}
	if (rc == 0)
		rc = qd_plan_write(r->plan, was, sizeof(was), off + 36, QD_PLAN_DROP, err);
	if (rc)
		return rc;
	if (f->place.index == 0)
		return qd_rep_find_snapshots(r, f, false, err);
	qd_rep_plan(r, QD_REPAIR_REMOVE, f);
	return switch_table(r, (uint32_t)f->place.index, r->header.snapshots_off, QD_PLAN_DROP, err);
}

int qd_rep_fix_snapshots(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint32_t sound;
	bool fixed;
	int rc;

	switch (f->type) {
	case QD_F_SNAPSHOT_COUNT:
		rc = fix_names(r, f, &fixed, err);
		if (rc || fixed)
			return rc;
		rc = count_sound(r, r->header.snapshots_off, QD_MAX_SNAPSHOTS, &sound, err);
		if (rc)
			return rc;
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return switch_table(r, sound, sound ? r->header.snapshots_off : 0, QD_PLAN_DROP, err);
	case QD_F_SNAPSHOT_TABLE:
		return qd_rep_find_snapshots(r, f, false, err);
	case QD_F_SNAPSHOT_ENTRY:
		return fix_entry(r, f, err);
	case QD_F_SNAPSHOT_EXTRA:
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return rewrite_table(r, err);
	default:
		return 0;
	}
}
