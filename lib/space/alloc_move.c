/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving the refcount structure: blocks and the table, for whoever empties a part of the
 * file.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "space/alloc_int.h"
#include "space/refcount.h"

int qd_alloc_claim_at(struct qd_alloc *a, uint64_t cluster, struct qd_err *err)
{
	uint64_t count, off = cluster << a->image.geom->cluster_bits;
	int rc = qd_alloc_count(a, cluster, &count, err);

	if (rc == 0 && count)
		rc = qd_err_set(err, QD_E_INVALID, "the cluster at 0x%" PRIx64 " is not free", off);
	if (rc == 0)
		rc = qd_alloc_guard(a, cluster, err);
	if (rc == 0)
		rc = alloc_set_count(a, cluster, 1, err);
	if (rc == 0)
		a->end = qd_max_u64(a->end, cluster + 1);
	return rc;
}

int qd_alloc_cover(struct qd_alloc *a, uint64_t end, struct qd_err *err)
{
	uint64_t nblocks = qd_min_u64(qd_div_up(end, a->image.geom->block_entries), a->nentries);
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < nblocks; i++)
		if (!a->table[i])
			rc = alloc_add_block(a, i, err);
	return rc;
}

uint64_t qd_alloc_nblocks(const struct qd_alloc *a)
{
	return a->nentries;
}

uint64_t qd_alloc_block(const struct qd_alloc *a, uint64_t index)
{
	return a->table[index] >> a->image.geom->cluster_bits;
}

int qd_alloc_move_block(struct qd_alloc *a, uint64_t index, uint64_t to, struct qd_err *err)
{
	size_t size = (size_t)a->image.geom->cluster_size;
	uint64_t from = qd_alloc_block(a, index);
	uint8_t *block, *copy = malloc(size);
	int rc;

	if (!copy)
		return qd_err_nomem(err, "a refcount block");
	rc = alloc_get_block(a, index, &block, err);
	if (rc == 0) {
		memcpy(copy, block, size);
		rc = qd_cache_add(a->image.cache, QD_CACHE_REFBLOCK, to << a->image.geom->cluster_bits, &block, err);
	}
	if (rc == 0) {
		memcpy(block, copy, size);
		alloc_set_entry(a, index, to << a->image.geom->cluster_bits);
		rc = qd_alloc_release(a, from, err);
	}
	free(copy);
	return rc;
}

/* Counts nothing, or nothing but itself. */
static bool is_empty(const struct qd_geom *g, const uint8_t *block, uint64_t index, uint64_t self)
{
	for (uint64_t i = 0; i < g->block_entries; i++)
		if (qd_refcount_get(block, g->refcount_order, i) && index * g->block_entries + i != self)
			return false;
	return true;
}

int qd_alloc_drop_empty_blocks(struct qd_alloc *a, uint64_t *ret_dropped, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	int rc = 0;

	*ret_dropped = 0;
	for (uint64_t i = 0; rc == 0 && i < a->nentries; i++) {
		uint64_t self = qd_alloc_block(a, i);
		uint8_t *block;

		if (!self)
			continue;
		rc = alloc_get_block(a, i, &block, err);
		if (rc || !is_empty(g, block, i, self))
			continue;
		alloc_set_entry(a, i, 0);
		++*ret_dropped;
		if (self / g->block_entries == i)	/* nobody counts it any more */
			qd_cache_drop(a->image.cache, self << g->cluster_bits);
		else
			rc = qd_alloc_release(a, self, err);
	}
	return rc;
}

static int write_whole_table(struct qd_alloc *a, uint64_t off, struct qd_err *err)
{
	uint8_t *bytes = malloc(a->nentries * 8);
	int rc;

	if (!bytes)
		return qd_err_nomem(err, "the refcount table");
	for (uint64_t i = 0; i < a->nentries; i++)
		qd_put_be64(bytes + i * 8, a->table[i]);
	rc = qd_queue_write(a->image.queue, bytes, a->nentries * 8, off, err);
	free(bytes);
	return rc;
}

int qd_alloc_move_table(struct qd_alloc *a, uint64_t to, struct qd_err *err)
{
	uint64_t old = a->table_off >> a->image.geom->cluster_bits, off = to << a->image.geom->cluster_bits;
	uint8_t word[8];
	int rc = qd_alloc_write(a, err);	/* what the old table still has to learn */

	if (rc == 0)
		rc = write_whole_table(a, off, err);
	if (rc == 0)
		rc = qd_queue_barrier(a->image.queue, err);
	qd_put_be64(word, off);
	if (rc == 0)
		rc = qd_queue_write(a->image.queue, word, sizeof(word), QD_HEADER_OFF_REFTABLE_OFF, err);
	if (rc == 0)
		rc = qd_queue_flush(a->image.queue, err);
	if (rc)
		return rc;
	a->table_off = off;
	for (uint64_t i = 0; rc == 0 && i < a->table_clusters; i++)
		rc = qd_alloc_release(a, old + i, err);
	return rc;
}
