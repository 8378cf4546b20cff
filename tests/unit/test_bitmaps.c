/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps of crafted images: listed, refused, and copied between cluster sizes, where the
 * bits that arrive are read from the bytes of the new image and compared one by one.
 */
#include "image/bitmaps.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "crafted.h"
#include "suites.h"

#define MAX_BITMAPS 4u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

/* ---- making ------------------------------------------------------------------------------------ */

struct bitmap {
	const char *name;
	unsigned granularity_bits;
	uint32_t flags;
	uint64_t nbits;
	uint8_t *bits;
	uint64_t entry_off;		/* in the file */
	uint64_t table_off;
};

struct source {
	struct crafted image;
	uint64_t virtual_size;
	uint64_t dir_off;
	uint64_t dir_nbytes;
	unsigned n;
	struct bitmap b[MAX_BITMAPS];
};

static uint64_t bytes_of(const struct bitmap *b)
{
	return (b->nbits + 7) / 8;
}

/* Clusters of bits: zeros and ones with and without a cluster, and such as are mixed. */
static void make_bits(struct source *s, struct bitmap *b, uint64_t *seed)
{
	uint64_t size = s->image.cluster_size, n = (bytes_of(b) + size - 1) / size;

	b->bits = calloc(1, bytes_of(b));
	CU_ASSERT_PTR_NOT_NULL_FATAL(b->bits);
	b->table_off = crafted_alloc(&s->image, (n * 8 + size - 1) / size + !n);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t what = next_random(seed) % 6, off = 0, room = bytes_of(b) - i * size;
		uint8_t *to = b->bits + i * size;

		room = room < size ? room : size;
		memset(to, what == 1 || what == 2 ? 0xff : 0, room);
		if (what >= 2) {
			off = crafted_alloc(&s->image, 1);
			for (uint64_t k = 0; what > 3 && k < room; k++)
				to[k] = next_random(seed) % 3 ? 0 : (uint8_t)next_random(seed);
			/* What lies past the last bit should be zero, but who knows. */
			memset(s->image.bytes + off, 0xff, size);
			memcpy(s->image.bytes + off, to, room);
		}
		crafted_put(&s->image, b->table_off + i * 8, 8, what == 1 ? 1 : off);
	}
}

static void make_directory(struct source *s)
{
	uint64_t nbytes = 0, pos;
	uint8_t ext[24];

	for (unsigned i = 0; i < s->n; i++)
		nbytes += (24 + strlen(s->b[i].name) + 7) / 8 * 8;
	s->dir_nbytes = nbytes;
	pos = s->dir_off = crafted_alloc(&s->image, nbytes / s->image.cluster_size + 1);
	for (unsigned i = 0; i < s->n; i++) {
		struct bitmap *b = &s->b[i];

		b->entry_off = pos;
		crafted_put(&s->image, pos, 8, b->table_off);
		crafted_put(&s->image, pos + 8, 4, (bytes_of(b) + s->image.cluster_size - 1) / s->image.cluster_size);
		crafted_put(&s->image, pos + 12, 4, b->flags);
		crafted_put(&s->image, pos + 16, 1, 1);
		crafted_put(&s->image, pos + 17, 1, b->granularity_bits);
		crafted_put(&s->image, pos + 18, 2, strlen(b->name));
		memcpy(s->image.bytes + pos + 24, b->name, strlen(b->name));
		pos += (24 + strlen(b->name) + 7) / 8 * 8;
	}
	memset(ext, 0, sizeof(ext));
	qd_put_be32(ext, s->n);
	qd_put_be64(ext + 8, nbytes);
	qd_put_be64(ext + 16, s->dir_off);
	crafted_ext(&s->image, QD_EXT_BITMAPS, ext, sizeof(ext));
}

static struct source *new_source(uint64_t virtual_size, uint32_t cluster_bits, uint64_t seed)
{
	static const struct bitmap kinds[MAX_BITMAPS] = {
		{ .name = "fine", .granularity_bits = 9, .flags = QD_BITMAP_FLAG_AUTO },
		{ .name = "a name with spaces", .granularity_bits = 12 },
		{ .name = "coarse", .granularity_bits = 31, .flags = QD_BITMAP_FLAG_AUTO },
		{ .name = "usual", .granularity_bits = 16 },
	};
	struct source *s = calloc(1, sizeof(*s));

