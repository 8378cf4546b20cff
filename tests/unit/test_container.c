/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The state of an image's container: images of the builder with an index of a few
 * records, then one thing changed at a time.
 */
#include "dedup/container.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "dedup/pin_bits.h"
#include "dedup/pinned.h"
#include "format/entry.h"
#include "image/build.h"
#include "scratch.h"
#include "suites.h"

#define CLUSTER 4096u
#define EXT_OFF (QD_HEADER_FULL_SIZE + 8)	/* the extension's data: it comes first */
#define NRECORDS 300u

struct made {
	uint8_t *bytes;
	size_t nbytes;
	struct qd_table_ext ext;
	uint8_t *index;			/* the external file, or NULL */
	size_t index_nbytes;
};

static void add_clusters(struct qd_build *b, struct qd_table_maker *m)
{
	bool full;

	for (uint64_t i = 0; i < NRECORDS; i++) {
		struct qd_record r = { .guest = i, .hash = { (uint8_t)i, (uint8_t)(i >> 8), 1 } };

		CU_ASSERT_EQUAL_FATAL(qd_build_add_data(b, i, &r.entry, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_table_maker_add(m, &r, NULL), 0);
	}
	for (uint64_t i = 0; i < 50; i++)
		CU_ASSERT_EQUAL_FATAL(qd_build_share(b, NRECORDS + i, i * 2, &full, NULL), 0);
}

static void write_index(struct made *m, struct qd_build *b, struct qd_table_maker *maker, struct qd_io *io, bool external)
{
	struct qd_io *to = io;
	uint8_t head[QD_EXTERNAL_HEAD] = QD_EXTERNAL_MAGIC;
	uint64_t nbytes = 0, off = QD_EXTERNAL_HEAD, size = qd_build_geom(b)->cluster_size;

	CU_ASSERT_EQUAL_FATAL(qd_table_maker_finish(maker, 5, &m->ext, &nbytes, NULL), 0);
	m->ext.container_nbytes = qd_align_up(nbytes, size);
	if (external) {
		m->ext.flags = QD_TABLE_EXTERNAL;
		CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &to, NULL), 0);
		qd_table_ext_encode(&m->ext, head + 8);
		CU_ASSERT_EQUAL_FATAL(qd_io_write(to, head, sizeof(head), 0, NULL), 0);
	} else {
		m->ext.pin_id = QD_BUILD_PIN_ID;
		CU_ASSERT_EQUAL_FATAL(qd_build_add_pinned(b, m->ext.container_nbytes / size, &m->ext.container_off, NULL), 0);
		off = m->ext.container_off;
	}
	CU_ASSERT_EQUAL_FATAL(qd_table_maker_write(maker, to, off, NULL), 0);
	if (external) {
		const uint8_t *data;

		CU_ASSERT_EQUAL_FATAL(qd_io_truncate(to, off + m->ext.container_nbytes, NULL), 0);
		data = qd_io_mem_data(to, &m->index_nbytes);
		m->index = malloc(m->index_nbytes);
		memcpy(m->index, data, m->index_nbytes);
		qd_io_close(to);
	}
}

static struct made make(bool external, bool extended_l2)
{
	struct qd_build_opts opts = { .version = 3, .cluster_bits = extended_l2 ? 14 : 12, .refcount_order = 4, .pin = true,
				      .extended_l2 = extended_l2, .memory = 1 << 20 };
	struct qd_build_stats stats;
	struct made m = { 0 };
	struct qd_table_maker *maker = NULL;
	struct qd_build *b = NULL;
	struct qd_io *io = NULL;
	uint8_t ext[QD_TABLE_EXT_SIZE];
	const uint8_t *data;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 1 << 23, &opts, &b, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_table_maker_new(qd_build_geom(b), qd_digest_find("xxh128"), 1 << 20, NULL, &maker, NULL), 0);
	add_clusters(b, maker);
	write_index(&m, b, maker, io, external);
	qd_table_ext_encode(&m.ext, ext);
	CU_ASSERT_EQUAL_FATAL(qd_build_add_ext(b, QD_EXT_QDEDUP, ext, sizeof(ext), NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, 1 << 23, QD_AUTOCLEAR_INDEX, &stats, NULL), 0);
	data = qd_io_mem_data(io, &m.nbytes);
	m.bytes = malloc(m.nbytes);
	memcpy(m.bytes, data, m.nbytes);
	qd_table_maker_free(maker);
	qd_build_free(b);
	qd_io_close(io);
	return m;
}

