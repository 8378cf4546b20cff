/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The ordered queue: its invariants by number (queue.h), against a model and a recorder. */
#include "txn/queue.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "recorder.h"
#include "suites.h"

#define SIZE 40000u
#define NO_LIMIT (64u << 20)

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

struct setup {
	struct recorder *r;
	struct qd_queue *q;
	uint8_t model[SIZE];
};

static void set_up(struct setup *s, uint64_t limit)
{
	struct qd_io *io = NULL;

	for (unsigned i = 0; i < SIZE; i++)
		s->model[i] = (uint8_t)(i * 7);
	s->r = NULL;
	s->q = NULL;
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(s->model, SIZE, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &s->r, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(recorder_io(s->r), limit, &s->q, NULL), 0);
}

static void tear_down(struct setup *s)
{
	qd_queue_free(s->q);
	recorder_free(s->r);
}

static void put(struct setup *s, uint64_t off, uint8_t value, size_t nbytes)
{
	memset(s->model + off, value, nbytes);
	CU_ASSERT_EQUAL(qd_queue_write(s->q, s->model + off, nbytes, off, NULL), 0);
}

static bool file_is_model(struct setup *s)
{
	uint8_t buf[SIZE];

	CU_ASSERT_EQUAL(qd_io_read(recorder_io(s->r), buf, SIZE, 0, NULL), 0);
	return memcmp(buf, s->model, SIZE) == 0;
}

static struct qd_queue_stats stats(const struct setup *s)
{
	struct qd_queue_stats st;

	qd_queue_stats(s->q, &st);
	return st;
}

static void q3_reads_see_queued_writes(void)
{
	uint64_t seed = 1;

	for (unsigned round = 0; round < 20; round++) {
		struct setup s;
		bool same = true;

		set_up(&s, round % 2 ? 20000 : NO_LIMIT);
		for (unsigned i = 0; i < 300; i++) {
			uint64_t off = next_random(&seed) % (SIZE - 5000), n = 1 + next_random(&seed) % 5000;
			uint8_t buf[6000];

			put(&s, off, (uint8_t)i, next_random(&seed) % 4 ? n % 50 : n);
			if (next_random(&seed) % 10 == 0)
				CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
			off = next_random(&seed) % (SIZE - 6000);
			CU_ASSERT_EQUAL(qd_queue_read(s.q, buf, sizeof(buf), off, NULL), 0);
			same = same && memcmp(buf, s.model + off, sizeof(buf)) == 0;
		}
		CU_ASSERT_TRUE(same);
		CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
		CU_ASSERT_TRUE(file_is_model(&s));
		tear_down(&s);
	}
}

static void q3_reads_past_the_end_are_zeros(void)
{
	struct setup s;
	uint8_t buf[100];

	set_up(&s, NO_LIMIT);
	CU_ASSERT_EQUAL(qd_queue_write(s.q, "abc", 3, SIZE + 50, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_read(s.q, buf, sizeof(buf), SIZE, NULL), 0);
	CU_ASSERT_EQUAL(buf[49], 0);
	CU_ASSERT_EQUAL(memcmp(buf + 50, "abc", 3), 0);
	CU_ASSERT_EQUAL(buf[53], 0);
	tear_down(&s);
}

static void q2_a_write_leaves_earlier_sections_alone(void)
{
	struct setup s;
	struct crash first = { .nops = 1, .kind = CRASH_ALL };
	struct qd_io *io = NULL;
	uint8_t byte;

	set_up(&s, NO_LIMIT);
	put(&s, 100, 1, 10);
	put(&s, 105, 2, 10);
	CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	put(&s, 100, 3, 10);
	CU_ASSERT_EQUAL(recorder_nops(s.r), 0);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(recorder_nops(s.r), 3);
	CU_ASSERT_EQUAL_FATAL(recorder_crash(s.r, &first, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, &byte, 1, 100, NULL), 0);
	CU_ASSERT_EQUAL(byte, 1);
	CU_ASSERT_EQUAL(qd_io_read(io, &byte, 1, 105, NULL), 0);
	CU_ASSERT_EQUAL(byte, 2);
	qd_io_close(io);
	CU_ASSERT_TRUE(file_is_model(&s));
	tear_down(&s);
}

static void q4_flushes_are_as_few_as_can_be(void)
{
	struct setup s;

	set_up(&s, NO_LIMIT);
	for (unsigned i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 0);
	put(&s, 0, 1, 10);
	for (unsigned i = 0; i < 5; i++)
		CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	put(&s, 20, 1, 10);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 1);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 2);
	/* a barrier across a submit, and one that a flush has settled */
	put(&s, 40, 1, 10);
	CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 2);
	put(&s, 60, 1, 10);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 3);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	put(&s, 80, 1, 10);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 4);
	/* data that the caller wrote */
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	qd_queue_wrote_data(s.q);
	CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	put(&s, 100, 1, 10);
	CU_ASSERT_EQUAL(qd_queue_submit(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).flushes, 6);
	CU_ASSERT_EQUAL(recorder_nflushes(s.r), 6);
	tear_down(&s);
}

