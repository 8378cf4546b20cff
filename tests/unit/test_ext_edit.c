/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Editing header extensions: random edits against a model, and every file a crash can leave. */
#include "image/ext_edit.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "recorder.h"
#include "suites.h"

#define NTYPES 5
#define MAX_DATA 900u

struct thing {			/* an extension of the model */
	bool there;
	size_t nbytes;
	uint8_t data[MAX_DATA];
};

struct model {
	struct thing ext[NTYPES];
	char name[400];		/* backing file; "" none */
};

static const uint32_t types[NTYPES] = { QD_EXT_QDEDUP, QD_EXT_BACKING_FORMAT, QD_EXT_BITMAPS, 0x11223344,
				       0x55667788 };

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static void fill(struct thing *t, size_t nbytes, uint64_t *seed)
{
	t->there = true;
	t->nbytes = nbytes;
	for (size_t i = 0; i < nbytes; i++)
		t->data[i] = (uint8_t)next_random(seed);
}

/* ---- files ---- */

static struct qd_io *make_file(const struct model *m, uint32_t cluster_bits)
{
	struct qd_header h = { .version = 3, .cluster_bits = cluster_bits, .virtual_size = 1u << 20,
			       .refcount_order = 4, .header_length = QD_HEADER_FULL_SIZE };
	size_t size = (size_t)1 << cluster_bits, pos = QD_HEADER_FULL_SIZE;
	uint8_t *buf = calloc(1, size);
	struct qd_io *io = NULL;

	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	for (unsigned i = 0; i < NTYPES; i++)
		if (m->ext[i].there)
			CU_ASSERT_EQUAL_FATAL(qd_header_ext_append(buf, size, &pos, types[i], m->ext[i].data,
								   m->ext[i].nbytes, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_header_ext_append(buf, size, &pos, QD_EXT_END, NULL, 0, NULL), 0);
	if (m->name[0]) {
		h.backing_name_off = pos;
		h.backing_name_len = (uint32_t)strlen(m->name);
		CU_ASSERT_TRUE_FATAL(pos + h.backing_name_len <= size);
		memcpy(buf + pos, m->name, h.backing_name_len);
	}
	qd_header_encode(&h, buf);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(buf, size, true, &io, NULL), 0);
	free(buf);
	return io;
}

