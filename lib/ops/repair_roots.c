/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing what everything hangs from: header fields, the places and sizes of L1
 * tables, bitmaps.  Snapshots are in repair_snapshot.c.
 *
 * A lost active L1 table is the worst that can happen: if the file does not hold it any
 * more, nothing is repaired at all, for the empty disk that would come of it helps nobody.
 */
#include "ops/repair_bitmap.h"
#include "ops/repair_snapshot.h"

#include <stdlib.h>
#include <string.h>

#include "space/overlap.h"

#define MAX_L1_ENTRIES (QD_MAX_L1_BYTES / 8)

/* ---- header ---- */

static int put_be32(struct rep *r, uint64_t off, uint32_t value, enum qd_plan_step step, struct qd_err *err)
{
	uint8_t buf[4];

	qd_put_be32(buf, value);
	return qd_plan_write(r->plan, buf, sizeof(buf), off, step, err);
}

/* 112 bytes if what follows 104 can be the compression type and its padding. */
static int fix_length(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t tail;
	int rc = qd_plan_get64(r->plan, QD_HEADER_V3_SIZE, &tail, err);

	if (rc)
		return rc;
	qd_rep_plan(r, QD_REPAIR_SET, f);
	return put_be32(r, 100, (tail & 0x00ffffffffffffffull) == 0 && tail >> 56 <= QD_COMPRESSION_ZSTD ?
				QD_HEADER_FULL_SIZE : QD_HEADER_V3_SIZE, QD_PLAN_DROP, err);
}

/* The first compressed cluster of the active layer tells; none: zlib. */
static int find_compression(struct rep *r, bool *ret_zstd, struct qd_err *err)
{
	static const uint8_t magic[4] = { 0x28, 0xb5, 0x2f, 0xfd };
	uint8_t *buf = malloc(r->geom.cluster_size), head[4];
	uint64_t l1_off, n, entry;
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	*ret_zstd = false;
	if (rc == 0 && !qd_rep_l1_of(r, 0, &l1_off, &n))
		n = 0;
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		rc = qd_plan_get64(r->plan, l1_off + i * 8, &entry, err);
		if (rc || qd_entry_host_off(entry) == 0)
			continue;
		rc = qd_plan_read(r->plan, buf, r->geom.cluster_size, qd_entry_host_off(entry), err);
		for (uint64_t k = 0; rc == 0 && k < r->geom.l2_entries; k++) {
			entry = qd_get_be64(buf + k * r->geom.l2_entry_size);
			if (!qd_l2_is_compressed(entry))
				continue;
			rc = qd_plan_read(r->plan, head, 4, qd_l2_compressed(&r->geom, entry).host_off, err);
			*ret_zstd = rc == 0 && memcmp(head, magic, 4) == 0;
			n = 0;
			break;
		}
	}
	free(buf);
	return rc;
}

static int fix_compression(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t bits = r->header.incompatible & ~QD_INCOMPAT_COMPRESSION;
	uint8_t type = QD_COMPRESSION_ZLIB;
	bool zstd;
	int rc = find_compression(r, &zstd, err);

	if (rc)
		return rc;
	if (zstd) {
		bits |= QD_INCOMPAT_COMPRESSION;
		type = QD_COMPRESSION_ZSTD;
	}
	qd_rep_plan(r, QD_REPAIR_SET, f);
	rc = qd_plan_write(r->plan, &type, 1, 104, QD_PLAN_DROP, err);
	return rc ? rc : qd_plan_put64(r->plan, QD_HEADER_OFF_INCOMPATIBLE, bits, QD_PLAN_DROP, err);
}

int qd_rep_fix_header(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	switch (f->type) {
	case QD_F_HEADER_LENGTH:
		return fix_length(r, f, err);
	case QD_F_HEADER_COMPRESSION:
		return fix_compression(r, f, err);
	case QD_F_HEADER_DATA_FILE:
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return qd_plan_put64(r->plan, QD_HEADER_OFF_AUTOCLEAR,
				     r->header.autoclear & ~QD_AUTOCLEAR_DATA_FILE_RAW, QD_PLAN_DROP, err);
	case QD_F_HEADER_BACKING:
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return qd_plan_put64(r->plan, 8, 0, QD_PLAN_DROP, err);
	default:
		/* The list of extensions ends where it breaks off. */
		qd_rep_plan(r, QD_REPAIR_DROP, f);
		return qd_plan_put64(r->plan, f->value[0], 0, QD_PLAN_DROP, err);
	}
}

