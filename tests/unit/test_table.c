/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Tables made and read back, against a plain array of the last record of each entry; in
 * every order, in much and in little memory; and damaged byte by byte.
 */
#include "dedup/table.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "dedup/table_int.h"
#include "format/entry.h"
#include "scratch.h"
#include "suites.h"

#define SMALL 1u		/* bytes of memory: a batch is as small as batches get */
#define LARGE (64u << 20)

static const struct qd_geom *geom(void)
{
	static struct qd_geom g;
	struct qd_header h = { .version = 3, .cluster_bits = 16, .refcount_order = 4 };

	qd_geom_init(&h, &g);
	return &g;
}

/* Record number i of a world in which every third is compressed, two to a host cluster. */
static struct qd_record record_of(uint64_t i, uint32_t version)
{
	uint64_t place = (i / 3 * 2 + 5) << 16;
	struct qd_record r = { .guest = i * 7 + version, .flags = (uint8_t)(i % 5 == 0 ? QD_RECORD_FULL : 0) };

	r.entry = i % 3 == 0 ? place + 65536 : qd_l2_make_compressed(geom(), place + i % 3 * 20000, 9000);
	for (unsigned k = 0; k < 16; k++)
		r.hash[k] = (uint8_t)(i * 31 + i / 256 * 3 + k + version * 5);
	return r;
}

struct made {
	struct qd_table_ext ext;
	struct qd_io *io;
	uint64_t off;
	uint64_t nbytes;
};

static struct qd_table_maker *maker_of(const char *digest, uint64_t memory, const char *dir)
{
	struct qd_table_maker *m = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_table_maker_new(geom(), qd_digest_find(digest), memory, dir, &m, NULL), 0);
	return m;
}

static void add(struct qd_table_maker *m, uint64_t i, uint32_t version)
{
	struct qd_record r = record_of(i, version);

	CU_ASSERT_EQUAL_FATAL(qd_table_maker_add(m, &r, NULL), 0);
}

/* Finishes, writes at byte off of a new io, frees the maker. */
static struct made finish(struct qd_table_maker *m, uint64_t off)
{
	struct made t = { .off = off };
	struct qd_err err;

	t.ext = (struct qd_table_ext){ .container_off = off, .pin_id = 1 };
	CU_ASSERT_EQUAL_FATAL(qd_table_maker_finish(m, 4, &t.ext, &t.nbytes, &err), 0);
	t.ext.container_nbytes = qd_align_up(t.nbytes, geom()->cluster_size);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &t.io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_table_maker_write(m, t.io, off, &err), 0);
	qd_table_maker_free(m);
	return t;
}

static struct qd_table *open_table(const struct made *t)
{
	struct qd_table *table = NULL;
	struct qd_err err = { .code = 0 };

	CU_ASSERT_EQUAL_FATAL(qd_table_open(t->io, t->off, &t->ext, geom(), &table, &err), 0);
	return table;
}

static bool same_record(const struct qd_record *a, const struct qd_record *b)
{
	return a->entry == b->entry && a->guest == b->guest && a->flags == b->flags && !memcmp(a->hash, b->hash, 32);
}

struct walked {
	const struct qd_record *model;
	uint64_t n;
	uint64_t wrong;
};

static int on_record(void *ctx, uint64_t n, const struct qd_record *record, struct qd_err *err)
{
	struct walked *w = ctx;

	(void)err;
	w->wrong += n != w->n || !same_record(record, &w->model[n]);
	w->n++;
	return 0;
}

static int compare_records(const void *pa, const void *pb)
{
	const struct qd_record *a = pa, *b = pb;

	return qd_table_key_compare(qd_table_key_of(geom(), a->entry), qd_table_key_of(geom(), b->entry));
}

/* model: the records that should be in it, in any order; gets sorted. */
/* Is qd_table_lower right about the record's own host offset and the byte behind it? */
static bool is_first_at(struct qd_table *table, const struct qd_record *model, uint64_t i, uint64_t n)
{
	uint64_t off = qd_record_host_off(geom(), model[i].entry), first = i, behind = i + 1, got = UINT64_MAX;

	while (first > 0 && qd_record_host_off(geom(), model[first - 1].entry) == off)
		first--;
	while (behind < n && qd_record_host_off(geom(), model[behind].entry) == off)
		behind++;
	if (qd_table_lower(table, off, &got, NULL) || got != first)
		return false;
	return qd_table_lower(table, off + 1, &got, NULL) == 0 && got == behind;
}

