/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which structures lie at the same place.  L2 entries that point at metadata are found
 * later, while references are counted.
 *
 * Where an L1 entry points at something else, that something is believed (the header
 * says where it is, or a table of few entries does) and the entry is not: its "table" is
 * neither walked nor counted.  A refcount block that is something else as well is not
 * believed either.
 */
#include "ops/check_int.h"

static void forget_block(struct chk *c, const struct qd_extent *e)
{
	for (uint64_t i = 0; e->kind == QD_STRUCT_REFBLOCK && i < e->nclusters; i++)
		if (e->id + i < c->reftable_entries)
			c->reftable[e->id + i] = CHK_UNKNOWN_BLOCK;
}

static int structures_overlap(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
			      uint64_t nclusters)
{
	struct chk *c = ctx;
	struct qd_finding f = {
		.type = QD_F_OVERLAP, .nitems = 1, .value = { earlier->kind, later->kind, nclusters },
		.place = { QD_AT_HOST, 0, 0, QD_NOWHERE, later->first << c->geom.cluster_bits },
	};

	if (earlier->kind == QD_STRUCT_REFBLOCK && later->kind == QD_STRUCT_REFBLOCK) {
		chk_found(c, QD_F_REFBLOCK_SHARED, QD_AT_REFTABLE_ENTRY, later->id, f.place.host_off,
			  earlier->id, 0);
		return 0;
	}
	chk_emit(c, &f);
	forget_block(c, earlier);
	forget_block(c, later);
	return 0;
}

static void tables_overlap(struct chk *c)
{
	const struct qd_geom *g = &c->geom;

	for (size_t i = 0; i < c->l2.n; i++) {
		struct qd_l2ref *r = &c->l2.v[i];
		const struct qd_extent *e = qd_extents_find(&c->extents, r->cluster);
		struct qd_finding f = {
			.type = QD_F_L1_ENTRY_OVERLAP, .nitems = 1, .label = chk_label(c, r->layer),
			.place = { QD_AT_L1_ENTRY, r->layer, r->l1_index,
				   (uint64_t)r->l1_index << (g->l2_bits + g->cluster_bits),
				   r->cluster << g->cluster_bits },
		};

		if (!e)
			continue;
		f.value[0] = f.place.host_off;
		f.value[1] = e->kind;
		f.value[2] = e->id;
		chk_emit(c, &f);
		r->bad = true;
	}
}

int chk_overlaps(struct chk *c, struct qd_err *err)
{
	int rc;

	(void)err;
	qd_extents_sort(&c->extents);
	rc = qd_extents_overlaps(&c->extents, structures_overlap, c);
	if (rc == 0)
		tables_overlap(c);
	return rc;
}
