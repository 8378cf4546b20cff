/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Opening an image: what is found, what is refused, and who owns the file afterwards. */
#include "image/image.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crafted.h"
#include "suites.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define MIB (1ull << 20)

/* Takes the crafted image over.  The io is closed either way: a failed open must have left it alone. */
static struct qd_image *open_crafted(struct crafted *c, unsigned flags, struct qd_err *err)
{
	struct qd_io *io = crafted_io(c);
	struct qd_image *img = NULL;
	struct qd_err own = { .code = 0 };
	int r = qd_image_open(io, flags, &img, err ? err : &own);

	if (r) {
		CU_ASSERT_PTR_NULL(img);
		if (!err)
			fprintf(stderr, "open: %s\n", own.msg);
		qd_io_close(io);
	}
	crafted_free(c);
	return img;
}

static void finds_every_name_and_extension(void)
{
	struct crafted c;
	struct qd_image *img;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB, .backing_format = "qcow2",
						.data_file_name = "some data.raw", .backing_name = "dir/base.img" });
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_STRING_EQUAL(img->backing_name, "dir/base.img");
	CU_ASSERT_STRING_EQUAL(img->backing_format, "qcow2");
	CU_ASSERT_STRING_EQUAL(img->data_file_name, "some data.raw");
	CU_ASSERT_EQUAL(img->nexts, 2);
	CU_ASSERT_EQUAL(img->geom.virtual_size, MIB);
	CU_ASSERT_EQUAL(img->header.l1_entries, MIB / 512 / 64);
	qd_image_close(img);
	qd_image_close(NULL);
}

static void keeps_extensions_in_order(void)
{
	static const char data[] = "0123456789";
	struct crafted c;
	struct qd_image *img;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = 512 });
	crafted_ext(&c, 0x11111111, data, 10);
	crafted_ext(&c, QD_EXT_QDEDUP, "", 0);
	crafted_ext(&c, 0x11111111, data, 8);
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_EQUAL_FATAL(img->nexts, 3);
	CU_ASSERT_EQUAL(img->exts[0].nbytes, 10);
	CU_ASSERT_EQUAL(memcmp(img->exts[0].data, data, 10), 0);
	CU_ASSERT_EQUAL(img->exts[2].nbytes, 8);
	CU_ASSERT_PTR_EQUAL(qd_image_find_ext(img, 0x11111111), &img->exts[0]);
	CU_ASSERT_PTR_EQUAL(qd_image_find_ext(img, QD_EXT_QDEDUP), &img->exts[1]);
	CU_ASSERT_PTR_NULL(qd_image_find_ext(img, QD_EXT_BITMAPS));
	CU_ASSERT_PTR_NULL(img->backing_name);
	CU_ASSERT_PTR_NULL(img->data_file_name);
	qd_image_close(img);
}

static void l1_is_host_endian(void)
{
	struct crafted c;
	struct qd_image *img;
	uint64_t table;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
	crafted_map(&c, c.l1_off, 70, 0, 0);
	table = crafted_get64(&c, c.l1_off + 8);
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_EQUAL(img->l1[0], 0);
	CU_ASSERT_EQUAL(img->l1[1], table);
	CU_ASSERT_EQUAL(img->l1[1] >> 63, 1);
	qd_image_close(img);
}

/* ---- snapshots ------------------------------------------------------------------------- */

