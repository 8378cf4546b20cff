/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The stored table's bytes: rows, round trips, what is refused, and where things lie. */
#include "format/table.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/entry.h"
#include "rows.h"
#include "suites.h"

static struct qd_table_ext good_ext(void)
{
	return (struct qd_table_ext){
		.version = QD_TABLE_VERSION, .container_off = 0x30000, .container_nbytes = 0x40000, .generation = 3,
		.identity_hi = 0x1122334455667788ull, .identity_lo = 0x99aabbccddeeff00ull, .pin_id = 1, .digest_id = 1,
		.digest_nbytes = 16, .cluster_bits = 16, .dir_nbytes = 64, .dir_crc = 0xdeadbeef, .journal_off = 0x10000,
		.log_nbytes = 0x10000, .redo_nbytes = 0x8000, .log_generation = 7, .log_clusters = 5,
		.log_crc = 0xabadcafe, .journal_id = 0x77,
	};
}

static void rows_cover_every_byte(void)
{
	struct qd_table_ext ext;
	struct qd_table_dir dir;
	struct qd_table_row row;
	struct qd_table_block block;

	CU_ASSERT_TRUE(rows_are_contiguous(&qd_table_ext_fields, 0, QD_TABLE_EXT_SIZE));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_table_ext_fields, 0, QD_TABLE_EXT_SIZE, &ext, sizeof(ext)));
	CU_ASSERT_TRUE(rows_are_contiguous(&qd_table_dir_fields, 0, QD_TABLE_DIR_HEADER));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_table_dir_fields, 0, QD_TABLE_DIR_HEADER, &dir, sizeof(dir)));
	CU_ASSERT_TRUE(rows_are_contiguous(&qd_table_row_fields, 0, QD_TABLE_DIR_ROW));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_table_row_fields, 0, QD_TABLE_DIR_ROW, &row, sizeof(row)));
	CU_ASSERT_TRUE(rows_are_contiguous(&qd_table_block_fields, 0, QD_TABLE_BLOCK_HEADER));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_table_block_fields, 0, QD_TABLE_BLOCK_HEADER, &block, sizeof(block)));
}

static void extension_comes_back(void)
{
	struct qd_table_ext in = good_ext(), out;
	uint8_t buf[QD_TABLE_EXT_SIZE];

	memset(buf, 0xee, sizeof(buf));
	qd_table_ext_encode(&in, buf);
	CU_ASSERT_EQUAL(qd_table_ext_decode(buf, sizeof(buf), &out, NULL), 0);
	in.crc = qd_get_be32(buf + 108);
	CU_ASSERT_EQUAL(in.crc, qd_crc32c(QD_CRC32C_SEED, buf, 108));
	CU_ASSERT_EQUAL(memcmp(&in, &out, sizeof(in)), 0);
}