/* What the editor needs of an open image. */
static void open_file(struct qd_io *io, uint32_t cluster_bits, struct qd_image *ret_img)
{
	uint8_t start[QD_HEADER_FULL_SIZE];

	memset(ret_img, 0, sizeof(*ret_img));
	CU_ASSERT_EQUAL_FATAL(qd_io_read(io, start, sizeof(start), 0, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_header_decode_raw(start, sizeof(start), &ret_img->header, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(ret_img->header.cluster_bits, cluster_bits);
	qd_geom_init(&ret_img->header, &ret_img->geom);
	ret_img->io = io;
}

/* True when t is what the file says of the type: the first one counts. */
static bool says(const uint8_t *buf, const struct qd_header *h, uint32_t type, const struct thing *t,
		 unsigned *ret_n)
{
	size_t pos = h->header_length, end = h->backing_name_off ? h->backing_name_off : (size_t)1 << h->cluster_bits;
	struct qd_header_ext ext, first = { .type = 0 };
	int rc;

	*ret_n = 0;
	while ((rc = qd_header_ext_next(buf, end, &pos, &ext, NULL)) == 1)
		if (ext.type == type && ++*ret_n == 1)
			first = ext;
	CU_ASSERT_EQUAL(rc, 0);
	if (!t->there)
		return *ret_n == 0;
	return *ret_n > 0 && first.nbytes == t->nbytes && !memcmp(first.data, t->data, t->nbytes);
}

/* The file says before or after of type `changed`, and the same as both of all others. */
static unsigned judge(struct qd_io *io, uint32_t cluster_bits, const struct model *before,
		      const struct model *after,
		      unsigned changed, bool done)
{
	size_t size = (size_t)1 << cluster_bits;
	uint8_t *buf = malloc(size);
	struct qd_image img;
	unsigned bad = 0, n;

	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	open_file(io, cluster_bits, &img);
	CU_ASSERT_EQUAL_FATAL(qd_io_read(io, buf, size, 0, NULL), 0);
	for (unsigned i = 0; i < NTYPES; i++) {
		bool is_after = says(buf, &img.header, types[i], &after->ext[i], &n);

		bad += !is_after && !(i == changed && !done &&
				      says(buf, &img.header, types[i], &before->ext[i], &n));
		bad += n > (i == changed && !done ? 2u : 1u);
	}
	bad += img.header.backing_name_len != strlen(before->name);
	bad += img.header.backing_name_off + img.header.backing_name_len > size;
	if (before->name[0] && !bad)
		bad += memcmp(buf + img.header.backing_name_off, before->name, strlen(before->name)) != 0;
	free(buf);
	return bad;
}

/* ---- edits ---- */

static int edit(struct qd_io *io, uint32_t cluster_bits, bool dry, uint32_t type, const struct thing *t)
{
	struct qd_ext_edit *e = NULL;
	struct qd_queue *q = NULL;
	struct qd_image img;
	int rc;

	open_file(io, cluster_bits, &img);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_ext_edit_open(&img, dry ? NULL : q, &e, NULL), 0);
	rc = t->there ? qd_ext_edit_set(e, type, t->data, t->nbytes, NULL) :
			qd_ext_edit_remove(e, type, NULL);
	CU_ASSERT_TRUE(rc || qd_queue_flush(q, NULL) == 0);
	qd_ext_edit_free(e);
	qd_queue_free(q);
	return rc;
}

/* One edit and all its crashes; the file as it is afterwards is returned. */
static struct qd_io *step(struct qd_io *io, uint32_t cluster_bits, struct model *m, unsigned which,
			  const struct thing *t, unsigned *done, unsigned *refused)
{
	struct model before = *m;
	struct recorder *rec = NULL;
	struct qd_io *now = NULL;
	struct crash c;
	unsigned bad = 0;
	int dry, rc;

	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &rec, NULL), 0);
	dry = edit(recorder_io(rec), cluster_bits, true, types[which], t);
	CU_ASSERT_EQUAL(recorder_nops(rec), 0);
	rc = edit(recorder_io(rec), cluster_bits, false, types[which], t);
	CU_ASSERT_EQUAL(dry, rc);
	CU_ASSERT_TRUE(rc == 0 || rc == QD_E_UNSUPPORTED);
	++*(rc ? refused : done);
	CU_ASSERT_TRUE(rc == 0 || recorder_nops(rec) == 0);
	if (rc == 0)
		m->ext[which] = *t;
	for (size_t i = 0; recorder_plan(rec, 3, 11, i, &c); i++) {
		struct qd_io *state = NULL;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(rec, &c, &state, NULL), 0);
		bad += judge(state, cluster_bits, &before, m, which, false);
		qd_io_close(state);
	}
	bad += judge(recorder_io(rec), cluster_bits, &before, m, which, true);
	CU_ASSERT_EQUAL(bad, 0);
	c = (struct crash){ .nops = recorder_nops(rec), .kind = CRASH_ALL };
	CU_ASSERT_EQUAL_FATAL(recorder_crash(rec, &c, &now, NULL), 0);
	recorder_free(rec);
	return now;
}

