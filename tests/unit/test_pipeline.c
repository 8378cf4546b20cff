/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pipeline under every number of threads and slots, with stages that take
 * unpredictable time (seeded), and errors placed everywhere.
 */
#include <pthread.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/host.h"
#include "base/pipeline.h"
#include "suites.h"

#define MAX_JOBS 200
#define MAX_SLOTS 16

enum stage { NEXT, PREPARE, COMMIT, FINISH, NSTAGES };

struct job {
	unsigned number;
	unsigned stages;	/* how many it has been through */
	unsigned noise;
};

struct run {
	unsigned njobs;
	bool delays;
	int fail_at[NSTAGES];	/* job number, -1: nowhere */

	pthread_mutex_t lock;	/* of what follows */
	unsigned nnext, ncommitted, nfinished;
	unsigned in_next, in_commit;
	unsigned prepared[MAX_JOBS], finished[MAX_JOBS];
	bool broken;
};

static void delay(struct run *r, struct job *job)
{
	struct timespec ts = { 0 };

	if (!r->delays)
		return;
	job->noise = job->noise * 1103515245u + 12345u;
	ts.tv_nsec = (long)(job->noise >> 16) % 8 * 20000;
	if (ts.tv_nsec)
		nanosleep(&ts, NULL);
}

static int fail_or(struct run *r, enum stage stage, unsigned number, int rc, struct qd_err *err)
{
	static const char *const names[] = { "next", "prepare", "commit", "finish" };

	if (r->fail_at[stage] == (int)number)
		return qd_err_set(err, QD_E_IO, "%s %u", names[stage], number);
	return rc;
}

static void check(struct run *r, bool ok)
{
	if (!ok)
		r->broken = true;
}

static int run_next(void *ctx, void *job, struct qd_err *err)
{
	struct run *r = ctx;
	struct job *j = job;
	int rc;

	pthread_mutex_lock(&r->lock);
	check(r, r->in_next++ == 0);
	j->number = r->nnext++;
	pthread_mutex_unlock(&r->lock);
	j->noise = j->number * 2654435761u + 1;
	j->stages = 1;
	delay(r, j);
	pthread_mutex_lock(&r->lock);
	r->in_next--;
	pthread_mutex_unlock(&r->lock);
	rc = j->number < r->njobs;
	return fail_or(r, NEXT, j->number, rc, err);
}

static int run_prepare(void *ctx, void *job, struct qd_err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	delay(r, j);
	pthread_mutex_lock(&r->lock);
	check(r, j->stages++ == 1 && j->number < r->njobs);
	r->prepared[j->number]++;
	pthread_mutex_unlock(&r->lock);
	return fail_or(r, PREPARE, j->number, 0, err);
}

static int run_commit(void *ctx, void *job, struct qd_err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	pthread_mutex_lock(&r->lock);
	check(r, r->in_commit++ == 0);
	check(r, j->stages++ == 2 && j->number == r->ncommitted++);
	pthread_mutex_unlock(&r->lock);
	delay(r, j);
	pthread_mutex_lock(&r->lock);
	r->in_commit--;
	pthread_mutex_unlock(&r->lock);
	return fail_or(r, COMMIT, j->number, 0, err);
}

static int run_finish(void *ctx, void *job, struct qd_err *err)
{
	struct run *r = ctx;
	struct job *j = job;

	delay(r, j);
	pthread_mutex_lock(&r->lock);
	check(r, j->stages++ == 3);
	r->finished[j->number]++;
	r->nfinished++;
	pthread_mutex_unlock(&r->lock);
	return fail_or(r, FINISH, j->number, 0, err);
}

static const struct qd_pipeline_ops all_stages = { run_next, run_prepare, run_commit, run_finish };

static void init_run(struct run *r, unsigned njobs)
{
	memset(r, 0, sizeof(*r));
	r->njobs = njobs;
	r->delays = true;
	for (int i = 0; i < NSTAGES; i++)
		r->fail_at[i] = -1;
	pthread_mutex_init(&r->lock, NULL);
}

static int run_it(struct run *r, const struct qd_pipeline_ops *ops, unsigned nslots, unsigned nthreads,
		  struct qd_err *err)
{
	struct job jobs[MAX_SLOTS];
	int rc;

	rc = qd_pipeline_run(ops, r, jobs, sizeof(jobs[0]), nslots, nthreads, err);
	pthread_mutex_destroy(&r->lock);
	return rc;
}

static void commits_in_order_at_any_number_of_threads(void)
{
	static const unsigned slots[] = { 1, 2, 3, 8, 16 }, threads[] = { 1, 2, 4, 9, 40 };

	for (unsigned s = 0; s < 5; s++) {
		for (unsigned t = 0; t < 5; t++) {
			struct run r;
			unsigned wrong = 0;

			init_run(&r, 100);
			CU_ASSERT_EQUAL(run_it(&r, &all_stages, slots[s], threads[t], NULL), 0);
			for (unsigned i = 0; i < 100; i++)
				wrong += r.prepared[i] != 1 || r.finished[i] != 1;
			CU_ASSERT_EQUAL(wrong, 0);
			CU_ASSERT_EQUAL(r.ncommitted, 100);
			CU_ASSERT_FALSE(r.broken);
		}
	}
}

