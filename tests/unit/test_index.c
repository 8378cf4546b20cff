/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The index against a model that is plain to see: fingerprint number i has a list of the
 * values inserted for it.  Everything is done twice, with room in memory and with so
 * little that the table lives in a file, and must come out the same.
 */
#include "dedup/index.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "scratch.h"
#include "suites.h"

#define AMPLE (1ull << 30)
#define TINY (64ull << 10)
#define NFINGERPRINTS 150000u
#define NOPS 500000u

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static struct qd_fingerprint fingerprint(uint64_t i)
{
	uint64_t state = i * 0x632be59bd9b4e019u + 1;
	struct qd_fingerprint f = { .hi = next_random(&state) };

	f.lo = next_random(&state);
	return f;
}

static struct qd_index *new_index(uint64_t memory, const struct scratch *s)
{
	struct qd_index *ix = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_index_new(memory, s->dir, &ix, NULL), 0);
	return ix;
}

/* ---- the model ----------------------------------------------------------------------- */

struct values {
	uint32_t v[QD_INDEX_CANDIDATES];
	unsigned n;
};

static int compare_values(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return (*a > *b) - (*a < *b);
}

static bool finds(struct qd_index *ix, struct qd_fingerprint f, const struct values *expected)
{
	uint64_t got[QD_INDEX_CANDIDATES], want[QD_INDEX_CANDIDATES];
	unsigned n = 99;

	CU_ASSERT_EQUAL_FATAL(qd_index_find(ix, f, got, &n, NULL), 0);
	if (n != expected->n)
		return false;
	for (unsigned i = 0; i < n; i++)
		want[i] = expected->v[i];
	qsort(got, n, sizeof(*got), compare_values);
	qsort(want, n, sizeof(*want), compare_values);
	return memcmp(got, want, n * sizeof(*got)) == 0;
}

/* Beyond the candidates that a look-up yields, nothing is kept. */
static void insert(struct qd_index *ix, struct values *model, uint64_t i, uint32_t value)
{
	CU_ASSERT_EQUAL_FATAL(qd_index_insert(ix, fingerprint(i), value, NULL), 0);
	if (model->n < QD_INDEX_CANDIDATES)
		model->v[model->n++] = value;
}

/* Some entry, or one that is not there, gets a new value. */
static void replace(struct qd_index *ix, struct values *model, uint64_t i, uint32_t value, uint64_t choice)
{
	unsigned k = (unsigned)(choice % (model->n + 1));
	uint64_t old = k < model->n ? model->v[k] : 0xfffffffffu;

	CU_ASSERT_EQUAL_FATAL(qd_index_replace(ix, fingerprint(i), old, value, NULL), 0);
	if (k < model->n)
		model->v[k] = value;
}

static void check_all(struct qd_index *ix, const struct values *models)
{
	uint64_t entries = 0;
	unsigned wrong = 0;

	for (uint64_t i = 0; i < NFINGERPRINTS; i++) {
		wrong += !finds(ix, fingerprint(i), &models[i]);
		entries += models[i].n;
	}
	CU_ASSERT_EQUAL(wrong, 0);
	CU_ASSERT_EQUAL(qd_index_entries(ix), entries);
	/* Never inserted, never found. */
	for (uint64_t i = 0; i < 20000; i++) {
		static const struct values none;

		wrong += !finds(ix, fingerprint(NFINGERPRINTS + i), &none);
	}
	CU_ASSERT_EQUAL(wrong, 0);
}

/* A few fingerprints come up very often, so that the bound on candidates is met. */
static uint64_t pick(uint64_t *seed)
{
	return next_random(seed) % (next_random(seed) % 50 ? NFINGERPRINTS : 100);
}

