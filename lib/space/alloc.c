/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Free clusters are found by looking at the refcounts, from the lowest that can be free
 * on: the file stays as short as it can.  Blocks come and go through the cache.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "space/alloc_int.h"
#include "space/refcount.h"

#define REPAIR_HINT "qdedup check tells more"

static int check_entry(const struct qd_alloc *a, uint64_t index, struct qd_err *err)
{
	uint64_t entry = a->table[index], off = entry & QD_REFTABLE_OFFSET_MASK;
	uint64_t cluster_size = a->image.geom->cluster_size;

	if ((entry & ~QD_REFTABLE_OFFSET_MASK) || !qd_is_aligned(off, cluster_size) ||
	    !qd_range_within(off, cluster_size, a->end * cluster_size))
		return qd_err_set(err, QD_E_CORRUPT, "refcount table entry %" PRIu64 ": 0x%" PRIx64
				  " has reserved bits, is unaligned or lies past the end of the file; "
				  REPAIR_HINT,
				  index, entry);
	return qd_extents_add(a->image.guard, off / cluster_size, 1, QD_STRUCT_REFBLOCK, (uint32_t)index,
			      err);
}

static int load_table(struct qd_alloc *a, struct qd_err *err)
{
	uint64_t nbytes = a->table_clusters * a->image.geom->cluster_size;
	int rc;

	if (nbytes > QD_MAX_REFTABLE_BYTES || !qd_is_aligned(a->table_off, a->image.geom->cluster_size) ||
	    !qd_range_within(a->table_off, nbytes, a->image.file_size))
		return qd_err_set(err, QD_E_CORRUPT, "the refcount table (0x%" PRIx64 " bytes at 0x%" PRIx64
				  ") is too large, unaligned or lies past the end of the file; " REPAIR_HINT,
				  nbytes, a->table_off);
	a->table = malloc(nbytes);
	if (!a->table)
		return qd_err_nomem(err, "the refcount table");
	rc = qd_queue_read(a->image.queue, a->table, nbytes, a->table_off, err);
	if (rc)
		return rc;
	a->nentries = nbytes / 8;
	for (uint64_t i = 0; rc == 0 && i < a->nentries; i++) {
		a->table[i] = qd_get_be64((const uint8_t *)&a->table[i]);
		if (a->table[i])
			rc = check_entry(a, i, err);
	}
	if (rc == 0)
		rc = qd_extents_add(a->image.guard, a->table_off >> a->image.geom->cluster_bits,
				    a->table_clusters, QD_STRUCT_REFTABLE, 0, err);
	return rc;
}

int qd_alloc_open(const struct qd_alloc_image *image, struct qd_alloc **ret_alloc, struct qd_err *err)
{
	struct qd_alloc *a = calloc(1, sizeof(*a));
	int rc;

	if (!a)
		return qd_err_nomem(err, "the cluster allocator");
	a->image = *image;
	a->table_off = image->reftable_off;
	a->table_clusters = image->reftable_clusters;
	a->end = qd_div_up(image->file_size, image->geom->cluster_size);
	rc = load_table(a, err);
	if (rc) {
		qd_alloc_free(a);
		return rc;
	}
	qd_extents_sort(image->guard);
	*ret_alloc = a;
	return 0;
}

void qd_alloc_free(struct qd_alloc *a)
{
	if (!a)
		return;
	free(a->table);
	free(a->released);
	free(a->forgotten);
	free(a->holes);
	free(a);
}

uint64_t qd_alloc_pending(const struct qd_alloc *a)
{
	return a->nreleased;
}

uint64_t qd_alloc_end(const struct qd_alloc *a)
{
	return a->end << a->image.geom->cluster_bits;
}

uint64_t qd_alloc_reach(const struct qd_alloc *a)
{
	return (a->nentries * a->image.geom->block_entries) << a->image.geom->cluster_bits;
}

/* ---- counts ---- */

int alloc_get_block(struct qd_alloc *a, uint64_t index, uint8_t **ret_block, struct qd_err *err)
{
	*ret_block = NULL;
	if (index >= a->nentries || !a->table[index])
		return 0;
	return qd_cache_get(a->image.cache, QD_CACHE_REFBLOCK, a->table[index], ret_block, err);
}

int qd_alloc_count(struct qd_alloc *a, uint64_t cluster, uint64_t *ret_count, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint8_t *block;
	int rc = alloc_get_block(a, cluster / g->block_entries, &block, err);

	if (rc == 0)
		*ret_count = block ? qd_refcount_get(block, g->refcount_order, cluster % g->block_entries) : 0;
	return rc;
}

int alloc_set_count(struct qd_alloc *a, uint64_t cluster, uint64_t count, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint8_t *block;
	int rc = alloc_get_block(a, cluster / g->block_entries, &block, err);

	if (rc)
		return rc;
	qd_refcount_set(block, g->refcount_order, cluster % g->block_entries, count);
	qd_cache_touch(a->image.cache);
	return 0;
}

