/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often each host cluster is referenced, for statistics: a byte per cluster.
 *
 *	cell:  7 pinned | 6 used otherwise | 5..0 references (63: in the overflow table)
 *
 * Cells lie in chunks that come into being with the first reference into them, so
 * that memory follows what the image references, not what its size claims; `memory`
 * bounds it.
 */
#ifndef QD_SPACE_USAGE_H
#define QD_SPACE_USAGE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define QD_USAGE_BUCKETS 64u

struct qd_usage;

/* What the counts add up to.  Bucket k: things with [2^k, 2^(k+1)) references. */
struct qd_usage_sum {
	uint64_t references;		/* without the pin's */
	uint64_t distinct;		/* things with a reference */
	uint64_t shared;		/* with two or more */
	uint64_t max_references;
	uint64_t pinned;
	uint64_t pinned_unused;		/* referenced by nothing but the pin */
	uint64_t histogram[QD_USAGE_BUCKETS];
};

/* Adds one thing with so many references. */
void qd_usage_sum_add(struct qd_usage_sum *sum, uint64_t references, bool pinned);

/* For host clusters 0..nclusters-1. */
int qd_usage_new(uint64_t nclusters, uint64_t memory, struct qd_usage **ret_usage, struct qd_err *err);
void qd_usage_free(struct qd_usage *usage);

/* cluster < nclusters here and below; QD_E_NOMEM over the bound. */
int qd_usage_add(struct qd_usage *usage, uint64_t cluster, uint64_t references, struct qd_err *err);
int qd_usage_pin(struct qd_usage *usage, uint64_t cluster, struct qd_err *err);

/* Used by something that is not counted; *ret_first: it was not marked so before. */
int qd_usage_mark(struct qd_usage *usage, uint64_t cluster, bool *ret_first, struct qd_err *err);

/* True when it was added, pinned or marked. */
bool qd_usage_has(const struct qd_usage *usage, uint64_t cluster);

/* Adds every cluster with references or pin to *sum. */
void qd_usage_summarize(const struct qd_usage *usage, struct qd_usage_sum *sum);

#endif
