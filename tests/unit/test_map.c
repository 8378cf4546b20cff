/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The cluster map against a model that knows for every 512 bytes of the disk what they
 * are and where they lie: 512 bytes are a cluster of one image and a subcluster of the
 * other.
 */
#include "image/map.h"

#include <CUnit/CUnit.h>
#include <errno.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "crafted.h"
#include "suites.h"

#define UNIT 512u
#define MAX_UNITS 32768u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

struct unit {
	enum qd_map_kind kind;
	uint64_t host_off;
	uint64_t entry;
};

struct model {
	struct crafted image;
	struct qd_image *img;
	struct qd_map *map;
	uint64_t nunits;
	uint64_t units_per_cluster;
	uint64_t units_per_table;
	struct unit units[MAX_UNITS];
};

static struct model *new_model(bool extended_l2, uint64_t nunits)
{
	struct model *m = calloc(1, sizeof(*m));
	uint32_t bits = extended_l2 ? 14 : 9;

	CU_ASSERT_PTR_NOT_NULL_FATAL(m);
	crafted_new(&m->image, &(struct crafted_opts){ .virtual_size = nunits * UNIT, .cluster_bits = bits,
						       .extended_l2 = extended_l2 });
	m->nunits = nunits;
	m->units_per_cluster = m->image.cluster_size / UNIT;
	m->units_per_table = m->image.cluster_size / (extended_l2 ? 16 : 8) * m->units_per_cluster;
	return m;
}

static void open_model(struct model *m, uint64_t cache_nbytes)
{
	struct qd_io *io = crafted_io(&m->image);

	CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &m->img, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_map_new(m->img, m->img->l1, m->img->header.l1_entries, m->nunits * UNIT, cache_nbytes,
					 &m->map, NULL), 0);
}

static void free_model(struct model *m)
{
	qd_map_free(m->map);
	qd_image_close(m->img);
	crafted_free(&m->image);
	free(m);
}

static void set_units(struct model *m, uint64_t cluster, struct unit u, uint64_t alloc, uint64_t zero)
{
	for (uint64_t s = 0; s < m->units_per_cluster; s++) {
		uint64_t i = cluster * m->units_per_cluster + s;

		if (i >= m->nunits)
			return;
		m->units[i] = u;
		if (u.kind == QD_MAP_COMPRESSED)
			continue;
		if (m->image.extended_l2)
			m->units[i].kind = zero >> s & 1 ? QD_MAP_ZERO : alloc >> s & 1 ? QD_MAP_DATA : QD_MAP_UNALLOCATED;
		if (u.host_off)
			m->units[i].host_off = u.host_off + s * UNIT;
	}
}

static uint64_t random_bits(uint64_t *seed)
{
	/* Runs of equal bits are likelier than noise. */
	uint64_t v = next_random(seed) & 0xffffffff;

	switch (next_random(seed) % 4) {
	case 0:
		return 0;
	case 1:
		return 0xffffffff;
	case 2:
		return v & (v << 1) & (v << 2) & 0xffffffff;
	default:
		return (0xffffffffu << (v % 32)) & 0xffffffff;
	}
}

/* One guest cluster of a random kind; host clusters are contiguous more often than not. */
static void add_cluster(struct model *m, uint64_t cluster, uint64_t *seed)
{
	uint64_t what = next_random(seed) % 12, alloc = random_bits(seed), zero = random_bits(seed) & ~alloc, entry;
	struct unit u = { .kind = QD_MAP_UNALLOCATED };
	bool extended = m->image.extended_l2;

	/* On both sides of a boundary between tables, what could go on. */
	if ((cluster + 1) % (m->units_per_table / m->units_per_cluster) <= 1 && next_random(seed) % 2)
		what = 6;
	if (what < 3)
		return;
	if (what == 3) {
		u.kind = QD_MAP_COMPRESSED;
		u.entry = 1ull << 62 | next_random(seed) % 10000;
		crafted_map(&m->image, m->image.l1_off, cluster, u.entry, 0);
		set_units(m, cluster, u, 0, 0);
		return;
	}
	if (what == 4)
		crafted_alloc(&m->image, 1);	/* a gap */
	if (what == 5) {			/* zeros without a place */
		alloc = 0;
		u.kind = QD_MAP_ZERO;
		entry = extended ? 0 : 1;
	} else {
		u.host_off = crafted_alloc(&m->image, 1);
		u.kind = what == 6 ? QD_MAP_ZERO : QD_MAP_DATA;
		entry = u.host_off | (what % 2 ? 1ull << 63 : 0) | (what == 6 && !extended ? 1u : 0);
	}
	u.entry = entry;
	crafted_map(&m->image, m->image.l1_off, cluster, entry, alloc | zero << 32);
	set_units(m, cluster, u, alloc, zero);
}

