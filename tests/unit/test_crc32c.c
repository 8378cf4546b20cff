/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C against published values, and what the seed is there for. */
#include "base/crc32c.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "suites.h"

/* With the usual start and inversion: RFC 3720, B.4, and the check value of the catalogue of CRCs. */
static void gives_the_published_values(void)
{
	uint8_t buf[32];

	CU_ASSERT_EQUAL(~qd_crc32c(0xffffffffu, "123456789", 9), 0xe3069283u);
	memset(buf, 0, sizeof(buf));
	CU_ASSERT_EQUAL(~qd_crc32c(0xffffffffu, buf, sizeof(buf)), 0x8a9136aau);
	memset(buf, 0xff, sizeof(buf));
	CU_ASSERT_EQUAL(~qd_crc32c(0xffffffffu, buf, sizeof(buf)), 0x62a8ab43u);
	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)i;
	CU_ASSERT_EQUAL(~qd_crc32c(0xffffffffu, buf, sizeof(buf)), 0x46dd794eu);
}

static void pieces_chain(void)
{
	uint8_t buf[1000];

	for (unsigned i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)(i * 37 + i / 256);
	for (size_t cut = 0; cut <= sizeof(buf); cut += 13) {
		uint32_t crc = qd_crc32c(QD_CRC32C_SEED, buf, cut);

		CU_ASSERT_EQUAL(qd_crc32c(crc, buf + cut, sizeof(buf) - cut), qd_crc32c(QD_CRC32C_SEED, buf, sizeof(buf)));
	}
	CU_ASSERT_EQUAL(qd_crc32c(QD_CRC32C_SEED, buf, 0), QD_CRC32C_SEED);
}

/* A register of 0 would stay 0 over zeros, whatever their number: then zeros would carry their own checksum. */
static void zeros_are_never_valid(void)
{
	static const uint8_t zeros[65536];

	CU_ASSERT_NOT_EQUAL(QD_CRC32C_SEED, 0);
	CU_ASSERT_EQUAL(qd_crc32c(0, zeros, sizeof(zeros)), 0);
	for (size_t n = 0; n <= sizeof(zeros); n += 4)
		CU_ASSERT_NOT_EQUAL_FATAL(qd_crc32c(QD_CRC32C_SEED, zeros, n), 0);
}

CU_ErrorCode suite_crc32c(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(gives_the_published_values),
		QD_TEST(pieces_chain),
		QD_TEST(zeros_are_never_valid),
	};

	return QD_SUITE_ADD("crc32c", tests);
}
