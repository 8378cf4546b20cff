/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Counts of both widths against an array of 64-bit numbers. */
#include "space/tally.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "suites.h"

#define NCOUNTS 5000u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

static void agrees_with_an_array(uint64_t max)
{
	static uint64_t model[NCOUNTS];
	uint64_t seed = max, limit = max < UINT32_MAX ? max : UINT32_MAX;
	struct qd_tally t;
	unsigned wrong = 0;

	memset(model, 0, sizeof(model));
	qd_tally_init(&t, max);
	for (int n = 0; n < 50000; n++) {
		uint64_t i = next_random(&seed) % NCOUNTS;
		uint32_t amount = (uint32_t)(next_random(&seed) % (limit - model[i] + 1));

		CU_ASSERT_EQUAL_FATAL(qd_tally_add(&t, i, amount, NULL), 0);
		model[i] += amount;
		wrong += qd_tally_get(&t, i) != model[i];
	}
	for (uint64_t i = 0; i < NCOUNTS; i++)
		wrong += qd_tally_get(&t, i) != model[i];
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(qd_tally_get(&t, NCOUNTS), 0);
	CU_ASSERT_EQUAL(qd_tally_get(&t, t.array.nbytes - 1), 0);	/* an index, not a byte */
	CU_ASSERT_EQUAL(qd_tally_get(&t, UINT64_MAX / 8), 0);
	qd_tally_free(&t);
}

static void every_width_counts_up_to_its_maximum(void)
{
	static const uint64_t all[] = { 1, 3, 255, 32767, UINT16_MAX, UINT16_MAX + 1ull, UINT32_MAX, UINT64_MAX };

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		agrees_with_an_array(all[i]);
}

static void narrow_counts_take_half_the_memory(void)
{
	struct qd_tally narrow, wide;

	qd_tally_init(&narrow, UINT16_MAX);
	qd_tally_init(&wide, UINT16_MAX + 1ull);
	CU_ASSERT_FALSE(narrow.wide);
	CU_ASSERT_TRUE(wide.wide);
	CU_ASSERT_EQUAL(qd_tally_add(&narrow, 10000000, 1, NULL), 0);
	CU_ASSERT_EQUAL(qd_tally_add(&wide, 10000000, 1, NULL), 0);
	CU_ASSERT_TRUE(narrow.array.nbytes < 21000000);
	CU_ASSERT_TRUE(wide.array.nbytes > 40000000);
	qd_tally_free(&narrow);
	qd_tally_free(&wide);
}

/* 2^32 clusters: only what is touched costs memory, so both ends can be counted anywhere. */
static void a_far_count_is_affordable(void)
{
	struct qd_tally t;

	qd_tally_init(&t, 100);
	CU_ASSERT_EQUAL(qd_tally_add(&t, 1ull << 32, 7, NULL), 0);
	CU_ASSERT_EQUAL(qd_tally_add(&t, 0, 1, NULL), 0);
	CU_ASSERT_EQUAL(qd_tally_get(&t, 1ull << 32), 7);
	CU_ASSERT_EQUAL(qd_tally_get(&t, 0), 1);
	CU_ASSERT_EQUAL(qd_tally_get(&t, 1), 0);
	qd_tally_free(&t);
}

CU_ErrorCode suite_tally(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_width_counts_up_to_its_maximum),
		QD_TEST(narrow_counts_take_half_the_memory),
		QD_TEST(a_far_count_is_affordable),
	};

	return QD_SUITE_ADD("tally", tests);
}
