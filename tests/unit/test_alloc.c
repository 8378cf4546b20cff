/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Claiming and releasing clusters: the invariants of alloc.h, at every refcount width. */
#include "space/alloc.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "recorder.h"
#include "space/refcount.h"
#include "suites.h"

#define CLUSTER 512u
#define MAX_CLUSTERS 16384u

struct setup {
	struct recorder *rec;
	struct qd_io *io;
	struct qd_geom geom;
	struct qd_queue *queue;
	struct qd_cache *cache;
	struct qd_extents guard;
	struct qd_alloc *alloc;
};

static struct qd_geom geometry(uint32_t order)
{
	struct qd_header h = { .version = 3, .cluster_bits = 9, .refcount_order = order };
	struct qd_geom g;

	qd_geom_init(&h, &g);
	return g;
}

/* header | refcount table | block 0, which counts these three */
static void make_image(uint8_t *file, uint32_t order)
{
	memset(file, 0, 3 * CLUSTER);
	qd_put_be64(file + QD_HEADER_OFF_REFTABLE_OFF, CLUSTER);
	qd_put_be32(file + QD_HEADER_OFF_REFTABLE_CLUSTERS, 1);
	qd_put_be64(file + CLUSTER, 2 * CLUSTER);
	for (uint64_t i = 0; i < 3; i++)
		qd_refcount_set(file + 2 * CLUSTER, order, i, 1);
}