static void discard(struct made *m)
{
	free(m->bytes);
	free(m->index);
}

static struct qd_image *open_image(const struct made *m)
{
	struct qd_image *img = NULL;
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(m->bytes, m->nbytes, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &img, NULL), 0);
	return img;
}

/* The state; *ret_why gets the reason. */
static enum qd_container_state state_of(const struct made *m, const char *path, char why[200])
{
	struct qd_image *img = open_image(m);
	struct qd_container *c = NULL;
	enum qd_container_state state;

	CU_ASSERT_EQUAL_FATAL(qd_container_open(img, path, false, &c, NULL), 0);
	state = c->state;
	if (why)
		memcpy(why, c->why, 200);
	CU_ASSERT_EQUAL(c->opened, c->table != NULL);
	CU_ASSERT_TRUE(c->table == NULL || state == QD_CONTAINER_VALID || state == QD_CONTAINER_PARTIAL);
	qd_container_close(c);
	qd_image_close(img);
	return state;
}

static void fresh_image_is_valid(void)
{
	struct made m = make(false, false);
	struct qd_image *img = open_image(&m);
	struct qd_container *c = NULL;
	struct qd_record r;

	CU_ASSERT_EQUAL_FATAL(qd_container_open(img, NULL, false, &c, NULL), 0);
	CU_ASSERT_EQUAL(c->state, QD_CONTAINER_VALID);
	CU_ASSERT_FALSE(c->external);
	CU_ASSERT_EQUAL(c->ext.generation, 5);
	CU_ASSERT_EQUAL_FATAL(qd_table_nrecords(c->table), NRECORDS);
	CU_ASSERT_EQUAL(qd_table_get(c->table, 7, &r, NULL), 0);
	CU_ASSERT_EQUAL(r.guest, 7);
	qd_container_close(c);
	qd_image_close(img);
	discard(&m);
}

static void cleared_bit_makes_it_partial(void)
{
	struct made m = make(false, false);

	memset(m.bytes + QD_HEADER_OFF_AUTOCLEAR, 0, 8);
	CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_PARTIAL);
	discard(&m);
}

static void no_extension_or_no_pin_is_absent(void)
{
	struct made m = make(false, false);

	memset(m.bytes + QD_HEADER_OFF_SNAPSHOT_COUNT, 0, 12);
	CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_ABSENT);
	discard(&m);
	m = make(false, false);
	qd_put_be32(m.bytes + EXT_OFF - 8, 0x12345678);
	CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_ABSENT);
	discard(&m);
}

static void any_changed_bit_of_the_extension_is_stale(void)
{
	struct made m = make(false, false);

	for (size_t i = 0; i < QD_TABLE_EXT_SIZE; i++) {
		m.bytes[EXT_OFF + i] ^= (uint8_t)(1u << i % 8);
		CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_STALE);
		m.bytes[EXT_OFF + i] ^= (uint8_t)(1u << i % 8);
	}
	CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_VALID);
	discard(&m);
}

static void set_ext(struct made *m)
{
	qd_table_ext_encode(&m->ext, m->bytes + EXT_OFF);
}

/* The checksum is right: whoever wrote it knew how. */
static void container_elsewhere_is_stale(void)
{
	struct made m = make(false, false);
	char why[200];

	m.ext.container_off += CLUSTER;
	set_ext(&m);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "pin does not reference"));
	m.ext.container_off = CLUSTER;
	set_ext(&m);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	m.ext.container_off = 1ull << 40;
	set_ext(&m);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "past the end"));
	discard(&m);
	m = make(false, false);
	m.ext.pin_id = 2;
	set_ext(&m);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "another one"));
	discard(&m);
	m = make(false, false);
	m.ext.cluster_bits = 11;
	set_ext(&m);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "cluster size"));
	discard(&m);
}

