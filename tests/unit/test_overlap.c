/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Extents against a map of single clusters. */
#include "space/overlap.h"

#include <CUnit/CUnit.h>
#include <stdbool.h>
#include <string.h>

#include "suites.h"

#define CLUSTERS 200u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

struct seen {
	unsigned overlaps;
	uint64_t depth[CLUSTERS];
	uint64_t at;
	bool ascending;
};

static int see_overlap(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
		       uint64_t nclusters)
{
	struct seen *s = ctx;

	CU_ASSERT_TRUE(earlier->first <= later->first && later->first < earlier->first + earlier->nclusters);
	CU_ASSERT_TRUE(nclusters > 0 && nclusters <= later->nclusters);
	CU_ASSERT_TRUE(later->first + nclusters <= earlier->first + earlier->nclusters);
	s->overlaps++;
	return 0;
}

static void see_run(void *ctx, uint64_t first, uint64_t end, uint64_t depth)
{
	struct seen *s = ctx;

	s->ascending = s->ascending && first >= s->at && end > first;
	s->at = end;
	for (uint64_t k = first; k < end; k++)
		s->depth[k] = depth;
}

static void check_set(struct qd_extents *set, const uint64_t *model)
{
	struct seen s = { .ascending = true };
	unsigned hidden = 0;

	qd_extents_sort(set);
	CU_ASSERT_EQUAL(qd_extents_overlaps(set, see_overlap, &s), 0);
	CU_ASSERT_EQUAL(qd_extents_cover(set, see_run, &s, NULL), 0);
	CU_ASSERT_TRUE(s.ascending);
	CU_ASSERT_EQUAL(memcmp(s.depth, model, sizeof(s.depth)), 0);
	for (uint64_t k = 0; k < CLUSTERS; k++) {
		const struct qd_extent *e = qd_extents_find(set, k);

		CU_ASSERT_EQUAL(e != NULL, model[k] > 0);
		CU_ASSERT_TRUE(!e || (k >= e->first && k < e->first + e->nclusters));
	}
	for (size_t i = 0; i < set->n; i++) {
		bool inside = false;

		for (size_t k = 0; k < i; k++)
			inside = inside || set->v[k].first + set->v[k].nclusters > set->v[i].first;
		hidden += inside;
	}
	CU_ASSERT_EQUAL(s.overlaps, hidden);
}

static void random_extents_agree_with_a_map(void)
{
	uint64_t seed = 1;

	for (unsigned round = 0; round < 300; round++) {
		uint64_t model[CLUSTERS] = { 0 }, count = next_random(&seed) % 12;
		struct qd_extents set;

		qd_extents_init(&set, 1u << 20);
		for (uint64_t i = 0; i < count; i++) {
			uint64_t first = next_random(&seed) % (CLUSTERS - 30),
				 n = 1 + next_random(&seed) % 30;

			CU_ASSERT_EQUAL(
				qd_extents_add(&set, first, n, QD_STRUCT_BITMAP_DATA, (uint32_t)i, NULL), 0);
			for (uint64_t k = 0; k < n; k++)
				model[first + k]++;
		}
		check_set(&set, model);
		qd_extents_free(&set);
	}
}

static void neighbours_of_one_owner_become_one(void)
{
	struct qd_extents set;

	qd_extents_init(&set, 1u << 20);
	for (uint64_t k = 0; k < 1000; k++)
		CU_ASSERT_EQUAL(qd_extents_add(&set, 10 + k, 1, QD_STRUCT_BITMAP_DATA, 3, NULL), 0);
	CU_ASSERT_EQUAL(set.n, 1);
	CU_ASSERT_EQUAL(qd_extents_add(&set, 1010, 1, QD_STRUCT_BITMAP_DATA, 4, NULL), 0);
	CU_ASSERT_EQUAL(set.n, 2);
	qd_extents_free(&set);
}

static void the_limit_is_kept(void)
{
	struct qd_extents set;
	int rc = 0;

	qd_extents_init(&set, 100 * sizeof(struct qd_extent));
	for (uint64_t k = 0; rc == 0 && k < 1000; k++)
		rc = qd_extents_add(&set, 2 * k, 1, QD_STRUCT_REFBLOCK, 0, NULL);
	CU_ASSERT_EQUAL(rc, QD_E_NOMEM);
	CU_ASSERT_TRUE(set.n <= 100);
	qd_extents_free(&set);
}

CU_ErrorCode suite_overlap(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(random_extents_agree_with_a_map),
		QD_TEST(neighbours_of_one_owner_become_one),
		QD_TEST(the_limit_is_kept),
	};

	return QD_SUITE_ADD("overlap", tests);
}