static void every_crash_leaves_the_old_or_the_new(void)
{
	unsigned done = 0, refused = 0;

	for (uint32_t bits = 9; bits <= 13; bits++)
		for (uint64_t round = 0; round < 6; round++) {
			uint64_t seed = bits * 100 + round;
			struct model m = { .name = "" };
			struct qd_io *io;

			if (round & 1)
				memset(m.name, 'n', bits == 9 ? 40 : 60 * round);
			if (round & 2)
				fill(&m.ext[1], 5, &seed);
			if (round & 4)
				fill(&m.ext[3], bits == 9 ? 24 : 300, &seed);
			io = make_file(&m, bits);
			for (unsigned i = 0; i < 40; i++) {
				unsigned which = (unsigned)next_random(&seed) % NTYPES;
				struct thing t = { .there = false };

				if (next_random(&seed) % 4)
					fill(&t, which == 0 ? 112 : next_random(&seed) % (i % 3 ? 200 : 900),
					     &seed);
				io = step(io, bits, &m, which, &t, &done, &refused);
			}
			qd_io_close(io);
		}
	CU_ASSERT_TRUE(done > 500);
	CU_ASSERT_TRUE(refused > 20);
}

/* Same length: one write of the data alone, wherever the extension lies. */
static void data_is_replaced_by_one_write(void)
{
	for (size_t before = 0; before < 500; before += 8) {
		struct model m = { .name = "" };
		struct recorder *rec = NULL;
		struct thing t;
		uint64_t seed = before;

		fill(&m.ext[3], before, &seed);
		fill(&t, 112, &seed);
		CU_ASSERT_EQUAL_FATAL(recorder_new(make_file(&m, 12), &rec, NULL), 0);
		CU_ASSERT_EQUAL(edit(recorder_io(rec), 12, false, QD_EXT_QDEDUP, &t), 0);
		for (unsigned i = 0; i < 3; i++) {
			size_t nops = recorder_nops(rec);

			fill(&t, 112, &seed);
			CU_ASSERT_EQUAL(edit(recorder_io(rec), 12, false, QD_EXT_QDEDUP, &t), 0);
			CU_ASSERT_EQUAL(recorder_nops(rec) - nops, 2);	/* and the flush */
		}
		recorder_free(rec);
	}
}

static void features_get_and_lose_a_name(void)
{
	struct model m = { .name = "backing" };
	uint8_t rows[MAX_DATA], buf[4096];
	size_t n = qd_feature_names_encode(0, rows, sizeof(rows));
	struct qd_ext_edit *e = NULL;
	struct qd_queue *q = NULL;
	struct qd_image img;
	struct qd_io *io;

	m.ext[3].there = true;
	io = make_file(&m, 12);
	open_file(io, 12, &img);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_ext_edit_open(&img, q, &e, NULL), 0);
	CU_ASSERT_EQUAL(qd_ext_edit_set(e, QD_EXT_FEATURE_NAMES, rows, n, NULL), 0);
	for (unsigned i = 0; i < 2; i++)
		CU_ASSERT_EQUAL(qd_ext_edit_name_autoclear(e, 48, "qdedup index", NULL), 0);
	CU_ASSERT_EQUAL(qd_ext_edit_autoclear(e, 1ull << 48, 1, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_flush(q, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, sizeof(buf), 0, NULL), 0);
	CU_ASSERT_EQUAL(qd_get_be64(buf + QD_HEADER_OFF_AUTOCLEAR), 1ull << 48);
	CU_ASSERT_PTR_NOT_NULL(memmem(buf, sizeof(buf), "\2\x30qdedup index", 14));
	CU_ASSERT_EQUAL(qd_ext_edit_unname_autoclear(e, 48, NULL), 0);
	qd_ext_edit_free(e);
	CU_ASSERT_EQUAL(qd_queue_flush(q, NULL), 0);
	open_file(io, 12, &img);
	CU_ASSERT_EQUAL_FATAL(qd_ext_edit_open(&img, q, &e, NULL), 0);
	CU_ASSERT_EQUAL(qd_ext_edit_remove(e, QD_EXT_FEATURE_NAMES, NULL), 0);
	qd_ext_edit_free(e);
	qd_queue_free(q);
	qd_io_close(io);
}

CU_ErrorCode suite_ext_edit(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_crash_leaves_the_old_or_the_new),
		QD_TEST(data_is_replaced_by_one_write),
		QD_TEST(features_get_and_lose_a_name),
	};

	return QD_SUITE_ADD("ext_edit", tests);
}
