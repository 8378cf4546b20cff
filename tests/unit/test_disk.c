/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Disks and their chains against a model: every layer is an array of 512-byte units, each
 * absent, zero, plain or compressed; what a disk reads is what the topmost layer says that
 * says anything.
 */
#include "image/disk.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <zlib.h>
#include <zstd.h>

#include "base/io_mem.h"
#include "crafted.h"
#include "scratch.h"
#include "suites.h"

#define UNIT 512u
#define MAX_UNITS 1000u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

/* ---- layers -------------------------------------------------------------------------------- */

enum state { ABSENT, ZERO, PLAIN, PACKED };

struct layer {
	uint64_t nunits;
	uint64_t nbytes;	/* less than the units only at the end of a raw file */
	enum state state[MAX_UNITS];
	uint8_t content[MAX_UNITS * UNIT];
};

static void set_state(struct layer *l, uint64_t first, uint64_t n, enum state state)
{
	for (uint64_t i = first; i < first + n && i < l->nunits; i++)
		l->state[i] = state;
}

/* What does not fit the disk is cut off; a cluster may be larger than the rest of it. */
static void set_content(struct layer *l, uint64_t first, const uint8_t *data, uint64_t n)
{
	for (uint64_t i = 0; i < n && first + i < l->nunits; i++)
		memcpy(l->content + (first + i) * UNIT, data + i * UNIT, UNIT);
}

/* Repetitive, so that it compresses, and different for every seed. */
static void compressible(uint8_t *buf, uint64_t nbytes, uint64_t seed)
{
	crafted_pattern(buf, 64, seed);
	for (uint64_t i = 64; i < nbytes; i++)
		buf[i] = (uint8_t)(buf[i - 64] + (i % 191 == 0));
}

static uint64_t pack(const struct crafted_opts *o, const uint8_t *data, uint64_t nbytes, uint8_t *out)
{
	z_stream z = { .next_in = (z_const Bytef *)data, .avail_in = (uInt)nbytes, .next_out = out,
		       .avail_out = (uInt)nbytes };

	if (o->compression)
		return ZSTD_compress(out, nbytes, data, nbytes, 3);
	CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 6, Z_DEFLATED, -12, 9, Z_DEFAULT_STRATEGY), Z_OK);
	CU_ASSERT_EQUAL_FATAL(deflate(&z, Z_FINISH), Z_STREAM_END);
	deflateEnd(&z);
	return nbytes - z.avail_out;
}

