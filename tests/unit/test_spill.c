/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The spill against qsort: whatever the records and however little memory, the leaves one
 * after the other are the sorted records, and a key lies in one leaf or in tied ones.
 */
#include "dedup/spill.h"

#include <CUnit/CUnit.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>

#include "dedup/sort.h"
#include "scratch.h"
#include "suites.h"

#define KEY 16u
#define AMPLE (256ull << 20)

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static size_t record_nbytes;	/* of the comparison below */

static int compare(const void *a, const void *b)
{
	return memcmp(a, b, record_nbytes);
}

enum content { RANDOM, FEW_KEYS, ONE_KEY, LOW_BYTES, SORTED, NCONTENTS };

/* n records of `size` bytes; all differ. */
static uint8_t *make(size_t n, size_t size, enum content content)
{
	uint8_t *all = calloc(n ? n : 1, size);
	uint64_t state = 1;

	CU_ASSERT_PTR_NOT_NULL_FATAL(all);
	for (size_t i = 0; i < n; i++) {
		uint8_t *r = all + i * size;
		uint64_t low = content == SORTED ? i : (i * 0x9e3779b1u) % 0xfffffffbu;

		if (content == RANDOM || content == FEW_KEYS)
			for (unsigned b = 0; b < KEY; b += 8) {
				uint64_t key = content == FEW_KEYS ? (i % 3) * (b + 7) : next_random(&state);

				memcpy(r + b, &key, 8);
			}
		for (unsigned b = 0; b < 8; b++)
			r[size - 1 - b] = (uint8_t)(low >> (8 * b));
	}
	return all;
}

static void add_all(struct qd_spill *s, const uint8_t *all, size_t n, size_t size)
{
	for (size_t at = 0; at < n;) {
		size_t some = at % 1000 + 1 < n - at ? at % 1000 + 1 : n - at;

		CU_ASSERT_EQUAL_FATAL(qd_spill_add(s, all + at * size, some, NULL), 0);
		at += some;
	}
}

/* Everything comes back in order. */
static void try(size_t n, size_t size, enum content content, uint64_t memory, uint64_t leaf_nbytes)
{
	struct scratch dir;
	struct qd_spill_opts opts = {
		.record_nbytes = (uint32_t)size, .key_nbytes = KEY, .memory = memory, .tmpdir = dir.dir,
	};
	struct qd_spill_leaf leaf = { .records = NULL };
	uint8_t *all = make(n, size, content), last[KEY] = { 0 };
	struct qd_spill *s = NULL;
	bool last_tied = false;
	size_t at = 0;
	int rc;

	scratch_open(&dir);
	CU_ASSERT_EQUAL_FATAL(qd_spill_new(&opts, &s, NULL), 0);
	add_all(s, all, n, size);
	CU_ASSERT_EQUAL(qd_spill_count(s), n);
	CU_ASSERT_EQUAL_FATAL(qd_spill_seal(s, leaf_nbytes, NULL), 0);
	record_nbytes = size;
	qsort(all, n, size, compare);
	while ((rc = qd_spill_next(s, &leaf, NULL)) > 0) {
		CU_ASSERT_EQUAL_FATAL(qd_spill_load(s, &leaf, NULL), 0);
		CU_ASSERT_FATAL(leaf.n > 0 && leaf.n <= n - at);
		CU_ASSERT_FATAL(leaf.n == 1 || leaf.n * size <= leaf_nbytes);
		CU_ASSERT_EQUAL_FATAL(memcmp(leaf.records, all + at * size, leaf.n * size), 0);
		/* Fatal: wherever keys are many there would be as many failures, each a line. */
		CU_ASSERT_FATAL(!at || memcmp(last, leaf.records, KEY) != 0 || (leaf.tied && last_tied));
		memcpy(last, leaf.records + (leaf.n - 1) * size, KEY);
		last_tied = leaf.tied;
		at += leaf.n;
	}
	CU_ASSERT_EQUAL(rc, 0);
	CU_ASSERT_EQUAL(at, n);
	qd_spill_leaf_clear(&leaf);
	qd_spill_free(s);
	free(all);
	scratch_close(&dir);
}