static void run_against_model(uint64_t memory, bool spills)
{
	struct values *models = calloc(NFINGERPRINTS, sizeof(*models));
	uint64_t seed = 42;
	struct qd_index *ix;
	struct scratch s;
	bool over = false;

	CU_ASSERT_PTR_NOT_NULL_FATAL(models);
	scratch_open(&s);
	ix = new_index(memory, &s);
	for (uint32_t op = 0; op < NOPS; op++) {
		uint64_t i = pick(&seed), what = next_random(&seed) % 8;

		if (what < 4)
			insert(ix, &models[i], i, op);
		else if (what == 4)
			replace(ix, &models[i], i, op, next_random(&seed));
		else if (!finds(ix, fingerprint(i), &models[i]))
			CU_FAIL("look-up");
		if (!spills && qd_index_entries(ix) > 5000 && qd_index_memory(ix) > 16 * qd_index_entries(ix))
			over = true;
		if (spills && qd_index_memory(ix) > 3 * memory)
			over = true;
	}
	CU_ASSERT_FALSE(over);
	CU_ASSERT_EQUAL(qd_index_spilled(ix), spills);
	CU_ASSERT_TRUE(qd_index_entries(ix) > 150000);
	check_all(ix, models);
	CU_ASSERT_EQUAL(scratch_count(&s), 0);	/* the file has no name */
	qd_index_free(ix);
	scratch_close(&s);
	free(models);
}

static void agrees_with_the_model_in_memory(void)
{
	run_against_model(AMPLE, false);
}

static void agrees_with_the_model_in_a_file(void)
{
	run_against_model(TINY, true);
}

/* ---- what is special ----------------------------------------------------------------- */

static void values_of_any_size_come_back(void)
{
	static const uint64_t all[] = { 0, 1, 4095, 1ull << 32, QD_INDEX_VALUE_MAX - 1, QD_INDEX_VALUE_MAX };

	for (uint64_t memory = 0; memory <= AMPLE; memory += AMPLE) {
		uint64_t got[QD_INDEX_CANDIDATES];
		struct qd_index *ix;
		struct scratch s;
		unsigned n;

		scratch_open(&s);
		ix = new_index(memory, &s);
		for (uint64_t i = 0; i < 6; i++)
			CU_ASSERT_EQUAL(qd_index_insert(ix, fingerprint(i), all[i], NULL), 0);
		for (uint64_t i = 0; i < 6; i++) {
			CU_ASSERT_EQUAL(qd_index_find(ix, fingerprint(i), got, &n, NULL), 0);
			CU_ASSERT_TRUE(n == 1 && got[0] == all[i]);
			CU_ASSERT_EQUAL(qd_index_replace(ix, fingerprint(i), all[i], all[5 - i], NULL), 0);
			CU_ASSERT_EQUAL(qd_index_find(ix, fingerprint(i), got, &n, NULL), 0);
			CU_ASSERT_TRUE(n == 1 && got[0] == all[5 - i]);
		}
		qd_index_free(ix);
		scratch_close(&s);
	}
}