static void snapshots_are_found_by_id_then_by_name(void)
{
	struct crafted c;
	struct qd_image *img;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
	crafted_snapshot(&c, "1", "2", MIB, c.l1_off, 32);
	crafted_snapshot(&c, "2", "first", 4 * MIB, c.l1_off, 16);
	crafted_snapshot(&c, "3", "a longer name than the others", 512, 0, 0);
	crafted_snapshot(&c, "4", "first", 512, 0, 0);
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_EQUAL_FATAL(img->nsnapshots, 4);
	CU_ASSERT_PTR_EQUAL(qd_image_find_snapshot(img, "2"), &img->snapshots[1]);
	CU_ASSERT_PTR_EQUAL(qd_image_find_snapshot(img, "first"), &img->snapshots[1]);
	CU_ASSERT_PTR_EQUAL(qd_image_find_snapshot(img, "a longer name than the others"), &img->snapshots[2]);
	CU_ASSERT_PTR_NULL(qd_image_find_snapshot(img, "a longer"));
	CU_ASSERT_PTR_NULL(qd_image_find_snapshot(img, ""));
	CU_ASSERT_EQUAL(img->snapshots[1].disk_size, 4 * MIB);
	CU_ASSERT_EQUAL(img->snapshots[1].l1_entries, 16);
	CU_ASSERT_EQUAL(img->snapshots[2].date_sec, 1700000002);
	CU_ASSERT_EQUAL(img->snapshots[2].icount, UINT64_MAX);
	CU_ASSERT_EQUAL(img->snapshots_nbytes, 72 + 72 + 96 + 72);
	CU_ASSERT_PTR_NULL(qd_image_find_pin(img));
	qd_image_close(img);
}

/* A user may have called a snapshot of his own by the pin's name. */
static void the_pin_is_known_by_name_and_size(void)
{
	struct crafted c;
	struct qd_image *img;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
	crafted_snapshot(&c, "1", QD_PIN_NAME, MIB, c.l1_off, 32);
	crafted_snapshot(&c, "2", "else", QD_PIN_DISK_SIZE, c.l1_off, 32);
	crafted_snapshot(&c, "3", QD_PIN_NAME, QD_PIN_DISK_SIZE, c.l1_off, 32);
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_PTR_EQUAL(qd_image_find_pin(img), &img->snapshots[2]);
	CU_ASSERT_NOT_EQUAL(QD_PIN_DISK_SIZE % 512, 0);
	qd_image_close(img);
}

static void a_damaged_snapshot_table_stops_all_but_the_lenient(void)
{
	for (int lenient = 0; lenient <= 1; lenient++) {
		struct crafted c;
		struct qd_image *img;
		struct qd_err err;
		uint64_t second;

		crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
		crafted_snapshot(&c, "1", "one", MIB, c.l1_off, 32);
		second = crafted_snapshot(&c, "2", "two", MIB, c.l1_off, 32);
		crafted_put(&c, second + 36, 4, 4000);	/* extra data */
		img = open_crafted(&c, lenient ? QD_IMAGE_LENIENT : 0, &err);
		if (!lenient) {
			CU_ASSERT_PTR_NULL_FATAL(img);
			CU_ASSERT_EQUAL(err.code, QD_E_CORRUPT);
			CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "snapshot table entry 1: "));
			continue;
		}
		CU_ASSERT_PTR_NOT_NULL_FATAL(img);
		CU_ASSERT_EQUAL(img->nsnapshots, 0);
		CU_ASSERT_EQUAL(img->header.snapshot_count, 2);
		CU_ASSERT_PTR_NULL(qd_image_find_snapshot(img, "1"));
		qd_image_close(img);
	}
}

static void loads_an_l1_table_where_there_is_one(void)
{
	struct crafted c;
	struct qd_image *img;
	uint64_t *l1 = NULL, other;
	struct qd_err err;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
	other = crafted_alloc(&c, 1);
	crafted_put(&c, other + 504, 8, 0x123456789a);
	img = open_crafted(&c, 0, NULL);
	CU_ASSERT_PTR_NOT_NULL_FATAL(img);
	CU_ASSERT_EQUAL_FATAL(qd_image_load_l1(img, other, 64, &l1, NULL), 0);
	CU_ASSERT_EQUAL(l1[63], 0x123456789a);
	free(l1);
	CU_ASSERT_EQUAL_FATAL(qd_image_load_l1(img, 12345, 0, &l1, NULL), 0);
	free(l1);
	CU_ASSERT_EQUAL(qd_image_load_l1(img, other, 65, &l1, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "past the end of the file"));
	CU_ASSERT_EQUAL(qd_image_load_l1(img, other + 8, 1, &l1, &err), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_image_load_l1(img, UINT64_MAX - 511, 1, &l1, &err), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_image_load_l1(img, 0, QD_MAX_L1_BYTES / 8 + 1, &l1, &err), QD_E_CORRUPT);
	qd_image_close(img);
}

