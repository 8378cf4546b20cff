/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Reference counts against an array of plain numbers. */
#include "space/counts.h"

#include <CUnit/CUnit.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "suites.h"

#define CLUSTERS (3u * QD_COUNTS_CHUNK + 100)
#define MEMORY (64u << 20)

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33;
}

static struct qd_counts *new_counts(uint64_t limit)
{
	struct qd_counts *c = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_counts_new(CLUSTERS, limit, &c, NULL), 0);
	return c;
}

static unsigned flags_at(const struct qd_counts *c, uint64_t cluster)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c, cluster >> QD_COUNTS_CHUNK_BITS);

	return chunk ? chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)] & ~QD_COUNT_LOW : 0;
}

static void counts_agree_with_plain_numbers(void)
{
	uint64_t *model = calloc(CLUSTERS, sizeof(*model)), seed = 1;
	struct qd_counts *c = new_counts(MEMORY);
	bool same = true;

	for (int i = 0; i < 300000; i++) {
		/* a few clusters are named very often */
		uint64_t k = next_random(&seed) % (i % 3 ? 50 : CLUSTERS),
			 n = next_random(&seed) % 40 ? 1 : 1000;

		qd_counts_add(c, k, 0, n);
		model[k] += n;
	}
	for (uint64_t k = 0; k < CLUSTERS; k++)
		same = same && qd_counts_get(c, k) == model[k];
	CU_ASSERT_TRUE(same);
	CU_ASSERT_FALSE(qd_counts_overfull(c));
	qd_counts_free(c);
	free(model);
}

static void flags_say_who_names_a_cluster(void)
{
	struct qd_counts *c = new_counts(MEMORY);

	qd_counts_add(c, 7, QD_COUNT_COPIED, 1);
	CU_ASSERT_EQUAL(flags_at(c, 7), QD_COUNT_COPIED);
	qd_counts_add(c, 7, QD_COUNT_PINNED, 1);
	CU_ASSERT_EQUAL(flags_at(c, 7), QD_COUNT_COPIED | QD_COUNT_PINNED);
	qd_counts_add(c, 7, QD_COUNT_CLEAR, 1);
	CU_ASSERT_EQUAL(flags_at(c, 7), QD_COUNT_COPIED | QD_COUNT_CLEAR | QD_COUNT_PINNED | QD_COUNT_TWICE);
	qd_counts_add(c, 8, 0, 2);
	CU_ASSERT_EQUAL(flags_at(c, 8), 0);
	qd_counts_add(c, 9, QD_COUNT_CLEAR, 1);
	qd_counts_add(c, 9, QD_COUNT_CLEAR, 1);
	CU_ASSERT_EQUAL(flags_at(c, 9), QD_COUNT_CLEAR | QD_COUNT_TWICE);
	qd_counts_free(c);
}

static void metadata_stays_metadata(void)
{
	struct qd_counts *c = new_counts(MEMORY);

	qd_counts_add_metadata(c, 5, 1);
	qd_counts_add_metadata(c, 5, 20);
	CU_ASSERT_EQUAL(qd_counts_get(c, 5), 21);
	CU_ASSERT_FALSE(atomic_load(&c->hit_metadata));
	qd_counts_add(c, 5, QD_COUNT_COPIED, 1);
	CU_ASSERT_EQUAL(qd_counts_get(c, 5), 21);
	CU_ASSERT_EQUAL(flags_at(c, 5), QD_COUNT_META);
	CU_ASSERT_TRUE(atomic_load(&c->hit_metadata));
	qd_counts_free(c);
}

static void only_the_window_is_counted(void)
{
	struct qd_counts *c = new_counts(MEMORY);

	qd_counts_window(c, 1, 2);
	qd_counts_add(c, 5, 0, 1);
	qd_counts_add(c, QD_COUNTS_CHUNK + 5, 0, 1);
	qd_counts_add(c, 2 * QD_COUNTS_CHUNK, 0, 1);
	CU_ASSERT_EQUAL(qd_counts_get(c, 5), 0);
	CU_ASSERT_EQUAL(qd_counts_get(c, QD_COUNTS_CHUNK + 5), 1);
	CU_ASSERT_EQUAL(qd_counts_get(c, 2 * QD_COUNTS_CHUNK), 0);
	qd_counts_window(c, 0, 1);
	CU_ASSERT_EQUAL(qd_counts_get(c, QD_COUNTS_CHUNK + 5), 0);
	qd_counts_free(c);
}

static void the_limit_is_kept(void)
{
	struct qd_counts *c = new_counts(sizeof(struct qd_counts_chunk) + 100);

	CU_ASSERT_EQUAL(qd_counts_fit_bytes(c), 1);
	qd_counts_add(c, 5, 0, 1);
	CU_ASSERT_FALSE(qd_counts_overfull(c));
	qd_counts_add(c, QD_COUNTS_CHUNK, 0, 1);
	CU_ASSERT_TRUE(qd_counts_overfull(c));
	qd_counts_window(c, 1, 2);
	CU_ASSERT_FALSE(qd_counts_overfull(c));
	qd_counts_add(c, QD_COUNTS_CHUNK, 0, 16);
	CU_ASSERT_TRUE(qd_counts_overfull(c));
	qd_counts_free(c);
}

struct adder {
	struct qd_counts *c;
	uint64_t seed;
};

static void *add_many(void *arg)
{
	struct adder *a = arg;
	uint64_t seed = a->seed;

	for (int i = 0; i < 200000; i++)
		qd_counts_add(a->c, next_random(&seed) % 1000 * 150, QD_COUNT_CLEAR, 1);
	return NULL;
}

static void threads_do_not_lose_counts(void)
{
	struct qd_counts *c = new_counts(MEMORY);
	struct adder adders[4];
	pthread_t threads[4];
	uint64_t sum = 0;

	for (unsigned i = 0; i < 4; i++) {
		adders[i] = (struct adder){ c, i };
		CU_ASSERT_EQUAL_FATAL(pthread_create(&threads[i], NULL, add_many, &adders[i]), 0);
	}
	for (unsigned i = 0; i < 4; i++)
		pthread_join(threads[i], NULL);
	for (uint64_t k = 0; k < CLUSTERS; k++)
		sum += qd_counts_get(c, k);
	CU_ASSERT_EQUAL(sum, 4 * 200000);
	qd_counts_free(c);
}

static void an_absurd_number_of_clusters_is_refused(void)
{
	struct qd_counts *c = NULL;
	struct qd_err err;

	CU_ASSERT_EQUAL(qd_counts_new(QD_COUNTS_MAX_CLUSTERS + 1, MEMORY, &c, &err), QD_E_UNSUPPORTED);
	CU_ASSERT_PTR_NULL(c);
	qd_counts_free(c);
}

CU_ErrorCode suite_counts(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(counts_agree_with_plain_numbers),
		QD_TEST(flags_say_who_names_a_cluster),
		QD_TEST(metadata_stays_metadata),
		QD_TEST(only_the_window_is_counted),
		QD_TEST(the_limit_is_kept),
		QD_TEST(threads_do_not_lose_counts),
		QD_TEST(an_absurd_number_of_clusters_is_refused),
	};

	return QD_SUITE_ADD("counts", tests);
}