/* Opens what the header of the file in s->io says. */
static int open_alloc(struct setup *s, uint32_t order, struct qd_err *err)
{
	struct qd_alloc_image ai = { .geom = &s->geom, .io = s->io, .guard = &s->guard };
	uint8_t header[CLUSTER];

	s->geom = geometry(order);
	qd_extents_init(&s->guard, 1u << 20);
	CU_ASSERT_EQUAL_FATAL(qd_io_read(s->io, header, sizeof(header), 0, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_io_size(s->io, &ai.file_size, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(s->io, 1u << 20, &s->queue, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_cache_new(s->queue, CLUSTER, 64u << 10, &s->cache, NULL), 0);
	ai.queue = s->queue;
	ai.cache = s->cache;
	ai.reftable_off = qd_get_be64(header + QD_HEADER_OFF_REFTABLE_OFF);
	ai.reftable_clusters = qd_get_be32(header + QD_HEADER_OFF_REFTABLE_CLUSTERS);
	return qd_alloc_open(&ai, &s->alloc, err);
}

static void close_alloc(struct setup *s)
{
	qd_alloc_free(s->alloc);
	qd_cache_free(s->cache);
	qd_queue_free(s->queue);
	qd_extents_free(&s->guard);
	s->alloc = NULL;
	s->cache = NULL;
	s->queue = NULL;
}

static void set_up(struct setup *s, uint32_t order)
{
	uint8_t file[3 * CLUSTER];
	struct qd_io *mem = NULL;

	memset(s, 0, sizeof(*s));
	make_image(file, order);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(file, sizeof(file), true, &mem, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(recorder_new(mem, &s->rec, NULL), 0);
	s->io = recorder_io(s->rec);
	CU_ASSERT_EQUAL_FATAL(open_alloc(s, order, NULL), 0);
}

static void tear_down(struct setup *s)
{
	close_alloc(s);
	recorder_free(s->rec);
}

static uint64_t claim(struct setup *s)
{
	uint64_t cluster = 0;

	CU_ASSERT_EQUAL_FATAL(qd_alloc_claim(s->alloc, &cluster, NULL), 0);
	return cluster;
}

static uint64_t count_of(struct setup *s, uint64_t cluster)
{
	uint64_t count = UINT64_MAX;

	CU_ASSERT_EQUAL_FATAL(qd_alloc_count(s->alloc, cluster, &count, NULL), 0);
	return count;
}

static void save(struct setup *s)
{
	CU_ASSERT_EQUAL(qd_alloc_write(s->alloc, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_flush(s->queue, NULL), 0);
}

/* Marks what holds the refcount structure, as the file says. */
static void mark_structure(struct setup *s, uint8_t *used)
{
	uint8_t header[CLUSTER], entry[8];
	uint64_t off, n;

	CU_ASSERT_EQUAL_FATAL(qd_io_read(s->io, header, sizeof(header), 0, NULL), 0);
	off = qd_get_be64(header + QD_HEADER_OFF_REFTABLE_OFF);
	n = qd_get_be32(header + QD_HEADER_OFF_REFTABLE_CLUSTERS);
	used[0] = 1;
	for (uint64_t i = 0; i < n; i++)
		used[off / CLUSTER + i] = 1;
	for (uint64_t i = 0; i < n * CLUSTER / 8; i++) {
		CU_ASSERT_EQUAL_FATAL(qd_io_read(s->io, entry, 8, off + i * 8, NULL), 0);
		if (qd_get_be64(entry))
			used[qd_get_be64(entry) / CLUSTER] = 1;
	}
}

static void counts_are_those_of_a_model_at_every_width(void)
{
	for (uint32_t order = 0; order <= 6; order++) {
		static uint8_t used[MAX_CLUSTERS];
		uint64_t seed = order + 1, bad = 0;
		struct setup s;

		memset(used, 0, sizeof(used));
		set_up(&s, order);
		for (unsigned i = 0; i < 6000; i++) {
			uint64_t cluster = claim(&s);

			CU_ASSERT_TRUE_FATAL(cluster < MAX_CLUSTERS);
			bad += used[cluster];
			used[cluster] = 1;
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			if (seed >> 62 == 0) {
				CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, cluster, NULL), 0);
				used[cluster] = 2;	/* not free before settling */
			}
			if (seed >> 54 == 7) {
				save(&s);
				CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
				CU_ASSERT_EQUAL(qd_alloc_pending(s.alloc), 0);
				for (unsigned k = 0; k < MAX_CLUSTERS; k++)
					used[k] = used[k] == 1;
			}
		}
		save(&s);
		CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
		save(&s);
		close_alloc(&s);
		for (unsigned k = 0; k < MAX_CLUSTERS; k++)
			used[k] = used[k] == 1;
		mark_structure(&s, used);
		CU_ASSERT_EQUAL_FATAL(open_alloc(&s, order, NULL), 0);
		for (unsigned k = 0; k < MAX_CLUSTERS; k++)
			bad += count_of(&s, k) != used[k];
		CU_ASSERT_EQUAL(bad, 0);
		tear_down(&s);
	}
}

static void released_clusters_wait_to_be_settled(void)
{
	uint8_t buf[CLUSTER], zeros[CLUSTER] = { 0 };
	struct setup s;
	uint64_t a, b;

	set_up(&s, 4);
	a = claim(&s);
	CU_ASSERT_EQUAL(a, 3);
	memset(buf, 0xee, sizeof(buf));
	CU_ASSERT_EQUAL(qd_io_write(s.io, buf, sizeof(buf), a * CLUSTER, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, a, NULL), 0);
	b = claim(&s);
	CU_ASSERT_EQUAL(b, 4);
	CU_ASSERT_EQUAL(qd_io_read(s.io, buf, sizeof(buf), a * CLUSTER, NULL), 0);
	CU_ASSERT_EQUAL(buf[0], 0xee);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(s.io, buf, sizeof(buf), a * CLUSTER, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, zeros, sizeof(buf)), 0);
	CU_ASSERT_EQUAL(claim(&s), a);
	CU_ASSERT_EQUAL(claim(&s), b + 1);
	tear_down(&s);
}

/* Writes to the clusters [first, end), as if they held data. */
static void mark_bytes(struct setup *s, uint64_t first, uint64_t end)
{
	uint8_t buf[CLUSTER];

	memset(buf, 0xee, sizeof(buf));
	for (; first < end; first++)
		CU_ASSERT_EQUAL(qd_io_write(s->io, buf, sizeof(buf), first * CLUSTER, NULL), 0);
}

static bool holds_bytes(struct setup *s, uint64_t cluster)
{
	uint8_t byte = 0;

	CU_ASSERT_EQUAL(qd_io_read(s->io, &byte, 1, cluster * CLUSTER, NULL), 0);
	return byte != 0;
}

/* Claims 3 to 9, marks their bytes and frees 4 and 7 without making holes. */
static void free_two(struct setup *s)
{
	set_up(s, 4);
	for (unsigned i = 3; i < 10; i++)
		CU_ASSERT_EQUAL(claim(s), i);
	mark_bytes(s, 3, 10);
	qd_alloc_keep_bytes(s->alloc);
	CU_ASSERT_EQUAL(qd_alloc_release(s->alloc, 4, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s->alloc, 7, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s->alloc, NULL), 0);
	save(s);
	close_alloc(s);
	CU_ASSERT_EQUAL_FATAL(open_alloc(s, 4, NULL), 0);
}

static void holes_take_in_free_clusters_when_told(void)
{
	for (int around = 0; around < 2; around++) {
		static const uint64_t released[] = { 8, 3, 5, 6 };
		struct setup s;

		free_two(&s);
		if (around)
			qd_alloc_punch_around(s.alloc);
		for (unsigned i = 0; i < 4; i++)
			CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, released[i], NULL), 0);
		CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
		for (uint64_t c = 3; c < 9; c++)
			CU_ASSERT_EQUAL(holds_bytes(&s, c), !around && (c == 4 || c == 7));
		CU_ASSERT_TRUE(holds_bytes(&s, 9));
		tear_down(&s);
	}
}

