/* SPDX-License-Identifier: GPL-2.0-or-later */
/* How many different hashes there were, from a few of them. */
#include "dedup/sampler.h"

#include <CUnit/CUnit.h>

#include "dedup/digest.h"
#include "suites.h"

static uint64_t hash_of(uint64_t n)
{
	return qd_fingerprint_of(&n, sizeof(n)).lo;
}

static void counts_exactly_while_all_fit(void)
{
	struct qd_sampler s;

	CU_ASSERT_EQUAL_FATAL(qd_sampler_init(&s, NULL), 0);
	CU_ASSERT_EQUAL(qd_sampler_estimate(&s), 0);
	for (unsigned round = 0; round < 3; round++)
		for (uint64_t n = 0; n < QD_SAMPLER_CAPACITY; n++)
			qd_sampler_add(&s, hash_of(n));
	CU_ASSERT_EQUAL(qd_sampler_estimate(&s), QD_SAMPLER_CAPACITY);
	qd_sampler_free(&s);
}

static void estimates_within_four_percent(void)
{
	for (uint64_t many = 10000; many <= 3000000; many *= 7) {
		struct qd_sampler s;
		uint64_t got;

		CU_ASSERT_EQUAL_FATAL(qd_sampler_init(&s, NULL), 0);
		for (uint64_t n = 0; n < many; n++) {
			qd_sampler_add(&s, hash_of(n + many));
			qd_sampler_add(&s, hash_of(many + n / 2));	/* again */
		}
		got = qd_sampler_estimate(&s);
		CU_ASSERT(got > many - many / 25 && got < many + many / 25);
		qd_sampler_free(&s);
	}
}

static void order_changes_nothing(void)
{
	struct qd_sampler up, down;

	CU_ASSERT_EQUAL_FATAL(qd_sampler_init(&up, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_sampler_init(&down, NULL), 0);
	for (uint64_t n = 0; n < 100000; n++) {
		qd_sampler_add(&up, hash_of(n));
		qd_sampler_add(&down, hash_of(99999 - n));
	}
	CU_ASSERT_EQUAL(qd_sampler_estimate(&up), qd_sampler_estimate(&down));
	qd_sampler_free(&up);
	qd_sampler_free(&down);
}

static void a_hash_of_zero_counts_once(void)
{
	struct qd_sampler s;

	CU_ASSERT_EQUAL_FATAL(qd_sampler_init(&s, NULL), 0);
	qd_sampler_add(&s, 0);
	qd_sampler_add(&s, 0);
	CU_ASSERT_EQUAL(qd_sampler_estimate(&s), 1);
	qd_sampler_free(&s);
}

CU_ErrorCode suite_sampler(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(counts_exactly_while_all_fit),
		QD_TEST(estimates_within_four_percent),
		QD_TEST(order_changes_nothing),
		QD_TEST(a_hash_of_zero_counts_once),
	};

	return qd_suite_add("sampler", tests, sizeof(tests) / sizeof(tests[0]));
}