/* With the tables first, clusters are contiguous across the boundaries of tables too. */
static void fill(struct model *m, uint64_t seed)
{
	uint64_t nclusters = (m->nunits + m->units_per_cluster - 1) / m->units_per_cluster;

	for (uint64_t c = 0; seed % 2 && c < nclusters; c += m->units_per_table / m->units_per_cluster)
		crafted_map(&m->image, m->image.l1_off, c, 0, 0);
	for (uint64_t c = 0; c < nclusters; c++) {
		/* Now and then a long stretch of nothing, tables included. */
		if (next_random(&seed) % 100 == 0)
			c += next_random(&seed) % 300;
		if (c < nclusters)
			add_cluster(m, c, &seed);
	}
}

/* Does unit i continue the run that unit `first` begins? */
static bool continues(const struct model *m, uint64_t first, uint64_t i)
{
	const struct unit *a = &m->units[first], *b = &m->units[i];

	if (a->kind != b->kind)
		return false;
	if (a->kind == QD_MAP_COMPRESSED)
		return i / m->units_per_cluster == first / m->units_per_cluster;
	if (!a->host_off || !b->host_off)
		return a->host_off == b->host_off;
	/* What has a place ends with its table. */
	return b->host_off == a->host_off + (i - first) * UNIT && i / m->units_per_table == first / m->units_per_table;
}

static bool is_right(struct model *m, uint64_t off, uint64_t max, struct qd_err *err)
{
	uint64_t first = off / UNIT, end = first + 1, disk = m->nunits * UNIT, limit;
	const struct unit *u = &m->units[first];
	struct qd_map_run run;

	if (qd_map_get(m->map, off, max, &run, err))
		return false;
	while (end < m->nunits && continues(m, first, end))
		end++;
	limit = max < disk - off ? off + max : disk;
	if (end * UNIT < limit)
		limit = end * UNIT;
	return run.kind == u->kind && run.guest_off == off && run.nbytes == limit - off &&
	       run.host_off == (u->host_off ? u->host_off + off % UNIT : 0) && run.entry == u->entry;
}

