/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The plan of a repair: its invariants by number (plan.h), against a model and a recorder. */
#include "ops/plan.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "recorder.h"
#include "space/refcount.h"
#include "suites.h"

#define CLUSTER 4096u
#define OLD (10 * CLUSTER)	/* bytes of the image */
#define ALL (13 * CLUSTER)	/* with the new clusters */
#define COUNTS (2 * CLUSTER)	/* a refcount block, 16 bits a count */
#define ROOMY (64u << 20)

struct setup {
	struct recorder *r;
	struct qd_plan *p;
	uint8_t before[ALL];
	uint8_t after[ALL];		/* what is planned */
	uint8_t step[ALL / 8];
};

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static struct qd_plan *new_plan(struct qd_io *io, uint64_t new_off, uint64_t memory)
{
	struct qd_header h = { .version = 3, .cluster_bits = 12, .refcount_order = 4 };
	struct qd_plan_opts opts = { .new_off = new_off, .memory = memory };
	struct qd_plan *p = NULL;
	struct qd_geom g;

	qd_geom_init(&h, &g);
	CU_ASSERT_EQUAL_FATAL(qd_plan_new(io, &g, &opts, &p, NULL), 0);
	return p;
}

static void set_up(struct setup *s)
{
	struct qd_io *io = NULL;

	memset(s, 0, sizeof(*s));
	for (unsigned i = 0; i < OLD; i++)
		s->before[i] = (uint8_t)(i * 7 + 1);
	/* Counts 0 to 3, over and over. */
	for (unsigned i = 0; i < CLUSTER / 2; i++)
		qd_put_be16(s->before + COUNTS + i * 2, (uint16_t)(i & 3));
	memcpy(s->after, s->before, ALL);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(s->before, OLD, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &s->r, NULL), 0);
	s->p = new_plan(recorder_io(s->r), OLD, ROOMY);
}

static void tear_down(struct setup *s)
{
	qd_plan_free(s->p);
	recorder_free(s->r);
}

static void put(struct setup *s, uint64_t off, uint64_t value, enum qd_plan_step step)
{
	CU_ASSERT_EQUAL(qd_plan_put64(s->p, off, value, step, NULL), 0);
	qd_put_be64(s->after + off, value);
	s->step[off / 8] = (uint8_t)step;
}

/* Words of every step; of counts some rise, some fall, some do both. */
static void plan_all_steps(struct setup *s)
{
	uint64_t off = 0;

	put(s, 64, 0x1111, QD_PLAN_DROP);
	put(s, 5 * CLUSTER + 8, 0x2222, QD_PLAN_DROP);
	put(s, 80, 0x3333, QD_PLAN_COPIED);
	put(s, 5 * CLUSTER + 16, 0x4444, QD_PLAN_COPIED);
	put(s, 48, 0x5555, QD_PLAN_SWITCH);
	put(s, 7 * CLUSTER - 8, 0x6666, QD_PLAN_SWITCH);
	put(s, COUNTS, 0x0001000200020003, QD_PLAN_REFCOUNT);		/* rise */
	put(s, COUNTS + 800, 0x0000000000010002, QD_PLAN_REFCOUNT);	/* fall */
	put(s, COUNTS + 1600, 0x0003000000000005, QD_PLAN_REFCOUNT);	/* both */
	CU_ASSERT_EQUAL(qd_plan_alloc(s->p, 3, &off, NULL), 0);
	CU_ASSERT_EQUAL(off, OLD);
	for (uint64_t at = OLD; at < ALL; at += 8)
		put(s, at, at, QD_PLAN_NEW);
}

static int apply(struct qd_plan *p, struct qd_io *io)
{
	struct qd_queue *q = NULL;
	int rc = qd_queue_new(io, 1u << 20, &q, NULL);

	if (rc == 0)
		rc = qd_plan_apply(p, q, NULL);
	if (rc == 0)
		rc = qd_queue_flush(q, NULL);
	qd_queue_free(q);
	return rc;
}

