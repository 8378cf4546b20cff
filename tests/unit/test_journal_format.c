/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Journal clusters: the validity rule, the size byte, what closes a cluster. */
#include "format/journal.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "base/bytes.h"
#include "rows.h"
#include "suites.h"

#define HI 0x0123456789abcdefull
#define LO 0xfedcba9876543210ull

static const struct qd_journal_owner owner = { HI, LO, 9 };

static const struct qd_journal_header plain = {
	.identity_hi = HI, .identity_lo = LO, .container = 9, .generation = 3, .batch = 2, .sequence = 5, .kind = QD_JOURNAL_LOG,
};

/* A REVOKE, a COMMIT and an END; returns the bytes in use. */
static size_t make_cluster(uint8_t *c)
{
	struct qd_journal_header h = plain;
	size_t pos = QD_JOURNAL_HEADER;
	uint8_t number[8];

	memset(c, 0x5a, QD_JOURNAL_CLUSTER);
	qd_put_be64(number, 0x70000);
	CU_ASSERT_TRUE(qd_journal_entry_append(c, &pos, QD_JOURNAL_REVOKE, number, 8));
	qd_put_be64(number, 2);
	CU_ASSERT_TRUE(qd_journal_entry_append(c, &pos, QD_JOURNAL_COMMIT, number, 8));
	CU_ASSERT_TRUE(qd_journal_entry_append(c, &pos, QD_JOURNAL_END, NULL, 0));
	h.used = (uint16_t)pos;
	qd_journal_cluster_close(&h, c);
	return pos;
}

static bool is_valid(const uint8_t *c)
{
	return qd_journal_cluster_is_valid(c, &owner, QD_JOURNAL_LOG, 5);
}

static void rows_cover_every_byte_once(void)
{
	uint64_t obj[16];

	CU_ASSERT_TRUE(rows_are_contiguous(&qd_journal_header_fields, 0, QD_JOURNAL_HEADER));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_journal_header_fields, 0, QD_JOURNAL_HEADER, obj, sizeof(obj)));
	CU_ASSERT_TRUE(rows_are_contiguous(&qd_journal_mark_fields, 0, 64));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_journal_mark_fields, 0, 64, obj, sizeof(obj)));
}

/* One changed bit, wherever, is seen, and so is another journal's. */
static void a_mark_that_changed_is_none(void)
{
	struct qd_journal_mark m = { .identity_hi = HI, .identity_lo = LO, .container = 9, .generation = 3,
				     .state = QD_JOURNAL_MARK_COMMITTED, .nclusters = 2, .batch_crc = 7,
				     .target_nbytes = 1u << 20 }, out;
	struct qd_journal_owner other = { HI, LO + 1, 9 };
	uint8_t p[QD_JOURNAL_MARK];

	qd_journal_mark_encode(&m, p);
	CU_ASSERT_TRUE(qd_journal_mark_decode(p, &owner, &out));
	m.magic = out.magic;
	m.crc = out.crc;
	CU_ASSERT_EQUAL(memcmp(&m, &out, sizeof(m)), 0);
	CU_ASSERT_FALSE(qd_journal_mark_decode(p, &other, &out));
	for (unsigned bit = 0; bit < 8 * QD_JOURNAL_MARK; bit++) {
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
		CU_ASSERT_FALSE(qd_journal_mark_decode(p, &owner, &out));
		p[bit / 8] ^= (uint8_t)(1u << bit % 8);
	}
	memset(p, 0, sizeof(p));
	CU_ASSERT_FALSE(qd_journal_mark_decode(p, &owner, &out));
}