/* ---- refusals --------------------------------------------------------------------------- */

struct refusal {
	uint64_t off;
	unsigned width;
	uint64_t value;
	int code;
	const char *words;
};

static void refuses_what_cannot_be_true(void)
{
	static const struct refusal rows[] = {
		{ 0, 4, 0x514649fc, QD_E_CORRUPT, "not a qcow2 image" },
		{ 4, 4, 4, QD_E_UNSUPPORTED, "version" },
		{ 20, 4, 8, QD_E_CORRUPT, "cluster_bits is 8" },
		{ 20, 4, 22, QD_E_CORRUPT, "cluster_bits is 22" },
		{ 36, 4, 0x7fffffff, QD_E_UNSUPPORTED, "l1_entries" },
		{ 36, 4, 4194304, QD_E_CORRUPT, "past the end of the file" },
		{ 40, 8, 1 << 20, QD_E_CORRUPT, "past the end of the file" },
		{ 40, 8, 1025, QD_E_CORRUPT, "multiple" },
		{ 40, 8, UINT64_MAX & ~511ull, QD_E_CORRUPT, NULL },
		{ 60, 4, 65537, QD_E_UNSUPPORTED, "snapshot" },
		{ 60, 8, 5ull << 32 | 1, QD_E_CORRUPT, NULL },
		{ 72, 8, 1ull << 40, QD_E_UNSUPPORTED, "unknown incompatible feature bit 40" },
		{ 8, 8, 500, QD_E_CORRUPT, NULL },		/* a name of no bytes, or without room */
		{ 112, 8, 0x1234567800000200, QD_E_CORRUPT, "extension" },
	};

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct qd_err err = { .code = 0 };
		struct qd_image *img;
		struct crafted c;

		crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
		crafted_put(&c, rows[i].off, rows[i].width, rows[i].value);
		if (rows[i].off == 8)
			crafted_put(&c, 16, 4, 100);
		img = open_crafted(&c, 0, &err);
		if (img || err.code != rows[i].code || (rows[i].words && !strstr(err.msg, rows[i].words))) {
			fprintf(stderr, "row %zu: %d \"%s\"\n", i, err.code, err.msg);
			CU_FAIL("row");
		}
		CU_ASSERT_STRING_EQUAL(err.file, "(memory)");
		qd_image_close(img);
	}
}

/* Not the 32 MiB that the header speaks of: rejected before anything is allocated. */
static void rejects_l1_past_eof(void)
{
	struct qd_err err;
	struct crafted c;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
	crafted_put(&c, 36, 4, QD_MAX_L1_BYTES / 8);
	CU_ASSERT_PTR_NULL(open_crafted(&c, 0, &err));
	CU_ASSERT_EQUAL(err.code, QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "L1 table: 33554432 bytes at 0x400 lie past the end of the file"));
}

static void an_unknown_feature_is_called_by_its_name(void)
{
	uint8_t row[144] = { 0 };
	struct qd_err err;
	struct crafted c;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB, .incompatible = 1ull << 40 });
	row[0] = QD_FEATURE_COMPATIBLE;
	row[1] = 40;
	memcpy(row + 2, "not this one", 12);
	row[48] = QD_FEATURE_INCOMPATIBLE;
	row[49] = 39;
	memcpy(row + 50, "not this one", 12);
	row[96] = QD_FEATURE_INCOMPATIBLE;
	row[97] = 40;
	memset(row + 98, 'x', 46);	/* the longest name there is */
	crafted_ext(&c, QD_EXT_FEATURE_NAMES, row, sizeof(row));
	CU_ASSERT_PTR_NULL(open_crafted(&c, 0, &err));
	CU_ASSERT_EQUAL(err.code, QD_E_UNSUPPORTED);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "bit 40 (\"xxxxxxxxxx"));
	CU_ASSERT_PTR_NULL(strstr(err.msg, "not this one"));
}