static void compare(struct model *m, uint64_t count, uint64_t seed)
{
	unsigned wrong = 0;

	for (uint64_t n = 0; n < count; n++) {
		uint64_t off = next_random(&seed) % (m->nunits * UNIT);
		uint64_t max = next_random(&seed) % 3 ? UINT64_MAX : 1 + next_random(&seed) % 100000;
		struct qd_err err = { .code = 0 };

		if (next_random(&seed) % 2)
			off -= off % UNIT;
		if (!is_right(m, off, max, &err) && wrong++ < 5)
			fprintf(stderr, "offset 0x%llx: %s\n", (unsigned long long)off, err.msg);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void plain_tables_agree_with_the_model(void)
{
	for (uint64_t seed = 1; seed <= 6; seed++) {
		struct model *m = new_model(false, 5000 + seed);

		fill(m, seed);
		open_model(m, seed % 2 ? 0 : 1 << 20);
		compare(m, 5000, seed);
		free_model(m);
	}
}

static void extended_tables_agree_with_the_model(void)
{
	for (uint64_t seed = 1; seed <= 3; seed++) {
		struct model *m = new_model(true, 20000 + seed);

		fill(m, seed);
		open_model(m, 1 << 16);
		compare(m, 5000, seed);
		free_model(m);
	}
}

/* Both kinds of tables have runs that end at the boundary of a table and others that cross it. */
static void runs_cross_tables_only_where_nothing_has_a_place(void)
{
	struct model *m = new_model(false, 256);	/* 4 tables of 64 */
	struct qd_map_run run;

	for (uint64_t c = 0; c < 128; c++) {
		struct unit u = { .kind = c < 100 ? QD_MAP_DATA : QD_MAP_ZERO };

		/* The tables come first, so that the clusters are contiguous throughout. */
		crafted_map(&m->image, m->image.l1_off, c, 1, 0);
		set_units(m, c, u, 0, 0);
	}
	for (uint64_t c = 0; c < 100; c++)
		crafted_map(&m->image, m->image.l1_off, c, crafted_alloc(&m->image, 1), 0);
	open_model(m, 0);
	CU_ASSERT_EQUAL(qd_map_get(m->map, 0, UINT64_MAX, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_DATA && run.nbytes == 64 * UNIT);
	CU_ASSERT_EQUAL(qd_map_get(m->map, run.nbytes, UINT64_MAX, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_DATA && run.nbytes == 36 * UNIT);
	CU_ASSERT_EQUAL(qd_map_get(m->map, 100 * UNIT, UINT64_MAX, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_ZERO && run.nbytes == 28 * UNIT);
	CU_ASSERT_EQUAL(qd_map_get(m->map, 128 * UNIT, UINT64_MAX, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_UNALLOCATED && run.nbytes == 128 * UNIT);
	free_model(m);
}

/* Eight exabytes less a sector: one call, whatever the L1 table covers. */
static void an_empty_disk_of_any_size_is_one_run(void)
{
	struct model *m = new_model(false, 1024);
	const uint64_t size = INT64_MAX - 511;
	struct qd_map *map = NULL;
	struct qd_map_run run;

	open_model(m, 0);
	for (uint32_t entries = 0; entries <= 16; entries += 8) {
		CU_ASSERT_EQUAL_FATAL(qd_map_new(m->img, m->img->l1, entries, size, 0, &map, NULL), 0);
		CU_ASSERT_EQUAL(qd_map_get(map, 0, UINT64_MAX, &run, NULL), 0);
		CU_ASSERT_TRUE(run.kind == QD_MAP_UNALLOCATED && run.nbytes == size);
		CU_ASSERT_EQUAL(qd_map_get(map, size - 1, UINT64_MAX, &run, NULL), 0);
		CU_ASSERT_TRUE(run.kind == QD_MAP_UNALLOCATED && run.nbytes == 1);
		qd_map_free(map);
	}
	qd_map_free(NULL);
	free_model(m);
}

/* A table of 128 KiB is held in two pieces. */
static void tables_larger_than_a_piece_are_one_map(void)
{
	static const struct {
		uint64_t first, n;	/* clusters */
		enum qd_map_kind kind;
	} rows[] = {
		{ 0, 8190, QD_MAP_UNALLOCATED }, { 8190, 2, QD_MAP_DATA }, { 8192, 2, QD_MAP_DATA },
		{ 8194, 11806, QD_MAP_UNALLOCATED }, { 20000, 1, QD_MAP_DATA }, { 20001, 9999, QD_MAP_UNALLOCATED },
		{ 30000, 1, QD_MAP_ZERO }, { 30001, 10959, QD_MAP_UNALLOCATED },
	};
	struct crafted c;
	struct qd_image *img = NULL;
	struct qd_map *map = NULL;
	struct qd_map_run run;
	uint64_t data;

	crafted_new(&c, &(struct crafted_opts){ .virtual_size = 5ull << 30, .cluster_bits = 17 });
	data = crafted_alloc(&c, 5);
	for (uint64_t i = 0; i < 4; i++)
		crafted_map(&c, c.l1_off, 8190 + i, (data + (i << 17)) | 1ull << 63, 0);
	crafted_map(&c, c.l1_off, 20000, (data + (4ull << 17)) | 1ull << 63, 0);
	crafted_map(&c, c.l1_off, 30000, 1, 0);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(crafted_io(&c), 0, &img, NULL), 0);
	for (uint64_t cache = 0; cache <= 4 << 20; cache += 1 << 20) {
		CU_ASSERT_EQUAL_FATAL(qd_map_new(img, img->l1, img->header.l1_entries, 5ull << 30, cache, &map, NULL), 0);
		for (unsigned pass = 0; pass < 2; pass++)
			for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
				CU_ASSERT_EQUAL(qd_map_get(map, rows[i].first << 17, UINT64_MAX, &run, NULL), 0);
				CU_ASSERT_TRUE(run.kind == rows[i].kind && run.nbytes == rows[i].n << 17);
				if (run.kind == QD_MAP_DATA)
					CU_ASSERT_EQUAL(run.host_off, i == 4 ? data + (4ull << 17) :
									       data + ((rows[i].first - 8190) << 17));
			}
		qd_map_free(map);
	}
	qd_image_close(img);
	crafted_free(&c);
}

/* ---- threads ----------------------------------------------------------------------------- */

#define NTHREADS 12

struct reader {
	struct model *m;
	uint64_t seed;
	unsigned wrong;
};

static void *read_at_random(void *arg)
{
	struct reader *r = arg;

	for (int n = 0; n < 1500; n++) {
		uint64_t off = next_random(&r->seed) % (r->m->nunits * UNIT);

		r->wrong += !is_right(r->m, off, UINT64_MAX, NULL);
	}
	return NULL;
}

/* With room for next to no table, so that they push each other's out. */
static void threads_share_a_small_cache(void)
{
	struct model *m = new_model(false, 20000);
	struct reader readers[NTHREADS];
	pthread_t threads[NTHREADS];

	fill(m, 9);
	open_model(m, 0);
	for (unsigned i = 0; i < NTHREADS; i++) {
		readers[i] = (struct reader){ .m = m, .seed = i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, read_at_random, &readers[i]), 0);
	}
	for (unsigned i = 0; i < NTHREADS; i++) {
		pthread_join(threads[i], NULL);
		CU_ASSERT_EQUAL(readers[i].wrong, 0);
	}
	free_model(m);
}

/* ---- refusals ------------------------------------------------------------------------------ */

struct row {
	uint64_t entry;
	uint64_t bitmap;
	const char *words;	/* NULL: accepted */
};

/* The file ends `cut` bytes before its last cluster does. */
static void check_row_cut(const struct row *row, const struct crafted_opts *opts, uint64_t cut)
{
	struct qd_err err = { .code = 0 };
	struct qd_image *img = NULL;
	struct qd_map *map = NULL;
	struct qd_map_run run;
	struct crafted c;
	struct qd_io *io;
	int r;

	crafted_new(&c, opts);
	crafted_map(&c, c.l1_off, 1, row->entry, row->bitmap);
	crafted_put(&c, crafted_alloc(&c, 4), 1, 1);
	c.nbytes -= cut;
	io = crafted_io(&c);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &img, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_map_new(img, img->l1, img->header.l1_entries, opts->virtual_size, 0, &map, NULL), 0);
	r = qd_map_get(map, c.cluster_size, UINT64_MAX, &run, &err);
	if (r != (row->words ? QD_E_CORRUPT : 0) || (row->words && !strstr(err.msg, row->words))) {
		fprintf(stderr, "entry 0x%llx: %d \"%s\"\n", (unsigned long long)row->entry, r, err.msg);
		CU_FAIL("row");
	}
	/* The neighbour is not harmed. */
	CU_ASSERT_EQUAL(qd_map_get(map, 0, c.cluster_size, &run, NULL), 0);
	qd_map_free(map);
	qd_image_close(img);
	crafted_free(&c);
}

static void check_row(const struct row *row, const struct crafted_opts *opts)
{
	check_row_cut(row, opts, 0);
	check_row_cut(row, opts, 100);
	check_row_cut(row, opts, 511);
}

/* Clusters: 0 header, 1 refcount table, 2 L1, 3 L2, 4..7 data. */
static void refuses_plain_entries_that_cannot_be_true(void)
{
	static const struct row rows[] = {
		{ 4 * 512, 0, NULL },
		{ 7 * 512 | 1ull << 63, 0, NULL },
		{ 8 * 512, 0, "past the end of the file" },
		{ 0x00fffffffffffe00, 0, "past the end of the file" },
		{ 4 * 512 | 2, 0, "reserved bits" },
		{ 4 * 512 | 1ull << 56, 0, "reserved bits" },
		{ 1ull << 61, 0, "reserved bits" },
		{ 4 * 512 | 1, 0, NULL },
	};
	static const struct row v2[] = { { 4 * 512, 0, NULL }, { 4 * 512 | 1, 0, "reserved bits" } };
	static const struct row k4[] = { { 16384, 0, NULL }, { 16384 + 512, 0, "multiple of the cluster size" } };

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i], &(struct crafted_opts){ .virtual_size = 4096 });
	for (size_t i = 0; i < 2; i++) {
		check_row(&v2[i], &(struct crafted_opts){ .virtual_size = 4096, .version = 2 });
		check_row(&k4[i], &(struct crafted_opts){ .virtual_size = 65536, .cluster_bits = 12 });
	}
}

