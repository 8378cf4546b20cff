/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdlib.h>

#include "base/bytes.h"
#include "suites.h"

static void loads_and_stores_are_big_endian(void)
{
	static const uint8_t bytes[8] = { 0x01, 0x23, 0x45, 0x67, 0x89, 0xab, 0xcd, 0xef };
	uint8_t out[8];

	CU_ASSERT_EQUAL(qd_get_be16(bytes), 0x0123);
	CU_ASSERT_EQUAL(qd_get_be32(bytes), 0x01234567);
	CU_ASSERT_EQUAL(qd_get_be64(bytes), UINT64_C(0x0123456789abcdef));
	qd_put_be16(out, 0x0123);
	CU_ASSERT_EQUAL(memcmp(out, bytes, 2), 0);
	qd_put_be32(out, 0x01234567);
	CU_ASSERT_EQUAL(memcmp(out, bytes, 4), 0);
	qd_put_be64(out, UINT64_C(0x0123456789abcdef));
	CU_ASSERT_EQUAL(memcmp(out, bytes, 8), 0);
}

static void overflow_is_told_and_changes_nothing(void)
{
	uint64_t v = 7;

	CU_ASSERT_FALSE(qd_add_u64(UINT64_MAX, 1, &v));
	CU_ASSERT_FALSE(qd_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 32, &v));
	CU_ASSERT_EQUAL(v, 7);
	CU_ASSERT_TRUE(qd_add_u64(UINT64_MAX - 1, 1, &v));
	CU_ASSERT_EQUAL(v, UINT64_MAX);
	CU_ASSERT_TRUE(qd_mul_u64(UINT64_C(1) << 32, UINT64_C(1) << 31, &v));
	CU_ASSERT_EQUAL(v, UINT64_C(1) << 63);
}

static void range_within_survives_the_largest_numbers(void)
{
	CU_ASSERT_TRUE(qd_range_within(0, 0, 0));
	CU_ASSERT_TRUE(qd_range_within(10, 6, 16));
	CU_ASSERT_FALSE(qd_range_within(10, 7, 16));
	CU_ASSERT_FALSE(qd_range_within(17, 0, 16));
	CU_ASSERT_FALSE(qd_range_within(UINT64_MAX, 2, 16));
	CU_ASSERT_FALSE(qd_range_within(8, UINT64_MAX, 16));
	CU_ASSERT_TRUE(qd_range_within(1, UINT64_MAX - 1, UINT64_MAX));
}

static void alignment_and_division_round_as_named(void)
{
	CU_ASSERT_EQUAL(qd_align_up(0, 512), 0);
	CU_ASSERT_EQUAL(qd_align_up(1, 512), 512);
	CU_ASSERT_EQUAL(qd_align_up(512, 512), 512);
	CU_ASSERT_EQUAL(qd_align_down(1023, 512), 512);
	CU_ASSERT_TRUE(qd_is_aligned(1024, 512));
	CU_ASSERT_FALSE(qd_is_aligned(1025, 512));
	CU_ASSERT_EQUAL(qd_div_up(0, 3), 0);
	CU_ASSERT_EQUAL(qd_div_up(3, 3), 1);
	CU_ASSERT_EQUAL(qd_div_up(4, 3), 2);
	CU_ASSERT_EQUAL(qd_div_up(UINT64_MAX, 2), UINT64_C(1) << 63);
	CU_ASSERT_EQUAL(qd_min_u64(1, 2), 1);
	CU_ASSERT_EQUAL(qd_max_u64(1, 2), 2);
}

/* Every length up to a few blocks, every start alignment, one set bit at every place. */
static void is_zero_sees_every_bit_and_nothing_outside(void)
{
	enum { MAX = 400, PAD = 32 };
	uint8_t buf[MAX + 2 * PAD];
	unsigned wrong = 0;

	for (size_t nbytes = 0; nbytes <= MAX; nbytes += nbytes < 140 ? 1 : 13) {
		for (size_t start = 0; start < 16; start += 5) {
			uint8_t *p = buf + PAD / 2 + start;

			memset(buf, 0xff, sizeof(buf));
			memset(p, 0, nbytes);
			wrong += !qd_is_zero(p, nbytes);
			for (size_t i = 0; i < nbytes; i++) {
				p[i] = (uint8_t)(1u << (i % 8));
				wrong += qd_is_zero(p, nbytes);
				p[i] = 0;
			}
		}
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void is_zero_reads_a_whole_cluster(void)
{
	enum { NBYTES = 2 << 20 };
	uint8_t *p = calloc(1, NBYTES);

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	CU_ASSERT_TRUE(qd_is_zero(p, NBYTES));
	for (size_t i = 1; i < NBYTES; i = i * 3 + 1) {
		p[i] = 0x80;
		CU_ASSERT_FALSE(qd_is_zero(p, NBYTES));
		p[i] = 0;
	}
	free(p);
}

CU_ErrorCode suite_bytes(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(loads_and_stores_are_big_endian),
		QD_TEST(overflow_is_told_and_changes_nothing),
		QD_TEST(range_within_survives_the_largest_numbers),
		QD_TEST(alignment_and_division_round_as_named),
		QD_TEST(is_zero_sees_every_bit_and_nothing_outside),
		QD_TEST(is_zero_reads_a_whole_cluster),
	};

	return QD_SUITE_ADD("bytes", tests);
}