/* A stream that starts anywhere in a cluster and may run into the next. */
static void add_packed(struct crafted *c, struct layer *l, uint64_t cluster, const struct crafted_opts *o,
		       uint64_t seed)
{
	uint64_t size = c->cluster_size, off = crafted_alloc(c, 2) + seed % size, nbytes, sectors;
	uint8_t *data = malloc(2 * size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(data);
	compressible(data, size, seed);
	nbytes = pack(o, data, size, data + size);
	memcpy(c->bytes + off, data + size, nbytes);
	sectors = (off + nbytes - 1) / 512 - off / 512;
	crafted_map(c, c->l1_off, cluster, 1ull << 62 | sectors << (62 - (c->cluster_bits - 8)) | off, 0);
	set_state(l, cluster * (size / UNIT), size / UNIT, PACKED);
	set_content(l, cluster * (size / UNIT), data, size / UNIT);
	free(data);
}

/* Subclusters one by one; those that are neither data nor zero are absent. */
static void add_extended(struct crafted *c, struct layer *l, uint64_t cluster, uint64_t seed)
{
	uint32_t alloc = (uint32_t)(seed >> 8), zero = (uint32_t)(seed >> 20) & ~alloc;
	uint64_t off = crafted_data(c, seed);

	crafted_map(c, c->l1_off, cluster, off | 1ull << 63, alloc | (uint64_t)zero << 32);
	for (uint64_t s = 0; s < 32; s++) {
		uint64_t i = cluster * 32 + s;

		set_state(l, i, 1, alloc >> s & 1 ? PLAIN : zero >> s & 1 ? ZERO : ABSENT);
		if (alloc >> s & 1)
			set_content(l, i, c->bytes + off + s * UNIT, 1);
	}
}

static void add_plain(struct crafted *c, struct layer *l, uint64_t cluster, uint64_t seed)
{
	uint64_t per = c->cluster_size / UNIT, off = crafted_data(c, seed);

	crafted_map(c, c->l1_off, cluster, off | 1ull << 63, 0xffffffff);
	set_state(l, cluster * per, per, PLAIN);
	set_content(l, cluster * per, c->bytes + off, per);
}

static void add_zero(struct crafted *c, struct layer *l, uint64_t cluster)
{
	crafted_map(c, c->l1_off, cluster, c->extended_l2 ? 0u : 1u, 0xffffffffull << 32);
	set_state(l, cluster * (c->cluster_size / UNIT), c->cluster_size / UNIT, ZERO);
}

static void fill_layer(struct crafted *c, struct layer *l, const struct crafted_opts *o, uint64_t seed)
{
	uint64_t nclusters = (o->virtual_size + c->cluster_size - 1) / c->cluster_size;

	l->nunits = (o->virtual_size + UNIT - 1) / UNIT;
	l->nbytes = l->nunits * UNIT;
	memset(l->state, 0, sizeof(l->state));
	memset(l->content, 0, sizeof(l->content));
	for (uint64_t k = 0; k < nclusters; k++) {
		uint64_t what = next_random(&seed) % 8, value = next_random(&seed);

		if (what < 3)
			continue;
		if (what == 3 && o->version != 2)
			add_zero(c, l, k);
		else if (what == 4)
			add_packed(c, l, k, o, value);
		else if (o->extended_l2 && what > 5)
			add_extended(c, l, k, value);
		else
			add_plain(c, l, k, value);
	}
}

static struct layer *new_layer(void)
{
	struct layer *l = calloc(1, sizeof(*l));

	CU_ASSERT_PTR_NOT_NULL_FATAL(l);
	return l;
}

static void write_image(struct scratch *s, const char *name, const struct crafted_opts *o, struct layer *l,
			uint64_t seed)
{
	struct crafted c;

	crafted_new(&c, o);
	fill_layer(&c, l, o, seed);
	scratch_file(s, name, c.bytes, c.nbytes);
	crafted_free(&c);
}

static void write_raw(struct scratch *s, const char *name, uint64_t nbytes, struct layer *l, uint64_t seed)
{
	memset(l, 0, sizeof(*l));
	l->nunits = (nbytes + UNIT - 1) / UNIT;
	l->nbytes = nbytes;
	crafted_pattern(l->content, nbytes, seed);
	set_state(l, 0, l->nunits, PLAIN);
	scratch_file(s, name, l->content, nbytes);
}

/* ---- comparing ------------------------------------------------------------------------------- */

struct chain {			/* topmost first */
	struct layer *layers[4];
	unsigned n;
};

/* A chain seen from above, byte by byte. */
struct view {
	uint64_t nbytes;
	uint8_t state[MAX_UNITS * UNIT];	/* enum state */
	uint8_t content[MAX_UNITS * UNIT];	/* zeros where the state is none of data */
	uint8_t depth[MAX_UNITS * UNIT];	/* of the layer that decides */
};

static struct view view;

static void look_at(const struct chain *c)
{
	memset(&view, 0, sizeof(view));
	view.nbytes = c->layers[0]->nunits * UNIT;
	for (uint64_t i = 0; i < view.nbytes; i++) {
		for (unsigned k = 0; k < c->n && i / UNIT < c->layers[k]->nunits; k++) {
			const struct layer *l = c->layers[k];

			view.depth[i] = (uint8_t)k;
			view.state[i] = i < l->nbytes ? (uint8_t)l->state[i / UNIT] : ZERO;
			if (view.state[i] > ZERO)
				view.content[i] = l->content[i];
			if (view.state[i] != ABSENT)
				break;
		}
	}
}

/* True when all that lies in the range is zero by metadata. */
static bool is_known_zero(uint64_t off, uint64_t nbytes)
{
	for (uint64_t i = off; i < off + nbytes && i < view.nbytes; i++)
		if (view.state[i] > ZERO)
			return false;
	return true;
}

static bool is_content(const uint8_t *got, uint64_t off, uint64_t nbytes)
{
	uint64_t inside = off < view.nbytes ? view.nbytes - off : 0;

	if (inside > nbytes)
		inside = nbytes;
	for (uint64_t i = inside; i < nbytes; i++)
		if (got[i])
			return false;
	return !inside || !memcmp(got, view.content + off, inside);
}

static void compare_reads(const struct qd_disk *disk, uint64_t seed)
{
	static uint8_t got[40000];
	struct qd_reader *reader = NULL;
	unsigned wrong = 0, zeros = 0;

	CU_ASSERT_EQUAL_FATAL(qd_reader_new(disk, &reader, NULL), 0);
	for (int n = 0; n < 1500; n++) {
		uint64_t off = next_random(&seed) % (disk->virtual_size + 3000);
		size_t nbytes = 1 + next_random(&seed) % (next_random(&seed) % 4 ? 2000 : sizeof(got));
		bool zero = false;

		memset(got, 0xee, nbytes);
		if (n % 2) {
			CU_ASSERT_EQUAL_FATAL(qd_reader_read(reader, off, nbytes, got, NULL), 0);
		} else {
			CU_ASSERT_EQUAL_FATAL(qd_reader_read_sparse(reader, off, nbytes, got, &zero, NULL), 0);
			wrong += zero != is_known_zero(off, nbytes) || (zero && got[0] != 0xee);
			if (zero)
				memset(got, 0, nbytes);
			zeros += zero;
		}
		wrong += !is_content(got, off, nbytes);
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_TRUE(zeros > 10);
	qd_reader_free(reader);
	qd_reader_free(NULL);
}

static bool run_is_right(const struct qd_disk_run *run)
{
	static const uint8_t states[] = { [QD_RUN_HOLE] = ABSENT, [QD_RUN_ZERO] = ZERO, [QD_RUN_DATA] = PLAIN,
					  [QD_RUN_COMPRESSED] = PACKED };
	static uint8_t data[MAX_UNITS * UNIT];

	for (uint64_t i = run->guest_off; i < run->guest_off + run->nbytes; i++)
		if (states[run->kind] != view.state[i] ||
		    (run->kind != QD_RUN_HOLE && run->layer->depth != view.depth[i]))
			return false;
	if (run->kind != QD_RUN_DATA)
		return true;
	CU_ASSERT_EQUAL_FATAL(qd_io_read_padded(run->layer->data_io, data, run->nbytes, run->host_off, NULL), 0);
	return is_content(data, run->guest_off, run->nbytes);
}

static void compare_runs(const struct qd_disk *disk)
{
	uint64_t pos = 0, pieces = 0;
	unsigned wrong = 0;

	while (pos < disk->virtual_size && pieces++ < 10000) {
		uint64_t max = pieces % 3 ? UINT64_MAX : 700;
		struct qd_disk_run run;

		CU_ASSERT_EQUAL_FATAL(qd_disk_next(disk, pos, max, &run, NULL), 0);
		CU_ASSERT_TRUE_FATAL(run.guest_off == pos && run.nbytes > 0 && run.nbytes <= max);
		wrong += !run_is_right(&run);
		pos += run.nbytes;
	}
	CU_ASSERT_EQUAL(pos, disk->virtual_size);
	CU_ASSERT_EQUAL(wrong, 0);
}

static void compare_next_data(const struct qd_disk *disk)
{
	unsigned wrong = 0;

	for (uint64_t off = 0; off < disk->virtual_size; off += 300) {
		uint64_t max = off % 7 ? 5000 : UINT64_MAX, start = off, end, got_off, got_nbytes;

		while (start < view.nbytes && view.state[start] <= ZERO)
			start++;
		for (end = start; end < view.nbytes && end - start < max && view.state[end] > ZERO;)
			end++;
		CU_ASSERT_EQUAL_FATAL(qd_disk_next_data(disk, off, max, &got_off, &got_nbytes, NULL), 0);
		wrong += got_off != start || got_nbytes != end - start;
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

static void compare_all(struct scratch *s, const char *name, const struct chain *c, uint64_t seed)
{
	struct qd_disk_opts opts = { .map_cache_nbytes = seed % 2 ? 1 : 0 };
	struct qd_disk *disk = NULL;
	struct qd_err err = { .code = 0 };

	if (qd_disk_open(scratch_path(s, name), &opts, &disk, &err)) {
		fprintf(stderr, "%s: %s\n", err.file, err.msg);
		CU_FAIL_FATAL("open");
	}
	look_at(c);
	CU_ASSERT_EQUAL(disk->virtual_size, view.nbytes);
	compare_reads(disk, seed);
	compare_runs(disk);
	compare_next_data(disk);
	qd_disk_close(disk);
}

/* ---- chains ---------------------------------------------------------------------------------- */

/* Backing files that are shorter, longer, and end in the middle of a sector or a cluster. */
static void chains_agree_with_the_model(void)
{
	static const struct {
		struct crafted_opts top, middle;
		uint64_t raw;
	} cases[] = {
		{ { .virtual_size = 200 * 1024 }, { .virtual_size = 150 * 1024, .cluster_bits = 12, .compression = 1 }, 100100 },
		{ { .virtual_size = 300 * 1024, .cluster_bits = 14, .extended_l2 = true },
		  { .virtual_size = 77 * 1024, .version = 2, .cluster_bits = 10 }, 200001 },
		{ { .virtual_size = 100 * 1024, .cluster_bits = 16, .compression = 1 },
		  { .virtual_size = 490 * 1024, .cluster_bits = 14, .extended_l2 = true }, 1 },
		{ { .virtual_size = 99840, .version = 2 }, { .virtual_size = 99840 - 512 }, 513 },
	};
	struct layer *top = new_layer(), *middle = new_layer(), *raw = new_layer();

	for (uint64_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct crafted_opts t = cases[i].top, m = cases[i].middle;
		struct chain c = { { top, middle, raw }, 3 };
		struct scratch s;

		scratch_open(&s);
		t.backing_name = "middle.img";
		t.backing_format = i % 2 ? "qcow2" : NULL;
		m.backing_name = "base";
		m.backing_format = "raw";
		write_raw(&s, "base", cases[i].raw, raw, i);
		write_image(&s, "middle.img", &m, middle, 2 * i + 1);
		write_image(&s, "top.img", &t, top, 3 * i + 1);
		compare_all(&s, "top.img", &c, i);
		c = (struct chain){ { middle, raw }, 2 };
		compare_all(&s, "middle.img", &c, i);
		scratch_close(&s);
	}
	free(top);
	free(middle);
	free(raw);
}

/* A size that is no whole number of sectors is rounded up, and its last sector can be walked and read. */
static void odd_sizes_are_rounded_up(void)
{
	struct layer *l = new_layer();
	struct chain c = { { l }, 1 };

	for (uint64_t size = 40000; size < 40600; size += 37) {
		struct crafted_opts o = { .virtual_size = size, .cluster_bits = 9 + (uint32_t)(size % 4) };
		struct scratch s;

		scratch_open(&s);
		write_image(&s, "odd", &o, l, size);
		compare_all(&s, "odd", &c, size);
		scratch_close(&s);
	}
	free(l);
}

static int try_open(struct scratch *s, const char *name, const struct qd_disk_opts *opts, struct qd_disk **ret_disk,
		    struct qd_err *err)
{
	static const struct qd_disk_opts plain;

	*ret_disk = NULL;
	return qd_disk_open(scratch_path(s, name), opts ? opts : &plain, ret_disk, err);
}

static void expect_refusal(struct scratch *s, const char *name, const struct qd_disk_opts *opts, int code,
			   const char *words)
{
	struct qd_err err = { .code = 0 };
	struct qd_disk *disk;
	int r = try_open(s, name, opts, &disk, &err);

	if (r != code || !strstr(err.msg, words)) {
		fprintf(stderr, "%s: %d \"%s\", expected %d \"%s\"\n", name, r, err.msg, code, words);
		CU_FAIL("refusal");
	}
	CU_ASSERT_TRUE(err.file[0]);
	qd_disk_close(disk);
}

static void write_overlay(struct scratch *s, const char *name, const char *backing, const char *format)
{
	struct crafted_opts o = { .virtual_size = 4096, .backing_name = backing, .backing_format = format };
	struct crafted c;

	crafted_new(&c, &o);
	scratch_file(s, name, c.bytes, c.nbytes);
	crafted_free(&c);
}

static void backing_names_are_relative_to_their_image(void)
{
	char absolute[200], text[16];
	struct qd_disk *disk;
	struct scratch s;

	scratch_open(&s);
	CU_ASSERT_EQUAL_FATAL(mkdir(scratch_path(&s, "sub"), 0755), 0);
	scratch_file(&s, "sub/base.raw", "found in sub", 12);
	snprintf(absolute, sizeof(absolute), "%s/sub/base.raw", s.dir);
	write_overlay(&s, "a", "sub/base.raw", "raw");
	write_overlay(&s, "sub/b", "base.raw", "raw");
	write_overlay(&s, "c", absolute, "raw");
	write_overlay(&s, "d", "file:sub/base.raw", "raw");
	write_overlay(&s, "e", "sub/b", "qcow2");
	write_overlay(&s, "sub/f", "../sub/./base.raw", NULL);
	for (const char *const *name = (const char *const[]){ "a", "sub/b", "c", "d", "e", "sub/f", NULL }; *name; name++) {
		struct qd_reader *reader = NULL;

		CU_ASSERT_EQUAL_FATAL(try_open(&s, *name, NULL, &disk, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_reader_new(disk, &reader, NULL), 0);
		CU_ASSERT_EQUAL(qd_reader_read(reader, 0, 13, text, NULL), 0);
		CU_ASSERT_STRING_EQUAL(text, "found in sub");
		CU_ASSERT_TRUE(qd_disk_uses_path(disk, absolute));
		CU_ASSERT_TRUE(qd_disk_uses_path(disk, scratch_path(&s, *name)));
		CU_ASSERT_FALSE(qd_disk_uses_path(disk, scratch_path(&s, "sub")));
		qd_reader_free(reader);
		qd_disk_close(disk);
	}
	scratch_close(&s);
}

static void chains_that_must_not_be_followed_are_refused(void)
{
	static const struct qd_disk_opts untrusted = { .untrusted = true }, alone = { .no_backing = true };
	struct qd_disk *disk;
	struct scratch s;

	scratch_open(&s);
	scratch_file(&s, "base.raw", "x", 1);
	write_overlay(&s, "ok", "base.raw", "raw");
	write_overlay(&s, "nbd", "nbd://host/export", "raw");
	write_overlay(&s, "json", "json:{\"driver\": \"file\"}", NULL);
	write_overlay(&s, "missing", "not-there", "raw");
	write_overlay(&s, "empty", "file:", "raw");
	write_overlay(&s, "vmdk", "base.raw", "vmdk");
	write_overlay(&s, "not-qcow2", "base.raw", "qcow2");
	write_overlay(&s, "self", "self", NULL);
	write_overlay(&s, "loop1", "loop2", NULL);
	write_overlay(&s, "loop2", "loop1", NULL);
	write_overlay(&s, "outer", "missing", "qcow2");
	expect_refusal(&s, "ok", &untrusted, QD_E_UNSUPPORTED, "\"base.raw\"");
	expect_refusal(&s, "nbd", NULL, QD_E_UNSUPPORTED, "nbd://host/export");
	expect_refusal(&s, "json", NULL, QD_E_UNSUPPORTED, "json:");
	expect_refusal(&s, "missing", NULL, QD_E_IO, "No such file");
	expect_refusal(&s, "empty", NULL, QD_E_CORRUPT, "empty");
	expect_refusal(&s, "vmdk", NULL, QD_E_UNSUPPORTED, "vmdk");
	expect_refusal(&s, "not-qcow2", NULL, QD_E_CORRUPT, "not a qcow2 image");
	expect_refusal(&s, "self", NULL, QD_E_CORRUPT, "loop");
	expect_refusal(&s, "loop1", NULL, QD_E_CORRUPT, "loop");
	expect_refusal(&s, "outer", NULL, QD_E_IO, "No such file");
	/* Without its backing file an image can be read all the same. */
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "nbd", &alone, &disk, NULL), 0);
	CU_ASSERT_PTR_NULL(disk->backing);
	qd_disk_close(disk);
	scratch_close(&s);
}

static void a_chain_may_have_two_hundred_files(void)
{
	struct qd_disk *disk;
	struct scratch s;
	char name[16], backing[16];

	scratch_open(&s);
	scratch_file(&s, "0", "x", 1);
	for (unsigned i = 1; i <= 201; i++) {
		snprintf(name, sizeof(name), "%u", i);
		snprintf(backing, sizeof(backing), "%u", i - 1);
		write_overlay(&s, name, backing, i == 1 ? "raw" : "qcow2");
	}
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "200", NULL, &disk, NULL), 0);
	qd_disk_close(disk);
	expect_refusal(&s, "201", NULL, QD_E_UNSUPPORTED, "deeper than 200");
	scratch_close(&s);
}

/* ---- other things a disk is made of ---------------------------------------------------------- */

static void the_content_decides_only_where_nobody_says(void)
{
	static const struct qd_disk_opts raw = { .format = "raw" }, qcow2 = { .format = "qcow2" };
	struct qd_disk *disk;
	struct scratch s;

	scratch_open(&s);
	write_overlay(&s, "image", NULL, NULL);
	scratch_file(&s, "bytes", "anything", 8);
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "image", NULL, &disk, NULL), 0);
	CU_ASSERT_TRUE(disk->is_qcow2 && disk->virtual_size == 4096);
	qd_disk_close(disk);
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "image", &raw, &disk, NULL), 0);
	CU_ASSERT_TRUE(!disk->is_qcow2 && disk->virtual_size == 3 * 512);
	qd_disk_close(disk);
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "bytes", NULL, &disk, NULL), 0);
	CU_ASSERT_TRUE(!disk->is_qcow2 && disk->virtual_size == 512);
	qd_disk_close(disk);
	expect_refusal(&s, "bytes", &qcow2, QD_E_CORRUPT, "not a qcow2 image");
	scratch_close(&s);
}