static void q5_neighbours_leave_in_one_write(void)
{
	struct setup s;

	set_up(&s, NO_LIMIT);
	for (unsigned i = 0; i < 2000; i++)
		put(&s, (i * 1009) % 2000 * 8 + 100, (uint8_t)i, 8);
	put(&s, 30000, 1, 8);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_EQUAL(stats(&s).writes, 2);
	CU_ASSERT_EQUAL(stats(&s).nbytes, 2001 * 8);
	CU_ASSERT_EQUAL(stats(&s).queued, 2001);
	CU_ASSERT_TRUE(file_is_model(&s));
	tear_down(&s);
}

/* ---- Q1: what any crash may leave ---- */

#define MAX_SECTIONS 12u

struct history {
	uint8_t state[MAX_SECTIONS + 1][SIZE];	/* after so many sections */
	unsigned nsections;
};

/* All of the first k sections, some bytes of the next, nothing of what follows: for some k. */
static bool could_be(const struct history *h, const uint8_t *file)
{
	for (unsigned k = 0; k <= h->nsections; k++) {
		const uint8_t *old = h->state[k], *new = h->state[k < h->nsections ? k + 1 : k];
		unsigned i = 0;

		while (i < SIZE && (file[i] == old[i] || file[i] == new[i]))
			i++;
		if (i == SIZE)
			return true;
	}
	return false;
}

/*
 * Under a small limit a section may leave in parts, and a crash may show what a write of
 * it was before a later one of the same section: `apart` keeps them from overlapping.
 */
static void run_history(struct setup *s, struct history *h, bool apart, uint64_t *seed)
{
	memcpy(h->state[0], s->model, SIZE);
	h->nsections = 3 + (unsigned)(next_random(seed) % (MAX_SECTIONS - 3));
	for (unsigned k = 0; k < h->nsections; k++) {
		for (unsigned i = 0; i < 6; i++)
			put(s,
			    apart ? i * 6000 + next_random(seed) % 3000 : next_random(seed) % (SIZE - 3000),
			    (uint8_t)next_random(seed), 1 + next_random(seed) % 3000);
		memcpy(h->state[k + 1], s->model, SIZE);
		CU_ASSERT_EQUAL(qd_queue_barrier(s->q, NULL), 0);
		if (next_random(seed) % 3 == 0)
			CU_ASSERT_EQUAL(qd_queue_submit(s->q, NULL), 0);
	}
	CU_ASSERT_EQUAL(qd_queue_flush(s->q, NULL), 0);
	CU_ASSERT_TRUE(file_is_model(s));
}

static void q1_no_crash_shows_a_later_section_before_an_earlier_one(void)
{
	struct history *h = malloc(sizeof(*h));
	uint64_t seed = 5;
	unsigned states = 0, wrong = 0;

	for (unsigned round = 0; round < 12; round++) {
		struct setup s;
		struct crash crash;

		set_up(&s, round % 3 == 2 ? 10000 : NO_LIMIT);
		run_history(&s, h, round % 3 == 2, &seed);
		for (size_t i = 0; recorder_plan(s.r, 2, seed, i, &crash); i++) {
			struct qd_io *io = NULL;
			size_t nbytes;

			CU_ASSERT_EQUAL_FATAL(recorder_crash(s.r, &crash, &io, NULL), 0);
			wrong += !could_be(h, qd_io_mem_data(io, &nbytes));
			states++;
			qd_io_close(io);
		}
		tear_down(&s);
	}
	CU_ASSERT_TRUE(states > 1000);
	CU_ASSERT_EQUAL(wrong, 0);
	free(h);
}

/* ---- Q6 ---- */

/* An io that fails its n-th write or flush. */
struct faulty {
	struct qd_io io;
	struct qd_io *below;
	int countdown;
};

static ssize_t faulty_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct qd_io *below = ((struct faulty *)(void *)io)->below;

	return below->ops->pread(below, buf, nbytes, off);
}

static ssize_t faulty_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct faulty *f = (struct faulty *)(void *)io;

	return --f->countdown == 0 ? -EIO : f->below->ops->pwritev(f->below, iov, niov, off);
}

static int faulty_flush(struct qd_io *io)
{
	struct faulty *f = (struct faulty *)(void *)io;

	return --f->countdown == 0 ? -EIO : f->below->ops->flush(f->below);
}