static uint8_t *refcount_of(struct made *m, uint64_t cluster)
{
	uint64_t table = qd_get_be64(m->bytes + QD_HEADER_OFF_REFTABLE_OFF);
	uint64_t block = qd_get_be64(m->bytes + table + cluster / (CLUSTER / 2) * 8);

	return m->bytes + block + cluster % (CLUSTER / 2) * 2;
}

static void another_refcount_is_stale(void)
{
	struct made m = make(false, false);
	uint64_t last = (m.ext.container_off + m.ext.container_nbytes) / CLUSTER - 1;
	char why[200];

	CU_ASSERT_EQUAL(qd_get_be16(refcount_of(&m, last)), 1);
	qd_put_be16(refcount_of(&m, last), 2);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "refcount"));
	discard(&m);
}

/* The byte of the pin's slot that names this cluster. */
static uint8_t *slot_of(struct made *m, uint64_t host_off)
{
	struct qd_image *img = open_image(m);
	const struct qd_snapshot *pin = qd_image_find_pin(img);
	uint64_t l2 = qd_entry_host_off(qd_get_be64(m->bytes + pin->l1_off));
	uint8_t *slot = NULL;

	for (uint64_t i = 0; i < CLUSTER / 8; i++)
		if (qd_get_be64(m->bytes + l2 + i * 8) == host_off)
			slot = m->bytes + l2 + i * 8;
	qd_image_close(img);
	CU_ASSERT_PTR_NOT_NULL_FATAL(slot);
	return slot;
}

static void slots_of_the_pin_are_counted(void)
{
	struct made m = make(false, false);
	char why[200];

	qd_put_be64(slot_of(&m, m.ext.container_off + CLUSTER), 0);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "all of its clusters"));
	discard(&m);
	m = make(false, false);
	qd_put_be64(slot_of(&m, m.ext.container_off + CLUSTER), m.ext.container_off);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "twice"));
	discard(&m);
}

static void damaged_directory_is_stale(void)
{
	struct made m = make(false, false);

	for (uint64_t i = 0; i < m.ext.dir_nbytes; i++) {
		m.bytes[m.ext.container_off + i] ^= 1;
		CU_ASSERT_EQUAL(state_of(&m, NULL, NULL), QD_CONTAINER_STALE);
		m.bytes[m.ext.container_off + i] ^= 1;
	}
	discard(&m);
}

static void external_one_is_opened_by_name_only(void)
{
	struct made m = make(true, false);
	struct scratch s;
	char why[200];

	scratch_open(&s);
	CU_ASSERT_EQUAL(state_of(&m, NULL, why), QD_CONTAINER_VALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "--index"));
	CU_ASSERT_EQUAL(state_of(&m, scratch_path(&s, "nothing"), why), QD_CONTAINER_VALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "there is no file"));
	CU_ASSERT_EQUAL(state_of(&m, scratch_file(&s, "good", m.index, m.index_nbytes), why), QD_CONTAINER_VALID);
	CU_ASSERT_STRING_EQUAL(why, "");
	CU_ASSERT_EQUAL(state_of(&m, scratch_file(&s, "short", m.index, m.index_nbytes - 1), why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "too short"));
	m.index[QD_EXTERNAL_HEAD - 1] = 1;
	CU_ASSERT_EQUAL(state_of(&m, scratch_file(&s, "tail", m.index, m.index_nbytes), why), QD_CONTAINER_STALE);
	m.index[QD_EXTERNAL_HEAD - 1] = 0;
	m.index[8 + 31]++;	/* another generation */
	CU_ASSERT_EQUAL(state_of(&m, scratch_file(&s, "other", m.index, m.index_nbytes), why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "another image"));
	m.index[0] = 'q';
	CU_ASSERT_EQUAL(state_of(&m, scratch_file(&s, "magic", m.index, m.index_nbytes), why), QD_CONTAINER_STALE);
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "not an index"));
	scratch_close(&s);
	discard(&m);
}

/* --- the set of pinned entries --- */

static int count_slot(void *ctx, uint64_t entry, struct qd_err *err)
{
	(void)err;
	(void)entry;
	++*(uint64_t *)ctx;
	return 0;
}

