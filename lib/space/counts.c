/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Chunks and carries are installed without a lock: whoever loses the race frees his own.
 * Memory is claimed from the limit before it is allocated, so that C2 holds at any time.
 */
#include "space/counts.h"

#include <stdlib.h>

#include "base/bytes.h"

#define CARRY_ENTRIES (1u << QD_COUNTS_CARRY_BITS)
#define CARRY_BYTES (CARRY_ENTRIES * sizeof(uint32_t))
#define CHUNK_CARRIES (QD_COUNTS_CHUNK >> QD_COUNTS_CARRY_BITS)

int qd_counts_new(uint64_t nclusters, uint64_t limit, struct qd_counts **ret_counts, struct qd_err *err)
{
	struct qd_counts *c;

	if (nclusters > QD_COUNTS_MAX_CLUSTERS)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the file has more than 2^38 clusters");
	c = calloc(1, sizeof(*c));
	if (!c)
		return qd_err_nomem(err, "reference counts");
	c->nclusters = nclusters;
	c->nchunks = qd_div_up(nclusters, QD_COUNTS_CHUNK);
	c->limit = limit;
	c->window_end = c->nchunks;
	c->chunks = calloc(c->nchunks ? c->nchunks : 1, sizeof(*c->chunks));
	if (!c->chunks) {
		free(c);
		return qd_err_nomem(err, "reference counts");
	}
	*ret_counts = c;
	return 0;
}

static void free_chunk(struct qd_counts_chunk *chunk)
{
	if (!chunk)
		return;
	for (unsigned i = 0; i < CHUNK_CARRIES; i++)
		free((void *)atomic_load_explicit(&chunk->carry[i], memory_order_relaxed));
	free(chunk);
}

void qd_counts_free(struct qd_counts *c)
{
	if (!c)
		return;
	for (uint64_t i = 0; i < c->nchunks; i++)
		free_chunk(qd_counts_peek(c, i));
	free(c->chunks);
	free(c);
}

void qd_counts_window(struct qd_counts *c, uint64_t first, uint64_t end)
{
	for (uint64_t i = 0; i < c->nchunks; i++) {
		free_chunk(qd_counts_peek(c, i));
		atomic_store(&c->chunks[i], NULL);
	}
	c->window_first = first;
	c->window_end = end;
	atomic_store(&c->used, 0);
	atomic_store(&c->overfull, false);
	atomic_store(&c->hit_metadata, false);
}

uint64_t qd_counts_fit_surely(const struct qd_counts *c)
{
	return qd_max_u64(1, c->limit / (sizeof(struct qd_counts_chunk) + CHUNK_CARRIES * CARRY_BYTES));
}

uint64_t qd_counts_fit_bytes(const struct qd_counts *c)
{
	return qd_max_u64(1, c->limit / sizeof(struct qd_counts_chunk));
}

/* Zeroed memory within the limit, or NULL and overfull. */
static void *claim(struct qd_counts *c, size_t nbytes)
{
	uint64_t before = atomic_fetch_add(&c->used, nbytes);
	void *p = NULL;

	/* The first chunk is always granted: a window of one must be able to finish. */
	if (before == 0 || (before < c->limit && nbytes <= c->limit - before))
		p = calloc(1, nbytes);
	if (!p) {
		atomic_fetch_sub(&c->used, nbytes);
		atomic_store(&c->overfull, true);
	}
	return p;
}

struct qd_counts_chunk *qd_counts_touch(struct qd_counts *c, uint64_t i)
{
	struct qd_counts_chunk *none = qd_counts_peek(c, i), *mine;

	if (none || i < c->window_first || i >= c->window_end || qd_counts_overfull(c))
		return none;
	mine = claim(c, sizeof(*mine));
	if (!mine)
		return NULL;
	if (atomic_compare_exchange_strong(&c->chunks[i], &none, mine))
		return mine;
	free(mine);
	atomic_fetch_sub(&c->used, sizeof(*mine));
	return none;
}

static _Atomic uint32_t *touch_carry(struct qd_counts *c, struct qd_counts_chunk *chunk, unsigned i)
{
	_Atomic uint32_t *none = atomic_load(&chunk->carry[i]), *mine;

	if (none || qd_counts_overfull(c))
		return none;
	mine = claim(c, CARRY_BYTES);
	if (!mine)
		return NULL;
	if (atomic_compare_exchange_strong(&chunk->carry[i], &none, mine))
		return mine;
	free((void *)mine);
	atomic_fetch_sub(&c->used, CARRY_BYTES);
	return none;
}

void qd_counts_carry(struct qd_counts *c, struct qd_counts_chunk *chunk, uint64_t cluster, uint64_t sixteens)
{
	unsigned at = (unsigned)(cluster & (QD_COUNTS_CHUNK - 1));
	_Atomic uint32_t *carry = touch_carry(c, chunk, at >> QD_COUNTS_CARRY_BITS);
	_Atomic uint32_t *p;
	uint32_t old;

	if (!carry)
		return;
	p = &carry[at & (CARRY_ENTRIES - 1)];
	old = atomic_load(p);
	while (!atomic_compare_exchange_weak(p, &old, (uint32_t)qd_min_u64(old + sixteens, UINT32_MAX)))
		;
}

void qd_counts_add_metadata(struct qd_counts *c, uint64_t cluster, uint64_t n)
{
	struct qd_counts_chunk *chunk = qd_counts_touch(c, cluster >> QD_COUNTS_CHUNK_BITS);
	_Atomic uint8_t *p;
	uint8_t old;
	uint64_t sixteens;

	if (!chunk)
		return;
	p = &chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)];
	old = atomic_load(p);
	while (!atomic_compare_exchange_weak(p, &old, qd_count_next(old, QD_COUNT_META, n)))
		;
	sixteens = ((old & QD_COUNT_LOW) + n) >> 4;
	if (sixteens)
		qd_counts_carry(c, chunk, cluster, sixteens);
}

uint64_t qd_counts_get(const struct qd_counts *c, uint64_t cluster)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c, cluster >> QD_COUNTS_CHUNK_BITS);
	unsigned at = (unsigned)(cluster & (QD_COUNTS_CHUNK - 1));
	_Atomic uint32_t *carry;
	uint64_t n;

	if (!chunk)
		return 0;
	n = atomic_load_explicit(&chunk->byte[at], memory_order_relaxed) & QD_COUNT_LOW;
	carry = atomic_load(&chunk->carry[at >> QD_COUNTS_CARRY_BITS]);
	if (carry)
		n += (uint64_t)atomic_load(&carry[at & (CARRY_ENTRIES - 1)]) << 4;
	return n;
}