/* ---- claiming ---- */

int qd_alloc_forget(struct qd_alloc *a, uint64_t cluster, struct qd_err *err)
{
	uint64_t *forgotten;

	if (!qd_extents_find(a->image.guard, cluster))
		return 0;
	forgotten = realloc(a->forgotten, (a->nforgotten + 1) * sizeof(*forgotten));
	if (!forgotten)
		return qd_err_nomem(err, "the list of freed clusters");
	a->forgotten = forgotten;
	a->forgotten[a->nforgotten++] = cluster;
	return 0;
}

static bool is_forgotten(const struct qd_alloc *a, uint64_t cluster)
{
	for (uint64_t i = 0; i < a->nforgotten; i++)
		if (a->forgotten[i] == cluster)
			return true;
	return false;
}

static bool still_there(const struct qd_alloc *a, const struct qd_extent *e)
{
	if (e->kind == QD_STRUCT_REFBLOCK)
		return a->table[e->id] >> a->image.geom->cluster_bits == e->first;
	if (e->kind == QD_STRUCT_REFTABLE)
		return a->table_off >> a->image.geom->cluster_bits == e->first;
	return !a->image.still || a->image.still(a->image.ctx, e);
}

int qd_alloc_guard(const struct qd_alloc *a, uint64_t cluster, struct qd_err *err)
{
	const struct qd_extent *e = qd_extents_find(a->image.guard, cluster);

	if (!e || !still_there(a, e) || is_forgotten(a, cluster))
		return 0;
	return qd_err_set(err, QD_E_CORRUPT,
			  "the cluster at 0x%" PRIx64 " is about to be overwritten, but holds the %s; "
			  REPAIR_HINT,
			  cluster << a->image.geom->cluster_bits, qd_struct_name(e->kind));
}

bool alloc_is_free(const struct qd_alloc *a, const uint8_t *block, uint64_t cluster)
{
	const struct qd_geom *g = a->image.geom;

	if (!block || cluster >= a->end)
		return true;
	return qd_refcount_get(block, g->refcount_order, cluster % g->block_entries) == 0;
}

/* The first free cluster of block number `index` that is not below `from`; false when it is full. */
static bool find_in_block(const struct qd_alloc *a, uint64_t index, const uint8_t *block, uint64_t from,
			  uint64_t *ret_index)
{
	const struct qd_geom *g = a->image.geom;

	for (uint64_t i = from; i < g->block_entries; i++)
		if (alloc_is_free(a, block, index * g->block_entries + i)) {
			*ret_index = i;
			return true;
		}
	return false;
}

static int find_free(struct qd_alloc *a, uint64_t *ret_cluster, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;

	for (;;) {
		uint64_t index = a->hint / g->block_entries, in_block;
		uint8_t *block;
		int rc = 0;

		if (index >= a->nentries)
			rc = alloc_grow_table(a, err);
		else if (!a->table[index])
			rc = alloc_add_block(a, index, err);
		if (rc == 0)
			rc = alloc_get_block(a, index, &block, err);
		if (rc)
			return rc;
		if (find_in_block(a, index, block, a->hint % g->block_entries, &in_block)) {
			*ret_cluster = index * g->block_entries + in_block;
			return 0;
		}
		a->hint = (index + 1) * g->block_entries;
	}
}

int qd_alloc_claim(struct qd_alloc *a, uint64_t *ret_cluster, struct qd_err *err)
{
	uint64_t cluster;
	int rc = find_free(a, &cluster, err);

	if (rc)
		return rc;
	if (cluster > QD_OFFSET_MASK >> a->image.geom->cluster_bits)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the image file is as large as the format allows");
	rc = qd_alloc_guard(a, cluster, err);
	if (rc == 0)
		rc = alloc_set_count(a, cluster, 1, err);
	if (rc)
		return rc;
	a->hint = cluster + 1;
	a->end = qd_max_u64(a->end, cluster + 1);
	*ret_cluster = cluster;
	return 0;
}

/* ---- sharing ---- */

int qd_alloc_share(struct qd_alloc *a, uint64_t cluster, uint64_t amount, struct qd_err *err)
{
	uint64_t count, off = cluster << a->image.geom->cluster_bits, max = a->image.geom->refcount_max;
	int rc = qd_alloc_count(a, cluster, &count, err);

	if (rc)
		return rc;
	if (count == 0)
		return qd_err_set(err, QD_E_CORRUPT, "the cluster at 0x%" PRIx64
				  " is in use, but its refcount is 0; " REPAIR_HINT, off);
	if (amount > max - count)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the cluster at 0x%" PRIx64 " has %" PRIu64
				  " references, and %" PRIu64 " more do not fit a refcount of %" PRIu32 " bits",
				  off, count, amount, a->image.geom->refcount_bits);
	return alloc_set_count(a, cluster, count + amount, err);
}

/* ---- releasing ---- */