/* What a file in memory has, zeros up to ALL. */
static void content(struct qd_io *io, uint8_t *ret)
{
	CU_ASSERT_EQUAL(qd_io_read_padded(io, ret, ALL, 0, NULL), 0);
}

static void p1_nothing_is_written_before_it_is_applied(void)
{
	uint8_t now[ALL], planned[ALL];
	struct setup s;

	set_up(&s);
	CU_ASSERT_TRUE(qd_plan_is_empty(s.p));
	plan_all_steps(&s);
	CU_ASSERT_FALSE(qd_plan_is_empty(s.p));
	content(recorder_io(s.r), now);
	CU_ASSERT_EQUAL(memcmp(now, s.before, ALL), 0);
	CU_ASSERT_EQUAL(qd_io_read(qd_plan_io(s.p), planned, ALL, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(planned, s.after, ALL), 0);
	CU_ASSERT_EQUAL(qd_plan_read_base(s.p, planned, OLD, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(planned, s.before, OLD), 0);
	CU_ASSERT_EQUAL(recorder_nops(s.r), 0);
	CU_ASSERT_NOT_EQUAL(qd_io_write(qd_plan_io(s.p), now, 8, 0, NULL), 0);
	tear_down(&s);
}

static void p2_only_planned_words_change(void)
{
	uint8_t now[ALL];
	struct setup s;

	set_up(&s);
	plan_all_steps(&s);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	content(recorder_io(s.r), now);
	CU_ASSERT_EQUAL(memcmp(now, s.after, ALL), 0);
	tear_down(&s);
}

static bool word_is(const uint8_t *a, const uint8_t *b, uint64_t w)
{
	return memcmp(a + w * 8, b + w * 8, 8) == 0;
}

/* Every state between two operations; CRASH_ALL, so that each shows what was written until then. */
static void p3_each_word_is_written_once_and_counts_twice(void)
{
	unsigned changes[ALL / 8] = { 0 };
	uint8_t was[ALL], now[ALL];
	struct setup s;

	set_up(&s);
	plan_all_steps(&s);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	memcpy(was, s.before, ALL);
	for (size_t n = 1; n <= recorder_nops(s.r); n++) {
		struct crash crash = { n, CRASH_ALL, 0 };
		struct qd_io *io = NULL;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(s.r, &crash, &io, NULL), 0);
		content(io, now);
		qd_io_close(io);
		for (uint64_t w = 0; w < ALL / 8; w++)
			changes[w] += !word_is(was, now, w);
		memcpy(was, now, ALL);
	}
	for (uint64_t w = 0; w < ALL / 8; w++)
		CU_ASSERT(changes[w] <= (s.step[w] == QD_PLAN_REFCOUNT ? 2u : 1u));
	CU_ASSERT_EQUAL(changes[(COUNTS + 1600) / 8], 2);
	tear_down(&s);
}

/* Where a word's step comes in the order of applying. */
static unsigned turn_of(enum qd_plan_step step)
{
	static const unsigned turn[] = {
		[QD_PLAN_DROP] = 1, [QD_PLAN_NEW] = 2, [QD_PLAN_SWITCH] = 3, [QD_PLAN_REFCOUNT] = 4,
		[QD_PLAN_COPIED] = 5,
	};

	return turn[step];
}

/* No count may be below both what it was and what it will be, nor fall while switches are missing. */
static void look_at_counts(const struct setup *s, const uint8_t *now, uint64_t w, bool may_fall)
{
	for (uint64_t i = w * 4; i < w * 4 + 4; i++) {
		unsigned a = qd_get_be16(s->before + i * 2), b = qd_get_be16(s->after + i * 2);
		unsigned c = qd_get_be16(now + i * 2);

		CU_ASSERT(c == a || c == b);
		CU_ASSERT(c >= a || may_fall);
	}
}

static void look_at_order(const struct setup *s, const uint8_t *now)
{
	unsigned begun = 0, complete = 6;

	for (uint64_t w = 0; w < ALL / 8; w++) {
		if (s->step[w] == QD_PLAN_NONE || s->step[w] == QD_PLAN_REFCOUNT)
			continue;
		if (!word_is(now, s->before, w) && turn_of(s->step[w]) > begun)
			begun = turn_of(s->step[w]);
		if (!word_is(now, s->after, w) && turn_of(s->step[w]) < complete)
			complete = turn_of(s->step[w]);
	}
	/* `complete` is the first turn of which something is missing: nothing of a later one is there. */
	CU_ASSERT(begun <= complete);
	for (uint64_t w = 0; w < ALL / 8; w++) {
		if (s->step[w] != QD_PLAN_REFCOUNT)
			continue;
		look_at_counts(s, now, w, complete > 3);
		for (uint64_t i = w * 4; i < w * 4 + 4; i++) {
			unsigned b = qd_get_be16(s->after + i * 2), c = qd_get_be16(now + i * 2);

			CU_ASSERT(begun < 3 || c >= b);
			CU_ASSERT(begun < 5 || c == b);
		}
	}
}

static void steps_reach_the_file_in_order(void)
{
	uint8_t now[ALL];
	struct crash crash;
	struct setup s;

	set_up(&s);
	plan_all_steps(&s);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	CU_ASSERT_EQUAL(recorder_nflushes(s.r), 5);
	for (size_t i = 0; recorder_plan(s.r, 20, 1, i, &crash); i++) {
		struct qd_io *io = NULL;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(s.r, &crash, &io, NULL), 0);
		content(io, now);
		qd_io_close(io);
		look_at_order(&s, now);
	}
	tear_down(&s);
}