/* 5 and 6 are in use: the holes on both sides leave them alone. */
static void holes_never_take_in_what_is_in_use(void)
{
	struct setup s;

	free_two(&s);
	qd_alloc_punch_around(s.alloc);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, 3, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, 8, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	for (uint64_t c = 3; c < 10; c++)
		CU_ASSERT_EQUAL(holds_bytes(&s, c), c != 3 && c != 8);
	tear_down(&s);
}

static void bytes_of_all_free_clusters_can_be_given_back(void)
{
	struct setup s;

	free_two(&s);
	mark_bytes(&s, 10, 12);
	close_alloc(&s);
	CU_ASSERT_EQUAL_FATAL(open_alloc(&s, 4, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_punch_free(s.alloc, NULL), 0);
	for (uint64_t c = 3; c < 12; c++)
		CU_ASSERT_EQUAL(holds_bytes(&s, c), c < 10 && c != 4 && c != 7);
	tear_down(&s);
}

static void a_cluster_is_free_when_the_last_reference_is(void)
{
	struct setup s;
	uint8_t *block;

	set_up(&s, 4);
	CU_ASSERT_EQUAL(claim(&s), 3);
	CU_ASSERT_EQUAL_FATAL(qd_cache_get(s.cache, QD_CACHE_REFBLOCK, 2 * CLUSTER, &block, NULL), 0);
	qd_refcount_set(block, 4, 3, 3);
	qd_cache_touch(s.cache);
	for (unsigned i = 0; i < 3; i++) {
		CU_ASSERT_EQUAL(count_of(&s, 3), 3 - i);
		CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, 3, NULL), 0);
		CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
		CU_ASSERT_EQUAL(claim(&s), i < 2 ? 4 + i : 3);
	}
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, 40, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), QD_E_CORRUPT);
	tear_down(&s);
}

struct freed {
	uint64_t cluster[8];
	unsigned n;
};

static int note_freed(void *ctx, uint64_t cluster, struct qd_err *err)
{
	struct freed *f = ctx;

	(void)err;
	f->cluster[f->n++] = cluster;
	return 0;
}

/* In ascending order, each once, and only if no reference is left. */
static void what_settling_frees_is_known_before(void)
{
	struct setup s;
	struct freed f = { .n = 0 };
	uint64_t one, shared, both;

	set_up(&s, 4);
	one = claim(&s);
	shared = claim(&s);
	both = claim(&s);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, shared, 1, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, both, 1, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, both, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, shared, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, one, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, both, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_each_freed(s.alloc, note_freed, &f, NULL), 0);
	CU_ASSERT_EQUAL(f.n, 2);
	CU_ASSERT_EQUAL(f.cluster[0], one);
	CU_ASSERT_EQUAL(f.cluster[1], both);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	CU_ASSERT_EQUAL(count_of(&s, shared), 1);
	CU_ASSERT_EQUAL(count_of(&s, both), 0);
	tear_down(&s);
}

static void what_holds_a_structure_is_never_claimed(void)
{
	struct qd_err err = { .code = 0 };
	struct setup s;
	uint64_t cluster;
	uint8_t *block;

	set_up(&s, 4);
	CU_ASSERT_EQUAL_FATAL(qd_cache_get(s.cache, QD_CACHE_REFBLOCK, 2 * CLUSTER, &block, NULL), 0);
	qd_refcount_set(block, 4, 1, 0);	/* the table's own count is wrong */
	CU_ASSERT_EQUAL(qd_alloc_claim(s.alloc, &cluster, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "refcount table"));
	CU_ASSERT_EQUAL(qd_alloc_guard(s.alloc, 2, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "refcount block"));
	CU_ASSERT_EQUAL(qd_alloc_guard(s.alloc, 3, &err), 0);
	tear_down(&s);
}

