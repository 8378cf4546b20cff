/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's look at L1 tables: the active one and those of all snapshots become one
 * set of L2 tables, in host order.
 *
 * Tables are read piece by piece, holes in the file are skipped.  Snapshots that share
 * an L1 table (which is damage) are walked once and counted as often as they are.  More
 * damage of that kind, tables that partly overlap, could make a small file cost any
 * amount of work: at most EXTRA_WALK bytes are walked beyond the size of the file.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#define PIECE 65536u
#define EXTRA_WALK (256u << 20)
#define MAX_L1_ENTRIES (QD_MAX_L1_BYTES / 8)

struct layer {
	struct chk *c;
	uint32_t number;	/* 0: active */
	uint32_t nrefs;		/* snapshots that have this very table */
	uint64_t off;
	uint64_t nentries;
};

static struct qd_finding entry_finding(const struct layer *l, enum qd_finding_type type, uint64_t i,
				       uint64_t entry)
{
	const struct qd_geom *g = &l->c->geom;

	return (struct qd_finding){
		.type = type, .nitems = 1, .value = { entry }, .label = qd_chk_label(l->c, l->number),
		.place = { QD_AT_L1_ENTRY, l->number, i, i << (g->l2_bits + g->cluster_bits),
			   qd_entry_host_off(entry) },
	};
}

static void entry_found(const struct layer *l, enum qd_finding_type type, uint64_t i, uint64_t entry)
{
	struct qd_finding f = entry_finding(l, type, i, entry);

	qd_chk_emit(l->c, &f);
}

static int take_entry(const struct layer *l, uint64_t i, uint64_t entry, struct qd_err *err)
{
	struct chk *c = l->c;
	uint64_t off = qd_entry_host_off(entry);
	struct qd_l2ref ref = {
		.cluster = off >> c->geom.cluster_bits,
		.l1_index = (uint32_t)i,
		.layer = l->number,
		.nrefs = l->nrefs,
		.copied = (entry & QD_COPIED) != 0,
		.class = l->number == 0		     ? QD_L2_ACTIVE
			 : l->number == c->pin_layer ? QD_L2_PIN
						     : QD_L2_SNAPSHOT,
	};

	if (entry & QD_L1_RESERVED)
		entry_found(l, QD_F_L1_ENTRY_RESERVED, i, entry);
	if (off == 0 && !(entry & QD_COPIED))
		return 0;
	if (!qd_is_aligned(off, c->geom.cluster_size)) {
		entry_found(l, QD_F_L1_ENTRY_UNALIGNED, i, entry);
		return 0;
	}
	if (ref.cluster >= c->nclusters) {
		entry_found(l, QD_F_L1_ENTRY_PAST_END, i, entry);
		return 0;
	}
	return qd_l2set_add(&c->l2, &ref, err);
}

static int told_of_dup(void *ctx, const struct qd_l2ref *first, const struct qd_l2ref *second)
{
	const struct layer *l = ctx;
	struct qd_finding f = entry_finding(l, QD_F_L2_SHARED, second->l1_index,
					    first->cluster << l->c->geom.cluster_bits);

	f.value[1] = first->l1_index;
	qd_chk_emit(l->c, &f);
	return 0;
}

/* Entries that are not zero, holes left out; *ret_walked counts the bytes looked at. */
static int take_entries(const struct layer *l, uint8_t *buf, uint64_t *ret_walked, struct qd_err *err)
{
	struct chk *c = l->c;
	uint64_t end = l->off + l->nentries * 8, data, hole;
	int rc = 0;
	bool ok;

	for (uint64_t pos = l->off; rc == 0 && pos < end;) {
		size_t piece;

		rc = qd_io_next_data(c->io, pos, &data, &hole, err);
		if (rc || data == hole)
			break;
		pos = qd_max_u64(pos, qd_align_down(data, 8));
		if (pos >= end)
			break;
		piece = (size_t)qd_min_u64(PIECE, qd_min_u64(end, qd_align_up(hole, 8)) - pos);
		rc = qd_chk_read(c, buf, piece, pos, &ok, err);
		if (!ok)
			c->result->blind = true;
		for (size_t i = 0; rc == 0 && i < piece; i += 8) {
			uint64_t entry = qd_get_be64(buf + i);

			if (entry)
				rc = take_entry(l, (pos - l->off + i) / 8, entry, err);
		}
		pos += piece;
		*ret_walked += piece;
	}
	return rc;
}

static int walk(const struct layer *l, uint64_t *ret_walked, struct qd_err *err)
{
	uint8_t *buf = malloc(PIECE);
	size_t first = l->c->l2.n;
	struct layer copy = *l;
	int rc;

	if (!buf)
		return qd_err_nomem(err, "an L1 table");
	rc = take_entries(l, buf, ret_walked, err);
	free(buf);
	return rc ? rc : qd_l2set_end_layer(&l->c->l2, first, told_of_dup, &copy);
}

static void table_found(const struct layer *l, enum qd_finding_type type, uint64_t v0, uint64_t v1,
			uint64_t v2)
{
	struct qd_finding f = {
		.type = type, .nitems = 1, .value = { v0, v1, v2 }, .label = qd_chk_label(l->c, l->number),
		.place = { QD_AT_L1, l->number, 0, QD_NOWHERE, l->off },
	};

	qd_chk_emit(l->c, &f);
}