	CU_ASSERT_PTR_NOT_NULL_FATAL(s);
	s->virtual_size = virtual_size;
	s->n = MAX_BITMAPS;
	crafted_new(&s->image, &(struct crafted_opts){ .virtual_size = virtual_size, .cluster_bits = cluster_bits,
						       .autoclear = QD_AUTOCLEAR_BITMAPS });
	for (unsigned i = 0; i < s->n; i++) {
		s->b[i] = kinds[i];
		s->b[i].nbits = (virtual_size + (1ull << kinds[i].granularity_bits) - 1) >> kinds[i].granularity_bits;
		make_bits(s, &s->b[i], &seed);
	}
	make_directory(s);
	return s;
}

static void free_source(struct source *s)
{
	for (unsigned i = 0; i < MAX_BITMAPS; i++)
		free(s->b[i].bits);
	crafted_free(&s->image);
	free(s);
}

static struct qd_image *open_source(const struct source *s)
{
	struct qd_image *img = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_image_open(crafted_io(&s->image), 0, &img, NULL), 0);
	return img;
}

/* ---- listing ----------------------------------------------------------------------------------- */

struct seen {
	const struct source *s;
	unsigned n;
	unsigned stop_at;
	bool wrong;
};

static int see(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct seen *seen = ctx;
	const struct bitmap *want = &seen->s->b[seen->n];

	seen->wrong |= strcmp(b->name, want->name) || b->granularity != 1ull << want->granularity_bits ||
		       b->enabled != ((want->flags & QD_BITMAP_FLAG_AUTO) != 0) ||
		       b->in_use != ((want->flags & QD_BITMAP_FLAG_IN_USE) != 0) || b->table_off != want->table_off;
	if (++seen->n == seen->stop_at)
		return qd_err_set(err, QD_E_CANCELLED, "enough");
	return 0;
}

static void lists_them_in_order(void)
{
	struct source *s = new_source(1 << 20, 9, 1);
	struct seen all = { .s = s }, two = { .s = s, .stop_at = 2 };
	struct qd_image *img = open_source(s);

	CU_ASSERT_EQUAL(qd_bitmaps_count(img), 4);
	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, see, &all, NULL), 0);
	CU_ASSERT_TRUE(all.n == 4 && !all.wrong);
	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, see, &two, NULL), QD_E_CANCELLED);
	CU_ASSERT_TRUE(two.n == 2 && !two.wrong);
	CU_ASSERT_EQUAL(qd_bitmaps_check_copy(img, NULL), 0);
	qd_image_close(img);
	free_source(s);
}

/* Somebody wrote who does not know bitmaps, or never had any: either way there are none. */
static void without_the_autoclear_bit_there_are_none(void)
{
	struct source *s = new_source(1 << 20, 9, 1);
	struct seen seen = { .s = s };
	struct qd_image *img;

	crafted_put(&s->image, 88, 8, QD_AUTOCLEAR_DATA_FILE_RAW);
	img = open_source(s);
	CU_ASSERT_EQUAL(qd_bitmaps_count(img), 0);
	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, see, &seen, NULL), 0);
	CU_ASSERT_EQUAL(seen.n, 0);
	qd_image_close(img);
	crafted_put(&s->image, 88, 8, QD_AUTOCLEAR_BITMAPS);
	crafted_put(&s->image, 112, 4, 0x99999999);	/* another extension */
	img = open_source(s);
	CU_ASSERT_EQUAL(qd_bitmaps_count(img), 0);
	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, see, &seen, NULL), 0);
	CU_ASSERT_EQUAL(seen.n, 0);
	qd_image_close(img);
	free_source(s);
}

/* ---- copying ----------------------------------------------------------------------------------- */

struct copy {
	struct qd_io *io;
	int code;
	struct qd_err err;
};

static struct copy copy_to(const struct source *s, uint32_t cluster_bits, uint64_t virtual_size)
{
	struct qd_build_opts opts = { .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4 };
	struct qd_image *img = open_source(s);
	struct copy c = { .code = 0 };
	struct qd_build_stats stats;
	struct qd_build *b = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &c.io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(c.io, virtual_size, &opts, &b, NULL), 0);
	c.code = qd_bitmaps_copy(img, b, c.io, &c.err);
	if (!c.code)
		CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, virtual_size, QD_AUTOCLEAR_BITMAPS, &stats, NULL), 0);
	qd_build_free(b);
	qd_image_close(img);
	return c;
}

