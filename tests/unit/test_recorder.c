/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The recorder of the crash tests: what a crash may leave, and what it may not. */
#include "recorder.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "base/io_mem.h"
#include "suites.h"

#define SIZE 4096u

static struct recorder *record(void)
{
	uint8_t base[SIZE];
	struct recorder *r = NULL;
	struct qd_io *io = NULL;

	memset(base, 'b', sizeof(base));
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(base, sizeof(base), true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &r, NULL), 0);
	return r;
}

static void put(struct recorder *r, uint64_t off, char c, size_t nbytes)
{
	uint8_t buf[SIZE];

	memset(buf, c, nbytes);
	CU_ASSERT_EQUAL(qd_io_write(recorder_io(r), buf, nbytes, off, NULL), 0);
}

/* The byte at off after that crash; 0 past the end. */
static char after(const struct recorder *r, size_t nops, enum crash_kind kind, uint64_t seed, uint64_t off)
{
	struct crash crash = { nops, kind, seed };
	struct qd_io *io = NULL;
	char c = 0;

	CU_ASSERT_EQUAL_FATAL(recorder_crash(r, &crash, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read_padded(io, &c, 1, off, NULL), 0);
	qd_io_close(io);
	return c;
}

static void what_was_flushed_is_there(void)
{
	struct recorder *r = record();

	put(r, 0, 'x', 100);
	CU_ASSERT_EQUAL(qd_io_flush(recorder_io(r), NULL), 0);
	put(r, 1000, 'y', 100);
	CU_ASSERT_EQUAL(recorder_nops(r), 3);
	CU_ASSERT_EQUAL(recorder_nflushes(r), 1);
	for (uint64_t seed = 0; seed < 50; seed++) {
		CU_ASSERT_EQUAL(after(r, 3, CRASH_SUBSET, seed, 0), 'x');
		CU_ASSERT_EQUAL(after(r, 3, CRASH_TORN, seed, 0), 'x');
		CU_ASSERT_EQUAL(after(r, 2, CRASH_TORN, seed, 1000), 'b');
	}
	CU_ASSERT_EQUAL(after(r, 3, CRASH_NONE, 0, 0), 'x');
	CU_ASSERT_EQUAL(after(r, 3, CRASH_NONE, 0, 1000), 'b');
	CU_ASSERT_EQUAL(after(r, 3, CRASH_ALL, 0, 1000), 'y');
	CU_ASSERT_EQUAL(after(r, 1, CRASH_NONE, 0, 0), 'b');
	recorder_free(r);
}

static void what_was_not_may_be_there_in_any_order(void)
{
	struct recorder *r = record();
	unsigned seen = 0;

	put(r, 0, 'x', 10);
	put(r, 2000, 'y', 10);
	for (uint64_t seed = 0; seed < 100; seed++)
		seen |= 1u << ((after(r, 2, CRASH_SUBSET, seed, 0) == 'x') +
			       2 * (after(r, 2, CRASH_SUBSET, seed, 2000) == 'y'));
	CU_ASSERT_EQUAL(seen, 15);
	recorder_free(r);
}

static void a_torn_write_is_torn_between_sectors(void)
{
	struct recorder *r = record();
	bool torn = false;

	put(r, 0, 'x', 2048);
	for (uint64_t seed = 0; seed < 50; seed++) {
		char first = after(r, 1, CRASH_TORN, seed, 0);

		CU_ASSERT_EQUAL(first, after(r, 1, CRASH_TORN, seed, 511));
		torn = torn || first != after(r, 1, CRASH_TORN, seed, 1024);
	}
	CU_ASSERT_TRUE(torn);
	recorder_free(r);
}

static void holes_and_sizes_are_recorded(void)
{
	struct recorder *r = record();

	CU_ASSERT_EQUAL(qd_io_punch(recorder_io(r), 512, 512, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_truncate(recorder_io(r), 1000, NULL), 0);
	CU_ASSERT_EQUAL(after(r, 0, CRASH_ALL, 0, 600), 'b');
	CU_ASSERT_EQUAL(after(r, 1, CRASH_ALL, 0, 600), 0);
	CU_ASSERT_EQUAL(after(r, 1, CRASH_ALL, 0, 2000), 'b');
	CU_ASSERT_EQUAL(after(r, 2, CRASH_ALL, 0, 2000), 0);
	CU_ASSERT_EQUAL(after(r, 2, CRASH_NONE, 0, 2000), 'b');
	recorder_free(r);
}

static void the_plan_has_every_prefix(void)
{
	struct recorder *r = record();
	unsigned all = 0, torn = 0;
	struct crash c;

	for (unsigned i = 0; i < 5; i++)
		put(r, i * 700, 'x', 10);
	for (size_t i = 0; recorder_plan(r, 3, 1, i, &c); i++) {
		CU_ASSERT_TRUE(c.nops <= 5);
		all += c.kind == CRASH_ALL;
		torn += c.kind == CRASH_TORN;
	}
	CU_ASSERT_EQUAL(all, 6);
	CU_ASSERT_EQUAL(torn, 18);
	recorder_free(r);
}

CU_ErrorCode suite_recorder(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(what_was_flushed_is_there),
		QD_TEST(what_was_not_may_be_there_in_any_order),
		QD_TEST(a_torn_write_is_torn_between_sectors),
		QD_TEST(holes_and_sizes_are_recorded),
		QD_TEST(the_plan_has_every_prefix),
	};

	return QD_SUITE_ADD("recorder", tests);
}
