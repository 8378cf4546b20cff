/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The cache of metadata clusters: what leaves it and when. */
#include "space/cache.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_mem.h"
#include "suites.h"

#define CLUSTER 512u
#define NCLUSTERS 64u

struct setup {
	struct qd_io *io;
	struct qd_queue *queue;
	struct qd_cache *cache;
};

/* Cluster n of the file is filled with n. */
static void set_up(struct setup *s, uint64_t limit)
{
	static uint8_t file[CLUSTER * NCLUSTERS];

	for (size_t i = 0; i < sizeof(file); i++)
		file[i] = (uint8_t)(i / CLUSTER);
	memset(s, 0, sizeof(*s));
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(file, sizeof(file), true, &s->io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(s->io, 1u << 20, &s->queue, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_cache_new(s->queue, CLUSTER, limit, &s->cache, NULL), 0);
}

static void tear_down(struct setup *s)
{
	qd_cache_free(s->cache);
	qd_queue_free(s->queue);
	qd_io_close(s->io);
}

static uint8_t *get(struct setup *s, enum qd_cache_class class, uint64_t n)
{
	uint8_t *data = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_cache_get(s->cache, class, n * CLUSTER, &data, NULL), 0);
	return data;
}

static void change(struct setup *s, enum qd_cache_class class, uint64_t n, uint8_t value)
{
	memset(get(s, class, n), value, CLUSTER);
	qd_cache_touch(s->cache);
}

static uint8_t in_file(struct setup *s, uint64_t n)
{
	size_t nbytes;

	CU_ASSERT_EQUAL(qd_queue_flush(s->queue, NULL), 0);
	return qd_io_mem_data(s->io, &nbytes)[n * CLUSTER + 5];
}

static void classes_leave_when_they_are_told_to(void)
{
	struct setup s;

	set_up(&s, 1u << 20);
	change(&s, QD_CACHE_REFBLOCK, 3, 0xa3);
	change(&s, QD_CACHE_L2, 4, 0xa4);
	CU_ASSERT_EQUAL(in_file(&s, 3), 3);
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_REFBLOCK, NULL), 0);
	CU_ASSERT_EQUAL(in_file(&s, 3), 0xa3);
	CU_ASSERT_EQUAL(in_file(&s, 4), 4);
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_L2, NULL), 0);
	CU_ASSERT_EQUAL(in_file(&s, 4), 0xa4);
	tear_down(&s);
}

static void changes_survive_any_number_of_other_clusters(void)
{
	struct setup s;

	set_up(&s, 8 * CLUSTER);
	for (uint64_t n = 0; n < NCLUSTERS; n += 5)
		change(&s, QD_CACHE_L2, n, (uint8_t)(0x80 + n));
	for (uint64_t n = 0; n < 10 * NCLUSTERS; n++) {
		uint64_t k = n * 7 % NCLUSTERS;

		CU_ASSERT_EQUAL(get(&s, QD_CACHE_L2, k)[9], k % 5 ? k : 0x80 + k);
	}
	CU_ASSERT_TRUE(qd_cache_is_full(s.cache));
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_L2, NULL), 0);
	CU_ASSERT_FALSE(qd_cache_is_full(s.cache));
	for (uint64_t n = 0; n < NCLUSTERS; n++)
		CU_ASSERT_EQUAL(in_file(&s, n), n % 5 ? n : 0x80 + n);
	tear_down(&s);
}

static void what_is_dropped_is_never_written(void)
{
	struct setup s;

	set_up(&s, 1u << 20);
	change(&s, QD_CACHE_L2, 7, 0x77);
	qd_cache_drop(s.cache, 7 * CLUSTER);
	qd_cache_drop(s.cache, 8 * CLUSTER);
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_L2, NULL), 0);
	CU_ASSERT_EQUAL(in_file(&s, 7), 7);
	CU_ASSERT_EQUAL(get(&s, QD_CACHE_REFBLOCK, 7)[0], 7);
	tear_down(&s);
}

static void a_new_cluster_is_zeros_and_dirty(void)
{
	struct setup s;
	uint8_t *data;

	set_up(&s, 1u << 20);
	change(&s, QD_CACHE_L2, 9, 0x99);
	CU_ASSERT_EQUAL(qd_cache_add(s.cache, QD_CACHE_REFBLOCK, 9 * CLUSTER, &data, NULL), 0);
	CU_ASSERT_EQUAL(data[0], 0);
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_REFBLOCK, NULL), 0);
	CU_ASSERT_EQUAL(in_file(&s, 9), 0);
	CU_ASSERT_EQUAL(qd_cache_add(s.cache, QD_CACHE_L2, 200 * CLUSTER, &data, NULL), 0);
	CU_ASSERT_EQUAL(qd_cache_write(s.cache, QD_CACHE_L2, NULL), 0);
	CU_ASSERT_EQUAL(in_file(&s, 200), 0);
	tear_down(&s);
}

static void one_cluster_is_of_one_class(void)
{
	struct qd_err err = { .code = 0 };
	struct setup s;
	uint8_t *data;

	set_up(&s, 1u << 20);
	get(&s, QD_CACHE_L2, 2);
	CU_ASSERT_EQUAL(qd_cache_get(s.cache, QD_CACHE_REFBLOCK, 2 * CLUSTER, &data, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "0x400"));
	tear_down(&s);
}

static void queued_writes_are_seen(void)
{
	struct setup s;

	set_up(&s, 1u << 20);
	CU_ASSERT_EQUAL(qd_queue_write(s.queue, "\x42", 1, 6 * CLUSTER + 1, NULL), 0);
	CU_ASSERT_EQUAL(get(&s, QD_CACHE_L2, 6)[1], 0x42);
	CU_ASSERT_EQUAL(get(&s, QD_CACHE_L2, 6)[2], 6);
	tear_down(&s);
}

CU_ErrorCode suite_cache(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(classes_leave_when_they_are_told_to),
		QD_TEST(changes_survive_any_number_of_other_clusters),
		QD_TEST(what_is_dropped_is_never_written),
		QD_TEST(a_new_cluster_is_zeros_and_dirty),
		QD_TEST(one_cluster_is_of_one_class),
		QD_TEST(queued_writes_are_seen),
	};

	return QD_SUITE_ADD("cache", tests);
}
