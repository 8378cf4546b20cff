/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs of free clusters.
 *
 * A block that qd_alloc_claim adds lies at the first cluster that it counts, and would cut
 * every run longer than a block reaches.  So a run that needs new blocks has them in front:
 *
 *	... used | blocks | the run ........................... |
 *	          \______/ one for each part of it that no block counts yet
 */
#include <assert.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "space/alloc_int.h"
#include "space/refcount.h"

struct run {
	uint64_t first;		/* cluster where the blocks begin */
	uint64_t blocks;
};

/* Of the blocks that count clusters [first, end), those that do not exist.  All are in the table's reach. */
static uint64_t count_missing(const struct qd_alloc *a, uint64_t first, uint64_t end)
{
	uint64_t missing = 0, per_block = a->image.geom->block_entries;

	for (uint64_t i = first / per_block; i <= (end - 1) / per_block; i++)
		missing += a->table[i] == 0;
	return missing;
}

/*
 * Sets ret_run->blocks so that blocks and run end before the cluster `end`, which need not
 * be more than one past the table's reach.  False: they do not.
 */
static bool fits(const struct qd_alloc *a, uint64_t nclusters, uint64_t end, struct run *run)
{
	uint64_t total = nclusters, missing;

	for (;;) {
		if (total > end - run->first)
			return false;
		missing = count_missing(a, run->first, run->first + total);
		if (nclusters + missing == total) {
			run->blocks = missing;
			return true;
		}
		total = nclusters + missing;	/* grows, so this ends */
	}
}

/* The first cluster from `from` on that is in use, or the end of that block. */
static int free_until(struct qd_alloc *a, uint64_t from, uint64_t *ret_end, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint64_t index = from / g->block_entries, i = from % g->block_entries;
	uint8_t *block;
	int rc = alloc_get_block(a, index, &block, err);

	if (rc)
		return rc;
	while (i < g->block_entries && alloc_is_free(a, block, index * g->block_entries + i))
		i++;
	*ret_end = index * g->block_entries + (block ? i : g->block_entries);
	return 0;
}

/* The lowest place in the table's reach; *ret_found is false when there is none. */
static int find_run(struct qd_alloc *a, uint64_t nclusters, struct run *ret_run, bool *ret_found,
		    struct qd_err *err)
{
	uint64_t reach = a->nentries * a->image.geom->block_entries, at = a->hint;
	struct run run = { .first = at };

	*ret_found = false;
	while (at < reach) {
		uint64_t end;
		int rc = free_until(a, at, &end, err);

		if (rc)
			return rc;
		if (end > at && fits(a, nclusters, end, &run)) {
			*ret_run = run;
			*ret_found = true;
			return 0;
		}
		if (end == at || end % a->image.geom->block_entries)
			run.first = ++end;	/* that one is in use */
		at = end;
	}
	return 0;
}

static int add_blocks(struct qd_alloc *a, const struct run *run, uint64_t end, struct qd_err *err)
{
	const struct qd_geom *g = a->image.geom;
	uint64_t cluster = run->first;
	int rc = 0;

	for (uint64_t i = run->first / g->block_entries; rc == 0 && i <= (end - 1) / g->block_entries; i++) {
		uint8_t *block;

		if (a->table[i])
			continue;
		rc = qd_cache_add(a->image.cache, QD_CACHE_REFBLOCK, cluster << g->cluster_bits, &block, err);
		if (rc == 0)
			alloc_set_entry(a, i, cluster++ << g->cluster_bits);
	}
	return rc;
}

static int take_run(struct qd_alloc *a, const struct run *run, uint64_t nclusters, struct qd_err *err)
{
	uint64_t end = run->first + run->blocks + nclusters;
	int rc = 0;

	if (end - 1 > QD_OFFSET_MASK >> a->image.geom->cluster_bits)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the image file is as large as the format allows");
	for (uint64_t c = run->first; rc == 0 && c < end; c++)
		rc = qd_alloc_guard(a, c, err);
	if (rc == 0)
		rc = add_blocks(a, run, end, err);
	for (uint64_t c = run->first; rc == 0 && c < end; c++)
		rc = alloc_set_count(a, c, 1, err);
	a->end = qd_max_u64(a->end, end);
	return rc;
}

int qd_alloc_claim_run(struct qd_alloc *a, uint64_t nclusters, uint64_t *ret_first, struct qd_err *err)
{
	struct run run;
	bool found = false;
	int rc;

	assert(nclusters > 0);
	if (nclusters > QD_OFFSET_MASK >> a->image.geom->cluster_bits)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the image file is as large as the format allows");
	do {
		rc = find_run(a, nclusters, &run, &found, err);
		if (rc == 0 && !found)
			rc = alloc_grow_table(a, err);
	} while (rc == 0 && !found);
	if (rc == 0)
		rc = take_run(a, &run, nclusters, err);
	if (rc == 0)
		*ret_first = run.first + run.blocks;
	return rc;
}
