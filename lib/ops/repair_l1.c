/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is this an L1 table?  qd_rep_looks_like_l1 asks for one without a fault; here tables are
 * weighed, for more than one thing can be wrong at once:
 *
 *	entry   | 0 | a cluster of the file, aligned | anything else |
 *	           -            placed                  not placed; shaped, if only the file is too short
 *	cluster  empty | mostly possible L2 entries  | garbage
 *	           -            table
 *
 * A layer nearly all of whose tables are garbage has no L1 table where it says: what lies
 * there is an L2 table, or data.  Its own is mostly still in the file, and the entries are
 * not answered one by one before that has been looked for.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

#include "space/overlap.h"

#define MAX_L1_ENTRIES (QD_MAX_L1_BYTES / 8)
#define MAX_TABLES 256u		/* looked into for one L1 table */
#define MAX_CANDIDATES 65536u	/* leaked clusters looked at */
#define MAX_LAYERS 64u		/* looked at in one round */

enum content { EMPTY, TABLE, GARBAGE };

static int content_of(struct rep *r, uint64_t off, enum content *ret_content, struct qd_err *err)
{
	uint8_t *buf = malloc(r->geom.cluster_size);
	uint64_t used = 0, mapped = 0, possible = 0;
	int rc = buf ? qd_plan_read(r->plan, buf, r->geom.cluster_size, off, err) :
		       qd_err_nomem(err, "an L2 table");

	for (uint64_t i = 0; rc == 0 && i < r->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(buf + i * r->geom.l2_entry_size);

		if (entry == 0)
			continue;
		used++;
		if (!qd_rep_entry_is_possible(r, entry))
			continue;
		possible++;
		mapped += qd_l2_is_compressed(entry) || qd_entry_host_off(entry) != 0;
	}
	free(buf);
	*ret_content = used == 0 ? EMPTY : possible * 2 > used && mapped ? TABLE : GARBAGE;
	return rc;
}

int qd_rep_weigh_l1(struct rep *r, uint64_t off, uint64_t first, uint64_t end, bool tables,
		    struct qd_rep_l1_weight *ret_weight, struct qd_err *err)
{
	struct qd_rep_l1_weight w = { .used = 0 };
	uint64_t cluster_size = r->geom.cluster_size, nbytes, looks = 0;
	enum content content;
	uint8_t *buf;
	int rc;

	*ret_weight = w;
	end = qd_min_u64(end, MAX_L1_ENTRIES);
	if (first >= end || off >= r->file_size)
		return 0;
	nbytes = (end - first) * 8;
	buf = malloc(nbytes);
	rc = buf ? qd_plan_read(r->plan, buf, nbytes, off + first * 8, err) :
		   qd_err_nomem(err, "an L1 table");
	for (uint64_t i = 0; rc == 0 && i < end - first; i++) {
		uint64_t entry = qd_get_be64(buf + i * 8), table = qd_entry_host_off(entry);

		w.used += entry != 0;
		w.shaped += table >= cluster_size && qd_is_aligned(table, cluster_size) &&
			    !(entry & QD_L1_RESERVED);
		w.copied = w.copied || (entry & QD_COPIED);
		if (table < cluster_size || !qd_is_aligned(table, cluster_size) || table >= r->file_size)
			continue;
		w.placed++;
		if (!tables || looks++ >= MAX_TABLES)
			continue;
		rc = content_of(r, table, &content, err);
		w.tables += content == TABLE;
		w.garbage += content == GARBAGE;
	}
	free(buf);
	*ret_weight = w;
	return rc;
}

