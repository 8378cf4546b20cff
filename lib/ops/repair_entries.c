/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing L1 and L2 entries.
 *
 *	reserved bits            cleared, the rest is believed unless refcounts speak against it
 *	not aligned              the cluster that it lies in, if that has a refcount too high
 *	                         (and, in L1, is a table); else dropped
 *	past the end, garbage    dropped, unless an L1 entry's table is found (repair_table.c)
 *	at metadata              the guest's bytes are copied to a cluster of their own; only
 *	                         L1 entries are dropped, for what they name is no L2 table
 *	external data file       a cluster can only be at the guest's offset: the entry says so
 *	COPIED                   follows the refcount
 *
 * A dropped entry reads as zeros even over a backing file where the format can say so:
 * the old content of the backing file would be worse than none.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

#include "space/overlap.h"

#define MAX_LOOKS 4096u

/* ---- L1 ---- */

static int l1_entry(struct rep *r, const struct qd_finding *f, uint64_t *ret_off, uint64_t *ret_entry,
		    struct qd_err *err)
{
	uint64_t off, nentries;

	*ret_off = 0;
	if (!qd_rep_l1_of(r, f->place.layer, &off, &nentries) || f->place.index >= nentries)
		return 0;
	*ret_off = off + f->place.index * 8;
	return qd_plan_get64(r->plan, *ret_off, ret_entry, err);
}

static bool is_made_up(const struct rep *r, uint64_t entry)
{
	uint64_t off = qd_entry_host_off(entry);

	return off && qd_is_aligned(off, r->geom.cluster_size) &&
	       qd_rep_is_made_up(r, off >> r->geom.cluster_bits);
}

/* How many entries of this round have lost their table. */
static size_t count_lost(const struct rep *r)
{
	size_t n = 0;

	for (size_t i = 0; i < r->nfound; i++)
		n += r->found[i].type != QD_F_L1_ENTRY_RESERVED;
	return n;
}

/* Garbage in a cluster that nothing else uses is its own table, overwritten, and not the place of another. */
static bool is_overwritten(const struct rep *r, const struct qd_finding *f, uint64_t table)
{
	return f->type == QD_F_L2_GARBAGE && qd_rep_is_leaked(r, table >> r->geom.cluster_bits);
}

/* The table that an entry should name: the one it nearly names, or the only one that is lost. */
static int find_table(struct rep *r, const struct qd_finding *f, uint64_t entry, uint64_t *ret_table,
		      struct qd_err *err)
{
	uint64_t used, near = qd_align_down(qd_entry_host_off(entry), r->geom.cluster_size);
	bool does = false;
	int rc = 0;

	*ret_table = near;
	if (f->type == QD_F_L1_ENTRY_UNALIGNED && qd_rep_is_leaked(r, near >> r->geom.cluster_bits))
		rc = qd_rep_looks_like_l2(r, near, &does, &used, err);
	if (rc || does)
		return rc;
	return qd_rep_search_l2(r, f, entry, count_lost(r) == 1 && !is_overwritten(r, f, near), ret_table,
				err);
}

int qd_rep_fix_l1(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t at, entry, table;
	int rc = l1_entry(r, f, &at, &entry, err);

	if (rc || at == 0)
		return rc;
	if (f->type == QD_F_L1_ENTRY_RESERVED && !is_made_up(r, entry)) {
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return qd_plan_put64(r->plan, at, entry & ~QD_L1_RESERVED, QD_PLAN_DROP, err);
	}
	if (f->type == QD_F_L2_GARBAGE) {
		rc = qd_rep_salvage_l2(r, f, entry, &table, err);
		if (rc == 0 && table) {
			qd_rep_plan(r, QD_REPAIR_DROP, f);
			return qd_plan_put64(r->plan, at, table, QD_PLAN_SWITCH, err);
		}
		if (rc)
			return rc;
	}
	rc = find_table(r, f, entry, &table, err);
	if (rc)
		return rc;
	qd_rep_plan(r, table ? QD_REPAIR_FOUND : QD_REPAIR_DROP, f);
	return qd_plan_put64(r->plan, at, table, QD_PLAN_DROP, err);
}

/* ---- L2 ---- */

