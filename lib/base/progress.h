/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Progress and cancellation: how a long operation talks to whoever started it.
 *
 * The callback may be called from any of the operation's threads, one call at a time.
 * Returning non-zero asks the operation to stop: it cleans up and returns
 * QD_E_CANCELLED.
 */
#ifndef QD_BASE_PROGRESS_H
#define QD_BASE_PROGRESS_H

#include <pthread.h>
#include <stdint.h>

#include "base/err.h"

typedef int (*qd_progress_fn)(void *ctx, uint64_t current, uint64_t total);

struct qd_progress {
	qd_progress_fn fn;	/* NULL: nobody listens, nothing cancels */
	void *ctx;
	pthread_mutex_t lock;
	uint64_t current;	/* in the operation's own unit, mostly bytes */
	uint64_t total;		/* 0 while unknown */
};

void qd_progress_init(struct qd_progress *p, qd_progress_fn fn, void *ctx);
void qd_progress_destroy(struct qd_progress *p);
void qd_progress_set_total(struct qd_progress *p, uint64_t total);

/* Adds to current and calls the callback; QD_E_CANCELLED when that asks to stop.  p may be NULL. */
int qd_progress_add(struct qd_progress *p, uint64_t amount, struct qd_err *err);

#endif
