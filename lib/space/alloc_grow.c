/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How the refcount structure grows.
 *
 * A new block lies at the first cluster that it counts, so it counts itself.  A new table
 * lies where the old one's reach ends, followed by the blocks that count both:
 *
 *	... everything the old table covers | new table, T clusters | B blocks | free ...
 *	                                    ^ counted by the first of the B blocks
 *
 * It is written at once, in order: blocks and table, flush, the header's 12 bytes that
 * switch to it, flush.  The old table is released like any other cluster.
 */
#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "space/alloc_int.h"

void alloc_set_entry(struct qd_alloc *a, uint64_t index, uint64_t off)
{
	a->table[index] = off;
	if (a->dirty_first == a->dirty_end) {
		a->dirty_first = index;
		a->dirty_end = index + 1;
		return;
	}
	a->dirty_first = qd_min_u64(a->dirty_first, index);
	a->dirty_end = qd_max_u64(a->dirty_end, index + 1);
}

int alloc_add_block(struct qd_alloc *a, uint64_t index, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint64_t cluster = index * g->block_entries;
	uint8_t *block;
	int rc = qd_alloc_guard(a, cluster, err);

	if (rc == 0)
		rc = qd_cache_add(a->image.cache, QD_CACHE_REFBLOCK, cluster << g->cluster_bits, &block, err);
	if (rc)
		return rc;
	alloc_set_entry(a, index, cluster << g->cluster_bits);
	a->end = qd_max_u64(a->end, cluster + 1);
	return alloc_set_count(a, cluster, 1, err);
}

struct growth {
	uint64_t first;		/* cluster where it begins */
	uint64_t table;		/* clusters */
	uint64_t blocks;	/* clusters */
	uint64_t nentries;
};

/* The smallest table at least half as large again that also holds the blocks for itself. */
static int plan(const struct qd_alloc *a, struct growth *g, struct qd_err *err)
{
	const struct qd_geom *geom = a->image.geom;
	uint64_t per_cluster = geom->cluster_size / 8;

	g->first = a->nentries * geom->block_entries;
	g->table = qd_div_up(a->nentries + a->nentries / 2 + 1, per_cluster);
	g->blocks = 1;
	while (g->blocks * geom->block_entries < g->table + g->blocks ||
	       g->table * per_cluster < a->nentries + g->blocks) {
		if (g->blocks * geom->block_entries < g->table + g->blocks)
			g->blocks++;
		else
			g->table++;
	}
	g->nentries = g->table * per_cluster;
	if (g->table * geom->cluster_size > QD_MAX_REFTABLE_BYTES)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the image file cannot grow: its refcount table would exceed %u bytes",
				  QD_MAX_REFTABLE_BYTES);
	for (uint64_t i = 0; i < g->table + g->blocks; i++) {
		int rc = qd_alloc_guard(a, g->first + i, err);

		if (rc)
			return rc;
	}
	return 0;
}

/* Blocks in the cache and in the table's memory; the counts of all that is new. */
static int add_blocks(struct qd_alloc *a, const struct growth *g, uint64_t old_entries, struct qd_err *err)
{
	uint32_t bits = a->image.geom->cluster_bits;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < g->blocks; i++) {
		uint64_t off = (g->first + g->table + i) << bits;
		uint8_t *block;

		rc = qd_cache_add(a->image.cache, QD_CACHE_REFBLOCK, off, &block, err);
		a->table[old_entries + i] = off;
	}
	for (uint64_t i = 0; rc == 0 && i < g->table + g->blocks; i++)
		rc = alloc_set_count(a, g->first + i, 1, err);
	return rc;
}

static int write_table(struct qd_alloc *a, const struct growth *g, struct qd_err *err)
{
	uint8_t *bytes = malloc(g->nentries * 8), header[12];
	struct qd_queue *q = a->image.queue;
	uint64_t off = g->first << a->image.geom->cluster_bits;
	int rc;

	if (!bytes)
		return qd_err_nomem(err, "the refcount table");
	for (uint64_t i = 0; i < g->nentries; i++)
		qd_put_be64(bytes + i * 8, a->table[i]);
	rc = qd_queue_write(q, bytes, g->nentries * 8, off, err);
	free(bytes);
	if (rc == 0)
		rc = qd_cache_write(a->image.cache, QD_CACHE_REFBLOCK, err);
	if (rc == 0)
		rc = qd_queue_barrier(q, err);
	qd_put_be64(header, off);
	qd_put_be32(header + 8, (uint32_t)g->table);
	if (rc == 0)
		rc = qd_queue_write(q, header, sizeof(header), QD_HEADER_OFF_REFTABLE_OFF, err);
	return rc ? rc : qd_queue_flush(q, err);
}

int alloc_grow_table(struct qd_alloc *a, struct qd_err *err)
{
	uint64_t old_first = a->table_off >> a->image.geom->cluster_bits, old_clusters = a->table_clusters;
	uint64_t old_entries = a->nentries;
	struct growth g;
	uint64_t *table;
	int rc = plan(a, &g, err);

	if (rc == 0)
		rc = qd_alloc_write(a, err);	/* what the old table still has to learn */
	if (rc)
		return rc;
	assert(g.nentries > old_entries);
	table = realloc(a->table, g.nentries * sizeof(*table));
	if (!table)
		return qd_err_nomem(err, "the refcount table");
	memset(table + old_entries, 0, (g.nentries - old_entries) * sizeof(*table));
	a->table = table;
	a->nentries = g.nentries;
	a->end = qd_max_u64(a->end, g.first + g.table + g.blocks);
	rc = add_blocks(a, &g, old_entries, err);
	if (rc == 0)
		rc = write_table(a, &g, err);
	if (rc) {
		a->nentries = old_entries;	/* the file still has the old table */
		return rc;
	}
	a->table_off = g.first << a->image.geom->cluster_bits;
	a->table_clusters = g.table;
	for (uint64_t i = 0; rc == 0 && i < old_clusters; i++)
		rc = qd_alloc_release(a, old_first + i, err);
	return rc;
}