static void refuses_extended_entries_that_cannot_be_true(void)
{
	static const struct row rows[] = {
		{ 65536, 0xffffffff, NULL },
		{ 65536, 0xffff0000 | 0xffffull << 32, NULL },
		{ 65536, 1 | 1ull << 32, "invalid subcluster bitmap" },
		{ 0, 1, "invalid subcluster bitmap" },
		{ 0, 0xffffffffull << 32, NULL },
		{ 65536 | 1, 0xffffffff, "reserved bits" },
		{ 8 * 16384, 0xffffffff, "past the end of the file" },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++)
		check_row(&rows[i], &(struct crafted_opts){ .virtual_size = 1 << 20, .cluster_bits = 14, .extended_l2 = true });
}

static void refuses_tables_that_cannot_be_there(void)
{
	static const uint64_t entries[] = { 8 * 512, 0x00fffffffffffe00, 3 * 512 | 2, 3 * 512 | 1ull << 58, 4 * 4096 + 512 };

	for (size_t i = 0; i < sizeof(entries) / sizeof(entries[0]); i++) {
		bool unaligned = i == 4;
		struct crafted_opts o = { .virtual_size = 1 << 20, .cluster_bits = unaligned ? 12 : 9 };
		struct qd_err err = { .code = 0 };
		struct qd_image *img = NULL;
		struct qd_map *map = NULL;
		struct qd_map_run run;
		struct crafted c;

		crafted_new(&c, &o);
		crafted_map(&c, c.l1_off, 0, 0, 0);
		crafted_alloc(&c, unaligned ? 4 : 1);
		crafted_put(&c, c.l1_off, 8, entries[i]);
		CU_ASSERT_EQUAL_FATAL(qd_image_open(crafted_io(&c), 0, &img, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_map_new(img, img->l1, img->header.l1_entries, 1 << 20, 0, &map, NULL), 0);
		CU_ASSERT_EQUAL(qd_map_get(map, 0, 1, &run, &err), QD_E_CORRUPT);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "L1 entry 0"));
		/* Twice: what could not be loaded is not in the cache either. */
		CU_ASSERT_EQUAL(qd_map_get(map, 0, 1, &run, NULL), QD_E_CORRUPT);
		qd_map_free(map);
		qd_image_close(img);
		crafted_free(&c);
	}
}

