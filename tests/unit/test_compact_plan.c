/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Plans of compaction, against a model that carries them out cluster by cluster. */
#include "space/compact_plan.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "suites.h"

#define MAX_CLUSTERS 300u
#define MAX_RUNS 8u

struct model {
	uint32_t what[2 * MAX_CLUSTERS];	/* 0: free, else which cluster this was */
	struct qd_compact_run runs[MAX_RUNS];
	size_t nruns;
	struct qd_bits used;
	struct qd_bits still;
	bool tied[MAX_CLUSTERS];
	uint64_t last_to;
	uint64_t nmoves;
};

static uint32_t next_random(uint32_t *seed)
{
	*seed = *seed * 1664525u + 1013904223u;
	return *seed >> 8;
}

static void use(struct model *m, uint64_t c)
{
	m->what[c] = (uint32_t)c + 1;
	qd_bits_set(&m->used, c);
}

static void add_run(struct model *m, uint64_t first, uint64_t n, bool fixed)
{
	for (uint64_t c = first; c < first + n; c++)
		if (c >= MAX_CLUSTERS || m->tied[c])
			return;
	m->runs[m->nruns++] = (struct qd_compact_run){ .first = first, .nclusters = n, .fixed = fixed };
	for (uint64_t c = first; c < first + n; c++) {
		m->tied[c] = true;
		use(m, c);
	}
}

static void make_model(struct model *m, uint32_t seed)
{
	uint32_t percent = next_random(&seed) % 100;

	memset(m, 0, sizeof(*m));
	CU_ASSERT_EQUAL_FATAL(qd_bits_new(MAX_CLUSTERS, &m->used, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_bits_new(MAX_CLUSTERS, &m->still, NULL), 0);
	add_run(m, 0, 1, true);
	for (unsigned i = next_random(&seed) % (MAX_RUNS - 1); i; i--)
		add_run(m, next_random(&seed) % MAX_CLUSTERS, 1 + next_random(&seed) % 20, false);
	for (uint64_t c = 0; c < MAX_CLUSTERS; c++)
		if (next_random(&seed) % 100 < percent)
			use(m, c);
}

static void free_model(struct model *m)
{
	qd_bits_free(&m->used);
	qd_bits_free(&m->still);
}

static int move_single(void *ctx, uint64_t from, uint64_t to, struct qd_err *err)
{
	struct model *m = ctx;

	(void)err;
	CU_ASSERT_FALSE(m->tied[from]);
	CU_ASSERT_EQUAL(m->what[to], 0);	/* K4 */
	CU_ASSERT(m->nmoves == 0 || to > m->last_to);	/* K3 */
	m->what[to] = m->what[from];
	m->what[from] = 0;
	m->last_to = to;
	m->nmoves++;
	return 0;
}

static void move_runs(struct model *m)
{
	for (size_t i = 0; i < m->nruns; i++) {
		const struct qd_compact_run *r = &m->runs[i];

		CU_ASSERT(!r->fixed || r->to == QD_COMPACT_STAYS);
		if (r->to == QD_COMPACT_STAYS)
			continue;
		for (uint64_t k = 0; k < r->nclusters; k++) {
			CU_ASSERT_EQUAL(m->what[r->to + k], 0);	/* K4 */
			m->what[r->to + k] = m->what[r->first + k];
		}
		for (uint64_t k = 0; k < r->nclusters; k++)
			m->what[r->first + k] = 0;
	}
}

/* Returns the end. */
static uint64_t carry_out(struct model *m)
{
	uint64_t end = 0, nused = 0, after = 0;

	for (uint64_t c = 0; c < MAX_CLUSTERS; c++)
		nused += qd_bits_get(&m->used, c);
	CU_ASSERT_EQUAL_FATAL(qd_compact_plan(&m->used, &m->still, m->runs, m->nruns, move_single, m, &end,
					      NULL), 0);
	move_runs(m);
	for (uint64_t c = 0; c < 2 * MAX_CLUSTERS; c++) {
		after += m->what[c] != 0;
		CU_ASSERT(m->what[c] == 0 || c < end);
	}
	CU_ASSERT_EQUAL(after, nused);	/* K1 */
	CU_ASSERT(end >= nused);
	return end;
}

static void moves_lose_nothing_and_leave_the_tail_empty(void)
{
	for (uint32_t seed = 1; seed <= 3000; seed++) {
		struct model m;

		make_model(&m, seed);
		carry_out(&m);
		free_model(&m);
	}
}

static bool is_of_run(const struct model *m, uint64_t c)
{
	for (size_t i = 0; i < m->nruns; i++)
		if (c >= m->runs[i].first && c < m->runs[i].first + m->runs[i].nclusters)
			return true;
	return false;
}

static void what_never_moves_stays(void)
{
	for (uint32_t seed = 1; seed <= 1000; seed++) {
		struct model m;
		uint32_t random = seed;
		uint64_t end = 0;

		make_model(&m, seed);
		for (uint64_t c = 1; c < MAX_CLUSTERS; c++) {
			if (m.tied[c] || !qd_bits_get(&m.used, c) || next_random(&random) % 8)
				continue;
			qd_bits_set(&m.still, c);
			m.tied[c] = true;
			end = c + 1;
		}
		CU_ASSERT(carry_out(&m) >= end);
		for (uint64_t c = 1; c < MAX_CLUSTERS; c++)
			CU_ASSERT(!qd_bits_get(&m.still, c) || m.what[c] == c + 1 || is_of_run(&m, c));
		free_model(&m);
	}
}

static void without_runs_the_end_is_exact(void)
{
	for (uint32_t seed = 1; seed <= 500; seed++) {
		struct model m;
		uint64_t nused = 0;

		make_model(&m, seed);
		m.nruns = 1;
		memset(m.tied + 1, 0, sizeof(m.tied) - 1);
		for (uint64_t c = 0; c < MAX_CLUSTERS; c++)
			nused += qd_bits_get(&m.used, c);
		CU_ASSERT_EQUAL(carry_out(&m), nused);
		free_model(&m);
	}
}

static void a_full_file_is_left_alone(void)
{
	struct model m;

	make_model(&m, 7);
	for (uint64_t c = 0; c < MAX_CLUSTERS; c++)
		use(&m, c);
	CU_ASSERT_EQUAL(carry_out(&m), MAX_CLUSTERS);
	CU_ASSERT_EQUAL(m.nmoves, 0);
	free_model(&m);
}

static void singles_make_room_for_a_run(void)
{
	struct model m;

	memset(&m, 0, sizeof(m));
	CU_ASSERT_EQUAL_FATAL(qd_bits_new(MAX_CLUSTERS, &m.used, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_bits_new(MAX_CLUSTERS, &m.still, NULL), 0);
	add_run(&m, 0, 1, true);
	for (uint64_t c = 2; c < 40; c += 2)	/* every other cluster: no stretch of 3 is free */
		use(&m, c);
	add_run(&m, 100, 3, false);
	CU_ASSERT_EQUAL(carry_out(&m), 1 + 19 + 3);
	CU_ASSERT_NOT_EQUAL(m.runs[1].to, QD_COMPACT_STAYS);
	free_model(&m);
}

CU_ErrorCode suite_compact_plan(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(moves_lose_nothing_and_leave_the_tail_empty),
		QD_TEST(what_never_moves_stays),
		QD_TEST(without_runs_the_end_is_exact),
		QD_TEST(a_full_file_is_left_alone),
		QD_TEST(singles_make_room_for_a_run),
	};

	return qd_suite_add("compact_plan", tests, sizeof(tests) / sizeof(tests[0]));
}
