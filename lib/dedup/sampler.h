/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * About how many different contents there are, from a few of them (adaptive sampling: M. Wegman;
 * P. Flajolet, "On adaptive sampling", Computing 43, 1990).
 *
 * Kept are the hashes that end in `depth` zero bits; whenever there are more than fit, the
 * depth grows by one and those that do not end so go.  The estimate is what is left times
 * 2^depth, its standard error about 1.2 / sqrt(capacity).  It depends on which contents were
 * added, not on their order or how often.
 *
 * One thread at a time.
 */
#ifndef QD_DEDUP_SAMPLER_H
#define QD_DEDUP_SAMPLER_H

#include <stdint.h>

#include "base/err.h"

#define QD_SAMPLER_CAPACITY 8192u

struct qd_sampler {		/* all zero: empty */
	uint64_t *slots;	/* open addressing; 0: free */
	uint32_t n;
	uint32_t depth;
};

int qd_sampler_init(struct qd_sampler *s, struct qd_err *err);
void qd_sampler_free(struct qd_sampler *s);

/* hash: 64 good bits of the content. */
void qd_sampler_add(struct qd_sampler *s, uint64_t hash);

/* How many different hashes were added; exact while the depth is 0. */
uint64_t qd_sampler_estimate(const struct qd_sampler *s);

#endif