/* ---- L1 tables ---- */

/* Not more entries than the file holds, whatever is claimed. */
bool qd_rep_l1_of(const struct rep *r, uint32_t layer, uint64_t *ret_off, uint64_t *ret_entries)
{
	uint64_t off = r->header.l1_off, nentries = r->header.l1_entries;

	if (layer > r->nsnaps)
		return false;
	if (layer) {
		off = r->snaps[layer - 1].l1_off;
		nentries = r->snaps[layer - 1].l1_entries;
	}
	if (off == 0 || off >= r->file_size)
		return false;
	*ret_off = off;
	*ret_entries = qd_min_u64(nentries, qd_div_up(r->file_size - off, 8));
	return nentries != 0;
}

static int switch_l1(struct rep *r, uint64_t off, uint64_t nentries, struct qd_err *err)
{
	uint8_t buf[12];

	qd_put_be32(buf, (uint32_t)nentries);
	qd_put_be64(buf + 4, off);
	return qd_plan_write(r->plan, buf, sizeof(buf), QD_HEADER_OFF_L1_ENTRIES, QD_PLAN_SWITCH, err);
}

/* The first `keep` entries of the active table, in a new one of `nentries`. */
static int move_l1(struct rep *r, uint64_t keep, uint64_t nentries, struct qd_err *err)
{
	uint64_t to = 0, nbytes = keep * 8;
	uint8_t *buf = malloc(nbytes ? nbytes : 1);
	int rc = buf ? 0 : qd_err_nomem(err, "an L1 table");

	if (rc == 0)
		rc = qd_plan_alloc(r->plan, qd_div_up(nentries * 8, r->geom.cluster_size), &to, err);
	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, nbytes, r->header.l1_off, err);
	if (rc == 0)
		rc = qd_plan_write(r->plan, buf, nbytes, to, QD_PLAN_NEW, err);
	free(buf);
	return rc ? rc : switch_l1(r, to, nentries, err);
}

/* Where it nearly is; else one that no snapshot has had. */
static int search_l1(struct rep *r, uint64_t needed, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t hint = qd_align_down(r->header.l1_off, r->geom.cluster_size), used;
	int rc = qd_rep_looks_like_l1(r, hint, needed, &used, err);

	*ret_off = 0;
	if (rc == 0 && used == 0)
		rc = qd_rep_search_active_l1(r, needed, ret_off, err);
	if (rc || *ret_off)
		return rc;
	return qd_rep_search_l1(r, r->header.l1_off, needed, ret_off, err);
}

int qd_rep_replace_l1(struct rep *r, const struct qd_finding *f, bool in_the_way, struct qd_err *err)
{
	uint64_t off, needed = qd_geom_l1_entries(&r->geom, r->header.virtual_size);
	int rc;

	if (f->place.layer)
		return qd_rep_replace_snapshot_l1(r, f, f->place.layer - 1, in_the_way, err);
	rc = search_l1(r, needed, &off, err);
	if (rc || off == 0 || off == r->header.l1_off)
		return rc;
	qd_rep_plan(r, QD_REPAIR_FOUND, f);
	return switch_l1(r, off, needed, err);
}

/* The active table is not where the header says. */
static int find_l1(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t off, needed = qd_geom_l1_entries(&r->geom, r->header.virtual_size);
	int rc = search_l1(r, needed, &off, err);

	if (rc)
		return rc;
	if (off == 0) {
		r->refused = "the active L1 table is lost, and no other one was found in the file";
		return 0;
	}
	qd_rep_plan(r, QD_REPAIR_FOUND, f);
	return switch_l1(r, off, needed, err);
}

/*
 * Up to the last entry that the table needs: is there anything else than the table and room
 * for it?  Nothing else can be in a cluster that it begins in or before; one behind that
 * is the table's if nothing names it.
 */
