/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Refcounts of every width against a model that moves one bit at a time. */
#include "space/refcount.h"

#include <CUnit/CUnit.h>
#include <string.h>

#include "suites.h"

#define BLOCK 512u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

/* Where bit k of count number i lies, in bits from the block's first byte's lowest. */
static uint64_t bit_place(uint32_t order, uint64_t i, unsigned int k)
{
	uint64_t width = 1ull << order;

	if (width < 8)
		return i * width + k;
	return (i * (width / 8) + (width / 8 - 1 - k / 8)) * 8 + k % 8;
}

static uint64_t model_get(const uint8_t *block, uint32_t order, uint64_t i)
{
	uint64_t v = 0;

	for (unsigned int k = 0; k < 1u << order; k++) {
		uint64_t place = bit_place(order, i, k);

		if (block[place / 8] >> (place % 8) & 1)
			v |= 1ull << k;
	}
	return v;
}

static void model_set(uint8_t *block, uint32_t order, uint64_t i, uint64_t value)
{
	for (unsigned int k = 0; k < 1u << order; k++) {
		uint64_t place = bit_place(order, i, k);
		uint8_t bit = (uint8_t)(1u << (place % 8));

		if (value >> k & 1)
			block[place / 8] |= bit;
		else
			block[place / 8] &= (uint8_t)~bit;
	}
}

static uint64_t random_value(uint32_t order, uint64_t *seed)
{
	uint64_t max = UINT64_MAX >> (64 - (1u << order));

	return next_random(seed) % 8 == 0 ? max : next_random(seed) & max;
}

static void every_width_agrees_with_the_slow_model(void)
{
	for (uint32_t order = 0; order <= 6; order++) {
		uint64_t entries = BLOCK * 8 >> order;
		uint64_t seed = order + 1;
		uint8_t block[BLOCK], model[BLOCK];

		for (size_t i = 0; i < BLOCK; i++)
			block[i] = model[i] = (uint8_t)next_random(&seed);
		for (uint64_t i = 0; i < entries; i++)
			CU_ASSERT_EQUAL(qd_refcount_get(block, order, i), model_get(model, order, i));
		for (int n = 0; n < 5000; n++) {
			uint64_t i = next_random(&seed) % entries;
			uint64_t value = random_value(order, &seed);

			qd_refcount_set(block, order, i, value);
			model_set(model, order, i, value);
			CU_ASSERT_EQUAL_FATAL(memcmp(block, model, BLOCK), 0);
			CU_ASSERT_EQUAL(qd_refcount_get(block, order, i), value);
		}
	}
}

static void narrow_counts_start_at_the_low_bits(void)
{
	static const uint8_t block[] = { 0x1b, 0x80 };

	CU_ASSERT_EQUAL(qd_refcount_get(block, 0, 0), 1);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 0, 2), 0);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 0, 15), 1);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 1, 0), 3);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 1, 1), 2);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 1, 7), 2);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 2, 0), 11);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 2, 3), 8);
	CU_ASSERT_EQUAL(qd_refcount_get(block, 4, 0), 0x1b80);
}

static struct qd_geom geom_of(uint32_t cluster_bits, uint32_t order)
{
	struct qd_header h = { .version = 3, .cluster_bits = cluster_bits, .refcount_order = order };
	struct qd_geom g;

	qd_geom_init(&h, &g);
	return g;
}

/* Table clusters that hold the offsets of that many blocks. */
static uint64_t table_for(const struct qd_geom *g, uint64_t blocks)
{
	uint64_t per_cluster = g->cluster_size / 8;

	return (blocks + per_cluster - 1) / per_cluster;
}

static bool suffices(const struct qd_geom *g, uint64_t others, uint64_t blocks)
{
	return blocks * g->block_entries >= others + blocks + table_for(g, blocks);
}

/* The smallest number of blocks that suffices, one by one; more never stop sufficing. */
static uint64_t slow_blocks(const struct qd_geom *g, uint64_t others)
{
	uint64_t blocks = others / g->block_entries;

	while (!suffices(g, others, blocks))
		blocks++;
	return blocks;
}

static void check_structure(const struct qd_geom *g, uint64_t others)
{
	uint64_t blocks, table;

	qd_refcount_structure(g, others, &blocks, &table);
	CU_ASSERT_EQUAL(blocks, slow_blocks(g, others));
	CU_ASSERT_EQUAL(table, table_for(g, blocks));
}

static void structure_is_the_smallest_that_counts_itself(void)
{
	uint64_t seed = 3;

	for (uint32_t cb = 9; cb <= 21; cb++) {
		for (uint32_t order = 0; order <= 6; order++) {
			struct qd_geom g = geom_of(cb, order);

			check_structure(&g, 0);
			for (uint64_t n = 0; n < 40; n++) {
				check_structure(&g, n + 1);
				/* Around every size at which a block more is needed. */
				check_structure(&g, g.block_entries - 20 + n);
				check_structure(&g, g.block_entries * (g.cluster_size / 8) - 20 + n);
				check_structure(&g, next_random(&seed) % 10000000);
			}
		}
	}
}

static void structure_of_a_huge_file_is_found(void)
{
	struct qd_geom g = geom_of(9, 6);
	uint64_t blocks, table;

	qd_refcount_structure(&g, 1ull << 55, &blocks, &table);
	CU_ASSERT_TRUE(suffices(&g, 1ull << 55, blocks));
	CU_ASSERT_FALSE(suffices(&g, 1ull << 55, blocks - 1));
	CU_ASSERT_EQUAL(table, table_for(&g, blocks));
}

CU_ErrorCode suite_refcount(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_width_agrees_with_the_slow_model),
		QD_TEST(narrow_counts_start_at_the_low_bits),
		QD_TEST(structure_is_the_smallest_that_counts_itself),
		QD_TEST(structure_of_a_huge_file_is_found),
	};

	return QD_SUITE_ADD("refcount", tests);
}