static void check_table(const struct made *t, struct qd_record *model, uint64_t n)
{
	struct qd_table *table = open_table(t);
	struct walked w = { .model = model };
	struct qd_record r;
	uint64_t bad = 1, wrong = 0;

	qsort(model, (size_t)n, sizeof(*model), compare_records);
	CU_ASSERT_EQUAL(qd_table_nrecords(table), n);
	CU_ASSERT_EQUAL(qd_table_walk(table, on_record, &w, NULL), 0);
	CU_ASSERT_EQUAL(w.n, n);
	CU_ASSERT_EQUAL(w.wrong, 0);
	for (uint64_t i = 0; i < n; i++) {
		wrong += qd_table_find(table, model[i].entry, &r, NULL) != 1 || !same_record(&r, &model[i]);
		wrong += qd_table_get(table, i, &r, NULL) != 0 || !same_record(&r, &model[i]);
		wrong += qd_table_find(table, model[i].entry + 512, &r, NULL) != 0;
		wrong += !is_first_at(table, model, i, n);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(qd_table_get(table, n, &r, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(qd_table_find(table, 0, &r, NULL), 0);
	CU_ASSERT_EQUAL(qd_table_check(table, NULL, NULL, &bad, NULL), 0);
	CU_ASSERT_EQUAL(bad, 0);
	qd_table_close(table);
}

enum order { IN_ORDER, BACKWARDS, SHUFFLED, TWICE };

static uint64_t nth(enum order order, uint64_t i, uint64_t n)
{
	if (order == BACKWARDS)
		return n - 1 - i;
	return order == IN_ORDER ? i : i * 10007 % n;	/* n is no multiple of the prime 10007 */
}

static struct made make(enum order order, uint64_t n, uint64_t memory, const char *dir)
{
	struct qd_table_maker *m = maker_of("xxh128", memory, dir);

	for (uint64_t i = 0; order == TWICE && i < n; i++)
		add(m, nth(SHUFFLED, i, n), 1);
	for (uint64_t i = 0; i < n; i++)
		add(m, nth(order, i, n), 0);
	return finish(m, 65536);
}

static void holds_what_was_added_in_any_order_and_memory(void)
{
	static const uint64_t counts[] = { 0, 1, 2, 2182, 2183, 2184, 9000 };
	struct qd_record *model = calloc(9000, sizeof(*model));
	struct scratch s;

	scratch_open(&s);
	for (size_t k = 0; k < sizeof(counts) / sizeof(counts[0]); k++) {
		uint64_t n = counts[k];
		struct made first = make(IN_ORDER, n, LARGE, "/nonexistent/of qdedup");
		size_t first_nbytes, nbytes;

		for (uint64_t i = 0; i < n; i++)
			model[i] = record_of(i, 0);
		check_table(&first, model, n);
		qd_io_mem_data(first.io, &first_nbytes);
		CU_ASSERT_EQUAL(first_nbytes, 65536 + first.nbytes);
		for (unsigned v = 0; v < 8; v++) {
			struct made t = make(v % 4, n, v / 4 ? LARGE : SMALL, s.dir);

			CU_ASSERT_EQUAL(memcmp(&t.ext, &first.ext, sizeof(t.ext)), 0);
			CU_ASSERT_EQUAL(memcmp(qd_io_mem_data(t.io, &nbytes), qd_io_mem_data(first.io, &first_nbytes),
					       first_nbytes), 0);
			CU_ASSERT_EQUAL(nbytes, first_nbytes);
			qd_io_close(t.io);
		}
		qd_io_close(first.io);
	}
	CU_ASSERT_EQUAL(scratch_count(&s), 0);
	scratch_close(&s);
	free(model);
}

static void the_last_of_equal_entries_counts(void)
{
	static const uint64_t memories[] = { SMALL, LARGE };
	struct qd_record *model = calloc(5000, sizeof(*model));

	for (unsigned k = 0; k < 2; k++) {
		struct qd_table_maker *m = maker_of("xxh128", memories[k], NULL);
		struct made t;

		for (uint64_t i = 0; i < 5000; i++) {
			add(m, i, 0);
			if (i % 10 == 0)	/* at once */
				add(m, i, 1);
		}
		for (uint64_t i = 3; i < 5000; i += 100)
			add(m, i, 2);
		for (uint64_t i = 3; i < 5000; i += 1000)
			add(m, i, 3);
		t = finish(m, 0);
		for (uint64_t i = 0; i < 5000; i++)
			model[i] = record_of(i, i % 1000 == 3 ? 3 : i % 100 == 3 ? 2 : i % 10 == 0);
		check_table(&t, model, 5000);
		qd_io_close(t.io);
	}
	free(model);
}

static void long_hashes_are_kept_whole(void)
{
	struct qd_table_maker *m = maker_of("sha256", SMALL, NULL);
	struct qd_record model[40];
	struct made t;

	for (uint64_t i = 0; i < 40; i++) {
		model[i] = record_of(i, 0);
		for (unsigned k = 16; k < 32; k++)
			model[i].hash[k] = (uint8_t)(i + k);
		CU_ASSERT_EQUAL_FATAL(qd_table_maker_add(m, &model[i], NULL), 0);
	}
	t = finish(m, 512);
	CU_ASSERT_EQUAL(t.ext.digest_id, 2);
	CU_ASSERT_EQUAL(t.ext.digest_nbytes, 32);
	check_table(&t, model, 40);
	qd_io_close(t.io);
}

static void tables_of_other_records_have_another_identity(void)
{
	struct made a = make(IN_ORDER, 100, LARGE, NULL), b = make(IN_ORDER, 101, LARGE, NULL);

	CU_ASSERT_TRUE(a.ext.identity_hi != b.ext.identity_hi && a.ext.identity_lo != b.ext.identity_lo);
	qd_io_close(a.io);
	qd_io_close(b.io);
}

/* --- damage --- */

static struct qd_io *copy_of(const struct made *t)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(t->io, &nbytes);
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(data, nbytes, true, &io, NULL), 0);
	return io;
}

static uint64_t bad_blocks(struct made *t, struct qd_io *io)
{
	struct made copy = *t;
	struct qd_table *table = NULL;
	uint64_t bad = UINT64_MAX;

	copy.io = io;
	if (qd_table_open(io, t->off, &copy.ext, geom(), &table, NULL) == 0)
		CU_ASSERT_EQUAL(qd_table_check(table, NULL, NULL, &bad, NULL), 0);
	qd_table_close(table);
	return bad;
}

/* UINT64_MAX: the directory is refused. */
static void every_changed_byte_is_found_where_it_is(void)
{
	struct made t = make(IN_ORDER, 2183 + 100, LARGE, NULL);
	uint64_t first = qd_table_block_off(t.ext.dir_nbytes, 0), wrong = 0;
	struct qd_io *io = copy_of(&t);
	uint8_t byte, changed;

	CU_ASSERT_EQUAL(bad_blocks(&t, io), 0);
	for (uint64_t at = 0; at < t.nbytes; at += at < 1024 || at > t.nbytes - 600 ? 1 : 331) {
		uint64_t expected = at < first ? UINT64_MAX : 1;

		CU_ASSERT_EQUAL_FATAL(qd_io_read(io, &byte, 1, t.off + at, NULL), 0);
		changed = byte ^ 0x40;
		CU_ASSERT_EQUAL_FATAL(qd_io_write(io, &changed, 1, t.off + at, NULL), 0);
		wrong += bad_blocks(&t, io) != expected;
		CU_ASSERT_EQUAL_FATAL(qd_io_write(io, &byte, 1, t.off + at, NULL), 0);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	qd_io_close(io);
	qd_io_close(t.io);
}

static void a_bad_block_gives_no_record_and_the_others_do(void)
{
	struct made t = make(IN_ORDER, 3 * 2183, LARGE, NULL);
	struct qd_table *table = open_table(&t);
	struct qd_record r;
	uint8_t noise[16] = { 1, 2, 3 };
	struct qd_err err;
	uint64_t n;

	CU_ASSERT_EQUAL(qd_io_write(t.io, noise, sizeof(noise), t.off + qd_table_block_off(t.ext.dir_nbytes, 1) + 700, NULL), 0);
	for (n = 0; n < 3 * 2183; n += 97)
		CU_ASSERT_EQUAL(qd_table_get(table, n, &r, &err), n / 2183 == 1 ? QD_E_CORRUPT : 0);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "block 1"));
	qd_table_close(table);
	qd_io_close(t.io);
}

