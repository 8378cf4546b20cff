/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where clusters go so that a file ends with the last cluster that it needs.
 *
 *	now      H D . D L L . . D . D D
 *	                           |-------- from `end` on: to be empty
 *	single   H D[D]D L L . . D . . .     a cluster that nothing ties to its neighbours
 *	run              L L                 clusters that must stay next to each other
 *
 * Invariants
 *  K1  clusters in use keep their number; end is how many there are, or a little more
 *      where a run lies across it now: planning again after the moves gets closer.
 *  K2  a run moves as a whole, to free clusters below `end`; where no stretch is free that
 *      holds it, single clusters are moved out of one first (so singles move before
 *      runs).  A run may not go to where any part of it lies now.
 *  K3  single clusters keep their order among those that move, and what can stay, stays.
 *  K4  what a place receives is free now, or (for runs) free when the singles have moved.
 *
 * A run for which no stretch can be made stays where it is, and `end` is behind it.
 *
 * Left to others: what the clusters hold, and moving them.
 */
#ifndef QD_SPACE_COMPACT_PLAN_H
#define QD_SPACE_COMPACT_PLAN_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QD_COMPACT_STAYS UINT64_MAX

struct qd_compact_run {
	uint64_t first;		/* host cluster */
	uint64_t nclusters;	/* at least 1 */
	bool fixed;		/* never moves (the header) */
	uint64_t to;		/* the plan's answer: the new first cluster, or QD_COMPACT_STAYS */
};

/* A bit for each host cluster. */
struct qd_bits {
	uint64_t *words;
	uint64_t nbits;
};

int qd_bits_new(uint64_t nbits, struct qd_bits *ret_bits, struct qd_err *err);
void qd_bits_free(struct qd_bits *bits);

static inline bool qd_bits_get(const struct qd_bits *bits, uint64_t i)
{
	return bits->words[i / 64] >> (i % 64) & 1;
}

static inline void qd_bits_set(struct qd_bits *bits, uint64_t i)
{
	bits->words[i / 64] |= 1ull << (i % 64);
}

static inline void qd_bits_clear(struct qd_bits *bits, uint64_t i)
{
	bits->words[i / 64] &= ~(1ull << (i % 64));
}

/*
 * used: a bit for each cluster in use, runs included.  tied: as many bits, set for those that never
 * move; those of the runs are set, too.  runs: disjoint, in any order; their `to` is filled in.
 * single(ctx, from, to) is called for each single cluster that moves, by ascending from; a value other
 * than 0 ends it.  *ret_end: clusters of the file afterwards.
 */
int qd_compact_plan(const struct qd_bits *used, struct qd_bits *tied, struct qd_compact_run *runs,
		    size_t nruns,
		    int (*single)(void *ctx, uint64_t from, uint64_t to, struct qd_err *err), void *ctx,
		    uint64_t *ret_end, struct qd_err *err);

#endif
