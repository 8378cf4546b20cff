/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The bitmaps extension and directory entries: what is read from where, and what is refused. */
#include "format/bitmap.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rows.h"
#include "suites.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

struct row {
	unsigned int off;
	unsigned int width;
	uint64_t value;
	int code;
	const char *msg;	/* NULL: accepted */
};

static void put(uint8_t *buf, unsigned int off, unsigned int width, uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		buf[off + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static void expect(const struct row *r, int rc, const struct qd_err *err)
{
	if (rc == r->code && strcmp(err->msg, r->msg ? r->msg : "") == 0)
		return;
	fprintf(stderr, "%u: %d \"%s\", expected %d \"%s\"\n", r->off, rc, err->msg, r->code,
		r->msg ? r->msg : "");
	CU_FAIL("row");
}

static void make_ext(uint8_t buf[24])
{
	memset(buf, 0, 24);
	put(buf, 0, 4, 2);
	put(buf, 8, 8, 64);
	put(buf, 16, 8, 0x50000);
}

/* 24 bytes, `extra` bytes of 0x80.., name "dirty"; returns the padded length. */
static size_t make_entry(uint8_t *buf, uint32_t extra)
{
	put(buf, 0, 8, 0x60000);
	put(buf, 8, 4, 1);
	put(buf, 12, 4, QD_BITMAP_FLAG_AUTO);
	put(buf, 16, 1, 1);
	put(buf, 17, 1, 16);
	put(buf, 18, 2, 5);
	put(buf, 20, 4, extra);
	for (size_t i = 0; i < extra; i++)
		buf[24 + i] = (uint8_t)(0x80 + i);
	memcpy(buf + 24 + extra, "dirty", 5);
	return (24 + (size_t)extra + 5 + 7) / 8 * 8;
}

static void rows_cover_every_byte_once(void)
{
	uint64_t obj[32];

	CU_ASSERT_TRUE(rows_are_contiguous(&qd_bitmap_ext_fields, 0, 24));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_bitmap_ext_fields, 0, 24, obj, sizeof(obj)));
	CU_ASSERT_TRUE(rows_are_contiguous(&qd_bitmap_entry_fields, 0, 24));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_bitmap_entry_fields, 0, 24, obj, sizeof(obj)));
}

static void extension_round_trip(void)
{
	uint8_t in[24], out[24];
	struct qd_bitmap_ext ext;

	make_ext(in);
	CU_ASSERT_EQUAL_FATAL(qd_bitmap_ext_decode(in, 24, &ext, NULL), 0);
	CU_ASSERT_EQUAL(ext.count, 2);
	CU_ASSERT_EQUAL(ext.dir_size, 64);
	CU_ASSERT_EQUAL(ext.dir_off, 0x50000);
	memset(out, 0xee, sizeof(out));
	qd_bitmap_ext_encode(&ext, out);
	CU_ASSERT_EQUAL(memcmp(in, out, 24), 0);
}

static void extension_refusals(void)
{
	static const struct row rows[] = {
		{ 0, 4, 0, QD_E_CORRUPT, "bitmaps extension: count is 0, expected 1..65535" },
		{ 0, 4, 65536, QD_E_UNSUPPORTED, "bitmaps extension: count is 65536, expected 1..65535" },
		{ 0, 4, 3, QD_E_CORRUPT, "bitmaps extension: dir_size is 64, expected at least 96" },
		{ 4, 4, 1, QD_E_CORRUPT, "bitmaps extension: reserved field is 0x1, expected 0" },
		{ 8, 8, 0, QD_E_CORRUPT, "bitmaps extension: dir_size is 0, expected at least 64" },
		{ 8, 8, 1024 * 65535, 0, NULL },
		{ 8, 8, 1024 * 65535 + 8, QD_E_UNSUPPORTED,
		  "bitmaps extension: dir_size is 67107848, expected at most 67107840" },
		{ 16, 8, 0x50100, QD_E_CORRUPT,
		  "bitmaps extension: dir_off is 0x50100, expected a multiple of the cluster size" },
	};
	struct qd_bitmap_ext ext;
	uint8_t buf[32] = { 0 };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct qd_err err = { .code = 0 };

		make_ext(buf);
		put(buf, rows[i].off, rows[i].width, rows[i].value);
		expect(&rows[i], qd_bitmap_ext_decode(buf, 24, &ext, &err), &err);
	}
	make_ext(buf);
	put(buf, 0, 4, 65535);
	put(buf, 8, 8, 65535 * 32);
	CU_ASSERT_EQUAL(qd_bitmap_ext_decode(buf, 24, &ext, NULL), 0);
	make_ext(buf);
	for (size_t n = 0; n < 32; n++)
		CU_ASSERT_EQUAL(qd_bitmap_ext_decode(buf, n, &ext, NULL), n == 24 ? 0 : QD_E_CORRUPT);
}

static void entry_members_come_from_their_offsets(void)
{
	uint8_t buf[64] = { 0 };
	struct qd_bitmap_entry e;
	size_t len = make_entry(buf, 3);
	size_t used;

	put(buf, 12, 4, 7);
	CU_ASSERT_EQUAL_FATAL(qd_bitmap_entry_decode(buf, len, &e, &used, NULL), 0);
	CU_ASSERT_EQUAL(used, len);
	CU_ASSERT_EQUAL(e.table_off, 0x60000);
	CU_ASSERT_EQUAL(e.table_entries, 1);
	CU_ASSERT_EQUAL(e.flags,
			QD_BITMAP_FLAG_IN_USE | QD_BITMAP_FLAG_AUTO | QD_BITMAP_FLAG_EXTRA_COMPATIBLE);
	CU_ASSERT_EQUAL(e.type, 1);
	CU_ASSERT_EQUAL(e.granularity_bits, 16);
	CU_ASSERT_EQUAL(e.name_len, 5);
	CU_ASSERT_EQUAL(e.extra_len, 3);
	CU_ASSERT_EQUAL(memcmp(e.extra, "\x80\x81\x82", 3), 0);
	CU_ASSERT_EQUAL(memcmp(e.name, "dirty", 5), 0);
}