/* Bit number i of the table at table_off. */
static bool bit_at(const uint8_t *p, uint64_t cluster_size, uint64_t table_off, uint64_t i)
{
	uint64_t entry = qd_get_be64(p + table_off + i / 8 / cluster_size * 8);

	if (entry < 512)
		return entry == 1;
	return p[entry + i / 8 % cluster_size] >> i % 8 & 1;
}

static void check_bits(const uint8_t *p, uint64_t size, const struct bitmap *want, const struct qd_bitmap *got,
		       uint64_t virtual_size)
{
	uint64_t nbits = (virtual_size + got->granularity - 1) / got->granularity;
	uint64_t capacity = (uint64_t)got->table_entries * size * 8;
	unsigned wrong = 0;

	CU_ASSERT_EQUAL(got->table_entries, ((nbits + 7) / 8 + size - 1) / size);
	if (capacity > nbits + 100000)
		capacity = nbits + 100000;
	for (uint64_t i = 0; i < capacity; i++) {
		bool expected = i < nbits && i < want->nbits && (want->bits[i / 8] >> i % 8 & 1);

		wrong += bit_at(p, size, got->table_off, i) != expected;
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

struct check {
	const struct source *s;
	const uint8_t *p;
	uint64_t size;
	uint64_t virtual_size;
	unsigned n;
};

static int check_one(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct check *c = ctx;
	const struct bitmap *want = &c->s->b[c->n++];

	(void)err;
	CU_ASSERT_STRING_EQUAL(b->name, want->name);
	CU_ASSERT_EQUAL(b->granularity, 1ull << want->granularity_bits);
	CU_ASSERT_EQUAL(b->enabled, (want->flags & QD_BITMAP_FLAG_AUTO) != 0);
	CU_ASSERT_FALSE(b->in_use);
	check_bits(c->p, c->size, want, b, c->virtual_size);
	return 0;
}

static void copy_and_compare(const struct source *s, uint32_t cluster_bits, uint64_t virtual_size)
{
	struct check check = { .s = s, .size = 1ull << cluster_bits, .virtual_size = virtual_size };
	struct copy c = copy_to(s, cluster_bits, virtual_size);
	struct qd_image *img = NULL;
	size_t nbytes;

	CU_ASSERT_EQUAL_FATAL(c.code, 0);
	check.p = qd_io_mem_data(c.io, &nbytes);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(c.io, 0, &img, NULL), 0);
	CU_ASSERT_EQUAL(qd_bitmaps_count(img), s->n);
	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, check_one, &check, NULL), 0);
	CU_ASSERT_EQUAL(check.n, s->n);
	qd_image_close(img);
}

static void every_bit_arrives_whatever_the_cluster_sizes(void)
{
	static const uint32_t bits[] = { 9, 10, 12, 16, 21 };
	static const uint64_t sizes[] = { 16 << 20, (16 << 20) - 512, (3 << 20) + 7 * 512, 4096 * 512, 512, 100 };

	for (size_t k = 0; k < sizeof(sizes) / sizeof(sizes[0]); k++) {
		for (size_t i = 0; i < 4; i++) {
			struct source *s = new_source(sizes[k], bits[i], 7 * k + i);

			for (size_t j = 0; j < 5; j++)
				copy_and_compare(s, bits[j], sizes[k]);
			free_source(s);
		}
	}
}

/* More clusters of bits than entries of a table are held at a time, on either side. */
static void long_tables_are_taken_piece_by_piece(void)
{
	struct source *s = new_source(3ull << 29, 9, 8);

	copy_and_compare(s, 9, 3ull << 29);
	copy_and_compare(s, 16, 3ull << 29);
	free_source(s);
}

/* A snapshot that is smaller than the active layer, an existing target that is larger. */
static void they_follow_the_size_of_the_new_disk(void)
{
	for (uint32_t bits = 9; bits <= 16; bits += 7) {
		struct source *s = new_source(9 << 20, bits, bits);

		copy_and_compare(s, 9, 20 << 20);
		copy_and_compare(s, 12, (4 << 20) + 512);
		copy_and_compare(s, 16, 512);
		free_source(s);
	}
}