static void snapshots_are_disks_of_their_own_size(void)
{
	struct crafted_opts o = { .virtual_size = 100 * 1024 };
	struct layer *active = new_layer(), *old = new_layer();
	struct qd_disk_opts opts = { .snapshot = "old" };
	struct chain c = { { old }, 1 };
	struct qd_disk *disk;
	struct crafted image;
	struct scratch s;
	uint64_t l1;

	scratch_open(&s);
	crafted_new(&image, &o);
	fill_layer(&image, active, &o, 5);
	/* The snapshot's layer is filled through the same helpers, below another L1 table. */
	l1 = crafted_alloc(&image, 1);
	crafted_snapshot(&image, "1", "old", 33 * 1024, l1, 64);
	crafted_snapshot(&image, "2", QD_PIN_NAME, QD_PIN_DISK_SIZE, l1, 1);
	image.l1_off = l1;
	o.virtual_size = 33 * 1024;
	fill_layer(&image, old, &o, 6);
	scratch_file(&s, "image", image.bytes, image.nbytes);
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "image", &opts, &disk, NULL), 0);
	CU_ASSERT_EQUAL(disk->virtual_size, 33 * 1024);
	look_at(&c);
	compare_reads(disk, 1);
	compare_runs(disk);
	qd_disk_close(disk);
	c.layers[0] = active;
	compare_all(&s, "image", &c, 2);
	opts.snapshot = "older";
	expect_refusal(&s, "image", &opts, QD_E_INVALID, "no snapshot \"older\"");
	opts.snapshot = QD_PIN_NAME;
	expect_refusal(&s, "image", &opts, QD_E_INVALID, "pin");
	scratch_file(&s, "raw", "x", 1);
	expect_refusal(&s, "raw", &opts, QD_E_INVALID, "raw image has no snapshots");
	crafted_free(&image);
	free(active);
	free(old);
	scratch_close(&s);
}