int qd_alloc_release_many(struct qd_alloc *a, uint64_t cluster, uint64_t amount, struct qd_err *err)
{
	if (a->nreleased == a->capacity) {
		uint64_t capacity = a->capacity ? a->capacity * 2 : 256;
		struct released *released = realloc(a->released, capacity * sizeof(*released));

		if (!released)
			return qd_err_nomem(err, "the list of freed clusters");
		a->released = released;
		a->capacity = capacity;
	}
	qd_cache_drop(a->image.cache, cluster << a->image.geom->cluster_bits);
	a->released[a->nreleased++] = (struct released){ .cluster = cluster, .amount = amount };
	return 0;
}

int qd_alloc_release(struct qd_alloc *a, uint64_t cluster, struct qd_err *err)
{
	return qd_alloc_release_many(a, cluster, 1, err);
}

void qd_alloc_keep_bytes(struct qd_alloc *a)
{
	a->keep_bytes = true;
}

void qd_alloc_punch_around(struct qd_alloc *a)
{
	a->punch_around = true;
}

static int compare_released(const void *pa, const void *pb)
{
	const struct released *a = pa, *b = pb;

	return a->cluster < b->cluster ? -1 : a->cluster > b->cluster;
}

static void sort_released(struct qd_alloc *a)
{
	for (uint64_t i = 1; i < a->nreleased; i++)
		if (a->released[i - 1].cluster > a->released[i].cluster) {
			qsort(a->released, a->nreleased, sizeof(*a->released), compare_released);
			return;
		}
}

/* Takes references away; *ret_free: those were the last. */
static int drop_references(struct qd_alloc *a, const struct released *r, bool *ret_free, struct qd_err *err)
{
	uint64_t count;
	int rc = qd_alloc_count(a, r->cluster, &count, err);

	if (rc)
		return rc;
	if (count < r->amount)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the cluster at 0x%" PRIx64 " was in use, but its refcount is %" PRIu64 "; "
				  REPAIR_HINT,
				  r->cluster << a->image.geom->cluster_bits, count);
	*ret_free = count > 0 && count == r->amount;
	return alloc_set_count(a, r->cluster, count - r->amount, err);
}

int qd_alloc_each_freed(struct qd_alloc *a, int (*fn)(void *ctx, uint64_t cluster, struct qd_err *err),
			void *ctx, struct qd_err *err)
{
	int rc = 0;

	sort_released(a);
	for (uint64_t i = 0, end; rc == 0 && i < a->nreleased; i = end) {
		uint64_t amount = 0, count = 0;

		for (end = i; end < a->nreleased && a->released[end].cluster == a->released[i].cluster; end++)
			amount += a->released[end].amount;
		rc = qd_alloc_count(a, a->released[i].cluster, &count, err);
		if (rc == 0 && amount && count == amount)
			rc = fn(ctx, a->released[i].cluster, err);
	}
	return rc;
}

/* [*first, *end) are to become a hole; now the cluster, too. */
static int add_to_hole(struct qd_alloc *a, uint64_t cluster, uint64_t *first, uint64_t *end, struct qd_err *err)
{
	bool joined = cluster == *end;
	int rc = 0;

	if (!joined && *first < *end && a->punch_around)
		rc = alloc_is_gap(a, *end, cluster, &joined, err);
	if (rc == 0 && !joined) {
		rc = alloc_punch(a, *first, *end, err);
		*first = cluster;
	}
	*end = cluster + 1;
	return rc;
}

int qd_alloc_settle(struct qd_alloc *a, struct qd_err *err)
{
	uint64_t first = 0, end = 0;	/* clusters that are free now */
	int rc = 0;

	sort_released(a);
	for (uint64_t i = 0; rc == 0 && i < a->nreleased; i++) {
		bool is_free = false;

		rc = drop_references(a, &a->released[i], &is_free, err);
		if (rc == 0 && is_free)
			rc = add_to_hole(a, a->released[i].cluster, &first, &end, err);
	}
	a->nreleased = 0;
	return rc ? rc : alloc_punch(a, first, end, err);
}

/* ---- writing ---- */

static int write_table_entries(struct qd_alloc *a, struct qd_err *err)
{
	for (uint64_t i = a->dirty_first; i < a->dirty_end; i++) {
		uint8_t entry[8];
		int rc;

		qd_put_be64(entry, a->table[i]);
		rc = qd_queue_write(a->image.queue, entry, sizeof(entry), a->table_off + i * 8, err);
		if (rc)
			return rc;
	}
	a->dirty_first = a->dirty_end = 0;
	return 0;
}

int qd_alloc_write(struct qd_alloc *a, struct qd_err *err)
{
	int rc = qd_cache_write(a->image.cache, QD_CACHE_REFBLOCK, err);

	if (rc == 0)
		rc = qd_queue_barrier(a->image.queue, err);
	if (rc == 0)
		rc = write_table_entries(a, err);
	if (rc == 0)
		rc = qd_queue_barrier(a->image.queue, err);
	return rc;
}