/* The same words are planned over what a crash left; the new clusters are the same as well. */
static void p4_applying_again_writes_what_is_left(void)
{
	struct crash crash;
	struct setup s;

	set_up(&s);
	plan_all_steps(&s);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	for (size_t i = 0; recorder_plan(s.r, 4, 1, i, &crash); i++) {
		uint8_t now[ALL];
		struct qd_io *io = NULL;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(s.r, &crash, &io, NULL), 0);
		CU_ASSERT_EQUAL(apply(s.p, io), 0);
		content(io, now);
		CU_ASSERT_EQUAL(memcmp(now, s.after, ALL), 0);
		qd_io_close(io);
	}
	tear_down(&s);
}

static void p4_a_word_that_is_there_is_not_written(void)
{
	struct setup s;
	size_t nops;

	set_up(&s);
	put(&s, 64, 0x1111, QD_PLAN_DROP);
	put(&s, 48, 0x5555, QD_PLAN_SWITCH);
	put(&s, COUNTS + 1600, 0x0003000000000005, QD_PLAN_REFCOUNT);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	nops = recorder_nops(s.r);
	CU_ASSERT(nops > 0);
	CU_ASSERT_EQUAL(apply(s.p, recorder_io(s.r)), 0);
	CU_ASSERT_EQUAL(recorder_nops(s.r), nops);
	tear_down(&s);
}

/* ---- much of it ---- */

#define NPAGES 600u
#define LARGE (NPAGES * 4096u)

