/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Zero-filled arrays that grow and cost memory only where they are touched: tables
 * indexed by cluster number, whose size follows the disk and whose use follows the data.
 */
#ifndef QD_BASE_BIGARRAY_H
#define QD_BASE_BIGARRAY_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct qd_bigarray {		/* all zero: empty */
	void *p;		/* may move when the array grows */
	size_t nbytes;		/* usable; all zeros until written */
};

/* Makes at least nbytes usable; `what` names the array in the message. */
int qd_bigarray_need(struct qd_bigarray *a, uint64_t nbytes, const char *what, struct qd_err *err);

void qd_bigarray_free(struct qd_bigarray *a);

#endif