static void missing_stages_are_passed_through(void)
{
	const struct qd_pipeline_ops next_only = { .next = run_next };
	struct run r;

	init_run(&r, 50);
	CU_ASSERT_EQUAL(run_it(&r, &next_only, 4, 4, NULL), 0);
	CU_ASSERT_EQUAL(r.nnext, 51);
	CU_ASSERT_FALSE(r.broken);
}

static void no_jobs_is_no_error(void)
{
	struct run r;

	init_run(&r, 0);
	CU_ASSERT_EQUAL(run_it(&r, &all_stages, 4, 4, NULL), 0);
	CU_ASSERT_EQUAL(r.nfinished, 0);
	CU_ASSERT_EQUAL(r.nnext, 1);
}

/* Each stage fails at each job; what was before it is completed, what is after is not committed. */
static void an_error_stops_and_earlier_jobs_are_finished(void)
{
	for (int stage = NEXT; stage < NSTAGES; stage++) {
		for (int job = 0; job < 20; job += 3) {
			struct qd_err err;
			struct run r;
			unsigned wrong = 0;

			init_run(&r, 30);
			r.fail_at[stage] = job;
			CU_ASSERT_EQUAL(run_it(&r, &all_stages, 6, 3, &err), QD_E_IO);
			CU_ASSERT_EQUAL(err.code, QD_E_IO);
			CU_ASSERT_EQUAL(atoi(strchr(err.msg, ' ')), job);
			for (int i = 0; i < job; i++)
				wrong += r.finished[i] != 1;
			CU_ASSERT_EQUAL(wrong, 0);
			/* Later jobs may be done with before an early one has finished. */
			if (stage != FINISH) {
				CU_ASSERT_EQUAL(r.ncommitted, (unsigned)job + (stage == COMMIT));
				CU_ASSERT_TRUE(r.nnext <= (unsigned)job + 6);
			}
			CU_ASSERT_FALSE(r.broken);
		}
	}
}

/* A late job fails early in its life, an early one late: the early one's error counts. */
static void the_first_error_in_job_order_is_returned(void)
{
	for (int i = 0; i < 40; i++) {
		struct qd_err err;
		struct run r;

		init_run(&r, 30);
		r.fail_at[FINISH] = i % 8;
		r.fail_at[COMMIT] = i % 8 + 1;
		r.fail_at[PREPARE] = i % 8 + 2;
		r.fail_at[NEXT] = i % 8 + 3;
		CU_ASSERT_EQUAL(run_it(&r, &all_stages, 8, 4, &err), QD_E_IO);
		CU_ASSERT_EQUAL(strncmp(err.msg, "finish ", 7), 0);
		CU_ASSERT_EQUAL(atoi(err.msg + 7), i % 8);
	}
}

struct meeting {
	pthread_mutex_t lock;
	pthread_cond_t changed;
	unsigned njobs, there, together;
};

static int meeting_next(void *ctx, void *job, struct qd_err *err)
{
	const struct timespec ts = { .tv_nsec = 20000000 };
	struct meeting *m = ctx;

	(void)job, (void)err;
	/* Long enough for the other thread to find nothing to do: it must not go home. */
	nanosleep(&ts, NULL);
	return m->njobs++ < 2;
}

/* Returns when two stages run at once, or after ten seconds, when they did not. */
static int meet(void *ctx, void *job, struct qd_err *err)
{
	struct meeting *m = ctx;
	struct timespec until;

	(void)job, (void)err;
	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += 10;
	pthread_mutex_lock(&m->lock);
	m->there++;
	pthread_cond_broadcast(&m->changed);
	while (m->there < 2)
		if (pthread_cond_timedwait(&m->changed, &m->lock, &until) != 0)
			break;
	m->together += m->there >= 2;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static void prepare_and_finish_run_many_at_a_time(void)
{
	const struct qd_pipeline_ops both[] = {
		{ .next = meeting_next, .prepare = meet },
		{ .next = meeting_next, .finish = meet },
	};

	for (int i = 0; i < 2; i++) {
		struct meeting m = { .lock = PTHREAD_MUTEX_INITIALIZER, .changed = PTHREAD_COND_INITIALIZER };

		CU_ASSERT_EQUAL(qd_pipeline_run(&both[i], &m, &m, 0, 2, 2, NULL), 0);
		CU_ASSERT_EQUAL(m.together, 2);
	}
}

static void the_host_has_processors_and_memory(void)
{
	CU_ASSERT_TRUE(qd_cpu_count() >= 1);
	CU_ASSERT_TRUE(qd_default_memory() > 0);
	CU_ASSERT_TRUE(qd_default_memory() <= UINT64_C(1) << 30);
}

CU_ErrorCode suite_pipeline(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(commits_in_order_at_any_number_of_threads),
		QD_TEST(missing_stages_are_passed_through),
		QD_TEST(no_jobs_is_no_error),
		QD_TEST(an_error_stops_and_earlier_jobs_are_finished),
		QD_TEST(the_first_error_in_job_order_is_returned),
		QD_TEST(prepare_and_finish_run_many_at_a_time),
		QD_TEST(the_host_has_processors_and_memory),
	};

	return QD_SUITE_ADD("pipeline", tests);
}