static void header_comes_back(void)
{
	uint8_t c[QD_JOURNAL_CLUSTER];
	struct qd_journal_header h;
	size_t used = make_cluster(c);

	qd_journal_header_decode(c, &h);
	CU_ASSERT_EQUAL(h.magic, QD_JOURNAL_MAGIC);
	CU_ASSERT_EQUAL(h.identity_hi, HI);
	CU_ASSERT_EQUAL(h.identity_lo, LO);
	CU_ASSERT_EQUAL(h.container, 9);
	CU_ASSERT_EQUAL(h.generation, 3);
	CU_ASSERT_EQUAL(h.batch, 2);
	CU_ASSERT_EQUAL(h.sequence, 5);
	CU_ASSERT_EQUAL(h.kind, QD_JOURNAL_LOG);
	CU_ASSERT_EQUAL(h.used, used);
	CU_ASSERT_EQUAL(memcmp(c, "QDjc", 4), 0);
}

/* The size byte counts the payload: a REVOKE is 08 03 and 8 bytes; what is unused is 0xff. */
static void size_byte_counts_the_payload(void)
{
	static const uint8_t bytes[] = { 8, 3, 0, 0, 0, 0, 0, 7, 0, 0, 8, 4, 0, 0, 0, 0, 0, 0, 0, 2, 0, 1, 0xff };
	uint8_t c[QD_JOURNAL_CLUSTER];

	make_cluster(c);
	CU_ASSERT_EQUAL(memcmp(c + QD_JOURNAL_HEADER, bytes, sizeof(bytes)), 0);
	CU_ASSERT_EQUAL(c[QD_JOURNAL_CLUSTER - 1], 0xff);
}

static void every_flipped_bit_is_seen(void)
{
	uint8_t c[QD_JOURNAL_CLUSTER];

	make_cluster(c);
	CU_ASSERT_TRUE_FATAL(is_valid(c));
	for (size_t bit = 0; bit < sizeof(c) * 8; bit++) {
		c[bit / 8] = (uint8_t)(c[bit / 8] ^ (1u << bit % 8));
		CU_ASSERT_FALSE(is_valid(c));
		c[bit / 8] = (uint8_t)(c[bit / 8] ^ (1u << bit % 8));
	}
	CU_ASSERT_TRUE(is_valid(c));
}

static void zeros_and_ones_are_never_valid(void)
{
	static const struct qd_journal_owner zeros = { 0, 0, 0 };
	static const struct qd_journal_owner ones = { UINT64_MAX, UINT64_MAX, UINT64_MAX };
	uint8_t c[QD_JOURNAL_CLUSTER];

	memset(c, 0, sizeof(c));
	for (unsigned kind = 0; kind < 3; kind++)
		CU_ASSERT_FALSE(qd_journal_cluster_is_valid(c, &zeros, (enum qd_journal_kind)kind, 0));
	memset(c, 0xff, sizeof(c));
	CU_ASSERT_FALSE(qd_journal_cluster_is_valid(c, &ones, (enum qd_journal_kind)255, UINT32_MAX));
}

static void another_place_is_not_its_own(void)
{
	static const struct qd_journal_owner others[] = { { HI + 1, LO, 9 }, { HI, LO + 1, 9 }, { HI, LO, 8 } };
	uint8_t c[QD_JOURNAL_CLUSTER];

	make_cluster(c);
	for (size_t i = 0; i < 3; i++)
		CU_ASSERT_FALSE(qd_journal_cluster_is_valid(c, &others[i], QD_JOURNAL_LOG, 5));
	CU_ASSERT_FALSE(qd_journal_cluster_is_valid(c, &owner, QD_JOURNAL_REDO, 5));
	CU_ASSERT_FALSE(qd_journal_cluster_is_valid(c, &owner, QD_JOURNAL_LOG, 4));
}

/* A right checksum does not make these valid. */
static void impossible_headers_are_refused(void)
{
	uint8_t c[QD_JOURNAL_CLUSTER] = { 0 };
	struct qd_journal_header h = plain;

	h.used = QD_JOURNAL_HEADER;
	h.generation = 0;
	qd_journal_cluster_close(&h, c);
	CU_ASSERT_FALSE(is_valid(c));
	h.generation = 1;
	h.batch = 0;
	qd_journal_cluster_close(&h, c);
	CU_ASSERT_FALSE(is_valid(c));
	h.batch = 1;
	qd_journal_cluster_close(&h, c);
	CU_ASSERT_TRUE(is_valid(c));
}

