/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <stdio.h>

#include "base/size.h"
#include "suites.h"

#define NITEMS(a) (sizeof(a) / sizeof((a)[0]))

static const struct { const char *text; uint64_t nbytes; } good_sizes[] = {
	{ "0", 0 }, { "1", 1 }, { "007", 7 }, { "512b", 512 }, { "512B", 512 },
	{ "1k", 1024 }, { "64K", 65536 }, { "3m", 3 << 20 }, { "1G", 1 << 30 },
	{ "2T", UINT64_C(2) << 40 }, { "1p", UINT64_C(1) << 50 }, { "7E", UINT64_C(7) << 60 },
	{ "1.5G", UINT64_C(3) << 29 }, { "0.5K", 512 }, { ".5K", 512 }, { "1.0", 1 }, { "2.50K", 2560 },
	{ "0.0009765625K", 1 }, { "1.000", 1 }, { "0x0", 0 }, { "0x200", 512 }, { "0XfF", 255 },
	{ "0x1b", 27 }, { "0x1E", 30 },
	{ "9223372036854775807", INT64_MAX }, { "0x7fffffffffffffff", INT64_MAX },
	{ "1.50000000000000000000000000000000000000000000000000000000000000000000000K", 1536 },
	/* 2^-60 exactly */
	{ "0.000000000000000000867361737988403547205962240695953369140625E", 1 },
	/* exact where a double is not: 2^53 + 1 */
	{ "9007199254740993", UINT64_C(9007199254740993) },
};

static void parses_what_people_write(void)
{
	for (size_t i = 0; i < NITEMS(good_sizes); i++) {
		uint64_t v = 99;
		int rc = qd_size_parse(good_sizes[i].text, &v, NULL);

		if (rc != 0 || v != good_sizes[i].nbytes)
			printf("\n    size '%s': rc %d, %llu", good_sizes[i].text, rc, (unsigned long long)v);
		CU_ASSERT_EQUAL(rc, 0);
		CU_ASSERT_EQUAL(v, good_sizes[i].nbytes);
	}
}

static const char *const bad_sizes[] = {
	"", " ", "-1", "+1", " 1", "1 ", "1 K", "K", ".", ".K", "1.", "1.K", "1..5K", "1.5.5K", "1MB", "1MiB",
	"1KK", "1Z", "x", "0x", "0xg", "0x10K", "0x1.8", "1e3", "12junk", "1,5G", "\n", "1\n", "inf", "nan",
	"0.5", "0.3", "1.5b", "1.3K", "0.1G",
	"9223372036854775808", "18446744073709551616", "99999999999999999999999", "8E",
	"7.9999999999999999999E",
	"0x8000000000000000", "0x10000000000000000", "16777216T",
	/* half of 2^-60 */
	"0.0000000000000000004336808689942017736029811203479766845703125E",
};

static void refuses_everything_else(void)
{
	for (size_t i = 0; i < NITEMS(bad_sizes); i++) {
		struct qd_err err;
		uint64_t v = 99;

		qd_err_clear(&err);
		if (qd_size_parse(bad_sizes[i], &v, &err) != QD_E_INVALID || v != 99)
			printf("\n    size '%s' gave %llu", bad_sizes[i], (unsigned long long)v);
		CU_ASSERT_EQUAL(qd_size_parse(bad_sizes[i], &v, &err), QD_E_INVALID);
		CU_ASSERT_EQUAL(v, 99);
		CU_ASSERT_EQUAL(err.code, QD_E_INVALID);
	}
}

static void rejects_fraction_of_a_byte(void)
{
	struct qd_err err;
	uint64_t v;

	CU_ASSERT_EQUAL(qd_size_parse("1.3K", &v, &err), QD_E_INVALID);
	CU_ASSERT_STRING_EQUAL(err.msg, "size '1.3K': not a whole number of bytes");
}

static void number_stays_within_its_bounds(void)
{
	struct qd_err err;
	uint64_t v = 99;

	CU_ASSERT_EQUAL(qd_number_parse("0", "threads", 1, 64, &v, &err), QD_E_INVALID);
	CU_ASSERT_STRING_EQUAL(err.msg, "threads: '0', expected a whole number from 1 to 64");
	CU_ASSERT_EQUAL(qd_number_parse("65", "threads", 1, 64, &v, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(v, 99);
	CU_ASSERT_EQUAL(qd_number_parse("64", "threads", 1, 64, &v, NULL), 0);
	CU_ASSERT_EQUAL(v, 64);
	CU_ASSERT_EQUAL(qd_number_parse("18446744073709551615", "n", 0, UINT64_MAX, &v, NULL), 0);
	CU_ASSERT_EQUAL(v, UINT64_MAX);
	CU_ASSERT_EQUAL(qd_number_parse("18446744073709551616", "n", 0, UINT64_MAX, &v, NULL), QD_E_INVALID);
}

static void number_is_digits_and_nothing_else(void)
{
	static const char *const bad[] = { "", " 1", "1 ", "-1", "+1", "0x10", "1K", "1.0", "12junk" };
	uint64_t v;

	for (size_t i = 0; i < NITEMS(bad); i++)
		CU_ASSERT_EQUAL(qd_number_parse(bad[i], "n", 0, 100, &v, NULL), QD_E_INVALID);
}

static void formats_three_digits(void)
{
	static const struct { uint64_t nbytes; const char *text; } rows[] = {
		{ 0, "0 B" }, { 1, "1 B" }, { 1023, "1023 B" }, { 1024, "1 KiB" }, { 1536, "1.5 KiB" },
		{ 1034, "1.01 KiB" }, { 10240, "10 KiB" }, { 10 * 1024 + 512, "10.5 KiB" },
		{ 100 * 1024 + 512, "101 KiB" }, { 10239, "10 KiB" }, { 102399, "100 KiB" },
		{ 1023 * 1024, "1023 KiB" }, { (1 << 20) - 1, "1 MiB" }, { 1 << 20, "1 MiB" },
		{ UINT64_C(3) << 29, "1.5 GiB" }, { (UINT64_C(1) << 40) - 1, "1 TiB" },
		{ UINT64_C(5) << 50, "5 PiB" }, { UINT64_MAX, "16 EiB" }, { INT64_MAX, "8 EiB" },
	};
	char buf[QD_SIZE_TEXT];

	for (size_t i = 0; i < NITEMS(rows); i++)
		CU_ASSERT_STRING_EQUAL(qd_size_format(rows[i].nbytes, buf, sizeof(buf)), rows[i].text);
}

CU_ErrorCode suite_size(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(parses_what_people_write),
		QD_TEST(refuses_everything_else),
		QD_TEST(rejects_fraction_of_a_byte),
		QD_TEST(number_stays_within_its_bounds),
		QD_TEST(number_is_digits_and_nothing_else),
		QD_TEST(formats_three_digits),
	};

	return QD_SUITE_ADD("size", tests);
}