static void tables_that_cannot_be_true_are_refused(void)
{
	static const uint64_t bad[] = { 0x401, 0x500, 0x600, 1ull << 62 };
	struct setup s;

	for (size_t i = 0; i < sizeof(bad) / sizeof(bad[0]); i++) {
		uint8_t entry[8];

		set_up(&s, 4);
		close_alloc(&s);
		qd_put_be64(entry, bad[i]);
		CU_ASSERT_EQUAL(qd_io_write(s.io, entry, 8, CLUSTER + 8, NULL), 0);
		CU_ASSERT_EQUAL(open_alloc(&s, 4, NULL), QD_E_CORRUPT);
		tear_down(&s);
	}
}

/* A1 and A3: whatever a crash leaves of a growing structure can be read, and counts what was flushed. */
static void growth_survives_a_crash_at_any_write(void)
{
	size_t flushed_at[40];
	uint64_t claimed[40], bad = 0;
	unsigned nflushes = 0;
	struct crash c;
	struct setup s;

	set_up(&s, 6);
	for (unsigned i = 0; i < 40; i++) {
		for (unsigned k = 0; k < 150; k++)
			claimed[i] = claim(&s);
		save(&s);
		flushed_at[nflushes++] = recorder_nops(s.rec);
	}
	for (size_t i = 0; recorder_plan(s.rec, 1, 5, i, &c); i++) {
		struct setup after = { .io = NULL };
		uint64_t last = 2;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(s.rec, &c, &after.io, NULL), 0);
		for (unsigned k = 0; k < nflushes && flushed_at[k] <= c.nops; k++)
			last = claimed[k];
		if (open_alloc(&after, 6, NULL) == 0)
			for (uint64_t k = 0; k <= last; k++)
				bad += count_of(&after, k) == 0 && count_of(&s, k) != 0;
		else
			bad++;
		close_alloc(&after);
		qd_io_close(after.io);
	}
	CU_ASSERT_EQUAL(bad, 0);
	tear_down(&s);
}

static void runs_are_free_and_counted_at_every_width(void)
{
	for (uint32_t order = 0; order <= 6; order++) {
		static uint8_t used[MAX_CLUSTERS * 4];
		uint64_t seed = order + 77, bad = 0;
		struct setup s;

		memset(used, 0, sizeof(used));
		set_up(&s, order);
		for (unsigned i = 0; i < 60; i++) {
			uint64_t first = 0, n;

			seed = seed * 6364136223846793005u + 1442695040888963407u;
			n = seed >> 60 ? 1 + (seed >> 58) : 700;
			CU_ASSERT_EQUAL_FATAL(qd_alloc_claim_run(s.alloc, n, &first, NULL), 0);
			CU_ASSERT_TRUE_FATAL(first + n <= MAX_CLUSTERS * 4);
			for (uint64_t c = first; c < first + n; c++) {
				bad += used[c] || count_of(&s, c) != 1;
				used[c] = 1;
			}
			n = claim(&s);
			bad += used[n];
			used[n] = 1;
			if (i % 3 == 0) {	/* a gap for later runs */
				for (uint64_t c = first; c < first + 20 && used[c] == 1; c++) {
					CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, c, NULL), 0);
					used[c] = 0;
				}
				CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
			}
		}
		save(&s);
		close_alloc(&s);
		mark_structure(&s, used);
		CU_ASSERT_EQUAL_FATAL(open_alloc(&s, order, NULL), 0);
		for (unsigned k = 0; k < MAX_CLUSTERS * 4; k++)
			bad += count_of(&s, k) != used[k];
		CU_ASSERT_EQUAL(bad, 0);
		tear_down(&s);
	}
}