int qd_rep_l2_entry(struct rep *r, uint32_t layer, uint64_t guest_off, uint64_t *ret_off, struct qd_err *err)
{
	const struct qd_geom *g = &r->geom;
	uint64_t l1_off, nentries, entry, i = guest_off >> (g->l2_bits + g->cluster_bits);
	int rc;

	*ret_off = 0;
	if (!qd_rep_l1_of(r, layer, &l1_off, &nentries) || i >= nentries)
		return 0;
	rc = qd_plan_get64(r->plan, l1_off + i * 8, &entry, err);
	if (rc || qd_entry_host_off(entry) == 0 || !qd_is_aligned(qd_entry_host_off(entry), g->cluster_size))
		return rc;
	*ret_off = qd_entry_host_off(entry) +
		   ((guest_off >> g->cluster_bits) & (g->l2_entries - 1)) * g->l2_entry_size;
	return 0;
}

static bool has_backing(const struct rep *r)
{
	return r->header.backing_name_off != 0;
}

static int drop(struct rep *r, uint64_t at, uint64_t entry, struct qd_err *err)
{
	uint64_t bitmap, zeros;
	uint8_t buf[16] = { 0 };
	int rc;

	if (!r->geom.extended_l2) {
		zeros = r->header.version < 3 ? 0 : has_backing(r) ? QD_L2_ZERO : 0;
		if (r->header.version >= 3 && !qd_l2_is_compressed(entry))
			zeros |= entry & QD_L2_ZERO;
		return qd_plan_put64(r->plan, at, zeros, QD_PLAN_DROP, err);
	}
	rc = qd_plan_get64(r->plan, at + 8, &bitmap, err);
	if (rc)
		return rc;
	zeros = qd_l2_is_compressed(entry) ? 0 : bitmap >> 32;
	if (has_backing(r))
		zeros |= qd_l2_is_compressed(entry) ? UINT32_MAX : bitmap & UINT32_MAX;
	qd_put_be64(buf + 8, zeros << 32);
	return qd_plan_write(r->plan, buf, sizeof(buf), at, QD_PLAN_DROP, err);
}

/* The bytes that the guest saw, in new clusters; *ret_off is that of the first byte. */
static int copy_bytes(struct rep *r, uint64_t from, uint64_t nbytes, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t within = from & 511, to = 0;
	uint8_t *buf = malloc(nbytes);
	int rc = buf ? 0 : qd_err_nomem(err, "a cluster");

	if (rc == 0)
		rc = qd_plan_read_base(r->plan, buf, nbytes, from, err);
	if (rc == 0)
		rc = qd_plan_alloc(r->plan, qd_div_up(within + nbytes, r->geom.cluster_size), &to, err);
	if (rc == 0)
		rc = qd_plan_write(r->plan, buf, nbytes, to + within, QD_PLAN_NEW, err);
	free(buf);
	if (rc == 0)
		*ret_off = to + within;
	return rc;
}

int qd_rep_copy_owner(struct rep *r, uint64_t at, uint64_t entry, struct qd_err *err)
{
	struct qd_compressed z;
	uint64_t to = 0;
	int rc;

	if (qd_l2_is_compressed(entry)) {
		z = qd_l2_compressed(&r->geom, entry);
		rc = copy_bytes(r, z.host_off, z.nbytes, &to, err);
		if (rc)
			return rc;
		entry = qd_l2_make_compressed(&r->geom, to, z.nbytes);
	} else {
		rc = copy_bytes(r, qd_entry_host_off(entry), r->geom.cluster_size, &to, err);
		if (rc)
			return rc;
		entry = (entry & ~(QD_OFFSET_MASK | QD_COPIED)) | to;
	}
	return qd_plan_put64(r->plan, at, entry, QD_PLAN_SWITCH, err);
}

/* Bits to clear in an entry that is otherwise believed. */
static uint64_t wrong_bits(const struct rep *r, enum qd_finding_type type)
{
	switch (type) {
	case QD_F_L2_ENTRY_RESERVED:
		return QD_L2_RESERVED | (r->geom.extended_l2 ? QD_L2_ZERO : 0);
	case QD_F_L2_ENTRY_ZERO:
		return QD_L2_ZERO;
	default:
		return 0;
	}
}

