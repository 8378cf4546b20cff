/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Snapshot table entries against hand-placed bytes, with extra data of every length. */
#include "format/snapshot.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "rows.h"
#include "suites.h"

#define DEFAULT_SIZE 0x123456789abcu

/* The entry at buf: 40 bytes, `extra` bytes of 0x80.., id "7", name "snap"; returns its unpadded length. */
static size_t make_entry(uint8_t *buf, uint32_t extra)
{
	for (size_t i = 0; i < 40; i++)
		buf[i] = (uint8_t)(i + 1);
	qd_put_be16(buf + 12, 1);
	qd_put_be16(buf + 14, 4);
	qd_put_be32(buf + 36, extra);
	for (size_t i = 0; i < extra; i++)
		buf[40 + i] = (uint8_t)(0x80 + i);
	memcpy(buf + 40 + extra, "7snap", 5);
	return 45 + (size_t)extra;
}

static void rows_cover_every_byte_once(void)
{
	uint64_t obj[64];

	CU_ASSERT_TRUE(rows_are_contiguous(&qd_snapshot_fields, 0, 64));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_snapshot_fields, 0, 64, obj, sizeof(obj)));
}

static void every_member_comes_from_its_offset(void)
{
	uint8_t buf[128] = { 0 };
	struct qd_snapshot_entry e;
	size_t len = make_entry(buf, 24);
	size_t used;

	CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(buf, len, DEFAULT_SIZE, &e, &used, NULL), 0);
	CU_ASSERT_EQUAL(e.l1_off, 0x0102030405060708);
	CU_ASSERT_EQUAL(e.l1_entries, 0x090a0b0c);
	CU_ASSERT_EQUAL(e.id_len, 1);
	CU_ASSERT_EQUAL(e.name_len, 4);
	CU_ASSERT_EQUAL(e.date_sec, 0x11121314);
	CU_ASSERT_EQUAL(e.date_nsec, 0x15161718);
	CU_ASSERT_EQUAL(e.vm_clock_nsec, 0x191a1b1c1d1e1f20);
	CU_ASSERT_EQUAL(e.vm_state_size, 0x8081828384858687);
	CU_ASSERT_EQUAL(e.disk_size, 0x88898a8b8c8d8e8f);
	CU_ASSERT_EQUAL(e.icount, 0x9091929394959697);
	CU_ASSERT_EQUAL(e.extra_len, 24);
	CU_ASSERT_PTR_EQUAL(e.extra, buf + 40);
	CU_ASSERT_EQUAL(memcmp(e.id, "7", 1), 0);
	CU_ASSERT_EQUAL(memcmp(e.name, "snap", 4), 0);
}

static void short_extra_data_leaves_the_defaults(void)
{
	for (uint32_t extra = 0; extra <= 40; extra++) {
		uint8_t buf[128] = { 0 };
		struct qd_snapshot_entry e;
		size_t len = make_entry(buf, extra);
		size_t used;

		CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(buf, len, DEFAULT_SIZE, &e, &used, NULL), 0);
		CU_ASSERT_EQUAL(e.vm_state_size, extra < 8 ? 0x21222324 : 0x8081828384858687);
		CU_ASSERT_EQUAL(e.disk_size, extra < 16 ? DEFAULT_SIZE : 0x88898a8b8c8d8e8f);
		CU_ASSERT_EQUAL(e.icount, extra < 24 ? UINT64_MAX : 0x9091929394959697);
		CU_ASSERT_EQUAL(memcmp(e.id, "7", 1), 0);
	}
}

static void length_is_padded_but_never_past_the_buffer(void)
{
	uint8_t buf[128] = { 0 };
	struct qd_snapshot_entry e;
	size_t len = make_entry(buf, 24);
	size_t used;

	CU_ASSERT_EQUAL_FATAL(len, 69);
	for (size_t n = len; n < 80; n++) {
		CU_ASSERT_EQUAL(qd_snapshot_decode(buf, n, 0, &e, &used, NULL), 0);
		CU_ASSERT_EQUAL(used, n < 72 ? n : 72);
	}
}

static void refuses_an_entry_cut_anywhere(void)
{
	uint8_t full[128] = { 0 };
	size_t len = make_entry(full, 24);

	for (size_t n = 0; n < len; n++) {
		struct qd_snapshot_entry e = { .date_sec = 77 };
		uint8_t *buf = malloc(n ? n : 1);	/* of that size, so that a read past it is seen */
		size_t used = 77;

		CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
		memcpy(buf, full, n);
		CU_ASSERT_EQUAL(qd_snapshot_decode(buf, n, 0, &e, &used, NULL), QD_E_CORRUPT);
		CU_ASSERT_TRUE(e.date_sec == 77 && used == 77);
		free(buf);
	}
}

