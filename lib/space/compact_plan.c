/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs first, the longest first, for they are the hardest to place; then singles, in one
 * pass over the file.
 */
#include "space/compact_plan.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

int qd_bits_new(uint64_t nbits, struct qd_bits *ret_bits, struct qd_err *err)
{
	uint64_t *words = calloc((size_t)(nbits / 64 + 1), sizeof(*words));

	if (!words)
		return qd_err_nomem(err, "a map of clusters");
	ret_bits->words = words;
	ret_bits->nbits = nbits;
	return 0;
}

void qd_bits_free(struct qd_bits *bits)
{
	free(bits->words);
	bits->words = NULL;
}

struct plan {
	const struct qd_bits *used;
	const struct qd_bits *of_runs;	/* clusters of runs, and those that never move */
	struct qd_bits tied;		/* those, and places taken by runs that move */
	uint64_t end;
};

static bool is_used(const struct plan *p, uint64_t cluster)
{
	return cluster < p->used->nbits && qd_bits_get(p->used, cluster);
}

static bool is_tied(const struct plan *p, uint64_t cluster)
{
	return cluster < p->tied.nbits && qd_bits_get(&p->tied, cluster);
}

static void tie(struct plan *p, uint64_t first, uint64_t n)
{
	for (uint64_t c = first; c < first + n; c++)
		qd_bits_set(&p->tied, c);
}

/*
 * The lowest stretch of n clusters below the end in which nothing is tied, with the fewest
 * clusters in use; `end` when there is none.
 */
static uint64_t find_stretch(const struct plan *p, uint64_t n)
{
	uint64_t best = p->end, best_used = n + 1, start = 0, nused = 0;

	for (uint64_t c = 0; c < p->end && best_used; c++) {
		if (is_tied(p, c)) {
			start = c + 1;
			nused = 0;
			continue;
		}
		nused += is_used(p, c);
		if (c - start + 1 > n)
			nused -= is_used(p, start++);
		if (c - start + 1 == n && nused < best_used) {
			best = start;
			best_used = nused;
		}
	}
	return best;
}

static int by_length(const void *a, const void *b)
{
	const struct qd_compact_run *x = *(const struct qd_compact_run *const *)a;
	const struct qd_compact_run *y = *(const struct qd_compact_run *const *)b;

	if (x->nclusters != y->nclusters)
		return x->nclusters > y->nclusters ? -1 : 1;
	return x->first < y->first ? -1 : x->first > y->first;
}

static bool fits(const struct plan *p, const struct qd_compact_run *r)
{
	return r->first + r->nclusters <= p->end;
}

/* 1: the end was raised behind a run that cannot move, and all has to be placed again. */
static int place_runs(struct plan *p, struct qd_compact_run **order, size_t nruns)
{
	for (size_t i = 0; i < nruns; i++) {
		struct qd_compact_run *r = order[i];

		if (r->to != QD_COMPACT_STAYS || fits(p, r))
			continue;
		r->to = find_stretch(p, r->nclusters);
		if (r->to == p->end) {
			p->end = r->first + r->nclusters;
			return 1;
		}
		tie(p, r->to, r->nclusters);
	}
	return 0;
}

/* From a clean slate: which runs stay.  K2: nor may a run go to where one lies now. */
static void reset(struct plan *p, struct qd_compact_run *runs, size_t nruns)
{
	memcpy(p->tied.words, p->of_runs->words, (size_t)(p->tied.nbits / 64 + 1) * sizeof(*p->tied.words));
	for (size_t i = 0; i < nruns; i++)
		runs[i].to = QD_COMPACT_STAYS;
}

static int order_runs(struct plan *p, struct qd_compact_run *runs, size_t nruns, struct qd_err *err)
{
	struct qd_compact_run **order = malloc((nruns + 1) * sizeof(struct qd_compact_run *));

	if (!order)
		return qd_err_nomem(err, "a plan");
	for (size_t i = 0; i < nruns; i++) {
		order[i] = &runs[i];
		if (runs[i].fixed)
			p->end = qd_max_u64(p->end, runs[i].first + runs[i].nclusters);
	}
	qsort(order, nruns, sizeof(struct qd_compact_run *), by_length);
	do
		reset(p, runs, nruns);
	while (place_runs(p, order, nruns));
	free(order);
	return 0;
}

/* In use by a single cluster that has to leave: behind the end, or where a run will be. */
static bool must_move(const struct plan *p, uint64_t c)
{
	return qd_bits_get(p->used, c) && !qd_bits_get(p->of_runs, c) && (c >= p->end || is_tied(p, c));
}

static int place_singles(const struct plan *p,
			 int (*single)(void *ctx, uint64_t from, uint64_t to, struct qd_err *err), void *ctx,
			 uint64_t *ret_end, struct qd_err *err)
{
	uint64_t hole = 0, last = 0;
	int rc = 0;

	for (uint64_t c = 0; rc == 0 && c < p->used->nbits; c++) {
		if (!must_move(p, c))
			continue;
		while (is_used(p, hole) || is_tied(p, hole))
			hole++;
		if (hole > c && !is_tied(p, c)) {	/* no better place: runs that move still lie there */
			last = qd_max_u64(last, c + 1);
			continue;
		}
		last = qd_max_u64(last, hole + 1);
		rc = single(ctx, c, hole++, err);
	}
	*ret_end = qd_max_u64(p->end, last);
	return rc;
}

/* Behind the last cluster that never moves. */
static uint64_t end_of(const struct qd_bits *bits)
{
	for (uint64_t i = bits->nbits / 64 + 1; i; i--)
		if (bits->words[i - 1])
			return i * 64 - (uint64_t)__builtin_clzll(bits->words[i - 1]);
	return 0;
}

int qd_compact_plan(const struct qd_bits *used, struct qd_bits *tied, struct qd_compact_run *runs,
		    size_t nruns,
		    int (*single)(void *ctx, uint64_t from, uint64_t to, struct qd_err *err), void *ctx,
		    uint64_t *ret_end, struct qd_err *err)
{
	struct plan p = { .used = used, .of_runs = tied };
	int rc = qd_bits_new(used->nbits, &p.tied, err);

	for (uint64_t i = 0; i <= used->nbits / 64; i++)
		p.end += (uint64_t)__builtin_popcountll(used->words[i]);
	p.end = qd_max_u64(p.end, end_of(tied));
	for (size_t i = 0; i < nruns; i++)
		for (uint64_t k = 0; k < runs[i].nclusters; k++)
			qd_bits_set(tied, runs[i].first + k);
	if (rc == 0)
		rc = order_runs(&p, runs, nruns, err);
	if (rc == 0)
		rc = place_singles(&p, single, ctx, ret_end, err);
	qd_bits_free(&p.tied);
	return rc;
}