static int fix_bitmap(struct rep *r, uint64_t at, uint64_t entry, struct qd_err *err)
{
	uint64_t bitmap;
	int rc = qd_plan_get64(r->plan, at + 8, &bitmap, err);

	if (rc)
		return rc;
	if (qd_l2_is_compressed(entry))
		bitmap = 0;
	else if (qd_entry_host_off(entry))
		bitmap &= ~(bitmap << 32);
	else
		bitmap &= ~(uint64_t)UINT32_MAX;
	return qd_plan_put64(r->plan, at + 8, bitmap, QD_PLAN_DROP, err);
}

/* It may have been answered already; and what is called a compressed cluster may be metadata alone. */
static int separate(struct rep *r, enum qd_finding_type type, uint64_t at, uint64_t entry,
		    enum qd_repair_verb *ret_verb, struct qd_err *err)
{
	bool is = true;
	int rc = 0;

	if (!qd_l2_is_compressed(entry) && qd_entry_host_off(entry) == 0)
		return 0;
	if (type == QD_F_COMPRESSED_OVERLAP)
		rc = qd_rep_is_compressed(r, entry, &is, err);
	if (rc)
		return rc;
	*ret_verb = is ? QD_REPAIR_COPY : QD_REPAIR_DROP;
	return is ? qd_rep_copy_owner(r, at, entry, err) : drop(r, at, entry, err);
}

/* One of two flags is wrong: what lies there tells. */
static int fix_compressed_copied(struct rep *r, uint64_t at, uint64_t entry, enum qd_repair_verb *ret_verb,
				 struct qd_err *err)
{
	uint64_t plain = entry & ~(QD_COMPRESSED | QD_L2_RESERVED | QD_L2_ZERO);
	bool is;
	int rc = qd_rep_is_compressed(r, entry & ~QD_COPIED, &is, err);

	if (rc)
		return rc;
	if (!is && qd_entry_host_off(plain) && qd_rep_entry_is_possible(r, plain))
		return qd_plan_put64(r->plan, at, plain, QD_PLAN_DROP, err);
	if (is)
		return qd_plan_put64(r->plan, at, entry & ~QD_COPIED, QD_PLAN_DROP, err);
	*ret_verb = QD_REPAIR_DROP;
	return drop(r, at, entry, err);
}

/* A bitmap beside a compressed cluster: where there is none, flags are what is wrong. */
static int fix_compressed_bitmap(struct rep *r, uint64_t at, uint64_t entry, struct qd_err *err)
{
	uint64_t off = qd_entry_host_off(entry), nowners = qd_rep_nowners(r, off >> r->geom.cluster_bits);
	bool is;
	int rc = qd_rep_is_compressed(r, entry, &is, err);

	if (rc)
		return rc;
	if (!is && off && qd_is_aligned(off, r->geom.cluster_size) && nowners)
		return qd_plan_put64(r->plan, at, off | (nowners == 1 ? QD_COPIED : 0), QD_PLAN_DROP, err);
	return fix_bitmap(r, at, entry, err);
}

/* Is it reported for pointing at metadata, too? */
static bool is_at_metadata(const struct rep *r, uint32_t layer, uint64_t guest_off)
{
	size_t n = qd_min_u64(r->nfound, MAX_LOOKS);

	for (size_t i = 0; i < n; i++) {
		const struct qd_finding *f = &r->found[i];

		if (f->type == QD_F_L2_ENTRY_OVERLAP && f->place.layer == layer &&
		    guest_off >= f->place.guest_off &&
		    guest_off - f->place.guest_off < f->nitems << r->geom.cluster_bits)
			return true;
	}
	return false;
}

static int fix_item(struct rep *r, enum qd_finding_type type, uint64_t at, uint32_t layer, uint64_t guest_off,
		    enum qd_repair_verb *ret_verb, struct qd_err *err)
{
	uint64_t entry, cluster, bits = wrong_bits(r, type);
	int rc = qd_plan_get64(r->plan, at, &entry, err);

