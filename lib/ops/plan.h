/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A plan: the bytes that a repair is going to change, kept over an image that is not
 * touched, and the order in which they reach it.
 *
 *	image      |  header  |  L1  |  L2  | data ...            | (end)
 *	plan            ^ 48..63        ^ 8                          new clusters ...
 *
 * The planned image is an io of its own, so that it can be checked before anything is
 * written.  Bytes are planned in words of 8, each with a step; applying writes step after
 * step with a flush between:
 *
 *	DROP      entries that cannot be true; COPIED flags that must not be there
 *	NEW       clusters behind the end of the file; REFCOUNT words as far as counts rise
 *	SWITCH    whatever leads to new clusters
 *	REFCOUNT  what counts are at the end: those that fall
 *	COPIED    flags that may be set now that counts are right
 *
 * Invariants
 *  P1  nothing is written before qd_plan_apply; the plan is complete by then.
 *  P2  a cluster that existed is only changed in the words planned: what is new lies
 *      behind the end of the file (on a device: behind what is in use).
 *  P3  each word is written once, with its final value, at its latest step (counts: up to
 *      twice), so that no step undoes an earlier one.
 *  P4  applying writes a word that existed only if it differs from what is there: applying
 *      again after an interruption writes what is left.
 *
 * Left to others: what to change, and why.
 */
#ifndef QD_OPS_PLAN_H
#define QD_OPS_PLAN_H

#include "base/io.h"
#include "format/header.h"
#include "txn/queue.h"

/* In ascending order of precedence where several apply to one word. */
enum qd_plan_step {
	QD_PLAN_NONE,
	QD_PLAN_DROP,
	QD_PLAN_COPIED,
	QD_PLAN_SWITCH,
	QD_PLAN_REFCOUNT,
	QD_PLAN_NEW,
};

struct qd_plan;

struct qd_plan_opts {
	uint64_t new_off;	/* new clusters begin here; aligned */
	uint64_t memory;	/* bytes; what does not fit goes into a temporary file */
	const char *tmpdir;	/* for that; NULL: /tmp; must stay valid */
};

/* A plan over io, which stays the caller's. */
int qd_plan_new(struct qd_io *io, const struct qd_geom *geom, const struct qd_plan_opts *opts,
		struct qd_plan **ret_plan, struct qd_err *err);
void qd_plan_free(struct qd_plan *p);

/* The image as planned; reading only, any number of threads, also while one plans something. */
struct qd_io *qd_plan_io(struct qd_plan *p);

int qd_plan_read(struct qd_plan *p, void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

/* Plans nbytes at off; the step holds for every word that they touch. */
int qd_plan_write(struct qd_plan *p, const void *buf, size_t nbytes, uint64_t off, enum qd_plan_step step,
		  struct qd_err *err);
int qd_plan_put64(struct qd_plan *p, uint64_t off, uint64_t value, enum qd_plan_step step,
		   struct qd_err *err);
int qd_plan_get64(struct qd_plan *p, uint64_t off, uint64_t *ret_value, struct qd_err *err);

/* New clusters, all zeros, one after the other; their first byte. */
int qd_plan_alloc(struct qd_plan *p, uint64_t nclusters, uint64_t *ret_off, struct qd_err *err);

/* Where the next new cluster would be. */
uint64_t qd_plan_end(const struct qd_plan *p);

/* Nothing has been planned. */
bool qd_plan_is_empty(const struct qd_plan *p);

/* The image as it is now, without the plan. */
int qd_plan_read_base(struct qd_plan *p, void *buf, size_t nbytes, uint64_t off, struct qd_err *err);
int qd_plan_next_data_base(struct qd_plan *p, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole,
			   struct qd_err *err);	/* as qd_io_next_data */
uint64_t qd_plan_base_size(const struct qd_plan *p);

/* Calls fn for each cluster from `from` on (not the new ones) that will change, ascending. */
int qd_plan_each_cluster(struct qd_plan *p, uint64_t from,
			 int (*fn)(void *ctx, uint64_t off, struct qd_err *err), void *ctx,
			 struct qd_err *err);

/* Queues everything, with barriers between the steps. */
int qd_plan_apply(struct qd_plan *p, struct qd_queue *q, struct qd_err *err);

#endif