/* Zeros and ones cost no cluster, wherever they come from. */
static void clusters_of_one_value_are_not_stored(void)
{
	struct source *s = new_source(16 << 20, 9, 5);
	struct copy c;
	struct qd_image *img = NULL;

	s->n = 1;
	crafted_put(&s->image, 112 + 8, 4, 1);
	for (uint64_t i = 0; i < 8; i++) {
		uint64_t entry = crafted_get64(&s->image, s->b[0].table_off + i * 8);

		if (entry > 1)
			memset(s->image.bytes + entry, i % 2 ? 0xff : 0, 512);
	}
	c = copy_to(s, 9, 16 << 20);
	CU_ASSERT_EQUAL_FATAL(c.code, 0);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(c.io, 0, &img, NULL), 0);
	/* Header, the table and the directory, L1 of 512 entries, refcount block and table. */
	CU_ASSERT_EQUAL(img->file_size, (1 + 1 + 1 + 8 + 2) * 512);
	qd_image_close(img);
	free_source(s);
}

/* ---- refusals ---------------------------------------------------------------------------------- */

enum where { HEADER_EXT, ENTRY, TABLE };

struct row {
	enum where where;
	unsigned off;
	unsigned width;
	uint64_t value;
	int code;
	bool listed;		/* the list is fine, copying is not */
	const char *words;
};

static uint64_t place(const struct source *s, enum where where)
{
	return where == HEADER_EXT ? 120 : where == ENTRY ? s->b[1].entry_off : s->b[1].table_off;
}

static int ignore(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	(void)ctx, (void)b, (void)err;
	return 0;
}

static void check_row(const struct row *row)
{
	struct source *s = new_source(4 << 20, 9, 3);
	struct qd_err err = { .code = 0 };
	struct qd_image *img;
	struct copy c;
	int r;

	crafted_put(&s->image, place(s, row->where) + row->off, row->width, row->value);
	img = open_source(s);
	r = qd_bitmaps_walk(img, ignore, NULL, &err);
	c = copy_to(s, 12, 4 << 20);
	if (r != (row->listed ? 0 : row->code) || c.code != row->code || !strstr(c.err.msg, row->words)) {
		fprintf(stderr, "%d+%u: list %d \"%s\", copy %d \"%s\"\n", row->where, row->off, r, err.msg, c.code,
			c.err.msg);
		CU_FAIL("row");
	}
	CU_ASSERT_STRING_EQUAL(c.err.file, "(memory)");
	qd_io_close(c.io);
	qd_image_close(img);
	free_source(s);
}

static void refuses_what_cannot_be_true(void)
{
	static const struct row rows[] = {
		{ HEADER_EXT, 0, 4, 0, QD_E_CORRUPT, false, "count is 0" },
		{ HEADER_EXT, 0, 4, 5, QD_E_CORRUPT, false, "expected" },
		{ HEADER_EXT, 8, 8, 1 << 20, QD_E_CORRUPT, false, "past the end of the file" },
		{ HEADER_EXT, 16, 8, 1ull << 40, QD_E_CORRUPT, false, "past the end of the file" },
		{ HEADER_EXT, 16, 8, UINT64_MAX & ~511ull, QD_E_CORRUPT, false, "past the end of the file" },
		{ HEADER_EXT, 16, 8, 1025, QD_E_CORRUPT, false, "multiple" },
		{ ENTRY, 0, 8, 1ull << 40, QD_E_CORRUPT, false, "\"a name with spaces\": table of 1 entries" },
		{ ENTRY, 0, 8, 700, QD_E_CORRUPT, false, "multiple" },
		{ ENTRY, 8, 4, 2, QD_E_CORRUPT, false, "table_entries is 2, expected 1" },
		{ ENTRY, 12, 4, 8, QD_E_CORRUPT, false, "flags" },
		{ ENTRY, 16, 1, 2, QD_E_UNSUPPORTED, false, "type" },
		{ ENTRY, 17, 1, 9, QD_E_CORRUPT, false, "expected 2" },
		{ ENTRY, 17, 1, 40, QD_E_UNSUPPORTED, false, "granularity_bits is 40" },
		{ ENTRY, 18, 2, 0, QD_E_CORRUPT, false, "name_len" },
		{ ENTRY, 26, 1, 0, QD_E_CORRUPT, false, "NUL" },
		{ ENTRY, 12, 4, QD_BITMAP_FLAG_IN_USE, QD_E_UNSUPPORTED, true, "\"a name with spaces\" is inconsistent" },
		{ ENTRY, 18, 6, 13ull << 32 | 5, QD_E_UNSUPPORTED, true, "\"e with spaces\" has extra data" },
		{ TABLE, 0, 8, 2, QD_E_CORRUPT, true, "\"a name with spaces\": table entry 0: reserved" },
		{ TABLE, 0, 8, 1ull << 60, QD_E_CORRUPT, true, "reserved" },
		{ TABLE, 0, 8, 513, QD_E_CORRUPT, true, "reserved" },
		{ TABLE, 0, 8, 1ull << 50, QD_E_CORRUPT, true, "past the end of the file" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i]);
}