static void q6_an_error_is_not_forgotten(void)
{
	static const struct qd_io_ops ops = { .pread = faulty_pread,
					      .pwritev = faulty_pwritev,
					      .flush = faulty_flush };
	char name[] = "faulty";

	for (int n = 1; n <= 5; n++) {
		struct faulty f = { .io = { .ops = &ops, .name = name, .writable = true, .align = 1 },
				    .countdown = n };
		struct qd_queue *q = NULL;
		struct qd_err err;
		char buf[3];
		int rc;

		CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 1000, true, &f.below, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_queue_new(&f.io, NO_LIMIT, &q, NULL), 0);
		CU_ASSERT_EQUAL(qd_queue_write(q, "abc", 3, 10, NULL), 0);
		CU_ASSERT_EQUAL(qd_queue_barrier(q, NULL), 0);
		CU_ASSERT_EQUAL(qd_queue_write(q, "def", 3, 20, NULL), 0);
		rc = qd_queue_flush(q, &err);
		/* write, flush, write, flush: the fifth does not come */
		CU_ASSERT_EQUAL(rc, n == 5 ? 0 : QD_E_IO);
		if (rc) {
			CU_ASSERT_EQUAL(qd_queue_write(q, "x", 1, 0, &err), QD_E_IO);
			CU_ASSERT_EQUAL(err.sys_errno, EIO);
			CU_ASSERT_EQUAL(qd_queue_barrier(q, NULL), QD_E_IO);
			CU_ASSERT_EQUAL(qd_queue_submit(q, NULL), QD_E_IO);
			CU_ASSERT_EQUAL(qd_queue_flush(q, NULL), QD_E_IO);
		}
		CU_ASSERT_EQUAL(qd_queue_read(q, buf, 3, 20, NULL), 0);
		CU_ASSERT_EQUAL(memcmp(buf, "def", 3), 0);
		qd_queue_free(q);
		qd_io_close(f.below);
	}
}

struct seen {
	uint64_t off[8];
	size_t nbytes[8];
	uint32_t section[8];
	unsigned n;
};

static int see(void *ctx, uint32_t section, const uint8_t *data, size_t nbytes, uint64_t off)
{
	struct seen *seen = ctx;

	(void)data;
	seen->off[seen->n] = off;
	seen->nbytes[seen->n] = nbytes;
	seen->section[seen->n] = section;
	return ++seen->n == 3;
}

static void a_walk_shows_sections_in_order(void)
{
	struct setup s;
	struct seen seen = { .n = 0 };

	set_up(&s, NO_LIMIT);
	put(&s, 5000, 1, 100);
	put(&s, 10, 2, 4);
	CU_ASSERT_EQUAL(qd_queue_barrier(s.q, NULL), 0);
	put(&s, 5050, 3, 10);
	put(&s, 9000, 4, 1);
	CU_ASSERT_EQUAL(qd_queue_walk(s.q, see, &seen, NULL), 1);
	CU_ASSERT_EQUAL(seen.n, 3);
	CU_ASSERT_TRUE(seen.off[0] == 10 && seen.nbytes[0] == 4 && seen.section[0] == 0);
	CU_ASSERT_TRUE(seen.off[1] == 5000 && seen.nbytes[1] == 100 && seen.section[1] == 0);
	CU_ASSERT_TRUE(seen.off[2] == 5050 && seen.nbytes[2] == 10 && seen.section[2] == 1);
	CU_ASSERT_EQUAL(qd_queue_flush(s.q, NULL), 0);
	CU_ASSERT_TRUE(file_is_model(&s));
	tear_down(&s);
}

static void what_is_not_submitted_is_dropped(void)
{
	struct setup s;

	set_up(&s, NO_LIMIT);
	CU_ASSERT_EQUAL(qd_queue_write(s.q, "abc", 3, 0, NULL), 0);
	qd_queue_free(s.q);
	s.q = NULL;
	CU_ASSERT_EQUAL(recorder_nops(s.r), 0);
	tear_down(&s);
}

CU_ErrorCode suite_queue(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(q1_no_crash_shows_a_later_section_before_an_earlier_one),
		QD_TEST(q2_a_write_leaves_earlier_sections_alone),
		QD_TEST(q3_reads_see_queued_writes),
		QD_TEST(q3_reads_past_the_end_are_zeros),
		QD_TEST(q4_flushes_are_as_few_as_can_be),
		QD_TEST(q5_neighbours_leave_in_one_write),
		QD_TEST(q6_an_error_is_not_forgotten),
		QD_TEST(a_walk_shows_sections_in_order),
		QD_TEST(what_is_not_submitted_is_dropped),
	};

	return QD_SUITE_ADD("queue", tests);
}
