/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which structures lie at the same place.  L2 entries that point at metadata are found
 * later, while references are counted.
 *
 * Where an L1 entry points at something else, that something is believed (the header
 * says where it is, or a table of few entries does) and the entry is not: its "table" is
 * neither walked nor counted.  But what can be found out again, as refcounts can, what is
 * worth less than a guest's data, as bitmaps are, and what one wrong length makes run over
 * its neighbours, as the snapshot table does, is believed after a cluster that looks like an
 * L2 table and is named by an L1 entry.  Of the refcount table, which looks like one, this
 * holds only where it leads to a block that is none: it does not even count itself.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "space/refcount.h"

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
		qd_chk_found(c, QD_F_REFBLOCK_SHARED, QD_AT_REFTABLE_ENTRY, later->id, f.place.host_off,
			     earlier->id, 0);
		return 0;
	}
	qd_chk_emit(c, &f);
	forget_block(c, earlier);
	forget_block(c, later);
	return 0;
}

/* A block of refcounts looks so unlike a table that a few impossible entries make no difference. */
static bool is_l2(const struct qd_chk_l2_look *l, enum qd_struct_kind instead_of)
{
	if (instead_of == QD_STRUCT_REFBLOCK || instead_of == QD_STRUCT_REFTABLE)
		return l->mapped && l->mapped * 2 >= l->used && l->impossible * 2 <= l->used;
	return !l->impossible && l->mapped * 2 > l->used;
}

static int looks_like_l2(struct chk *c, uint64_t cluster, enum qd_struct_kind instead_of, bool *ret_does,
			 struct qd_err *err)
{
	uint8_t *buf = malloc(c->geom.cluster_size);
	struct qd_chk_l2_look l;
	bool ok;
	int rc;

	if (!buf)
		return qd_err_nomem(err, "an L2 table");
	rc = qd_chk_try_read(c, buf, c->geom.cluster_size, cluster << c->geom.cluster_bits, &ok, err);
	if (rc == 0) {
		l = qd_chk_look_at_l2(c, buf);
		*ret_does = ok && is_l2(&l, instead_of);
	}
	free(buf);
	return rc;
}

/* Does the first block count the header, the refcount table and itself other than once, all three? */
static int are_refcounts_absurd(struct chk *c, bool *ret_are, struct qd_err *err)
{
	uint64_t block = c->reftable_entries ? c->reftable[0] : 0;
	uint64_t of[] = { 0, c->header.reftable_off, block };
	uint8_t *buf;
	bool ok;
	int rc;

	*ret_are = false;
	if (block == 0 || block == CHK_UNKNOWN_BLOCK)
		return 0;
	buf = malloc(c->geom.cluster_size);
	if (!buf)
		return qd_err_nomem(err, "a refcount block");
	rc = qd_chk_try_read(c, buf, c->geom.cluster_size, block, &ok, err);
	*ret_are = rc == 0 && ok;
	for (size_t i = 0; *ret_are && i < sizeof(of) / sizeof(of[0]); i++) {
		uint64_t k = of[i] >> c->geom.cluster_bits;

		*ret_are = k < c->geom.block_entries &&
			   qd_refcount_get(buf, (uint32_t)c->geom.refcount_order, k) != 1;
	}
	free(buf);
	return rc;
}

/*
 * Not L1 tables: they look like L2 tables themselves.  But one may claim more entries
 * than it needs.
 */
static bool is_doubtful(const struct chk *c, const struct qd_extent *e, uint64_t cluster)
{
	enum qd_struct_kind kind = (enum qd_struct_kind)e->kind;
	uint64_t nbytes;

	if (kind == QD_STRUCT_L1 || kind == QD_STRUCT_SNAPSHOT_L1) {
		nbytes = kind == QD_STRUCT_L1 ? c->header.virtual_size : c->snapshots[e->id].mapped_size;
		return cluster >= e->first +
		       qd_div_up(qd_geom_l1_entries(&c->geom, nbytes) * 8, c->geom.cluster_size);
	}
	return kind == QD_STRUCT_REFBLOCK || kind == QD_STRUCT_SNAPSHOT_TABLE ||
	       kind == QD_STRUCT_BITMAP_DIR || kind == QD_STRUCT_BITMAP_DATA;
}

/* A table in the place of e: reported, and *ret_believed says which of the two holds. */
static int table_overlaps(struct chk *c, struct qd_l2ref *r, const struct qd_extent *e, struct qd_err *err)
{
	const struct qd_geom *g = &c->geom;
	uint64_t off = r->cluster << g->cluster_bits;
	struct qd_finding f = {
		.type = QD_F_L1_ENTRY_OVERLAP, .nitems = 1, .label = qd_chk_label(c, r->layer),
		.value = { off, e->kind, e->id },
		.place = { QD_AT_L1_ENTRY, r->layer, r->l1_index,
			   (uint64_t)r->l1_index << (g->l2_bits + g->cluster_bits), off },
	};
	bool believed = false, doubtful;
	int rc;

	doubtful = is_doubtful(c, e, r->cluster);
	rc = e->kind == QD_STRUCT_REFTABLE ? are_refcounts_absurd(c, &doubtful, err) : 0;
	if (rc == 0 && doubtful)
		rc = looks_like_l2(c, r->cluster, (enum qd_struct_kind)e->kind, &believed, err);
	if (rc)
		return rc;
	r->bad = !believed;
	if (believed) {
		f = (struct qd_finding){
			.type = QD_F_OVERLAP, .nitems = 1, .value = { e->kind, QD_STRUCT_L2, 1 },
			.place = { QD_AT_HOST, 0, 0, QD_NOWHERE, off },
		};
		forget_block(c, e);
		c->no_refcounts = c->no_refcounts || e->kind == QD_STRUCT_REFTABLE;
	}
	qd_chk_emit(c, &f);
	return 0;
}

static int tables_overlap(struct chk *c, struct qd_err *err)
{
	for (size_t i = 0; i < c->l2.n; i++) {
		struct qd_l2ref *r = &c->l2.v[i];
		const struct qd_extent *e = qd_extents_find(&c->extents, r->cluster);
		int rc = e ? table_overlaps(c, r, e, err) : 0;

		if (rc)
			return rc;
	}
	return 0;
}
int qd_chk_overlaps(struct chk *c, struct qd_err *err)
{
	int rc;

	qd_extents_sort(&c->extents);
	rc = qd_extents_overlaps(&c->extents, structures_overlap, c);
	return rc ? rc : tables_overlap(c, err);
}
