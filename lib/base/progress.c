/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counting and reporting.  The callback runs under the lock, which makes its calls
 * one at a time and `current` monotonic; it must therefore not call back into here.
 */
#include "base/progress.h"

#include <stddef.h>

void qd_progress_init(struct qd_progress *p, qd_progress_fn fn, void *ctx)
{
	p->fn = fn;
	p->ctx = ctx;
	p->current = 0;
	p->total = 0;
	pthread_mutex_init(&p->lock, NULL);
}

void qd_progress_destroy(struct qd_progress *p)
{
	pthread_mutex_destroy(&p->lock);
}

void qd_progress_set_total(struct qd_progress *p, uint64_t total)
{
	if (!p)
		return;
	pthread_mutex_lock(&p->lock);
	p->total = total;
	pthread_mutex_unlock(&p->lock);
}

int qd_progress_add(struct qd_progress *p, uint64_t amount, struct qd_err *err)
{
	int stop = 0;

	if (!p)
		return 0;
	pthread_mutex_lock(&p->lock);
	p->current += amount;
	if (p->fn)
		stop = p->fn(p->ctx, p->current, p->total);
	pthread_mutex_unlock(&p->lock);
	if (stop)
		return qd_err_set(err, QD_E_CANCELLED, "cancelled");
	return 0;
}