/* One changed byte, wherever, is seen; so are zeros, ones and another length. */
static void extension_that_changed_is_refused(void)
{
	struct qd_table_ext in = good_ext(), out;
	uint8_t buf[QD_TABLE_EXT_SIZE];

	qd_table_ext_encode(&in, buf);
	for (unsigned bit = 0; bit < 8 * sizeof(buf); bit++) {
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_TRUE(qd_table_ext_decode(buf, sizeof(buf), &out, NULL) < 0);
		buf[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	for (size_t n = 0; n < sizeof(buf); n++)
		CU_ASSERT_EQUAL(qd_table_ext_decode(buf, n, &out, NULL), QD_E_CORRUPT);
	memset(buf, 0, sizeof(buf));
	CU_ASSERT_EQUAL(qd_table_ext_decode(buf, sizeof(buf), &out, NULL), QD_E_CORRUPT);
	memset(buf, 0xff, sizeof(buf));
	CU_ASSERT_EQUAL(qd_table_ext_decode(buf, sizeof(buf), &out, NULL), QD_E_UNSUPPORTED);
}

#define REFUSED(code, change) \
	do { \
		struct qd_table_ext e = good_ext(), unused; \
		uint8_t b[QD_TABLE_EXT_SIZE]; \
		e.change; \
		qd_table_ext_encode(&e, b); \
		CU_ASSERT_EQUAL(qd_table_ext_decode(b, sizeof(b), &unused, NULL), code); \
	} while (0)

/* With a right checksum. */
static void extension_that_cannot_be_is_refused(void)
{
	REFUSED(0, pin_id = 4000000000u);
	REFUSED(QD_E_UNSUPPORTED, version = 2);
	REFUSED(QD_E_UNSUPPORTED, flags = 2);
	REFUSED(QD_E_UNSUPPORTED, reserved = 1);
	REFUSED(QD_E_UNSUPPORTED, reserved3 = 1);
	REFUSED(QD_E_CORRUPT, flags = QD_TABLE_EXTERNAL);
	REFUSED(QD_E_CORRUPT, container_off = 0);
	REFUSED(QD_E_CORRUPT, container_off = 0x30200);
	REFUSED(QD_E_CORRUPT, container_off = 0xffffffffffff0000ull);
	REFUSED(QD_E_CORRUPT, container_nbytes = 0);
	REFUSED(QD_E_CORRUPT, container_nbytes = 0x40200);
	REFUSED(QD_E_CORRUPT, container_nbytes = 0x8000000000000000ull);
	REFUSED(QD_E_CORRUPT, generation = 0);
	REFUSED(QD_E_CORRUPT, pin_id = 0);
	REFUSED(QD_E_CORRUPT, digest_nbytes = 0);
	REFUSED(QD_E_CORRUPT, digest_nbytes = 33);
	REFUSED(QD_E_CORRUPT, cluster_bits = 8);
	REFUSED(QD_E_CORRUPT, cluster_bits = 22);
	REFUSED(QD_E_CORRUPT, dir_nbytes = 0);
	REFUSED(QD_E_CORRUPT, dir_nbytes = 56);
	REFUSED(QD_E_CORRUPT, dir_nbytes = 0x40010);
	REFUSED(QD_E_CORRUPT, journal_off = 0);
	REFUSED(QD_E_CORRUPT, journal_off = 0x10200);
	REFUSED(QD_E_CORRUPT, journal_off = 0x40000);
	REFUSED(QD_E_CORRUPT, log_nbytes = 0);
	REFUSED(QD_E_CORRUPT, log_nbytes = 0x10001);
	REFUSED(QD_E_CORRUPT, log_nbytes = 0xfffff000);
	REFUSED(QD_E_CORRUPT, redo_nbytes = 0x12000);
	REFUSED(QD_E_CORRUPT, log_clusters = 17);
	REFUSED(QD_E_CORRUPT, log_clusters = 0);
	REFUSED(QD_E_CORRUPT, journal_id = 0);
}

static void external_container_has_no_place_in_the_image(void)
{
	struct qd_table_ext e = good_ext(), out;
	uint8_t b[QD_TABLE_EXT_SIZE];

	e.flags = QD_TABLE_EXTERNAL;
	e.container_off = 0;
	e.pin_id = 0;
	qd_table_ext_encode(&e, b);
	CU_ASSERT_EQUAL(qd_table_ext_decode(b, sizeof(b), &out, NULL), 0);
	CU_ASSERT_EQUAL(out.flags, QD_TABLE_EXTERNAL);
}

static void other_structures_come_back(void)
{
	struct qd_table_dir d = { QD_TABLE_DIR_MAGIC, 1, 2, 3, 4, 5, 6, 7 }, d2;
	struct qd_table_row w = { 0x123456789abcde00ull, 8, 9 }, w2;
	struct qd_table_block b = { QD_TABLE_BLOCK_MAGIC, 1, 2, 3, 4, 5 }, b2;
	uint8_t buf[64];

	qd_table_dir_encode(&d, buf);
	CU_ASSERT_EQUAL(memcmp(buf, "QDdr", 4), 0);
	qd_table_dir_decode(buf, &d2);
	CU_ASSERT_EQUAL(memcmp(&d, &d2, sizeof(d)), 0);
	qd_table_row_encode(&w, buf);
	qd_table_row_decode(buf, &w2);
	CU_ASSERT_EQUAL(memcmp(&w, &w2, sizeof(w)), 0);
	qd_table_block_encode(&b, buf);
	CU_ASSERT_EQUAL(memcmp(buf, "QDtk", 4), 0);
	qd_table_block_decode(buf, &b2);
	CU_ASSERT_EQUAL(memcmp(&b, &b2, sizeof(b)), 0);
}

static void records_come_back(void)
{
	static const uint8_t expected[] = { 0, 0, 0, 0, 0, 5, 0, 0, 3, 0x12, 0x34, 0x56, 0x78, 0x9a };
	struct qd_record in = { .entry = 0x50000, .guest = 0x123456789aull, .flags = 3 }, out;
	uint8_t buf[64];

	for (unsigned i = 0; i < 16; i++)
		in.hash[i] = (uint8_t)(i + 1);
	CU_ASSERT_EQUAL(qd_record_nbytes(16), 30);
	qd_record_encode(&in, 16, buf);
	CU_ASSERT_EQUAL(memcmp(buf, expected, sizeof(expected)), 0);
	CU_ASSERT_EQUAL(memcmp(buf + 14, in.hash, 16), 0);
	memset(&out, 0xff, sizeof(out));
	qd_record_decode(buf, 16, &out);
	CU_ASSERT_EQUAL(out.entry, in.entry);
	CU_ASSERT_EQUAL(out.guest, in.guest);
	CU_ASSERT_EQUAL(out.flags, in.flags);
	CU_ASSERT_EQUAL(memcmp(out.hash, in.hash, 32), 0);
}

static void records_that_cannot_be_are_told(void)
{
	struct qd_header h = { .version = 3, .cluster_bits = 16, .refcount_order = 4 };
	struct qd_geom g;
	struct qd_record r = { .entry = 0x50000 };

	qd_geom_init(&h, &g);
	CU_ASSERT_TRUE(qd_record_is_valid(&g, &r));
	CU_ASSERT_EQUAL(qd_record_host_off(&g, r.entry), 0x50000);
	r.entry = qd_l2_make_compressed(&g, 0x51234, 3000);
	CU_ASSERT_TRUE(qd_record_is_valid(&g, &r));
	CU_ASSERT_EQUAL(qd_record_host_off(&g, r.entry), 0x51234);
	r.flags = QD_RECORD_PARTIAL;
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
	r = (struct qd_record){ .entry = 0x50000, .flags = 8 };
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
	r = (struct qd_record){ .entry = 0x50000 | QD_COPIED };
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
	r = (struct qd_record){ .entry = 0x50001 };
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
	r = (struct qd_record){ .entry = 0x50200 };
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
	r = (struct qd_record){ .entry = 0 };
	CU_ASSERT_FALSE(qd_record_is_valid(&g, &r));
}

static void blocks_lie_one_behind_the_other(void)
{
	CU_ASSERT_EQUAL(qd_table_block_records(16), 2183);
	CU_ASSERT_EQUAL(qd_table_block_records(32), 1424);
	CU_ASSERT_EQUAL(qd_table_block_nbytes(2183, 16), 65536);
	CU_ASSERT_EQUAL(qd_table_block_nbytes(1, 16), 512);
	CU_ASSERT_EQUAL(qd_table_block_nbytes(16, 16), 512);
	CU_ASSERT_EQUAL(qd_table_block_nbytes(17, 16), 1024);
	CU_ASSERT_EQUAL(qd_table_block_off(48, 0), 512);
	CU_ASSERT_EQUAL(qd_table_block_off(512, 2), 512 + 2 * 65536);
	CU_ASSERT_EQUAL(qd_table_block_off(528, 0), 1024);
	CU_ASSERT_EQUAL(qd_table_end(0, 16), 512);
	CU_ASSERT_EQUAL(qd_table_end(1, 16), 1024);
	CU_ASSERT_EQUAL(qd_table_end(2183, 16), 512 + 65536);
	CU_ASSERT_EQUAL(qd_table_end(2184, 16), 512 + 65536 + 512);
	CU_ASSERT_EQUAL(qd_table_end(2183ull * 30, 16), 1024 + 30 * 65536);
}

static void plain_entries_within_the_run_are_the_containers(void)
{
	static const struct { uint64_t entry; bool holds; } cases[] = {
		{ 0, false }, { 0x40000, false }, { 0x50000, true }, { 0x70000, true }, { 0x80000, false },
		{ QD_COPIED | 0x50000, true }, { QD_COMPRESSED | 0x50000, false },
	};
	struct qd_table_ext e = { .container_off = 0x50000, .container_nbytes = 0x30000 };
	struct qd_table_ext none = { .container_nbytes = 0x30000 };

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		e.flags = 0;
		CU_ASSERT_EQUAL(qd_table_ext_holds(&e, cases[i].entry), cases[i].holds);
		e.flags = QD_TABLE_EXTERNAL;
		CU_ASSERT_FALSE(qd_table_ext_holds(&e, cases[i].entry));
		CU_ASSERT_FALSE(qd_table_ext_holds(&none, cases[i].entry));
	}
}

CU_ErrorCode suite_table_format(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(rows_cover_every_byte),
		QD_TEST(extension_comes_back),
		QD_TEST(extension_that_changed_is_refused),
		QD_TEST(extension_that_cannot_be_is_refused),
		QD_TEST(external_container_has_no_place_in_the_image),
		QD_TEST(other_structures_come_back),
		QD_TEST(records_come_back),
		QD_TEST(records_that_cannot_be_are_told),
		QD_TEST(blocks_lie_one_behind_the_other),
		QD_TEST(plain_entries_within_the_run_are_the_containers),
	};

	return QD_SUITE_ADD("table_format", tests);
}
