/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The set of L2 tables against counts per cluster. */
#include "image/l2set.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>

#include "suites.h"

#define CLUSTERS 5000u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static int count_dup(void *ctx, const struct qd_l2ref *first, const struct qd_l2ref *second)
{
	unsigned *dups = ctx;

	CU_ASSERT_EQUAL(first->cluster, second->cluster);
	CU_ASSERT_TRUE(first->l1_index < second->l1_index);
	++*dups;
	return 0;
}

static void add(struct qd_l2set *set, uint64_t cluster, uint32_t layer, uint32_t l1_index, uint8_t class)
{
	struct qd_l2ref r = { .cluster = cluster,
			      .layer = layer,
			      .l1_index = l1_index,
			      .nrefs = 1,
			      .class = class };

	CU_ASSERT_EQUAL(qd_l2set_add(set, &r, NULL), 0);
}

static void every_reference_is_there_once(void)
{
	uint64_t *model = calloc(CLUSTERS, sizeof(*model)), seed = 3, sum = 0;
	struct qd_l2set set;
	unsigned dups = 0;

	qd_l2set_init(&set, 64u << 20);
	for (uint32_t layer = 0; layer < 60; layer++) {
		size_t first = set.n;

		for (uint32_t i = 0; i < 4000; i++) {
			/* layers share most of their tables */
			uint64_t k = (i * 7 + (next_random(&seed) % 50 == 0)) % CLUSTERS;

			add(&set, k, layer, i,
			    layer == 0	 ? QD_L2_ACTIVE
			    : layer == 7 ? QD_L2_PIN
					 : QD_L2_SNAPSHOT);
			model[k]++;
		}
		CU_ASSERT_EQUAL(qd_l2set_end_layer(&set, first, count_dup, &dups), 0);
	}
	qd_l2set_finish(&set);
	CU_ASSERT_TRUE(set.n <= 4000 + 2 * CLUSTERS);
	for (size_t i = 0, end; i < set.n; i = end) {
		uint64_t n = 0;

		end = qd_l2set_group(&set, i);
		CU_ASSERT_EQUAL(qd_l2set_lower_bound(&set, set.v[i].cluster), i);
		for (size_t k = i; k < end; k++)
			n += set.v[k].nrefs;
		CU_ASSERT_EQUAL(n, model[set.v[i].cluster]);
		sum += n;
		CU_ASSERT_TRUE(end == set.n || set.v[end].cluster > set.v[i].cluster);
	}
	CU_ASSERT_EQUAL(sum, 60 * 4000);
	qd_l2set_free(&set);
	free(model);
}

static void two_entries_of_a_layer_for_one_table_are_told(void)
{
	struct qd_l2set set;
	unsigned dups = 0;

	qd_l2set_init(&set, 1u << 20);
	add(&set, 5, 0, 0, QD_L2_ACTIVE);
	add(&set, 9, 0, 1, QD_L2_ACTIVE);
	add(&set, 5, 0, 2, QD_L2_ACTIVE);
	add(&set, 5, 0, 3, QD_L2_ACTIVE);
	CU_ASSERT_EQUAL(qd_l2set_end_layer(&set, 0, count_dup, &dups), 0);
	CU_ASSERT_EQUAL(dups, 2);
	add(&set, 5, 1, 0, QD_L2_SNAPSHOT);
	CU_ASSERT_EQUAL(qd_l2set_end_layer(&set, 4, count_dup, &dups), 0);
	CU_ASSERT_EQUAL(dups, 2);
	qd_l2set_finish(&set);
	CU_ASSERT_EQUAL(set.n, 5);
	qd_l2set_free(&set);
}

static void the_limit_is_kept(void)
{
	struct qd_l2ref r = { .nrefs = 1 };
	struct qd_l2set set;
	int rc = 0;

	qd_l2set_init(&set, 1000 * sizeof(r));
	for (unsigned i = 0; rc == 0 && i < 2000; i++)
		rc = qd_l2set_add(&set, &r, NULL);
	CU_ASSERT_EQUAL(rc, QD_E_NOMEM);
	CU_ASSERT_EQUAL(set.n, 1000);
	qd_l2set_free(&set);
}

CU_ErrorCode suite_l2set(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_reference_is_there_once),
		QD_TEST(two_entries_of_a_layer_for_one_table_are_told),
		QD_TEST(the_limit_is_kept),
	};

	return QD_SUITE_ADD("l2set", tests);
}