int qd_rep_is_named_table(struct rep *r, uint64_t off, bool *ret_is, struct qd_err *err)
{
	uint64_t l1_off, nentries, entry;
	enum content content;
	int rc = 0;

	*ret_is = false;
	off = qd_align_down(off, r->geom.cluster_size);
	if (!qd_rep_l1_of(r, 0, &l1_off, &nentries))
		return 0;
	for (uint64_t i = 0; rc == 0 && !*ret_is && i < qd_min_u64(nentries, MAX_L1_ENTRIES); i++) {
		rc = qd_plan_get64(r->plan, l1_off + i * 8, &entry, err);
		*ret_is = rc == 0 && qd_entry_host_off(entry) == off;
	}
	if (rc || !*ret_is)
		return rc;
	rc = content_of(r, off, &content, err);
	*ret_is = rc == 0 && content == TABLE;
	return rc;
}

/* Some flag COPIED, as only the active layer's table has, and more tables than faults. */
static int weigh_active(struct rep *r, uint64_t off, uint64_t nentries, uint64_t *ret_tables,
			struct qd_err *err)
{
	struct qd_rep_l1_weight w;
	int rc;

	*ret_tables = 0;
	if (!qd_range_within(off, nentries * 8, qd_align_up(r->file_size, r->geom.cluster_size)))
		return 0;
	rc = qd_rep_weigh_l1(r, off, 0, nentries, false, &w, err);
	if (rc || !w.copied || w.placed * 2 <= w.used)
		return rc;
	rc = qd_rep_weigh_l1(r, off, 0, nentries, true, &w, err);
	if (rc == 0 && w.tables > w.garbage + w.used - w.placed)
		*ret_tables = w.tables;
	return rc;
}

int qd_rep_search_active_l1(struct rep *r, uint64_t nentries, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t best = 0, tables, candidates = 0;

	*ret_off = 0;
	for (size_t i = 0; i < r->nleaks; i++) {
		for (uint64_t k = 0; k < r->leaks[i].nitems && candidates++ < MAX_CANDIDATES; k++) {
			uint64_t off = r->leaks[i].place.host_off + (k << r->geom.cluster_bits);
			int rc = weigh_active(r, off, nentries, &tables, err);

			if (rc)
				return rc;
			if (tables > best) {
				best = tables;
				*ret_off = off;
			}
		}
	}
	return 0;
}

/* ---- a layer whose L1 table is something else ---- */

/* An entry of the layer leads to garbage, or is in the way of another layer's table. */
static const struct qd_finding *find_doubt(const struct rep *r, uint32_t layer)
{
	for (size_t i = 0; i < r->nfound; i++) {
		const struct qd_finding *f = &r->found[i];

		if (f->type == QD_F_L2_GARBAGE && f->place.layer == layer)
			return f;
		if (f->type == QD_F_L1_ENTRY_OVERLAP && layer && f->place.layer != layer &&
		    f->value[1] == QD_STRUCT_SNAPSHOT_L1 && f->value[2] == layer - 1)
			return f;
	}
	return NULL;
}

static int answer_layer(struct rep *r, uint32_t layer, const struct qd_finding *f, struct qd_err *err)
{
	struct qd_rep_l1_weight w;
	uint64_t off, nentries;
	bool in_the_way = f->type == QD_F_L1_ENTRY_OVERLAP;
	struct qd_finding about = *f;
	int rc;

	if (!qd_rep_l1_of(r, layer, &off, &nentries))
		return 0;
	rc = qd_rep_weigh_l1(r, off, 0, nentries, true, &w, err);
	if (rc || w.used == 0 || w.tables * 8 > w.used)
		return rc;
	about.place.layer = layer;
	return qd_rep_replace_l1(r, &about, in_the_way, err);
}

int qd_rep_fix_wrong_l1(struct rep *r, bool *ret_fixed, struct qd_err *err)
{
	uint64_t before = r->nplanned;
	int rc = 0;

	for (uint32_t layer = 0; rc == 0 && layer <= r->nsnaps && layer < MAX_LAYERS; layer++) {
		const struct qd_finding *f = find_doubt(r, layer);

		if (f)
			rc = answer_layer(r, layer, f, err);
		if (r->nplanned != before)
			break;
	}
	*ret_fixed = r->nplanned != before;
	return rc;
}
