/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines of records: what is written is read back, and nothing else is taken for a line.
 */
#include "ops/scan_record.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "suites.h"

#define H32 "00112233445566778899aabbccddeeff"

static void names_come_back(void)
{
	static const struct {
		const char *name, *snapshot, *label;
	} rows[] = {
		{ "a", NULL, "a" },
		{ "dir/a b.qcow2", NULL, "dir/a b.qcow2" },
		{ "tab\tnew\nline", NULL, "tab\\tnew\\nline" },
		{ "back\\slash", NULL, "back\\\\slash" },
		{ "\x01\x7f\x1f", NULL, "\\x01\\x7f\\x1f" },
		{ "\xc3\xa9\xff", NULL, "\xc3\xa9\xff" },
		{ "a", "1", "a\\@1" },
		{ "a@1", "one\\@two", "a@1\\@one\\\\@two" },
		{ "\\@1", NULL, "\\\\@1" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *label = qd_scan_record_label(rows[i].name, rows[i].snapshot), *name = NULL, *snapshot = NULL;

		CU_ASSERT_STRING_EQUAL_FATAL(label, rows[i].label);
		CU_ASSERT_EQUAL_FATAL(qd_scan_record_parse_label(label, &name, &snapshot, NULL), 0);
		CU_ASSERT_STRING_EQUAL(name, rows[i].name);
		CU_ASSERT_EQUAL(!snapshot, !rows[i].snapshot);
		if (snapshot && rows[i].snapshot)
			CU_ASSERT_STRING_EQUAL(snapshot, rows[i].snapshot);
		free(label);
		free(name);
		free(snapshot);
	}
}

static void other_backslashes_are_refused(void)
{
	static const char *const rows[] = { "", "\\", "a\\", "a\\q", "a\\x", "a\\x1", "a\\xg1", "a\\x00", "\\@1", "a\\@",
					    "a\\@1\\@2", "a\\X41" };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		char *name = NULL, *snapshot = NULL;

		CU_ASSERT_EQUAL(qd_scan_record_parse_label(rows[i], &name, &snapshot, NULL), QD_E_CORRUPT);
	}
}

static void records_come_back(void)
{
	uint8_t digest[32];
	struct qd_scan_record record = { .digest = digest, .name = "n", .label = "n" };

	for (unsigned i = 0; i < sizeof(digest); i++)
		digest[i] = (uint8_t)(i * 37);
	for (unsigned nbytes = 16; nbytes <= 32; nbytes += 16)
		for (uint64_t off = 0; off < UINT64_C(1) << 62; off = off * 3 + 4096) {
			struct qd_scan_line line = { .is_view = true };
			char buf[200];
			size_t n;

			record.offset = off;
			record.cluster_size = 4096;
			n = qd_scan_record_line(buf, sizeof(buf), &record, nbytes, record.label);
			CU_ASSERT_FATAL(n < sizeof(buf) && buf[n - 1] == '\n');
			buf[n - 1] = '\0';
			CU_ASSERT_EQUAL(qd_scan_record_line(buf, n - 1, &record, nbytes, record.label), n);
			CU_ASSERT_EQUAL_FATAL(qd_scan_record_parse(buf, &line, NULL), 0);
			CU_ASSERT_FALSE(line.is_view);
			CU_ASSERT_EQUAL(line.digest_nbytes, nbytes);
			CU_ASSERT_EQUAL(memcmp(line.digest, digest, nbytes), 0);
			CU_ASSERT_STRING_EQUAL(line.label, "n");
			CU_ASSERT_EQUAL(line.offset, off);
			CU_ASSERT_EQUAL(line.cluster_size, 4096);
		}
}

static void views_come_back(void)
{
	static const uint64_t sizes[] = { 512, 65536 };
	struct qd_scan_view view = {
		.name = "a\tb", .snapshot = "7", .size = 1 << 20, .backing = true, .zero_nbytes = { 512, 1000 },
		.inherited_nbytes = { 0, 65536 },
	};
	struct qd_scan_line line = { .is_view = false };
	char *text = qd_scan_record_view_line(&view, "sha256", sizes, 2);

	CU_ASSERT_STRING_EQUAL_FATAL(text, "#backing\ta\\tb\\@7\t1048576\tsha256,512:512:0,65536:1000:65536\n");
	text[strlen(text) - 1] = '\0';
	CU_ASSERT_EQUAL_FATAL(qd_scan_record_parse(text, &line, NULL), 0);
	CU_ASSERT(line.is_view && line.backing);
	CU_ASSERT_STRING_EQUAL(line.label, "a\\tb\\@7");
	CU_ASSERT_STRING_EQUAL(line.hash, "sha256");
	CU_ASSERT_EQUAL(line.offset, 1 << 20);
	CU_ASSERT_EQUAL(line.nsizes, 2);
	CU_ASSERT_EQUAL(line.zero_nbytes[1], 1000);
	CU_ASSERT_EQUAL(line.inherited_nbytes[1], 65536);
	free(text);
}

static void other_lines_are_refused(void)
{
	static const char *const rows[] = {
		"", "#", "x", H32, H32 "\tn", H32 "\tn\t0", H32 "\tn\t0\t", H32 "\tn\t0\t4096\t", H32 "\tn\t0\t4096\tx",
		"\tn\t0\t4096", H32 "0\tn\t0\t4096", "00112233445566778899AABBCCDDEEFF\tn\t0\t4096",
		"0011223344556677\tn\t0\t4096", H32 "\tn\t-1\t4096", H32 "\tn\t 1\t4096", H32 "\tn\t1x\t4096",
		H32 "\tn\t\t4096", H32 "\tn\t9223372036854775808\t4096", H32 "\tn\t99999999999999999999\t4096",
		H32 "\tn\t0\t0", H32 "\tn\t0\t4095", H32 "\tn\t0\t256", H32 "\tn\t0\t4194304", H32 "\tn\t0\t4K",
		"#imag\tn\t0\txxh128,512:0:0", "#image\tn\t0\txxh128", "#image\tn\t0\txxh128,", "#image\tn\t0\t512:0:0",
		"#image\tn\t0\txxh128,512:0", "#image\tn\t0\txxh128,512:0:0,", "#image\tn\t0\txxh128,512:0:0;",
		"#image\tn\t0\txxh128,512:0:0,512:0:0", "#image\tn\t0\txxh128,1024:0:0,512:0:0",
		"#image\tn\t0\txxh128,513:0:0", "#image\tn\t\txxh128,512:0:0", "#image\tn\t0\txxh128,512:-1:0",
		"#image\tn\t0\txxh128,512:0:0\t", "#image\tn\t9223372036854775808\txxh128,512:0:0",
		"#image\tn\t0\th,512:0:0,1024:0:0,2048:0:0,4096:0:0,8192:0:0,16384:0:0,32768:0:0,65536:0:0,131072:0:0,"
		"262144:0:0,524288:0:0,1048576:0:0,2097152:0:0,4194304:0:0",
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct qd_scan_line line;
		struct qd_err err = { .code = 0 };
		char text[512];

		strcpy(text, rows[i]);
		CU_ASSERT_EQUAL(qd_scan_record_parse(text, &line, &err), QD_E_CORRUPT);
		CU_ASSERT(err.msg[0] != '\0');
	}
}

CU_ErrorCode suite_scan_record(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(names_come_back),
		QD_TEST(other_backslashes_are_refused),
		QD_TEST(records_come_back),
		QD_TEST(views_come_back),
		QD_TEST(other_lines_are_refused),
	};

	return QD_SUITE_ADD("scan_record", tests);
}