static void an_entry_of_the_fixed_part_alone_is_read(void)
{
	uint8_t buf[40] = { 0 };
	struct qd_snapshot_entry e;
	size_t used;

	CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(buf, sizeof(buf), DEFAULT_SIZE, &e, &used, NULL), 0);
	CU_ASSERT_EQUAL(used, 40);
	CU_ASSERT_EQUAL(e.extra_len + e.id_len + e.name_len, 0);
}

static void refuses_too_much_extra_data(void)
{
	static uint8_t buf[4096];
	struct qd_snapshot_entry e;
	struct qd_err err;
	size_t used;

	make_entry(buf, 1024);
	CU_ASSERT_EQUAL(qd_snapshot_decode(buf, sizeof(buf), 0, &e, &used, NULL), 0);
	make_entry(buf, 1025);
	CU_ASSERT_EQUAL(qd_snapshot_decode(buf, sizeof(buf), 0, &e, &used, &err), QD_E_CORRUPT);
	CU_ASSERT_STRING_EQUAL(err.msg, "snapshot entry: extra data has 1025 bytes, expected at most 1024");
	qd_put_be32(buf + 36, 0xffffffff);
	CU_ASSERT_EQUAL(qd_snapshot_decode(buf, sizeof(buf), 0, &e, &used, &err), QD_E_CORRUPT);
}

static void encoding_keeps_everything(void)
{
	for (uint32_t extra = 0; extra <= 40; extra++) {
		uint8_t in[128] = { 0 };
		uint8_t out[129];
		struct qd_snapshot_entry a, b;
		size_t len = make_entry(in, extra);
		size_t size, used;

		CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(in, len, DEFAULT_SIZE, &a, &used, NULL), 0);
		size = qd_snapshot_encoded_size(&a);
		CU_ASSERT_EQUAL(size, (40 + (extra < 24 ? 24 : extra) + 5 + 7) / 8 * 8);
		memset(out, 0xee, sizeof(out));
		CU_ASSERT_EQUAL(qd_snapshot_encode(&a, out), size);
		CU_ASSERT_EQUAL(out[size], 0xee);
		CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(out, size, 1, &b, &used, NULL), 0);
		CU_ASSERT_EQUAL(used, size);
		CU_ASSERT_EQUAL(memcmp(out, in, 32), 0);
		CU_ASSERT_EQUAL(qd_get_be32(out + 32), a.vm_state_size & 0xffffffff);
		CU_ASSERT_EQUAL(b.extra_len, extra < 24 ? 24 : extra);
		CU_ASSERT_EQUAL(b.vm_state_size, a.vm_state_size);
		CU_ASSERT_EQUAL(b.disk_size, a.disk_size);
		CU_ASSERT_EQUAL(b.icount, a.icount);
		CU_ASSERT_EQUAL(memcmp(b.id, "7snap", 5), 0);
		if (extra >= 24)
			CU_ASSERT_EQUAL(memcmp(out, in, 32) | memcmp(out + 36, in + 36, len - 36), 0);
		for (size_t i = 40 + b.extra_len + 5; i < size; i++)
			CU_ASSERT_EQUAL(out[i], 0);
	}
}

static void a_new_entry_needs_no_extra_data_of_its_own(void)
{
	struct qd_snapshot_entry e = { .l1_off = 0x10000, .l1_entries = 1, .disk_size = 4097,
		.icount = UINT64_MAX, .id = "1", .id_len = 1, .name = "qdedup", .name_len = 6 };
	uint8_t buf[128];
	struct qd_snapshot_entry r;
	size_t used;

	CU_ASSERT_EQUAL(qd_snapshot_encode(&e, buf), 72);
	CU_ASSERT_EQUAL_FATAL(qd_snapshot_decode(buf, 72, 0, &r, &used, NULL), 0);
	CU_ASSERT_EQUAL(r.disk_size, 4097);
	CU_ASSERT_EQUAL(r.extra_len, 24);
	CU_ASSERT_EQUAL(memcmp(r.id, "1qdedup", 7), 0);
}

CU_ErrorCode suite_snapshot(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(rows_cover_every_byte_once),
		QD_TEST(every_member_comes_from_its_offset),
		QD_TEST(short_extra_data_leaves_the_defaults),
		QD_TEST(length_is_padded_but_never_past_the_buffer),
		QD_TEST(refuses_an_entry_cut_anywhere),
		QD_TEST(an_entry_of_the_fixed_part_alone_is_read),
		QD_TEST(refuses_too_much_extra_data),
		QD_TEST(encoding_keeps_everything),
		QD_TEST(a_new_entry_needs_no_extra_data_of_its_own),
	};

	return QD_SUITE_ADD("snapshot", tests);
}
