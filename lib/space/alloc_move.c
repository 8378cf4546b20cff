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

/* ---- blocks that are needed ---- */

struct tidying {
	bool *needed;		/* by number of the block: counts something besides itself */
	uint64_t used;		/* clusters counted, blocks that are not needed left aside */
};

static int look_at_block(struct qd_alloc *a, uint64_t index, struct tidying *t, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint64_t self = qd_alloc_block(a, index), n = 0;
	bool counts_itself = self / g->block_entries == index;
	uint8_t *block;
	int rc = alloc_get_block(a, index, &block, err);

	if (rc || !block)
		return rc;
	for (uint64_t i = 0; i < g->block_entries; i++)
		n += index * g->block_entries + i != self && qd_refcount_get(block, g->refcount_order, i);
	t->needed[index] = n > 0;
	t->used += n;
	if (counts_itself)
		t->used += n > 0;
	else
		t->used -= n == 0;	/* by another block, which was or will be looked at */
	return 0;
}

/* Clusters of a file without holes: those in use, and a block wherever none is needed now. */
static uint64_t shortest(const struct qd_alloc *a, const struct tidying *t)
{
	uint64_t end = t->used;

	for (uint64_t i = 0; i < a->nentries && i * a->image.geom->block_entries < end; i++)
		end += !t->needed[i];
	return end;
}

static int drop_block(struct qd_alloc *a, uint64_t index, struct qd_err *err)
{
	uint64_t self = qd_alloc_block(a, index);

	alloc_set_entry(a, index, 0);
	if (self / a->image.geom->block_entries != index)
		return qd_alloc_release(a, self, err);
	qd_cache_drop(a->image.cache, self << a->image.geom->cluster_bits);	/* nobody counts it any more */
	return 0;
}

int qd_alloc_tidy_blocks(struct qd_alloc *a, uint64_t *ret_changed, struct qd_err *err)
{
	struct tidying t = { .needed = calloc(a->nentries + 1, sizeof(*t.needed)) };
	uint64_t end;
	int rc = t.needed ? 0 : qd_err_nomem(err, "a list of refcount blocks");

	*ret_changed = 0;
	for (uint64_t i = 0; rc == 0 && i < a->nentries; i++)
		rc = look_at_block(a, i, &t, err);
	end = rc ? 0 : shortest(a, &t);
	for (uint64_t i = 0; rc == 0 && i < a->nentries; i++) {
		bool below = i * a->image.geom->block_entries < end;

		if (below == (a->table[i] != 0) || t.needed[i])
			continue;
		rc = below ? alloc_add_block(a, i, err) : drop_block(a, i, err);
		++*ret_changed;
	}
	free(t.needed);
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
