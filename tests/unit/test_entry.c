/* SPDX-License-Identifier: GPL-2.0-or-later */
/* L1 and L2 entries: masks, and compressed descriptors against the specification's bit positions. */
#include "format/entry.h"

#include <CUnit/CUnit.h>

#include "suites.h"

static struct qd_geom geom_of(uint32_t cluster_bits)
{
	struct qd_header h = { .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4 };
	struct qd_geom g;

	qd_geom_init(&h, &g);
	return g;
}

static uint64_t bits_of(uint64_t v, unsigned int first, unsigned int last)
{
	uint64_t r = 0;

	for (unsigned int i = first; i <= last; i++)
		r += (v >> i & 1) << (i - first);
	return r;
}

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

static void masks_cover_each_bit_once(void)
{
	CU_ASSERT_EQUAL(QD_COPIED | QD_OFFSET_MASK | QD_L1_RESERVED, UINT64_MAX);
	CU_ASSERT_EQUAL(QD_COPIED ^ QD_OFFSET_MASK ^ QD_L1_RESERVED, UINT64_MAX);
	CU_ASSERT_EQUAL(QD_COPIED | QD_COMPRESSED | QD_OFFSET_MASK | QD_L2_RESERVED | QD_L2_ZERO, UINT64_MAX);
	CU_ASSERT_EQUAL(QD_COPIED ^ QD_COMPRESSED ^ QD_OFFSET_MASK ^ QD_L2_RESERVED ^ QD_L2_ZERO, UINT64_MAX);
	CU_ASSERT_EQUAL(qd_entry_host_off(UINT64_MAX), bits_of(UINT64_MAX, 9, 55) << 9);
	CU_ASSERT_TRUE(qd_l2_is_compressed(1ull << 62));
	CU_ASSERT_FALSE(qd_l2_is_compressed(~(1ull << 62)));
}

static void compressed_descriptors_mean_what_the_specification_says(void)
{
	uint64_t seed = 1;

	for (uint32_t cb = 9; cb <= 21; cb++) {
		struct qd_geom g = geom_of(cb);
		unsigned int x = 62 - (cb - 8);

		for (int i = 0; i < 1000; i++) {
			uint64_t entry = next_random(&seed) | QD_COMPRESSED;
			struct qd_compressed c = qd_l2_compressed(&g, entry);
			uint64_t off = bits_of(entry, 0, x - 1);
			uint64_t end = (off / 512 + 1 + bits_of(entry, x, 61)) * 512;

			CU_ASSERT_EQUAL(c.host_off, off);
			CU_ASSERT_EQUAL(c.nbytes, end - off);
		}
	}
}

static void made_descriptors_name_exactly_the_sectors_of_the_stream(void)
{
	uint64_t seed = 2;

	for (uint32_t cb = 9; cb <= 21; cb++) {
		struct qd_geom g = geom_of(cb);

		for (int i = 0; i < 1000; i++) {
			uint64_t off = next_random(&seed) % (1ull << (cb == 21 ? 48 : 49));
			uint64_t nbytes = 1 + next_random(&seed) % (g.cluster_size - 1);
			uint64_t entry = qd_l2_make_compressed(&g, off, nbytes);
			struct qd_compressed c = qd_l2_compressed(&g, entry);

			CU_ASSERT_EQUAL(entry >> 62, 1);
			CU_ASSERT_EQUAL(c.host_off, off);
			CU_ASSERT_TRUE(c.nbytes >= nbytes);
			CU_ASSERT_TRUE(c.nbytes - nbytes < 512);
			CU_ASSERT_EQUAL((c.host_off + c.nbytes) % 512, 0);
		}
	}
}

/* The widest a stream can be: one byte less than the cluster, starting at a sector's last byte. */
static void the_longest_stream_fits_its_descriptor(void)
{
	for (uint32_t cb = 9; cb <= 21; cb++) {
		struct qd_geom g = geom_of(cb);
		uint64_t entry = qd_l2_make_compressed(&g, 511, g.cluster_size - 1);
		struct qd_compressed c = qd_l2_compressed(&g, entry);

		CU_ASSERT_EQUAL(c.host_off, 511);
		CU_ASSERT_EQUAL(c.host_off + c.nbytes, g.cluster_size + 512);
	}
}

static void touched_clusters_are_those_of_first_and_last_byte(void)
{
	static const struct { uint64_t off, nbytes, first, last; } cases[] = {
		{ 0x10000, 512, 1, 1 },
		{ 0x10000, 0x10000, 1, 1 },
		{ 0x10000, 0x10001, 1, 2 },
		{ 0x1ffff, 1, 1, 1 },
		{ 0x1ffff, 2, 1, 2 },
		{ 0x1fe01, 511 + 0x10000 + 512, 1, 3 },
	};
	struct qd_geom g = geom_of(16);

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct qd_compressed c = { .host_off = cases[i].off, .nbytes = cases[i].nbytes };
		uint64_t first, last;

		qd_compressed_clusters(&g, c, &first, &last);
		CU_ASSERT_EQUAL(first, cases[i].first);
		CU_ASSERT_EQUAL(last, cases[i].last);
		qd_l2_clusters(&g, qd_l2_make_compressed(&g, c.host_off, c.nbytes), &first, &last);
		CU_ASSERT_EQUAL(first, cases[i].first);
		CU_ASSERT_EQUAL(last, cases[i].last);
		qd_l2_clusters(&g, QD_COPIED | QD_L2_ZERO | cases[i].last << 16, &first, &last);
		CU_ASSERT_EQUAL(first, cases[i].last);
		CU_ASSERT_EQUAL(last, cases[i].last);
	}
}

CU_ErrorCode suite_entry(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(masks_cover_each_bit_once),
		QD_TEST(compressed_descriptors_mean_what_the_specification_says),
		QD_TEST(made_descriptors_name_exactly_the_sectors_of_the_stream),
		QD_TEST(the_longest_stream_fits_its_descriptor),
		QD_TEST(touched_clusters_are_those_of_first_and_last_byte),
	};

	return QD_SUITE_ADD("entry", tests);
}
