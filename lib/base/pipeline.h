/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ordered parallel pipeline: the shape of every operation that reads much data.
 *
 *	next     one at a time, in order    decide what the job covers (or read a stream)
 *	prepare  many at a time             read, hash, compress
 *	commit   one at a time, in order    decide, allocate: all that must not depend on timing
 *	finish   many at a time             write
 *
 * Jobs are slots given by the caller and used again and again.  A thread takes
 * whatever is ready, commits before new work, so that nobody idles while an early job
 * is slow.  A finish stage may still run while later jobs are committed; jobs finish in
 * any order.  What commit sees depends only on the input, never on the number of
 * threads or slots.
 *
 * The first error in job order stops the pipeline and is the one returned; running
 * stages are waited for.
 */
#ifndef QD_BASE_PIPELINE_H
#define QD_BASE_PIPELINE_H

#include <stddef.h>

#include "base/err.h"

struct qd_pipeline_ops {
	/* 1: job filled; 0: no more jobs; negative: error. */
	int (*next)(void *ctx, void *job, struct qd_err *err);
	int (*prepare)(void *ctx, void *job, struct qd_err *err);	/* may be NULL, as may the next two */
	int (*commit)(void *ctx, void *job, struct qd_err *err);
	int (*finish)(void *ctx, void *job, struct qd_err *err);
};

/*
 * Runs until next says 0 or something fails.  The slots are njobs (>= 1) consecutive jobs
 * of job_nbytes each; nthreads >= 1, the calling thread being one of them.
 */
int qd_pipeline_run(const struct qd_pipeline_ops *ops, void *ctx, void *jobs, size_t job_nbytes,
		    unsigned njobs, unsigned nthreads, struct qd_err *err);

#endif