static void a_name_with_a_nul_byte_names_no_file(void)
{
	static const char name[] = { 'a', 0, 'b', 'c' };

	for (int i = 0; i < 3; i++) {
		struct qd_err err = { .code = 0 };
		struct crafted c;

		crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB, .backing_name = i == 0 ? "wxyz" : NULL });
		if (i == 0)
			memcpy(c.bytes + crafted_get64(&c, 8), name, 4);
		else
			crafted_ext(&c, i == 1 ? QD_EXT_BACKING_FORMAT : QD_EXT_DATA_FILE, name, 4);
		CU_ASSERT_PTR_NULL(open_crafted(&c, 0, &err));
		CU_ASSERT_EQUAL(err.code, QD_E_CORRUPT);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "NUL"));
	}
}

/* The file may end anywhere: refused, or all of what it names is there. */
static void a_file_cut_anywhere_is_survived(void)
{
	struct crafted c;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = 64 * 1024, .backing_name = "base", .backing_format = "raw" });
	crafted_snapshot(&c, "1", "one", 64 * 1024, c.l1_off, 2);
	for (uint64_t n = 0; n < c.nbytes; n += n < 600 ? 1 : 61) {
		struct crafted cut = c;
		struct qd_image *img;
		struct qd_err err;

		cut.nbytes = n;
		cut.bytes = malloc(n ? n : 1);
		CU_ASSERT_PTR_NOT_NULL_FATAL(cut.bytes);
		memcpy(cut.bytes, c.bytes, n);
		img = open_crafted(&cut, 0, &err);
		if (n < c.l1_off + 16)
			CU_ASSERT_PTR_NULL(img);
		qd_image_close(img);
	}
	crafted_free(&c);
}

static void encryption_is_refused_by_name(void)
{
	static const struct { uint64_t method; const char *word; } rows[] = { { 0, NULL }, { 1, "AES" }, { 2, "LUKS" } };

	for (size_t i = 0; i < COUNT(rows); i++) {
		struct qd_err err = { .code = 0 };
		struct qd_image *img;
		struct crafted c;

		crafted_new(&c, &(struct crafted_opts){ .virtual_size = MIB });
		crafted_put(&c, 32, 4, rows[i].method);
		img = open_crafted(&c, 0, &err);
		CU_ASSERT_PTR_NOT_NULL_FATAL(img);
		CU_ASSERT_EQUAL(qd_image_require_plain(img, &err), rows[i].word ? QD_E_UNSUPPORTED : 0);
		if (rows[i].word)
			CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, rows[i].word));
		qd_image_close(img);
	}
}

CU_ErrorCode suite_image(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(finds_every_name_and_extension),
		QD_TEST(keeps_extensions_in_order),
		QD_TEST(l1_is_host_endian),
		QD_TEST(snapshots_are_found_by_id_then_by_name),
		QD_TEST(the_pin_is_known_by_name_and_size),
		QD_TEST(a_damaged_snapshot_table_stops_all_but_the_lenient),
		QD_TEST(loads_an_l1_table_where_there_is_one),
		QD_TEST(refuses_what_cannot_be_true),
		QD_TEST(rejects_l1_past_eof),
		QD_TEST(an_unknown_feature_is_called_by_its_name),
		QD_TEST(a_name_with_a_nul_byte_names_no_file),
		QD_TEST(a_file_cut_anywhere_is_survived),
		QD_TEST(encryption_is_refused_by_name),
	};

	return QD_SUITE_ADD("image", tests);
}