/* The data file is shorter than the disk: what it does not have reads as zeros. */
static void data_lies_in_the_external_file(void)
{
	static const struct qd_disk_opts untrusted = { .untrusted = true };
	struct crafted_opts o = { .virtual_size = 8192, .data_file_name = "data.raw" };
	static uint8_t bytes[8192], got[8192], want[8192];
	struct qd_reader *reader = NULL;
	struct qd_disk *disk;
	struct crafted image;
	struct scratch s;

	scratch_open(&s);
	crafted_pattern(bytes, sizeof(bytes), 4);
	crafted_new(&image, &o);
	for (uint64_t k = 0; k < 16; k++)
		if (k % 3)
			crafted_map(&image, image.l1_off, k, (15 - k) * 512 | 1ull << 63, 0);
	scratch_file(&s, "image", image.bytes, image.nbytes);
	expect_refusal(&s, "image", NULL, QD_E_IO, "No such file");
	scratch_file(&s, "data.raw", bytes, 7000);
	memset(bytes + 7000, 0, sizeof(bytes) - 7000);
	expect_refusal(&s, "image", &untrusted, QD_E_UNSUPPORTED, "\"data.raw\"");
	CU_ASSERT_EQUAL_FATAL(try_open(&s, "image", NULL, &disk, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_reader_new(disk, &reader, NULL), 0);
	CU_ASSERT_EQUAL(qd_reader_read(reader, 0, sizeof(got), got, NULL), 0);
	for (uint64_t k = 0; k < 16; k++)
		if (k % 3)
			memcpy(want + k * 512, bytes + (15 - k) * 512, 512);
	CU_ASSERT_EQUAL(memcmp(got, want, sizeof(got)), 0);
	CU_ASSERT_TRUE(qd_disk_uses_path(disk, scratch_path(&s, "data.raw")));
	qd_reader_free(reader);
	qd_disk_close(disk);
	crafted_free(&image);
	scratch_close(&s);
}

static void a_data_file_without_a_name_is_refused(void)
{
	struct crafted_opts o = { .virtual_size = 8192, .incompatible = QD_INCOMPAT_DATA_FILE };
	struct crafted image;
	struct scratch s;

	scratch_open(&s);
	crafted_new(&image, &o);
	scratch_file(&s, "image", image.bytes, image.nbytes);
	expect_refusal(&s, "image", NULL, QD_E_CORRUPT, "does not name it");
	crafted_put(&image, 72, 8, 0);
	crafted_put(&image, 32, 4, QD_CRYPT_LUKS);
	scratch_file(&s, "image", image.bytes, image.nbytes);
	expect_refusal(&s, "image", NULL, QD_E_UNSUPPORTED, "LUKS");
	crafted_free(&image);
	scratch_close(&s);
}

/* No directory that a name could be relative to: nothing else is opened, and a failure leaves the io alone. */
static void an_io_is_a_disk_without_its_chain(void)
{
	struct crafted_opts o = { .virtual_size = 4096, .backing_name = "/etc/passwd", .backing_format = "raw" };
	static const struct qd_disk_opts plain, qcow2 = { .format = "qcow2" };
	struct qd_disk *disk = NULL;
	struct qd_io *io = NULL;
	struct crafted image;
	struct qd_disk_run run;

	crafted_new(&image, &o);
	io = crafted_io(&image);
	CU_ASSERT_EQUAL_FATAL(qd_disk_open_io(io, &plain, &disk, NULL), 0);
	CU_ASSERT_PTR_NULL(disk->backing);
	CU_ASSERT_EQUAL(qd_disk_next(disk, 0, 4096, &run, NULL), 0);
	CU_ASSERT_EQUAL(run.kind, QD_RUN_HOLE);
	qd_disk_close(disk);
	crafted_free(&image);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new("raw", 3, false, &io, NULL), 0);
	disk = NULL;
	CU_ASSERT_EQUAL(qd_disk_open_io(io, &qcow2, &disk, NULL), QD_E_CORRUPT);
	CU_ASSERT_PTR_NULL(disk);
	CU_ASSERT_EQUAL_FATAL(qd_disk_open_io(io, &plain, &disk, NULL), 0);
	CU_ASSERT_EQUAL(disk->virtual_size, 512);
	qd_disk_close(disk);
	qd_disk_close(NULL);
	o = (struct crafted_opts){ .virtual_size = 4096, .data_file_name = "/etc/passwd" };
	crafted_new(&image, &o);
	io = crafted_io(&image);
	CU_ASSERT_EQUAL(qd_disk_open_io(io, &plain, &disk, NULL), QD_E_UNSUPPORTED);
	qd_io_close(io);
	crafted_free(&image);
}

