/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References counted per host cluster, in one byte each for as long as that will do.
 *
 *	bit 7      6       5      4       3..0
 *	  TWICE  COPIED  CLEAR  PINNED   references modulo 16
 *
 *	COPIED   an L2 entry of the active layer names it, with the COPIED flag
 *	CLEAR    likewise, without
 *	TWICE    two or more entries of the active layer name it
 *	PINNED   the pin names it
 *	TWICE without COPIED and CLEAR is otherwise impossible and marks metadata.
 *
 * That is enough to judge every COPIED flag without looking at an entry again: with a
 * stored refcount of 1 some flag is wrong if and only if CLEAR is set, with another
 * count if and only if COPIED is set.
 *
 * Bytes live in chunks of 64 Ki clusters that are allocated when first touched; what
 * goes over 15 is carried to 32-bit counters, allocated for 1024 clusters at a time.
 * A window limits which chunks are counted at all, so that an image of any size can be
 * counted in several passes under a memory limit.
 *
 * Invariants
 *  C1  count(cluster) = (byte & 15) + 16 * carry, exact until 16 * 2^32.
 *  C2  bytes of allocated chunks + carries never exceed the limit; what does not fit is
 *      not counted, and qd_counts_overfull says so: nothing counted in that window holds.
 *  C3  adding is safe from any number of threads, and the result does not depend on
 *      their order.  Metadata is marked before the first reference is added.
 */
#ifndef QD_SPACE_COUNTS_H
#define QD_SPACE_COUNTS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define QD_COUNT_LOW 0x0fu
#define QD_COUNT_PINNED 0x10u
#define QD_COUNT_CLEAR 0x20u
#define QD_COUNT_COPIED 0x40u
#define QD_COUNT_TWICE 0x80u
#define QD_COUNT_ACTIVE (QD_COUNT_CLEAR | QD_COUNT_COPIED)
#define QD_COUNT_META_MASK (QD_COUNT_TWICE | QD_COUNT_ACTIVE)
#define QD_COUNT_META QD_COUNT_TWICE

#define QD_COUNTS_CHUNK_BITS 16u
#define QD_COUNTS_CHUNK (1u << QD_COUNTS_CHUNK_BITS)
#define QD_COUNTS_CARRY_BITS 10u
#define QD_COUNTS_MAX_CLUSTERS (1ull << 38)

struct qd_counts_chunk {
	_Alignas(8) _Atomic uint8_t byte[QD_COUNTS_CHUNK];
	_Atomic(_Atomic uint32_t *) carry[QD_COUNTS_CHUNK >> QD_COUNTS_CARRY_BITS];
};

struct qd_counts {
	_Atomic(struct qd_counts_chunk *) *chunks;	/* NULL: not touched, or outside the window */
	uint64_t nclusters;
	uint64_t nchunks;
	uint64_t window_first;		/* chunk numbers: [first, end) */
	uint64_t window_end;
	uint64_t limit;			/* bytes */
	_Atomic uint64_t used;		/* bytes */
	_Atomic bool overfull;
	_Atomic bool hit_metadata;	/* some reference named a cluster marked as metadata */
};

/*
 * Counts clusters [0, nclusters) with at most `limit` bytes of memory (the directory of
 * chunks, 8 bytes for each 64 Ki clusters, comes on top).  QD_E_UNSUPPORTED when
 * nclusters is above QD_COUNTS_MAX_CLUSTERS.
 */
int qd_counts_new(uint64_t nclusters, uint64_t limit, struct qd_counts **ret_counts, struct qd_err *err);
void qd_counts_free(struct qd_counts *c);

/* Forgets everything and counts chunks [first, end) from now on; one thread. */
void qd_counts_window(struct qd_counts *c, uint64_t first, uint64_t end);

/* Chunks that are sure to fit the limit, at least 1: with carries for all of their clusters, and without. */
uint64_t qd_counts_fit_surely(const struct qd_counts *c);
uint64_t qd_counts_fit_bytes(const struct qd_counts *c);

/* The chunk, allocated now if it lies in the window and fits; NULL otherwise. */
struct qd_counts_chunk *qd_counts_touch(struct qd_counts *c, uint64_t chunk);