static int has_room(struct rep *r, uint64_t entries, uint64_t needed, bool *ret_has, struct qd_err *err)
{
	uint64_t off = r->header.l1_off, cluster_size = r->geom.cluster_size, used;
	uint64_t end = qd_align_up(off + entries * 8, cluster_size);
	struct qd_rep_l1_weight w;
	int rc = qd_rep_looks_like_l1(r, off, needed, &used, err);

	*ret_has = used != 0 || needed <= entries;
	if (rc || *ret_has || entries == 0)
		return rc;
	for (; end < off + needed * 8; end += cluster_size)
		if (!qd_rep_is_leaked(r, end >> r->geom.cluster_bits))
			return 0;
	rc = qd_rep_weigh_l1(r, off, 0, needed, false, &w, err);
	*ret_has = rc == 0 && (w.used == 0 || w.shaped * 2 > w.used);
	return rc;
}

static int fix_l1_size(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t needed, entries = r->header.l1_entries;
	uint32_t layer = f->place.layer;
	bool has;
	int rc;

	if (layer) {
		if (layer > r->nsnaps)
			return 0;
		needed = qd_geom_l1_entries(&r->geom, r->snaps[layer - 1].mapped_size);
		if (needed > MAX_L1_ENTRIES)
			return qd_rep_empty_snapshot(r, f, layer - 1, err);
		qd_rep_plan(r, QD_REPAIR_SET, f);
		return put_be32(r, r->snaps[layer - 1].entry_off + 8, (uint32_t)needed, QD_PLAN_DROP, err);
	}
	needed = qd_geom_l1_entries(&r->geom, r->header.virtual_size);
	if (needed > MAX_L1_ENTRIES) {
		r->refused = "the virtual disk is larger than any L1 table";
		return 0;
	}
	rc = has_room(r, entries, needed, &has, err);
	if (rc)
		return rc;
	if (entries == 0 && !has)
		return find_l1(r, f, err);
	qd_rep_plan(r, QD_REPAIR_SET, f);
	if (has)
		return put_be32(r, QD_HEADER_OFF_L1_ENTRIES, (uint32_t)needed, QD_PLAN_DROP, err);
	return move_l1(r, entries, needed, err);
}

/* A table that the end of the file cuts: what is left of it. */
static int cut_l1(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t off = r->header.l1_off, keep, used;
	int rc;

	if (!qd_is_aligned(off, r->geom.cluster_size) || off >= r->file_size)
		return find_l1(r, f, err);
	keep = qd_min_u64(r->header.l1_entries, (r->file_size - off) / 8);
	rc = qd_rep_looks_like_l1(r, off, keep, &used, err);
	if (rc)
		return rc;
	if (used == 0)
		return find_l1(r, f, err);
	qd_rep_plan(r, QD_REPAIR_DROP, f);
	return move_l1(r, keep, r->header.l1_entries, err);
}

/* ---- bitmaps ---- */

/* Without its bit the extension is void, and with it everything that it names. */
static int drop_bitmaps(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	qd_rep_plan(r, QD_REPAIR_REMOVE, f);
	return qd_plan_put64(r->plan, QD_HEADER_OFF_AUTOCLEAR, r->header.autoclear & ~QD_AUTOCLEAR_BITMAPS,
			     QD_PLAN_DROP, err);
}

/* ---- overlaps ---- */

static bool is_kind(const struct qd_finding *f, enum qd_struct_kind kind)
{
	return f->value[0] == kind || f->value[1] == kind;
}

/*
 * Is more than half of what the active table holds as it must be, COPIED somewhere among
 * it?  Refcount tables and blocks are not like that.
 */
static int is_mostly_l1(struct rep *r, bool *ret_is, struct qd_err *err)
{
	struct qd_rep_l1_weight w;
	int rc = qd_rep_weigh_l1(r, r->header.l1_off, 0, r->header.l1_entries, false, &w, err);

	*ret_is = rc == 0 && w.copied && w.placed * 2 > w.used;
	return rc;
}