/* ---- a file that cannot be read ------------------------------------------------------------ */

struct failing {			/* memory that fails while `fail` is set, having written over the buffer */
	struct qd_io io;
	struct qd_io *memory;
	bool fail;
};

static ssize_t failing_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct failing *f = (struct failing *)(void *)io;

	if (!f->fail)
		return f->memory->ops->pread(f->memory, buf, nbytes, off);
	memset(buf, 0, nbytes);
	return -EIO;
}

static int failing_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct failing *f = (struct failing *)(void *)io;

	return f->memory->ops->size(f->memory, ret_nbytes);
}

static void failing_close(struct qd_io *io)
{
	qd_io_close(((struct failing *)(void *)io)->memory);
}

/* A table that could not be read must not be taken for the one that was in its place. */
static void a_failed_read_leaves_nothing_in_the_cache(void)
{
	static const struct qd_io_ops ops = { .pread = failing_pread, .size = failing_size, .close = failing_close };
	struct model *m = new_model(false, 64 * 200);
	struct failing f = { .io = { .ops = &ops, .name = (char[]){ "failing" }, .align = 1 } };
	const uint64_t table = 64 * UNIT;
	struct qd_map_run run;
	struct qd_err err;

	fill(m, 5);
	f.memory = crafted_io(&m->image);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(&f.io, 0, &m->img, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_map_new(m->img, m->img->l1, m->img->header.l1_entries, m->nunits * UNIT, 0, &m->map, NULL),
			      0);
	/* However many tables there is room for: the one used longest ago makes room, and is asked for next. */
	for (uint64_t stride = 1; stride <= 2; stride++) {
		for (uint64_t others = 1; others < 40; others++) {
			for (uint64_t i = 0; i < others; i++)
				CU_ASSERT_EQUAL(qd_map_get(m->map, i * stride * table, 1, &run, NULL), 0);
			f.fail = true;
			CU_ASSERT_EQUAL(qd_map_get(m->map, (100 + others) * table, 1, &run, &err), QD_E_IO);
			f.fail = false;
			for (uint64_t i = 0; i < others; i++)
				CU_ASSERT_TRUE(is_right(m, i * stride * table, UINT64_MAX, NULL));
		}
	}
	compare(m, 5000, 99);
	free_model(m);
}