/*
 * Whether the table can be walked.  A size that cannot be true is cut to the `needed`
 * entries, lest the table claims half of the file.
 */
static bool check_place(struct layer *l, uint64_t needed)
{
	struct chk *c = l->c;
	uint64_t entries = l->nentries;

	if ((l->number == 0 && entries < needed) || entries > MAX_L1_ENTRIES) {
		table_found(l, QD_F_L1_SIZE, entries, l->number == 0 ? needed : 0, MAX_L1_ENTRIES);
		l->nentries = qd_min_u64(entries, qd_min_u64(needed, MAX_L1_ENTRIES));
		c->result->blind = c->result->blind || entries > MAX_L1_ENTRIES;
	}
	if (l->nentries == 0) {
		/* Nothing to walk; but stock QEMU asks even this of a snapshot. */
		if (l->number && !qd_is_aligned(l->off, c->geom.cluster_size))
			table_found(l, QD_F_L1_UNALIGNED, l->off, 0, 0);
		return false;
	}
	if (!qd_is_aligned(l->off, c->geom.cluster_size) || l->off == 0) {
		table_found(l, QD_F_L1_UNALIGNED, l->off, 0, 0);
		c->result->blind = true;
		return false;
	}
	if (!qd_chk_in_file(c, l->off, l->nentries * 8)) {
		table_found(l, QD_F_L1_PAST_END, l->off, l->nentries * 8, 0);
		c->result->blind = true;
		entries = l->off < c->file_size ? (c->file_size - l->off) / 8 : 0;
		l->nentries = qd_min_u64(entries, qd_min_u64(needed, l->nentries));
	}
	return l->nentries != 0;
}

static int walk_active(struct chk *c, struct qd_err *err)
{
	const struct qd_header *h = &c->header;
	uint64_t needed = qd_geom_l1_entries(&c->geom, h->virtual_size), walked = 0;
	struct layer l = { .c = c, .nrefs = 1, .off = h->l1_off, .nentries = h->l1_entries };
	int rc;

	if (needed > MAX_L1_ENTRIES) {
		qd_chk_found(c, QD_F_HEADER_SIZE, QD_AT_HEADER, 0, h->virtual_size, needed, MAX_L1_ENTRIES);
		needed = qd_min_u64(h->l1_entries, MAX_L1_ENTRIES);
	}
	if (!check_place(&l, needed))
		return 0;
	rc = qd_chk_add_struct(c, l.off, l.nentries * 8, QD_STRUCT_L1, 0, err);
	return rc ? rc : walk(&l, &walked, err);
}

/* Snapshots in the order their L1 tables lie on the host. */
static int compare_snapshots(const void *pa, const void *pb)
{
	const struct qd_chk_snapshot *a = *(const struct qd_chk_snapshot *const *)pa;
	const struct qd_chk_snapshot *b = *(const struct qd_chk_snapshot *const *)pb;

	if (a->l1_off != b->l1_off)
		return a->l1_off < b->l1_off ? -1 : 1;
	if (a->l1_entries != b->l1_entries)
		return a->l1_entries < b->l1_entries ? -1 : 1;
	return a < b ? -1 : a > b;
}

static int walk_snapshots(struct chk *c, struct qd_chk_snapshot **order, struct qd_err *err)
{
	uint64_t walked = 0;
	uint32_t next;
	int rc;

	for (uint32_t i = 0; i < c->nsnapshots; i = next) {
		struct layer l = { .c = c, .number = (uint32_t)(order[i] - c->snapshots) + 1, .nrefs = 1,
				   .off = order[i]->l1_off, .nentries = order[i]->l1_entries };
		uint64_t needed = qd_geom_l1_entries(&c->geom, order[i]->mapped_size);

		for (next = i + 1; next < c->nsnapshots && order[next]->l1_off == l.off &&
		     order[next]->l1_entries == l.nentries; next++)
			l.nrefs++;
		if (!check_place(&l, needed))
			continue;
		for (uint32_t k = i; k < next; k++) {
			rc = qd_chk_add_struct(c, l.off, l.nentries * 8, QD_STRUCT_SNAPSHOT_L1,
					       (uint32_t)(order[k] - c->snapshots), err);
			if (rc)
				return rc;
		}
		if (walked > c->file_size + EXTRA_WALK) {
			c->result->blind = true;
			continue;
		}
		rc = walk(&l, &walked, err);
		if (rc)
			return rc;
	}
	return 0;
}

int qd_chk_l1_tables(struct chk *c, struct qd_err *err)
{
	struct qd_chk_snapshot **order;
	int rc;

	rc = walk_active(c, err);
	if (rc)
		return rc;
	order = calloc(c->nsnapshots ? c->nsnapshots : 1, sizeof(void *));
	if (!order)
		return qd_err_nomem(err, "the snapshot table");
	for (uint32_t i = 0; i < c->nsnapshots; i++)
		order[i] = &c->snapshots[i];
	qsort(order, c->nsnapshots, sizeof(void *), compare_snapshots);
	rc = walk_snapshots(c, order, err);
	free(order);
	qd_l2set_finish(&c->l2);
	return rc;
}