static void an_empty_index_finds_nothing(void)
{
	uint64_t got[QD_INDEX_CANDIDATES];
	struct qd_index *ix;
	struct scratch s;
	unsigned n = 1;

	scratch_open(&s);
	ix = new_index(AMPLE, &s);
	CU_ASSERT_EQUAL(qd_index_find(ix, fingerprint(1), got, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 0);
	CU_ASSERT_EQUAL(qd_index_replace(ix, fingerprint(1), 0, 5, NULL), 0);
	CU_ASSERT_EQUAL(qd_index_entries(ix), 0);
	CU_ASSERT_EQUAL(qd_index_find(ix, fingerprint(1), got, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 0);
	qd_index_free(ix);
	qd_index_free(NULL);
	scratch_close(&s);
}

/* A fingerprint whose top `equal` bits are those of every other one. */
static struct qd_fingerprint crafted(uint64_t i, unsigned equal)
{
	struct qd_fingerprint f = fingerprint(i);

	f.hi = equal < 64 ? (f.hi >> equal) | (0xa5a5a5a5a5a5a5a5u & ~(UINT64_MAX >> equal)) : 0xa5a5a5a5a5a5a5a5u;
	return f;
}

struct outcome {
	uint64_t entries;
	uint64_t found;		/* of what was inserted */
	uint64_t sum;		/* of all that was found */
	uint64_t memory;	/* most ever */
};

#define NCRAFTED 12000u

static struct outcome attack(uint64_t memory, unsigned equal, const struct scratch *s)
{
	struct qd_index *ix = new_index(memory, s);
	struct outcome o = { 0 };
	uint64_t got[QD_INDEX_CANDIDATES];
	unsigned n, honest = 0;

	for (uint64_t i = 0; i < NCRAFTED; i++) {
		CU_ASSERT_EQUAL_FATAL(qd_index_insert(ix, crafted(i, equal), i, NULL), 0);
		if (qd_index_memory(ix) > o.memory)
			o.memory = qd_index_memory(ix);
	}
	for (uint64_t i = 0; i < NCRAFTED; i++) {
		CU_ASSERT_EQUAL_FATAL(qd_index_find(ix, crafted(i, equal), got, &n, NULL), 0);
		CU_ASSERT_TRUE(n <= QD_INDEX_CANDIDATES);
		for (unsigned k = 0; k < n; k++) {
			o.found += got[k] == i;
			o.sum += got[k];
			/* 44 bits are kept: whoever is nominated has them in common. */
			CU_ASSERT_EQUAL(crafted(got[k], equal).hi >> 20, crafted(i, equal).hi >> 20);
		}
	}
	o.entries = qd_index_entries(ix);
	/* Honest clusters that come later find their place, but for the few that fall among the crafted ones. */
	for (uint64_t i = 0; i < 2000; i++)
		CU_ASSERT_EQUAL_FATAL(qd_index_insert(ix, fingerprint(NCRAFTED + i), i, NULL), 0);
	for (uint64_t i = 0; i < 2000; i++) {
		CU_ASSERT_EQUAL_FATAL(qd_index_find(ix, fingerprint(NCRAFTED + i), got, &n, NULL), 0);
		honest += n == 1 && got[0] == i;
	}
	CU_ASSERT_TRUE(honest > 1990);
	qd_index_free(ix);
	return o;
}

static void crafted_fingerprints_cost_entries_and_nothing_else(void)
{
	struct scratch s;

	scratch_open(&s);
	for (unsigned equal = 0; equal <= 64; equal += equal < 16 ? 1 : 6) {
		struct outcome in_memory = attack(AMPLE, equal, &s), in_file = attack(0, equal, &s);

		CU_ASSERT_EQUAL(in_memory.entries, in_file.entries);
		CU_ASSERT_EQUAL(in_memory.found, in_file.found);
		CU_ASSERT_EQUAL(in_memory.sum, in_file.sum);
		CU_ASSERT_TRUE(in_memory.found <= in_memory.entries);
		CU_ASSERT_TRUE(in_memory.memory < 1u << 20);
		CU_ASSERT_TRUE(in_file.memory < 1u << 20);
		if (equal <= 6)
			CU_ASSERT_EQUAL(in_memory.found, NCRAFTED);
		if (equal >= 44)
			CU_ASSERT_EQUAL(in_memory.entries, QD_INDEX_CANDIDATES);
	}
	scratch_close(&s);
}

static void a_directory_that_is_not_there_is_named(void)
{
	struct qd_index *ix = NULL;
	struct qd_err err = { .code = 0 };
	int r;

	CU_ASSERT_EQUAL_FATAL(qd_index_new(0, "/nonexistent/of qdedup", &ix, NULL), 0);
	r = qd_index_insert(ix, fingerprint(1), 1, &err);
	CU_ASSERT_EQUAL(r, QD_E_IO);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "/nonexistent/of qdedup"));
	qd_index_free(ix);
}

CU_ErrorCode suite_index(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(agrees_with_the_model_in_memory),
		QD_TEST(agrees_with_the_model_in_a_file),
		QD_TEST(values_of_any_size_come_back),
		QD_TEST(an_empty_index_finds_nothing),
		QD_TEST(crafted_fingerprints_cost_entries_and_nothing_else),
		QD_TEST(a_directory_that_is_not_there_is_named),
	};

	return QD_SUITE_ADD("index", tests);
}