/* In an external data file every offset is good, 0 too, and it may be shorter than what was written last. */
static void data_files_are_judged_by_their_own_size(void)
{
	struct crafted_opts o = { .virtual_size = 4096, .data_file_name = "data" };
	struct qd_image *img = NULL;
	struct qd_map *map = NULL;
	struct qd_map_run run;
	struct crafted c;

	crafted_new(&c, &o);
	crafted_map(&c, c.l1_off, 0, 1ull << 63, 0);
	crafted_map(&c, c.l1_off, 1, 1ull << 63 | 1 << 20, 0);
	crafted_map(&c, c.l1_off, 2, 0, 0);
	crafted_map(&c, c.l1_off, 7, 1ull << 62 | 512, 0);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(crafted_io(&c), 0, &img, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_map_new(img, img->l1, img->header.l1_entries, 4096, 0, &map, NULL), 0);
	qd_map_set_data_size(map, 512);
	CU_ASSERT_EQUAL(qd_map_get(map, 0, 4096, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_DATA && run.host_off == 0 && run.nbytes == 512);
	CU_ASSERT_EQUAL(qd_map_get(map, 512, 4096, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_DATA && run.host_off == 1 << 20 && run.nbytes == 512);
	CU_ASSERT_EQUAL(qd_map_get(map, 1024, 2560, &run, NULL), 0);
	CU_ASSERT_TRUE(run.kind == QD_MAP_UNALLOCATED && run.nbytes == 2560);
	/* QEMU refuses a compressed cluster there as well. */
	CU_ASSERT_EQUAL(qd_map_get(map, 3584, 512, &run, NULL), QD_E_CORRUPT);
	qd_map_free(map);
	qd_image_close(img);
	crafted_free(&c);
}

CU_ErrorCode suite_map(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(plain_tables_agree_with_the_model),
		QD_TEST(extended_tables_agree_with_the_model),
		QD_TEST(runs_cross_tables_only_where_nothing_has_a_place),
		QD_TEST(an_empty_disk_of_any_size_is_one_run),
		QD_TEST(tables_larger_than_a_piece_are_one_map),
		QD_TEST(threads_share_a_small_cache),
		QD_TEST(refuses_plain_entries_that_cannot_be_true),
		QD_TEST(refuses_extended_entries_that_cannot_be_true),
		QD_TEST(refuses_tables_that_cannot_be_there),
		QD_TEST(a_failed_read_leaves_nothing_in_the_cache),
		QD_TEST(data_files_are_judged_by_their_own_size),
	};

	return QD_SUITE_ADD("map", tests);
}