static void entries_come_back_and_end(void)
{
	uint8_t c[QD_JOURNAL_CLUSTER];
	size_t pos = QD_JOURNAL_HEADER;
	struct qd_journal_entry e;

	make_cluster(c);
	CU_ASSERT_EQUAL_FATAL(qd_journal_entry_next(c, &pos, &e, NULL), 1);
	CU_ASSERT_EQUAL(e.type, QD_JOURNAL_REVOKE);
	CU_ASSERT_EQUAL(e.nbytes, 8);
	CU_ASSERT_EQUAL(e.off, QD_JOURNAL_HEADER);
	CU_ASSERT_EQUAL(qd_get_be64(e.payload), 0x70000);
	CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), 1);
	CU_ASSERT_EQUAL(e.type, QD_JOURNAL_COMMIT);
	CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), 1);
	CU_ASSERT_EQUAL(e.type, QD_JOURNAL_END);
	CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), 0);
}

static void bad_entries_are_refused(void)
{
	static const struct {
		uint8_t size, type;
		int want;
	} rows[] = {
		{ 8, QD_JOURNAL_REVOKE, 1 },	{ 7, QD_JOURNAL_REVOKE, QD_E_CORRUPT },
		{ 0, 0, QD_E_UNSUPPORTED },	{ 0, 9, QD_E_UNSUPPORTED },
		{ 1, QD_JOURNAL_END, QD_E_CORRUPT }, { 12, QD_JOURNAL_WRITE, QD_E_CORRUPT },
		{ 13, QD_JOURNAL_WRITE, 1 },	{ 253, QD_JOURNAL_WRITE, QD_E_CORRUPT },
		{ 14, QD_JOURNAL_HASH, QD_E_CORRUPT }, { 30, QD_JOURNAL_HASH, 1 },
		{ 0xff, QD_JOURNAL_REVOKE, 0 },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		uint8_t c[QD_JOURNAL_CLUSTER] = { 0 };
		struct qd_journal_entry e;
		size_t pos = QD_JOURNAL_HEADER;

		qd_put_be16(c + 54, QD_JOURNAL_CLUSTER);
		c[pos] = rows[i].size;
		c[pos + 1] = rows[i].type;
		CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), rows[i].want);
	}
}

static void no_entry_runs_past_the_end(void)
{
	uint8_t c[QD_JOURNAL_CLUSTER] = { 0 };
	struct qd_journal_entry e;
	size_t pos = QD_JOURNAL_CLUSTER - 9;

	CU_ASSERT_FALSE(qd_journal_entry_append(c, &pos, QD_JOURNAL_REVOKE, c, 8));
	pos--;
	CU_ASSERT_TRUE(qd_journal_entry_append(c, &pos, QD_JOURNAL_REVOKE, c, 8));
	CU_ASSERT_EQUAL(pos, QD_JOURNAL_CLUSTER);
	qd_put_be16(c + 54, QD_JOURNAL_CLUSTER - 1);
	pos = QD_JOURNAL_CLUSTER - 10;
	CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), QD_E_CORRUPT);
	qd_put_be16(c + 54, QD_JOURNAL_CLUSTER - 9);
	CU_ASSERT_EQUAL(qd_journal_entry_next(c, &pos, &e, NULL), QD_E_CORRUPT);
}

static const struct qd_test tests[] = {
	QD_TEST(rows_cover_every_byte_once),
	QD_TEST(header_comes_back),
	QD_TEST(a_mark_that_changed_is_none),
	QD_TEST(size_byte_counts_the_payload),
	QD_TEST(every_flipped_bit_is_seen),
	QD_TEST(zeros_and_ones_are_never_valid),
	QD_TEST(another_place_is_not_its_own),
	QD_TEST(impossible_headers_are_refused),
	QD_TEST(entries_come_back_and_end),
	QD_TEST(bad_entries_are_refused),
	QD_TEST(no_entry_runs_past_the_end),
};

CU_ErrorCode suite_journal_format(void)
{
	return QD_SUITE_ADD("journal_format", tests);
}