static void tables_of_another_generation_are_refused(void)
{
	struct qd_table_maker *m = maker_of("xxh128", LARGE, NULL);
	struct made old, new = { .off = 0 };
	struct qd_table *table = NULL;

	for (uint64_t i = 0; i < 50; i++)
		add(m, i, 0);
	new.ext.pin_id = 1;
	CU_ASSERT_EQUAL(qd_table_maker_finish(m, 9, &new.ext, &new.nbytes, NULL), 0);
	old = finish(m, 0);
	CU_ASSERT_EQUAL(new.nbytes, old.nbytes);
	CU_ASSERT_EQUAL(new.ext.identity_lo, old.ext.identity_lo);
	CU_ASSERT_EQUAL(qd_table_open(old.io, 0, &new.ext, geom(), &table, NULL), QD_E_CORRUPT);
	qd_io_close(old.io);
}

static void what_the_extension_gets_wrong_is_refused(void)
{
	struct made t = make(IN_ORDER, 50, LARGE, NULL), bad;
	struct qd_table *table = NULL;
	struct qd_geom other = *geom();

	bad = t;
	bad.ext.digest_id = 99;
	CU_ASSERT_EQUAL(qd_table_open(t.io, t.off, &bad.ext, geom(), &table, NULL), QD_E_UNSUPPORTED);
	bad = t;
	bad.ext.digest_id = 2;
	CU_ASSERT_EQUAL(qd_table_open(t.io, t.off, &bad.ext, geom(), &table, NULL), QD_E_CORRUPT);
	bad = t;
	bad.ext.container_nbytes = 1024;
	CU_ASSERT_EQUAL(qd_table_open(t.io, t.off, &bad.ext, geom(), &table, NULL), QD_E_CORRUPT);
	other.cluster_bits = 12;
	CU_ASSERT_EQUAL(qd_table_open(t.io, t.off, &t.ext, &other, &table, NULL), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_table_open(t.io, t.off + 512, &t.ext, geom(), &table, NULL), QD_E_CORRUPT);
	CU_ASSERT_PTR_NULL(table);
	qd_io_close(t.io);
}