/* In one batch, in several. */
static void check_bits(const struct qd_image *img, const struct qd_container *c, uint64_t memory)
{
	struct qd_pin_bits *bits = NULL;
	uint64_t told = 0;

	CU_ASSERT_EQUAL_FATAL(qd_pin_bits_load(img, c, memory, count_slot, &told, &bits, NULL), 0);
	CU_ASSERT_EQUAL(told, 50);
	for (uint64_t i = 0; i < NRECORDS; i++)
		CU_ASSERT_EQUAL(qd_pin_bits_has(bits, i), i < 100 && i % 2 == 0);
	qd_pin_bits_free(bits);
	qd_pin_bits_free(NULL);
}

static void pinned_clusters_are_known(void)
{
	for (unsigned extended = 0; extended < 2; extended++) {
		struct made m = make(false, extended);
		struct qd_image *img = open_image(&m);
		struct qd_pinned *p = NULL;
		struct qd_container *c = NULL;
		uint64_t slots = 0, bad = 1;
		struct qd_record r;

		CU_ASSERT_EQUAL_FATAL(qd_container_open(img, NULL, false, &c, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(c->state, QD_CONTAINER_VALID);
		CU_ASSERT_EQUAL_FATAL(qd_pinned_load(img, &c->ext, 1 << 20, &p, NULL), 0);
		CU_ASSERT_EQUAL(qd_pinned_count(p), 50);
		for (uint64_t i = 0; i < NRECORDS; i++) {
			CU_ASSERT_EQUAL(qd_table_get(c->table, i, &r, NULL), 0);
			CU_ASSERT_EQUAL(qd_pinned_has(p, r.entry), i < 100 && i % 2 == 0);
			CU_ASSERT_EQUAL(qd_pinned_has(p, r.entry | QD_COPIED), i < 100 && i % 2 == 0);
		}
		CU_ASSERT_FALSE(qd_pinned_has(p, m.ext.container_off));
		CU_ASSERT_EQUAL(qd_pinned_walk(img, count_slot, &slots, &bad, NULL), 0);
		CU_ASSERT_EQUAL(bad, 0);
		CU_ASSERT_EQUAL(slots, 50 + (m.ext.container_nbytes >> img->geom.cluster_bits));
		qd_pinned_free(p);
		qd_pinned_free(NULL);
		check_bits(img, c, 1);
		check_bits(img, c, 1 << 20);
		qd_container_close(c);
		qd_container_close(NULL);
		qd_image_close(img);
		discard(&m);
	}
}

static void impossible_images_are_told(void)
{
	struct qd_header h = { .version = 3 };
	const char *why = NULL;

	CU_ASSERT_FALSE(qd_container_is_impossible(&h, &why));
	CU_ASSERT_PTR_NULL(why);
	h.version = 2;
	CU_ASSERT_TRUE(qd_container_is_impossible(&h, &why));
	CU_ASSERT_PTR_NOT_NULL(strstr(why, "0.10"));
	h = (struct qd_header){ .version = 3, .incompatible = QD_INCOMPAT_DATA_FILE };
	CU_ASSERT_TRUE(qd_container_is_impossible(&h, &why));
	h = (struct qd_header){ .version = 3, .crypt_method = QD_CRYPT_LUKS };
	CU_ASSERT_TRUE(qd_container_is_impossible(&h, NULL));
}

CU_ErrorCode suite_container(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(fresh_image_is_valid),
		QD_TEST(cleared_bit_makes_it_partial),
		QD_TEST(no_extension_or_no_pin_is_absent),
		QD_TEST(any_changed_bit_of_the_extension_is_stale),
		QD_TEST(container_elsewhere_is_stale),
		QD_TEST(another_refcount_is_stale),
		QD_TEST(slots_of_the_pin_are_counted),
		QD_TEST(damaged_directory_is_stale),
		QD_TEST(external_one_is_opened_by_name_only),
		QD_TEST(pinned_clusters_are_known),
		QD_TEST(impossible_images_are_told),
	};

	return QD_SUITE_ADD("container", tests);
}