/* Adds to the carry of a cluster. */
void qd_counts_carry(struct qd_counts *c, struct qd_counts_chunk *chunk, uint64_t cluster, uint64_t sixteens);

/* Marks a cluster (< nclusters) as metadata and adds n references. */
void qd_counts_add_metadata(struct qd_counts *c, uint64_t cluster, uint64_t n);

/* References of a cluster; 0 outside the window. */
uint64_t qd_counts_get(const struct qd_counts *c, uint64_t cluster);

static inline bool qd_counts_overfull(const struct qd_counts *c)
{
	return atomic_load_explicit(&c->overfull, memory_order_relaxed);
}

/* The bytes of a chunk; NULL when none was touched. */
static inline struct qd_counts_chunk *qd_counts_peek(const struct qd_counts *c, uint64_t chunk)
{
	return atomic_load_explicit(&c->chunks[chunk], memory_order_acquire);
}

static inline void qd_counts_prefetch(const struct qd_counts *c, uint64_t cluster)
{
	struct qd_counts_chunk *chunk;

	if (cluster >= c->nclusters)
		return;
	chunk = qd_counts_peek(c, cluster >> QD_COUNTS_CHUNK_BITS);
	if (chunk)
		__builtin_prefetch((const void *)&chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)], 1, 1);
}

/* The byte after n more references with these flags; a metadata cluster stays what it is. */
static inline uint8_t qd_count_next(uint8_t old, unsigned flags, uint64_t n)
{
	unsigned next = (old & ~QD_COUNT_LOW) | flags | ((old + (unsigned)n) & QD_COUNT_LOW);

	if ((old & QD_COUNT_ACTIVE) && (flags & QD_COUNT_ACTIVE))
		next |= QD_COUNT_TWICE;
	return (uint8_t)next;
}

/*
 * Adds n references of an L2 table's entry to cluster (< nclusters).  flags: COPIED or
 * CLEAR when the table belongs to the active layer (TWICE when it does so twice), PINNED
 * when to the pin.  References to metadata are not counted, only noted.
 */
static inline void qd_counts_add(struct qd_counts *c, uint64_t cluster, unsigned flags, uint64_t n)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c, cluster >> QD_COUNTS_CHUNK_BITS);
	_Atomic uint8_t *p;
	uint8_t old;
	uint64_t sixteens;

	if (__builtin_expect(!chunk, 0)) {
		chunk = qd_counts_touch(c, cluster >> QD_COUNTS_CHUNK_BITS);
		if (!chunk)
			return;
	}
	p = &chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)];
	old = atomic_load_explicit(p, memory_order_relaxed);
	do {
		if (__builtin_expect((old & QD_COUNT_META_MASK) == QD_COUNT_META, 0)) {
			atomic_store_explicit(&c->hit_metadata, true, memory_order_relaxed);
			return;
		}
	} while (!atomic_compare_exchange_weak_explicit(p, &old, qd_count_next(old, flags, n),
							memory_order_relaxed, memory_order_relaxed));
	sixteens = ((old & QD_COUNT_LOW) + n) >> 4;
	if (__builtin_expect(sixteens != 0, 0))
		qd_counts_carry(c, chunk, cluster, sixteens);
}

typedef uint64_t qd_counts_eight __attribute__((may_alias));

/*
 * One reference each to eight neighbours (cluster is a multiple of 8, all < nclusters),
 * if nothing names any of them yet: what a fresh image is made of, in one step.  False,
 * and nothing is done, otherwise.
 */
static inline bool qd_counts_add_eight(struct qd_counts *c, uint64_t cluster, unsigned flags)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c, cluster >> QD_COUNTS_CHUNK_BITS);
	uint64_t none = 0, eight = 0x0101010101010101ull * (flags | 1);
	qd_counts_eight *p;

	if (!chunk)
		return false;
	p = (qd_counts_eight *)(void *)&chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)];
	return __atomic_compare_exchange_n(p, &none, eight, false, __ATOMIC_RELAXED, __ATOMIC_RELAXED);
}

#endif