static void gives_back_all_in_order(void)
{
	static const size_t counts[] = { 0, 1, 2, 113, 114, 5000, 300000 };

	for (size_t i = 0; i < sizeof(counts) / sizeof(counts[0]); i++)
		for (int content = 0; content < NCONTENTS; content++) {
			try(counts[i], 24, (enum content)content, AMPLE, AMPLE);
			try(counts[i], 24, (enum content)content, 0, 1 << 20);
		}
}

static void divides_what_is_too_large(void)
{
	for (int content = 0; content < NCONTENTS; content++) {
		try(300000, 24, (enum content)content, 0, 50000);
		try(100000, 40, (enum content)content, AMPLE, 4000);
		try(20000, 32, (enum content)content, 0, 24);	/* a record is the least */
	}
}

static void leaves_nothing_behind(void)
{
	struct scratch dir;
	struct qd_spill_opts opts = { .record_nbytes = 24, .key_nbytes = KEY, .tmpdir = dir.dir };
	uint8_t *all = make(300000, 24, RANDOM);
	struct qd_spill_leaf leaf = { .records = NULL };
	struct qd_spill *s = NULL;

	scratch_open(&dir);
	CU_ASSERT_EQUAL_FATAL(qd_spill_new(&opts, &s, NULL), 0);
	CU_ASSERT_FALSE(qd_spill_spilled(s));
	add_all(s, all, 300000, 24);
	CU_ASSERT_TRUE(qd_spill_spilled(s));
	CU_ASSERT_EQUAL(qd_spill_seal(s, 1 << 20, NULL), 0);
	CU_ASSERT_EQUAL(qd_spill_next(s, &leaf, NULL), 1);	/* not loaded: still frees */
	qd_spill_leaf_clear(&leaf);
	qd_spill_free(s);
	free(all);
	CU_ASSERT_EQUAL(scratch_count(&dir), 0);
	scratch_close(&dir);
}

static uint64_t expect_much(void *ctx)
{
	CU_ASSERT_PTR_NULL(ctx);
	return 5ull << 40;
}

static void says_how_much_room_is_needed(void)
{
	struct scratch dir;
	struct qd_spill_opts opts = {
		.record_nbytes = 24, .key_nbytes = KEY, .tmpdir = dir.dir, .expect = expect_much,
	};
	struct rlimit limit = { 1 << 20, RLIM_INFINITY }, old;
	uint8_t *all = make(300000, 24, RANDOM);
	struct qd_spill *s = NULL;
	struct qd_err err;
	int rc;

	scratch_open(&dir);
	signal(SIGXFSZ, SIG_IGN);
	getrlimit(RLIMIT_FSIZE, &old);
	limit.rlim_max = old.rlim_max;
	CU_ASSERT_EQUAL_FATAL(qd_spill_new(&opts, &s, NULL), 0);
	qd_err_clear(&err);
	setrlimit(RLIMIT_FSIZE, &limit);
	rc = qd_spill_add(s, all, 300000, &err);
	setrlimit(RLIMIT_FSIZE, &old);
	CU_ASSERT_EQUAL(rc, QD_E_IO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, dir.dir));
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "up to 5"));
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, " TiB"));
	qd_spill_free(s);
	free(all);
	scratch_close(&dir);
}

static void sorts_as_memcmp_does(void)
{
	for (size_t size = 16; size <= QD_SORT_RECORD_MAX; size += 8)
		for (int content = 0; content < NCONTENTS; content++) {
			uint8_t *a = make(20000, size, (enum content)content), *b = malloc(20000 * size);

			CU_ASSERT_PTR_NOT_NULL_FATAL(b);
			memcpy(b, a, 20000 * size);
			qd_sort_records(a, 20000, size, 0);
			record_nbytes = size;
			qsort(b, 20000, size, compare);
			CU_ASSERT_EQUAL(memcmp(a, b, 20000 * size), 0);
			free(a);
			free(b);
		}
}

CU_ErrorCode suite_spill(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(gives_back_all_in_order),
		QD_TEST(divides_what_is_too_large),
		QD_TEST(leaves_nothing_behind),
		QD_TEST(says_how_much_room_is_needed),
		QD_TEST(sorts_as_memcmp_does),
	};

	return QD_SUITE_ADD("spill", tests);
}