/* Checksums right all along the chain, records wrong: what a hostile image would bring. */
static void crafted_records_are_refused(void)
{
	static const struct { unsigned at; uint8_t byte; } cases[] = {
		{ QD_TABLE_BLOCK_HEADER + 8, 0x80 },	/* a flag that nobody knows */
		{ QD_TABLE_BLOCK_HEADER, 0x80 },	/* COPIED */
		{ QD_TABLE_BLOCK_HEADER + 5, 0xff },	/* out of order */
		{ 511, 1 },				/* behind the last record */
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct made t = make(IN_ORDER, 3, LARGE, NULL);
		uint64_t block_at = t.off + 512;
		uint8_t block[512], dir[64];

		CU_ASSERT_EQUAL(qd_io_read(t.io, block, sizeof(block), block_at, NULL), 0);
		CU_ASSERT_EQUAL(qd_io_read(t.io, dir, sizeof(dir), t.off, NULL), 0);
		block[cases[i].at] |= cases[i].byte;
		qd_put_be32(block + 4, qd_table_crc(block, sizeof(block)));
		memcpy(dir + 48 + 8, block + 4, 4);
		qd_put_be32(dir + 4, qd_table_crc(dir, sizeof(dir)));
		t.ext.dir_crc = qd_crc32c(QD_CRC32C_SEED, dir, sizeof(dir));
		CU_ASSERT_EQUAL(qd_io_write(t.io, block, sizeof(block), block_at, NULL), 0);
		CU_ASSERT_EQUAL(qd_io_write(t.io, dir, sizeof(dir), t.off, NULL), 0);
		CU_ASSERT_EQUAL(bad_blocks(&t, t.io), 1);
		qd_io_close(t.io);
	}
}

static void a_directory_is_needed_only_over_budget(void)
{
	struct qd_table_maker *m = maker_of("xxh128", SMALL, "/nonexistent/of qdedup");
	struct qd_err err;
	int r = 0;

	for (uint64_t i = 0; !r && i < 100000; i++) {
		struct qd_record rec = record_of(i, 0);

		r = qd_table_maker_add(m, &rec, &err);
	}
	CU_ASSERT_EQUAL(r, QD_E_IO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "/nonexistent/of qdedup"));
	qd_table_maker_free(m);
	qd_table_maker_free(NULL);
	qd_table_close(NULL);
}

CU_ErrorCode suite_table(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(holds_what_was_added_in_any_order_and_memory),
		QD_TEST(the_last_of_equal_entries_counts),
		QD_TEST(long_hashes_are_kept_whole),
		QD_TEST(tables_of_other_records_have_another_identity),
		QD_TEST(every_changed_byte_is_found_where_it_is),
		QD_TEST(a_bad_block_gives_no_record_and_the_others_do),
		QD_TEST(tables_of_another_generation_are_refused),
		QD_TEST(what_the_extension_gets_wrong_is_refused),
		QD_TEST(crafted_records_are_refused),
		QD_TEST(a_directory_is_needed_only_over_budget),
	};

	return QD_SUITE_ADD("table", tests);
}