	if (rc)
		return rc;
	if (type == QD_F_COMPRESSED_COPIED)
		return fix_compressed_copied(r, at, entry, ret_verb, err);
	if (bits && !(type == QD_F_L2_ENTRY_RESERVED &&
		      (is_made_up(r, entry) || is_at_metadata(r, layer, guest_off))))
		return qd_plan_put64(r->plan, at, entry & ~bits, QD_PLAN_DROP, err);
	switch (type) {
	case QD_F_L2_ENTRY_DATA_FILE:
		return qd_plan_put64(r->plan, at, (entry & ~QD_OFFSET_MASK) | guest_off, QD_PLAN_DROP, err);
	case QD_F_COMPRESSED_DATA_FILE:
		return qd_plan_put64(r->plan, at, guest_off | QD_COPIED, QD_PLAN_DROP, err);
	case QD_F_SUBCLUSTERS:
		return fix_bitmap(r, at, entry, err);
	case QD_F_COMPRESSED_SUBCLUSTERS:
		return fix_compressed_bitmap(r, at, entry, err);
	case QD_F_L2_ENTRY_OVERLAP:
	case QD_F_COMPRESSED_OVERLAP:
		return separate(r, type, at, entry, ret_verb, err);
	case QD_F_L2_ENTRY_UNALIGNED:
		cluster = qd_entry_host_off(entry) >> r->geom.cluster_bits;
		if (qd_rep_is_leaked(r, cluster) &&
		    (layer || (qd_rep_nowners(r, cluster) == 1) == ((entry & QD_COPIED) != 0))) {
			*ret_verb = QD_REPAIR_FOUND;
			return qd_plan_put64(r->plan, at, (entry & ~QD_OFFSET_MASK) |
					     cluster << r->geom.cluster_bits, QD_PLAN_DROP, err);
		}
		break;
	default:
		break;
	}
	*ret_verb = QD_REPAIR_DROP;
	return drop(r, at, entry, err);
}

/* Tells of items [first, first + n) of a run. */
static void plan_items(struct rep *r, enum qd_repair_verb verb, const struct qd_finding *f, uint64_t first,
		       uint64_t n)
{
	struct qd_finding part = *f;

	part.nitems = n;
	part.place.guest_off += first << r->geom.cluster_bits;
	qd_rep_plan(r, verb, &part);
}

int qd_rep_fix_l2(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	bool overlap = f->type == QD_F_L2_ENTRY_OVERLAP || f->type == QD_F_COMPRESSED_OVERLAP;
	enum qd_repair_verb verb = QD_REPAIR_SET, last = QD_REPAIR_SET;
	uint64_t at, guest_off, first = 0;
	int rc = 0;

	if (overlap && (f->value[1] == QD_STRUCT_REFBLOCK || f->value[1] == QD_STRUCT_REFTABLE)) {
		qd_rep_rebuild(r, f);
		return 0;
	}
	for (uint64_t i = 0; rc == 0 && i < f->nitems; i++) {
		guest_off = f->place.guest_off + (i << r->geom.cluster_bits);
		rc = qd_rep_l2_entry(r, f->place.layer, guest_off, &at, err);
		verb = QD_REPAIR_SET;
		if (rc == 0 && at)
			rc = fix_item(r, f->type, at, f->place.layer, guest_off, &verb, err);
		if (i > first && verb != last) {
			plan_items(r, last, f, first, i - first);
			first = i;
		}
		last = verb;
	}
	if (rc == 0)
		plan_items(r, last, f, first, f->nitems - first);
	return rc;
}

/* ---- COPIED ---- */

static int put_flag(struct rep *r, uint64_t at, bool set, struct qd_err *err)
{
	uint64_t entry;
	int rc = qd_plan_get64(r->plan, at, &entry, err);

	if (rc)
		return rc;
	return qd_plan_put64(r->plan, at, set ? entry | QD_COPIED : entry & ~QD_COPIED,
			     set ? QD_PLAN_COPIED : QD_PLAN_DROP, err);
}

int qd_rep_fix_copied(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	bool set = f->type == QD_F_COPIED_CLEAR || f->type == QD_F_L1_COPIED_CLEAR;
	uint64_t at, entry;
	int rc = 0;

	qd_rep_plan(r, QD_REPAIR_SET, f);
	if (f->type == QD_F_L1_COPIED_SET || f->type == QD_F_L1_COPIED_CLEAR) {
		rc = l1_entry(r, f, &at, &entry, err);
		return rc || at == 0 ? rc : put_flag(r, at, set, err);
	}
	for (uint64_t i = 0; rc == 0 && i < f->nitems; i++) {
		rc = qd_rep_l2_entry(r, f->place.layer, f->place.guest_off + (i << r->geom.cluster_bits), &at,
				     err);
		if (rc == 0 && at)
			rc = put_flag(r, at, set, err);
	}
	return rc;
}
