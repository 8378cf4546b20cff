/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * References counted while an image is built: a growable array indexed by cluster
 * number, 16 bits a count where the largest one allows it, else 32.  Counts that nobody
 * touches cost nothing.
 */
#ifndef QD_SPACE_TALLY_H
#define QD_SPACE_TALLY_H

#include <stdbool.h>

#include "base/bigarray.h"

struct qd_tally {
	struct qd_bigarray array;
	uint64_t max;		/* the largest count allowed */
	bool wide;		/* 32 bits a count */
};

#define QD_TALLY_MAX UINT32_MAX

/* `max` above QD_TALLY_MAX is lowered to it. */
void qd_tally_init(struct qd_tally *t, uint64_t max);
void qd_tally_free(struct qd_tally *t);

/* 0 for an index never added to. */
uint64_t qd_tally_get(const struct qd_tally *t, uint64_t index);

/* The caller has made sure that the sum does not exceed max. */
int qd_tally_add(struct qd_tally *t, uint64_t index, uint32_t amount, struct qd_err *err);

#endif