static void entry_round_trip_with_extra_data(void)
{
	for (uint32_t extra = 0; extra <= 17; extra++) {
		uint8_t in[64] = { 0 };
		uint8_t out[65];
		struct qd_bitmap_entry e;
		size_t len = make_entry(in, extra);
		size_t used;

		CU_ASSERT_EQUAL_FATAL(qd_bitmap_entry_decode(in, len, &e, &used, NULL), 0);
		CU_ASSERT_EQUAL(qd_bitmap_entry_encoded_size(&e), len);
		memset(out, 0xee, sizeof(out));
		CU_ASSERT_EQUAL(qd_bitmap_entry_encode(&e, out), len);
		CU_ASSERT_EQUAL(memcmp(in, out, len), 0);
		CU_ASSERT_EQUAL(out[len], 0xee);
	}
}

static void entry_refusals(void)
{
	static const struct row rows[] = {
		{ 0, 8, 0, QD_E_CORRUPT,
		  "bitmap: table_off is 0x0, expected a multiple of the cluster size" },
		{ 0, 8, 513, QD_E_CORRUPT,
		  "bitmap: table_off is 0x201, expected a multiple of the cluster size" },
		{ 8, 4, 0, QD_E_CORRUPT, "bitmap: table_entries is 0, expected at least 1" },
		{ 8, 4, 0x8000000, 0, NULL },
		{ 8, 4, 0x8000001, QD_E_UNSUPPORTED,
		  "bitmap: table_entries is 134217729, expected at most 134217728" },
		{ 12, 4, 8, QD_E_CORRUPT, "bitmap: flags are 0x8, expected bits 0..2 only" },
		{ 16, 1, 0, QD_E_UNSUPPORTED, "bitmap: type is 0, expected 1" },
		{ 16, 1, 2, QD_E_UNSUPPORTED, "bitmap: type is 2, expected 1" },
		{ 17, 1, 8, QD_E_UNSUPPORTED, "bitmap: granularity_bits is 8, expected 9..31" },
		{ 17, 1, 9, 0, NULL },
		{ 17, 1, 31, 0, NULL },
		{ 17, 1, 32, QD_E_UNSUPPORTED, "bitmap: granularity_bits is 32, expected 9..31" },
		{ 17, 1, 63, QD_E_UNSUPPORTED, "bitmap: granularity_bits is 63, expected 9..31" },
		{ 17, 1, 64, QD_E_CORRUPT, "bitmap: granularity_bits is 64, expected 9..31" },
		{ 18, 2, 0, QD_E_CORRUPT, "bitmap: name_len is 0, expected 1..1023" },
		{ 18, 2, 1023, 0, NULL },
		{ 18, 2, 1024, QD_E_UNSUPPORTED, "bitmap: name_len is 1024, expected 1..1023" },
		{ 18, 2, 4073, QD_E_CORRUPT,
		  "bitmap: directory entry has 4104 bytes, expected at most 4096" },
		{ 20, 4, 0xffffffff, QD_E_CORRUPT,
		  "bitmap: directory entry has 4294967328 bytes, expected at most 4096" },
	};
	static uint8_t buf[4096];

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct qd_err err = { .code = 0 };
		struct qd_bitmap_entry e;
		size_t used;

		make_entry(buf, 0);
		put(buf, rows[i].off, rows[i].width, rows[i].value);
		expect(&rows[i], qd_bitmap_entry_decode(buf, sizeof(buf), &e, &used, &err), &err);
	}
}

static void refuses_an_entry_cut_anywhere(void)
{
	uint8_t full[64] = { 0 };
	size_t len = make_entry(full, 3);

	for (size_t n = 0; n < len; n++) {
		struct qd_bitmap_entry e = { .table_entries = 77 };
		uint8_t *buf = malloc(n ? n : 1);	/* of that size, so that a read past it is seen */
		size_t used = 77;

		CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
		memcpy(buf, full, n);
		CU_ASSERT_EQUAL(qd_bitmap_entry_decode(buf, n, &e, &used, NULL), QD_E_CORRUPT);
		CU_ASSERT_TRUE(e.table_entries == 77 && used == 77);
		free(buf);
	}
}

static void table_entry_bits_are_those_of_the_specification(void)
{
	const uint64_t offset = 0x00fffffffffffe00;

	CU_ASSERT_EQUAL(QD_BITMAP_ENTRY_ONES ^ QD_BITMAP_ENTRY_RESERVED ^ offset, UINT64_MAX);
	CU_ASSERT_EQUAL(QD_BITMAP_ENTRY_ONES | QD_BITMAP_ENTRY_RESERVED | offset, UINT64_MAX);
}

CU_ErrorCode suite_bitmap(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(rows_cover_every_byte_once),
		QD_TEST(extension_round_trip),
		QD_TEST(extension_refusals),
		QD_TEST(entry_members_come_from_their_offsets),
		QD_TEST(entry_round_trip_with_extra_data),
		QD_TEST(entry_refusals),
		QD_TEST(refuses_an_entry_cut_anywhere),
		QD_TEST(table_entry_bits_are_those_of_the_specification),
	};

	return QD_SUITE_ADD("bitmap", tests);
}
