/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An io whose n-th call goes wrong.
 *
 *	call      1   2   3 ... n-1   n        n+1 ...
 *	ONCE      passed on           fails    passed on
 *	FOR_GOOD  passed on           fails    fails
 *	SHORT     passed on           moves half of what was asked; all others pass on
 *
 * Reads, writes, flushes, truncations and the rest count alike.
 */
#ifndef QD_TESTS_FAULTY_H
#define QD_TESTS_FAULTY_H

#include "base/io.h"

enum fault_kind { FAULT_ONCE, FAULT_FOR_GOOD, FAULT_SHORT };

struct fault {
	uint64_t n;		/* from 1; 0: nothing goes wrong */
	enum fault_kind kind;
	int error;		/* errno */
	bool writes_only;	/* only calls that change the file, and flushes, count */
};

/* below stays the caller's and must outlive *ret_io. */
int faulty_new(struct qd_io *below, const struct fault *fault, struct qd_io **ret_io, struct qd_err *err);

/* Did the fault happen? */
bool faulty_struck(const struct qd_io *io);

#endif
