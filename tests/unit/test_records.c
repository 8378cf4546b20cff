/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Records by number, on both sides of the memory budget. */
#include "dedup/records.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "scratch.h"
#include "suites.h"

#define MAX_NBYTES 32u

static void make(uint64_t number, uint32_t version, uint8_t record[MAX_NBYTES])
{
	for (uint32_t i = 0; i < MAX_NBYTES; i++)
		record[i] = (uint8_t)(number * 7 + number / 256 + version * 101 + i + 1);
}

static struct qd_records *records_of(uint32_t nbytes, uint64_t memory, const char *dir)
{
	struct qd_records *rec = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_records_new(nbytes, memory, dir, &rec, NULL), 0);
	return rec;
}

static bool holds(struct qd_records *rec, uint64_t number, const uint8_t *expected, uint32_t nbytes)
{
	uint8_t got[MAX_NBYTES + 1];

	memset(got, 0xee, sizeof(got));
	CU_ASSERT_EQUAL_FATAL(qd_records_get(rec, number, got, NULL), 0);
	return memcmp(got, expected, nbytes) == 0 && got[nbytes] == 0xee;
}

/* Out of order, twice, with gaps; what was never written is zero. */
static void check_budget(uint32_t nbytes, uint64_t memory, struct scratch *s)
{
	static const uint8_t zeros[MAX_NBYTES];
	struct qd_records *rec = records_of(nbytes, memory, s->dir);
	uint8_t record[MAX_NBYTES];
	unsigned wrong = 0;

	CU_ASSERT_TRUE(holds(rec, 0, zeros, nbytes));
	CU_ASSERT_TRUE(holds(rec, 1ull << 40, zeros, nbytes));
	for (uint32_t version = 0; version < 2; version++) {
		for (uint64_t i = 0; i < 3000; i++) {
			uint64_t number = i * 2003 % 3000;

			make(number, version, record);
			if (number % 3)
				CU_ASSERT_EQUAL_FATAL(qd_records_put(rec, number, record, NULL), 0);
		}
	}
	for (uint64_t number = 0; number < 4000; number++) {
		bool written = number < 3000 && number % 3;

		make(number, 1, record);
		wrong += !holds(rec, number, written ? record : zeros, nbytes);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(scratch_count(s), 0);
	qd_records_free(rec);
}

static void come_back_wherever_they_lie(void)
{
	static const uint32_t sizes[] = { 1, 16, 32 };
	static const uint64_t budgets[] = { 0, 1, 100, 4096, 50001, 1u << 30 };
	struct scratch s;

	scratch_open(&s);
	for (size_t i = 0; i < sizeof(sizes) / sizeof(sizes[0]); i++)
		for (size_t k = 0; k < sizeof(budgets) / sizeof(budgets[0]); k++)
			check_budget(sizes[i], budgets[k], &s);
	scratch_close(&s);
}

static void a_directory_is_needed_only_over_budget(void)
{
	struct qd_records *rec = records_of(16, 160, "/nonexistent/of qdedup");
	uint8_t record[MAX_NBYTES];
	struct qd_err err;

	make(1, 1, record);
	CU_ASSERT_EQUAL(qd_records_put(rec, 9, record, NULL), 0);
	CU_ASSERT_TRUE(holds(rec, 9, record, 16));
	CU_ASSERT_EQUAL(qd_records_put(rec, 10, record, &err), QD_E_IO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "/nonexistent/of qdedup"));
	CU_ASSERT_TRUE(holds(rec, 9, record, 16));
	qd_records_free(rec);
	qd_records_free(NULL);
}

CU_ErrorCode suite_records(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(come_back_wherever_they_lie),
		QD_TEST(a_directory_is_needed_only_over_budget),
	};

	return QD_SUITE_ADD("records", tests);
}