static void expect_walk(const struct source *s, int code, const char *words)
{
	struct qd_image *img = open_source(s);
	struct qd_err err = { .code = 0 };

	CU_ASSERT_EQUAL(qd_bitmaps_walk(img, ignore, NULL, &err), code);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, words));
	qd_image_close(img);
}

static void two_of_one_name_are_refused(void)
{
	struct source *s = new_source(1 << 20, 9, 3);

	memcpy(s->image.bytes + s->b[3].entry_off + 24, "fine ", 5);
	crafted_put(&s->image, s->b[3].entry_off + 18, 2, 4);
	expect_walk(s, QD_E_CORRUPT, "\"fine\": there are two");
	crafted_put(&s->image, s->b[3].entry_off + 18, 2, 5);
	expect_walk(s, 0, "");
	free_source(s);
}

/* A few bytes of file that speak of gigabytes of bits. */
static void what_the_file_cannot_hold_is_refused(void)
{
	struct source *s = new_source(1ull << 28, 16, 3);
	struct copy c;
	uint64_t n;

	/* In use, so that the size of the disk says nothing about it. */
	crafted_put(&s->image, s->b[0].entry_off + 12, 4, QD_BITMAP_FLAG_IN_USE);
	crafted_put(&s->image, s->b[0].entry_off + 8, 4, QD_BITMAP_MAX_DATA / 65536 + 1);
	expect_walk(s, QD_E_UNSUPPORTED, "expected at most 8192");
	free_source(s);

	/* Tables that overlap. */
	s = new_source(1 << 20, 9, 3);
	n = s->image.nbytes / 8 / 2 + 1;
	for (unsigned i = 0; i < 2; i++) {
		crafted_put(&s->image, s->b[i].entry_off, 8, 512);
		crafted_put(&s->image, s->b[i].entry_off + 12, 4, QD_BITMAP_FLAG_IN_USE);
		crafted_put(&s->image, s->b[i].entry_off + 8, 4, n);
	}
	expect_walk(s, QD_E_CORRUPT, "more bytes together than the file");
	free_source(s);

	/* One cluster over and over: four bitmaps that share a table. */
	s = new_source(128 << 20, 9, 3);
	for (uint64_t i = 0; i < 64; i++)
		crafted_put(&s->image, s->b[0].table_off + i * 8, 8, 512);
	for (unsigned i = 1; i < MAX_BITMAPS; i++) {
		crafted_put(&s->image, s->b[i].entry_off, 8, s->b[0].table_off);
		crafted_put(&s->image, s->b[i].entry_off + 8, 4, 64);
		crafted_put(&s->image, s->b[i].entry_off + 17, 1, 9);
	}
	expect_walk(s, 0, "");
	c = copy_to(s, 9, 128 << 20);
	CU_ASSERT_EQUAL(c.code, QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(c.err.msg, "more clusters than the file has"));
	qd_io_close(c.io);
	free_source(s);
}

static void version_2_cannot_hold_them(void)
{
	struct qd_build_opts opts = { .version = 2, .cluster_bits = 9, .refcount_order = 4 };
	struct source *s = new_source(1 << 20, 9, 3);
	struct qd_image *img = open_source(s);
	struct qd_build *b = NULL;
	struct qd_io *io = NULL;
	struct qd_err err;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 1 << 20, &opts, &b, NULL), 0);
	CU_ASSERT_EQUAL(qd_bitmaps_copy(img, b, io, &err), QD_E_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "compat"));
	qd_build_free(b);
	qd_io_close(io);
	qd_image_close(img);
	free_source(s);
}

CU_ErrorCode suite_bitmaps(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(lists_them_in_order),
		QD_TEST(without_the_autoclear_bit_there_are_none),
		QD_TEST(every_bit_arrives_whatever_the_cluster_sizes),
		QD_TEST(long_tables_are_taken_piece_by_piece),
		QD_TEST(they_follow_the_size_of_the_new_disk),
		QD_TEST(clusters_of_one_value_are_not_stored),
		QD_TEST(refuses_what_cannot_be_true),
		QD_TEST(two_of_one_name_are_refused),
		QD_TEST(what_the_file_cannot_hold_is_refused),
		QD_TEST(version_2_cannot_hold_them),
	};

	return QD_SUITE_ADD("bitmaps", tests);
}