/* What one compressed cluster can have wrong with it harms that cluster alone. */
static void a_broken_cluster_is_named_and_its_neighbours_can_be_read(void)
{
	static const char *const words[] = { "past the end of the file", "deflate", "deflate", "deflate" };
	static const struct qd_disk_opts plain;
	struct crafted_opts o = { .virtual_size = 16384, .cluster_bits = 12 };
	struct layer *l = new_layer();

	l->nunits = 32;
	for (unsigned i = 0; i < 4; i++) {
		uint64_t entries[] = { 1ull << 62 | 1 << 30, 1ull << 62 | 4096 * 2, 1ull << 62, 1ull << 62 | 4096 * 8 };
		struct qd_reader *reader = NULL;
		struct qd_disk *disk = NULL;
		struct qd_err err = { .code = 0 };
		struct crafted image;
		uint8_t buf[4096];

		crafted_new(&image, &o);
		add_packed(&image, l, 0, &o, 1);
		add_packed(&image, l, 2, &o, 2);
		/* The start of a good stream, so that something has been decoded when it breaks. */
		crafted_alloc(&image, 1);
		memcpy(image.bytes + 4096 * 8, image.bytes + 4096 * 4 + 1, 70);
		crafted_map(&image, image.l1_off, 1, entries[i], 0);
		CU_ASSERT_EQUAL_FATAL(qd_disk_open_io(crafted_io(&image), &plain, &disk, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_reader_new(disk, &reader, NULL), 0);
		for (uint64_t k = 0; k < 9; k++) {
			uint64_t off = k % 3 * 4096 + 100;
			int r = qd_reader_read(reader, off, 3000, buf, &err);

			CU_ASSERT_EQUAL(r, k % 3 == 1 ? QD_E_CORRUPT : 0);
			if (k % 3 != 1)
				CU_ASSERT_EQUAL(memcmp(buf, l->content + off, 3000), 0);
			/* The one that was good before is good after. */
			CU_ASSERT_EQUAL(qd_reader_read(reader, 5, 7, buf, NULL), 0);
			CU_ASSERT_EQUAL(memcmp(buf, l->content + 5, 7), 0);
		}
		CU_ASSERT_EQUAL(qd_reader_read(reader, 3000, 4000, buf, &err), QD_E_CORRUPT);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "guest offset 0x1000"));
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, words[i]));
		qd_reader_free(reader);
		qd_disk_close(disk);
		crafted_free(&image);
	}
	free(l);
}

CU_ErrorCode suite_disk(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(chains_agree_with_the_model),
		QD_TEST(odd_sizes_are_rounded_up),
		QD_TEST(backing_names_are_relative_to_their_image),
		QD_TEST(chains_that_must_not_be_followed_are_refused),
		QD_TEST(a_chain_may_have_two_hundred_files),
		QD_TEST(the_content_decides_only_where_nobody_says),
		QD_TEST(snapshots_are_disks_of_their_own_size),
		QD_TEST(data_lies_in_the_external_file),
		QD_TEST(a_data_file_without_a_name_is_refused),
		QD_TEST(an_io_is_a_disk_without_its_chain),
		QD_TEST(a_broken_cluster_is_named_and_its_neighbours_can_be_read),
	};

	return QD_SUITE_ADD("disk", tests);
}
