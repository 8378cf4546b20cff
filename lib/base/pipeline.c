/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pipeline's scheduler.  A slot walks through
 *
 *	FREE -> (next) -> FILLED -> (prepare) -> PREPARED -> (commit) -> COMMITTED -> (finish) -> FREE
 *
 * and is BUSY while a thread runs a stage on it.  One mutex guards everything here;
 * stages run without it, and handing a slot on under it is what orders their memory.
 *
 * Invariants:
 *  1. Sequence numbers are given by `next`, which runs alone: they are the job order.
 *  2. Commit takes the job numbered next_commit, which is counted up when it is done:
 *     so it runs alone.
 *  3. After an error of job n, stages still start for jobs before n, never for n and
 *     later ones: the error returned is the lowest there is, whatever the timing.
 *  4. When no stage runs and none can start, all is done: a slot that is not free
 *     always has a stage that can start, or waits for one that runs.
 */
#include "base/pipeline.h"

#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>

enum state { FREE, FILLED, PREPARED, COMMITTED, BUSY };
enum stage { COMMIT, FINISH, PREPARE, NEXT, NONE };

struct slot {
	enum state state;
	uint64_t seq;		/* valid unless FREE */
	void *job;
};

struct pipeline {
	const struct qd_pipeline_ops *ops;
	void *ctx;
	struct slot *slots;
	unsigned nslots;

	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned nrunning;	/* stages */
	unsigned nwaiting;	/* threads */
	bool next_running;
	bool no_more;		/* next said so, or something failed */
	uint64_t next_seq;
	uint64_t next_commit;
	uint64_t err_seq;	/* UINT64_MAX: no error */
	int rc;
	struct qd_err *err;	/* the caller's */
};

/* The slot in `state` with the lowest number among those that may go on. */
static struct slot *first_in(struct pipeline *p, enum state state)
{
	struct slot *best = NULL;

	for (unsigned i = 0; i < p->nslots; i++) {
		struct slot *s = &p->slots[i];

		if (s->state == state && (state == FREE || s->seq < p->err_seq) &&
		    (!best || s->seq < best->seq))
			best = s;
	}
	return best;
}

/* Commits before new work, so that a slow early job holds up as little as possible. */
static enum stage pick(struct pipeline *p, struct slot **ret_slot)
{
	struct slot *s;

	s = first_in(p, PREPARED);
	if (s && s->seq == p->next_commit) {
		*ret_slot = s;
		return COMMIT;
	}
	if ((*ret_slot = first_in(p, COMMITTED)))
		return FINISH;
	if ((*ret_slot = first_in(p, FILLED)))
		return PREPARE;
	if (!p->no_more && !p->next_running && (*ret_slot = first_in(p, FREE)))
		return NEXT;
	return NONE;
}

static int call(const struct pipeline *p, enum stage stage, void *job, struct qd_err *err)
{
	int (*const fn[])(void *, void *, struct qd_err *) = {
		[COMMIT] = p->ops->commit,
		[FINISH] = p->ops->finish,
		[PREPARE] = p->ops->prepare,
		[NEXT] = p->ops->next,
	};

	return fn[stage] ? fn[stage](p->ctx, job, err) : 0;
}

static void record_error(struct pipeline *p, uint64_t seq, int rc, const struct qd_err *err)
{
	p->no_more = true;
	if (seq >= p->err_seq)
		return;
	p->err_seq = seq;
	p->rc = rc;
	qd_err_copy(p->err, err);
}

static void begin(struct pipeline *p, enum stage stage, struct slot *s)
{
	p->nrunning++;
	s->state = BUSY;
	if (stage != NEXT)
		return;
	p->next_running = true;
	s->seq = p->next_seq;
}

static void end(struct pipeline *p, enum stage stage, struct slot *s, int rc, const struct qd_err *err)
{
	static const enum state after[] = {
		[COMMIT] = COMMITTED, [FINISH] = FREE, [PREPARE] = PREPARED, [NEXT] = FILLED,
	};

	p->nrunning--;
	s->state = after[stage];
	if (stage == NEXT) {
		p->next_running = false;
		p->next_seq++;
		if (rc == 0) {
			p->no_more = true;
			s->state = FREE;
		}
	} else if (stage == COMMIT) {
		p->next_commit++;
	}
	if (rc < 0)
		record_error(p, s->seq, rc, err);
	if (p->nwaiting > 0)
		pthread_cond_broadcast(&p->changed);
}

static void *work(void *arg)
{
	struct pipeline *p = arg;
	struct qd_err err;
	struct slot *slot;
	enum stage stage;
	int rc;

	pthread_mutex_lock(&p->lock);
	for (;;) {
		stage = pick(p, &slot);
		if (stage == NONE) {
			if (p->nrunning == 0)
				break;
			p->nwaiting++;
			pthread_cond_wait(&p->changed, &p->lock);
			p->nwaiting--;
			continue;
		}
		begin(p, stage, slot);
		pthread_mutex_unlock(&p->lock);
		qd_err_clear(&err);
		rc = call(p, stage, slot->job, &err);
		pthread_mutex_lock(&p->lock);
		end(p, stage, slot, rc, &err);
	}
	pthread_mutex_unlock(&p->lock);
	return NULL;
}

/*
 * Signals stay with the calling thread, but for SIGURG: ignored unless asked for, it lets
 * the owner of the process end a wait in a system call (a pipe that nobody writes to).
 * When the system refuses a thread the work is done by fewer.
 */
static unsigned start_threads(struct pipeline *p, pthread_t *threads, unsigned n)
{
	sigset_t all, old;
	unsigned i;

	sigfillset(&all);
	sigdelset(&all, SIGURG);
	pthread_sigmask(SIG_SETMASK, &all, &old);
	for (i = 0; i < n; i++)
		if (pthread_create(&threads[i], NULL, work, p) != 0)
			break;
	pthread_sigmask(SIG_SETMASK, &old, NULL);
	return i;
}

int qd_pipeline_run(const struct qd_pipeline_ops *ops, void *ctx, void *jobs, size_t job_nbytes,
		    unsigned njobs, unsigned nthreads, struct qd_err *err)
{
	struct pipeline p = { .ops = ops, .ctx = ctx, .nslots = njobs, .err_seq = UINT64_MAX, .err = err };
	unsigned nstarted;
	pthread_t *threads;

	/* A thread without a slot would have nothing to do. */
	if (nthreads > njobs)
		nthreads = njobs;
	p.slots = calloc(njobs, sizeof(*p.slots));
	threads = calloc(nthreads, sizeof(*threads));
	if (!p.slots || !threads) {
		free(threads);
		free(p.slots);
		return qd_err_nomem(err, "the pipeline");
	}
	for (unsigned i = 0; i < njobs; i++)
		p.slots[i].job = (char *)jobs + i * job_nbytes;
	pthread_mutex_init(&p.lock, NULL);
	pthread_cond_init(&p.changed, NULL);
	nstarted = start_threads(&p, threads, nthreads - 1);
	work(&p);
	for (unsigned i = 0; i < nstarted; i++)
		pthread_join(threads[i], NULL);
	pthread_cond_destroy(&p.changed);
	pthread_mutex_destroy(&p.lock);
	free(threads);
	free(p.slots);
	return p.rc;
}