/* R4, unless the other one is what is in the wrong place. */
static int overlaps_refcounts(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t used = 1;
	bool mostly = false;
	int rc = 0;

	if (is_kind(f, QD_STRUCT_L1)) {
		rc = qd_rep_looks_like_l1(r, r->header.l1_off, r->header.l1_entries, &used, err);
		if (rc == 0 && used == 0)
			rc = is_mostly_l1(r, &mostly, err);
		if (rc == 0 && used == 0 && !mostly)
			return find_l1(r, f, err);
	} else if (is_kind(f, QD_STRUCT_SNAPSHOT_TABLE)) {
		return qd_rep_find_snapshots(r, f, true, err);
	} else if (is_kind(f, QD_STRUCT_SNAPSHOT_L1)) {
		return qd_rep_separate_snapshots(r, f, err);
	}
	if (rc == 0)
		qd_rep_rebuild(r, f);
	return rc;
}

/* Cuts a table to the entries that it needs, where f lies among those beyond them. */
static int cut_one(struct rep *r, const struct qd_finding *f, uint32_t layer, struct qd_err *err)
{
	struct qd_rep_snapshot *s = layer ? &r->snaps[layer - 1] : NULL;
	uint64_t off = s ? s->l1_off : r->header.l1_off, nentries = s ? s->l1_entries : r->header.l1_entries;
	uint64_t needed = qd_geom_l1_entries(&r->geom, s ? s->mapped_size : r->header.virtual_size);
	uint64_t host = f->place.host_off;

	if (needed >= nentries || needed > MAX_L1_ENTRIES || host < off || host - off >= nentries * 8 ||
	    host - off < qd_align_up(needed * 8, r->geom.cluster_size))
		return 0;
	qd_rep_plan(r, QD_REPAIR_SET, f);
	if (s)
		s->l1_entries = (uint32_t)needed;
	return put_be32(r, s ? s->entry_off + 8 : QD_HEADER_OFF_L1_ENTRIES, (uint32_t)needed, QD_PLAN_DROP,
			err);
}

/* A size that is too large makes an L1 table run over what lies behind it. */
static int cut_overlong(struct rep *r, const struct qd_finding *f, bool *ret_cut, struct qd_err *err)
{
	uint64_t before = r->nplanned;
	int rc = 0;

	for (uint32_t layer = 0; rc == 0 && layer <= r->nsnaps; layer++)
		rc = cut_one(r, f, layer, err);
	*ret_cut = r->nplanned != before;
	return rc;
}

static int fix_overlap(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	bool cut = false;
	int rc = 0;

	if (is_kind(f, QD_STRUCT_L1) || is_kind(f, QD_STRUCT_SNAPSHOT_L1))
		rc = cut_overlong(r, f, &cut, err);
	if (rc || cut)
		return rc;
	if (is_kind(f, QD_STRUCT_REFTABLE) || is_kind(f, QD_STRUCT_REFBLOCK))
		return overlaps_refcounts(r, f, err);
	if (is_kind(f, QD_STRUCT_BITMAP_DIR) || is_kind(f, QD_STRUCT_BITMAP_TABLE) ||
	    is_kind(f, QD_STRUCT_BITMAP_DATA))
		return drop_bitmaps(r, f, err);
	if (is_kind(f, QD_STRUCT_SNAPSHOT_TABLE))
		return qd_rep_find_snapshots(r, f, false, err);
	if (is_kind(f, QD_STRUCT_SNAPSHOT_L1))
		return qd_rep_separate_snapshots(r, f, err);
	if (is_kind(f, QD_STRUCT_L1))
		return find_l1(r, f, err);
	return 0;
}

int qd_rep_fix_root(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	switch (f->type) {
	case QD_F_OVERLAP:
		return fix_overlap(r, f, err);
	case QD_F_SNAPSHOT_COUNT ... QD_F_SNAPSHOT_EXTRA:
		return qd_rep_fix_snapshots(r, f, err);
	case QD_F_BITMAP_EXTENSION ... QD_F_BITMAP_TABLE:
		return drop_bitmaps(r, f, err);
	case QD_F_BITMAP_TABLE_ENTRY:
		return qd_rep_fix_bitmap_entry(r, f, err);
	case QD_F_L1_SIZE:
		return fix_l1_size(r, f, err);
	case QD_F_L1_UNALIGNED:
	case QD_F_L1_PAST_END:
		if (f->place.layer)
			return qd_rep_find_snapshot_l1(r, f, f->place.layer - 1, err);
		return f->type == QD_F_L1_PAST_END ? cut_l1(r, f, err) : find_l1(r, f, err);
	default:
		qd_rep_rebuild(r, f);
		return 0;
	}
}
