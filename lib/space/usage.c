/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Cells in chunks; the few clusters with 63 references and more have their count in
 * an open-addressing table, keyed by cluster + 1 so that 0 is a free place.
 */
#include "space/usage.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"

#define CHUNK_BITS 12u
#define CHUNK (1u << CHUNK_BITS)
#define PINNED 0x80u
#define USED 0x40u
#define COUNT 0x3fu

struct big {
	uint64_t key;
	uint64_t references;
};

struct qd_usage {
	uint64_t nclusters;
	uint64_t nchunks;
	uint8_t **chunks;
	uint64_t memory_left;
	struct big *big;
	uint64_t big_size;		/* places, a power of two, or 0 */
	uint64_t nbig;
};

void qd_usage_sum_add(struct qd_usage_sum *sum, uint64_t references, bool pinned)
{
	sum->pinned += pinned;
	sum->pinned_unused += pinned && !references;
	if (!references)
		return;
	sum->references += references;
	sum->distinct++;
	sum->shared += references > 1;
	sum->max_references = qd_max_u64(sum->max_references, references);
	sum->histogram[63 - __builtin_clzll(references)]++;
}

static int take_memory(struct qd_usage *u, uint64_t nbytes, struct qd_err *err)
{
	if (nbytes > u->memory_left)
		return qd_err_set(err, QD_E_NOMEM,
				  "counting the references to %" PRIu64 " host clusters needs more memory than allowed",
				  u->nclusters);
	u->memory_left -= nbytes;
	return 0;
}

int qd_usage_new(uint64_t nclusters, uint64_t memory, struct qd_usage **ret_usage, struct qd_err *err)
{
	struct qd_usage *u = calloc(1, sizeof(*u));
	int r;

	if (!u)
		return qd_err_nomem(err, "reference counts");
	u->nclusters = nclusters;
	u->nchunks = qd_div_up(nclusters, CHUNK);
	u->memory_left = memory;
	r = take_memory(u, u->nchunks * sizeof(*u->chunks), err);
	if (!r) {
		u->chunks = calloc(u->nchunks ? u->nchunks : 1, sizeof(*u->chunks));
		if (!u->chunks)
			r = qd_err_nomem(err, "reference counts");
	}
	if (r) {
		qd_usage_free(u);
		return r;
	}
	*ret_usage = u;
	return 0;
}

void qd_usage_free(struct qd_usage *u)
{
	if (!u)
		return;
	for (uint64_t i = 0; u->chunks && i < u->nchunks; i++)
		free(u->chunks[i]);
	free(u->chunks);
	free(u->big);
	free(u);
}

/* The place of key, or the free one where it belongs. */
static struct big *find_big(struct big *big, uint64_t size, uint64_t key)
{
	uint64_t i = (key * 0x9e3779b97f4a7c15u >> 16) & (size - 1);

	while (big[i].key && big[i].key != key)
		i = (i + 1) & (size - 1);
	return &big[i];
}

static int grow_big(struct qd_usage *u, struct qd_err *err)
{
	uint64_t size = u->big_size ? u->big_size * 2 : 256;
	struct big *grown;
	int r = take_memory(u, size * sizeof(*grown), err);

	if (r)
		return r;
	grown = calloc(size, sizeof(*grown));
	if (!grown)
		return qd_err_nomem(err, "reference counts");
	for (uint64_t i = 0; i < u->big_size; i++)
		if (u->big[i].key)
			*find_big(grown, size, u->big[i].key) = u->big[i];
	u->memory_left += u->big_size * sizeof(*grown);
	free(u->big);
	u->big = grown;
	u->big_size = size;
	return 0;
}

static int add_big(struct qd_usage *u, uint64_t cluster, uint64_t references, struct qd_err *err)
{
	struct big *b;

	if (u->nbig * 2 >= u->big_size) {
		int r = grow_big(u, err);

		if (r)
			return r;
	}
	b = find_big(u->big, u->big_size, cluster + 1);
	if (!b->key) {
		b->key = cluster + 1;
		u->nbig++;
	}
	b->references += references;
	return 0;
}

static int get_cell(struct qd_usage *u, uint64_t cluster, uint8_t **ret_cell, struct qd_err *err)
{
	uint8_t **chunk = &u->chunks[cluster >> CHUNK_BITS];
	int r;

	assert(cluster < u->nclusters);
	if (!*chunk) {
		r = take_memory(u, CHUNK, err);
		if (r)
			return r;
		*chunk = calloc(CHUNK, 1);
		if (!*chunk)
			return qd_err_nomem(err, "reference counts");
	}
	*ret_cell = &(*chunk)[cluster & (CHUNK - 1)];
	return 0;
}

int qd_usage_add(struct qd_usage *u, uint64_t cluster, uint64_t references, struct qd_err *err)
{
	uint8_t *cell = NULL;
	uint64_t sum;
	int r = get_cell(u, cluster, &cell, err);

	if (r)
		return r;
	if ((*cell & COUNT) == COUNT)
		return add_big(u, cluster, references, err);
	sum = (*cell & COUNT) + references;
	if (sum >= COUNT) {
		r = add_big(u, cluster, sum, err);
		if (r)
			return r;
		sum = COUNT;
	}
	*cell = (uint8_t)((*cell & ~COUNT) | sum);
	return 0;
}

int qd_usage_pin(struct qd_usage *u, uint64_t cluster, struct qd_err *err)
{
	uint8_t *cell = NULL;
	int r = get_cell(u, cluster, &cell, err);

	if (!r)
		*cell |= PINNED;
	return r;
}

int qd_usage_mark(struct qd_usage *u, uint64_t cluster, bool *ret_first, struct qd_err *err)
{
	uint8_t *cell = NULL;
	int r = get_cell(u, cluster, &cell, err);

	if (r)
		return r;
	*ret_first = !(*cell & USED);
	*cell |= USED;
	return 0;
}

bool qd_usage_has(const struct qd_usage *u, uint64_t cluster)
{
	const uint8_t *chunk = u->chunks[cluster >> CHUNK_BITS];

	return chunk && chunk[cluster & (CHUNK - 1)];
}

static uint64_t references_of(const struct qd_usage *u, uint64_t cluster, uint8_t cell)
{
	return (cell & COUNT) == COUNT ? find_big(u->big, u->big_size, cluster + 1)->references : cell & COUNT;
}

void qd_usage_summarize(const struct qd_usage *u, struct qd_usage_sum *sum)
{
	for (uint64_t i = 0; i < u->nchunks; i++) {
		if (!u->chunks[i])
			continue;
		for (uint64_t k = 0; k < CHUNK; k++) {
			uint8_t cell = u->chunks[i][k];

			if (cell & (PINNED | COUNT))
				qd_usage_sum_add(sum, references_of(u, i * CHUNK + k, cell), cell & PINNED);
		}
	}
}