static void a_run_takes_the_lowest_gap_that_holds_it(void)
{
	uint64_t first = 0;
	struct setup s;

	set_up(&s, 4);
	for (unsigned i = 3; i < 40; i++)
		CU_ASSERT_EQUAL(claim(&s), i);
	for (unsigned i = 10; i < 30; i++)
		if (i != 14 && i != 22)
			CU_ASSERT_EQUAL(qd_alloc_release(s.alloc, i, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_claim_run(s.alloc, 7, &first, NULL), 0);
	CU_ASSERT_EQUAL(first, 15);
	CU_ASSERT_EQUAL(qd_alloc_claim_run(s.alloc, 4, &first, NULL), 0);
	CU_ASSERT_EQUAL(first, 10);
	CU_ASSERT_EQUAL(qd_alloc_claim_run(s.alloc, 8, &first, NULL), 0);
	CU_ASSERT_EQUAL(first, 40);
	CU_ASSERT_EQUAL(claim(&s), 23);
	tear_down(&s);
}

/* What a crash left of claims that were never used: clusters 3 to 20 have counts, and the file ends before. */
static void what_lies_behind_the_end_is_free_whatever_its_count(void)
{
	for (uint32_t order = 0; order <= 6; order++) {
		uint8_t block[CLUSTER];
		uint64_t first = 0;
		struct setup s;

		set_up(&s, order);
		close_alloc(&s);
		CU_ASSERT_EQUAL_FATAL(qd_io_read(s.io, block, sizeof(block), 2 * CLUSTER, NULL), 0);
		for (uint64_t i = 3; i <= 20; i++)
			qd_refcount_set(block, order, i, order ? 2 : 1);
		CU_ASSERT_EQUAL_FATAL(qd_io_write(s.io, block, sizeof(block), 2 * CLUSTER, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(open_alloc(&s, order, NULL), 0);
		CU_ASSERT_EQUAL(claim(&s), 3);
		CU_ASSERT_EQUAL(claim(&s), 4);
		CU_ASSERT_EQUAL(qd_alloc_claim_run(s.alloc, 3, &first, NULL), 0);
		CU_ASSERT_EQUAL(first, 5);
		CU_ASSERT_EQUAL(claim(&s), 8);
		for (uint64_t i = 3; i <= 8; i++)
			CU_ASSERT_EQUAL(count_of(&s, i), 1);
		tear_down(&s);
	}
}

static void many_references_come_and_go_at_once(void)
{
	uint8_t buf[CLUSTER];
	uint64_t cluster;
	struct setup s;

	set_up(&s, 4);
	cluster = claim(&s);
	memset(buf, 0xee, sizeof(buf));
	CU_ASSERT_EQUAL(qd_io_write(s.io, buf, sizeof(buf), cluster * CLUSTER, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, cluster, 65534, NULL), 0);
	CU_ASSERT_EQUAL(count_of(&s, cluster), 65535);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, cluster, 1, NULL), QD_E_UNSUPPORTED);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, cluster + 1, 1, NULL), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_alloc_share(s.alloc, 100000, 1, NULL), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(count_of(&s, cluster), 65535);
	CU_ASSERT_EQUAL(qd_alloc_release_many(s.alloc, cluster, 65000, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_release_many(s.alloc, cluster, 0, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	CU_ASSERT_EQUAL(count_of(&s, cluster), 535);
	CU_ASSERT_EQUAL(qd_alloc_release_many(s.alloc, cluster, 535, NULL), 0);
	qd_alloc_keep_bytes(s.alloc);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(s.io, buf, sizeof(buf), cluster * CLUSTER, NULL), 0);
	CU_ASSERT_EQUAL(buf[0], 0xee);
	CU_ASSERT_EQUAL(claim(&s), cluster);
	CU_ASSERT_EQUAL(qd_alloc_release_many(s.alloc, cluster, 2, NULL), 0);
	CU_ASSERT_EQUAL(qd_alloc_settle(s.alloc, NULL), QD_E_CORRUPT);
	tear_down(&s);
}

CU_ErrorCode suite_alloc(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(counts_are_those_of_a_model_at_every_width),
		QD_TEST(released_clusters_wait_to_be_settled),
		QD_TEST(holes_take_in_free_clusters_when_told),
		QD_TEST(holes_never_take_in_what_is_in_use),
		QD_TEST(bytes_of_all_free_clusters_can_be_given_back),
		QD_TEST(a_cluster_is_free_when_the_last_reference_is),
		QD_TEST(what_settling_frees_is_known_before),
		QD_TEST(what_holds_a_structure_is_never_claimed),
		QD_TEST(tables_that_cannot_be_true_are_refused),
		QD_TEST(runs_are_free_and_counted_at_every_width),
		QD_TEST(a_run_takes_the_lowest_gap_that_holds_it),
		QD_TEST(what_lies_behind_the_end_is_free_whatever_its_count),
		QD_TEST(many_references_come_and_go_at_once),
		QD_TEST(growth_survives_a_crash_at_any_write),
	};

	return QD_SUITE_ADD("alloc", tests);
}