/* Random writes to a plan that has room for a few pages only, and to an array. */
static void a_plan_that_does_not_fit_memory_is_the_same(void)
{
	uint8_t *model = malloc(LARGE), *got = malloc(LARGE);
	struct qd_io *io = NULL;
	struct qd_plan *p;
	uint64_t seed = 328;

	CU_ASSERT_PTR_NOT_NULL_FATAL(model);
	CU_ASSERT_PTR_NOT_NULL_FATAL(got);
	for (unsigned i = 0; i < LARGE; i++)
		model[i] = (uint8_t)(i * 31);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(model, LARGE, true, &io, NULL), 0);
	p = new_plan(io, LARGE, 0);
	for (unsigned i = 0; i < 5000; i++) {
		uint64_t at = next_random(&seed) % (LARGE - 9000), n = 1 + next_random(&seed) % 9000;
		enum qd_plan_step step = QD_PLAN_DROP + (enum qd_plan_step)(next_random(&seed) % 4);

		if (next_random(&seed) % 3)
			n = 8, at &= ~UINT64_C(7);
		memset(model + at, (int)i, n);
		CU_ASSERT_EQUAL_FATAL(qd_plan_write(p, model + at, n, at, step, NULL), 0);
		at = next_random(&seed) % (LARGE - 9000);
		CU_ASSERT_EQUAL_FATAL(qd_plan_read(p, got, 9000, at, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(memcmp(got, model + at, 9000), 0);
	}
	CU_ASSERT_EQUAL(apply(p, io), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, got, LARGE, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(got, model, LARGE), 0);
	qd_plan_free(p);
	qd_io_close(io);
	free(model);
	free(got);
}

static void no_room_for_the_temporary_file_is_an_error(void)
{
	struct qd_plan_opts opts = { .new_off = LARGE, .memory = 0, .tmpdir = "/nowhere" };
	struct qd_geom g = { .cluster_size = CLUSTER, .cluster_bits = 12, .refcount_order = 4 };
	struct qd_err err = { .code = 0 };
	struct qd_plan *p = NULL;
	struct qd_io *io = NULL;
	int rc = 0;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, LARGE, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_plan_new(io, &g, &opts, &p, NULL), 0);
	for (uint64_t at = 0; rc == 0 && at < LARGE; at += 4096)
		rc = qd_plan_put64(p, at, 1, QD_PLAN_DROP, &err);
	CU_ASSERT_EQUAL(rc, QD_E_IO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "/nowhere"));
	qd_plan_free(p);
	qd_io_close(io);
}

/* ---- what is asked of it ---- */

struct seen {
	uint64_t off[16];
	unsigned n;
};

static int see(void *ctx, uint64_t off, struct qd_err *err)
{
	struct seen *seen = ctx;

	(void)err;
	seen->off[seen->n++ % 16] = off;
	return 0;
}

static void clusters_that_will_change_are_told_ascending(void)
{
	struct seen seen = { .n = 0 };
	struct setup s;

	set_up(&s);
	plan_all_steps(&s);
	put(&s, 8 * CLUSTER, qd_get_be64(s.before + 8 * CLUSTER), QD_PLAN_DROP);	/* as it is */
	CU_ASSERT_EQUAL(qd_plan_each_cluster(s.p, CLUSTER, see, &seen, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(seen.n, 3);
	CU_ASSERT_EQUAL(seen.off[0], COUNTS);
	CU_ASSERT_EQUAL(seen.off[1], 5 * CLUSTER);
	CU_ASSERT_EQUAL(seen.off[2], 6 * CLUSTER);
	tear_down(&s);
}

static void a_device_does_not_grow(void)
{
	struct qd_err err = { .code = 0 };
	struct qd_io *io = NULL;
	struct qd_plan *p;
	uint64_t off = 0;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, OLD, true, &io, NULL), 0);
	io->is_device = true;
	p = new_plan(io, OLD - 2 * CLUSTER, ROOMY);
	CU_ASSERT_EQUAL(qd_plan_alloc(p, 1, &off, &err), 0);
	CU_ASSERT_EQUAL(off, OLD - 2 * CLUSTER);
	CU_ASSERT_EQUAL(qd_plan_alloc(p, 2, &off, &err), QD_E_UNSUPPORTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "device"));
	CU_ASSERT_EQUAL(qd_plan_alloc(p, 1, &off, &err), 0);
	CU_ASSERT_EQUAL(qd_plan_end(p), OLD);
	qd_plan_free(p);
	qd_io_close(io);
}

CU_ErrorCode suite_plan(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(p1_nothing_is_written_before_it_is_applied),
		QD_TEST(p2_only_planned_words_change),
		QD_TEST(p3_each_word_is_written_once_and_counts_twice),
		QD_TEST(steps_reach_the_file_in_order),
		QD_TEST(p4_applying_again_writes_what_is_left),
		QD_TEST(p4_a_word_that_is_there_is_not_written),
		QD_TEST(a_plan_that_does_not_fit_memory_is_the_same),
		QD_TEST(no_room_for_the_temporary_file_is_an_error),
		QD_TEST(clusters_that_will_change_are_told_ascending),
		QD_TEST(a_device_does_not_grow),
	};

	return QD_SUITE_ADD("plan", tests);
}
