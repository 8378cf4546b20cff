/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The refcounts that a batch changes: summed up, so that each is changed once, and in the
 * order of their clusters, so that each refcount block is.
 */
#include <stdlib.h>

#include "format/entry.h"
#include "ops/remap_int.h"

struct amount {			/* references of a host cluster */
	uint64_t cluster;
	uint64_t n;
};

static int compare_amounts(const void *pa, const void *pb)
{
	const struct amount *a = pa, *b = pb;

	return a->cluster < b->cluster ? -1 : a->cluster > b->cluster;
}

struct amounts {
	struct amount *v;
	uint64_t n;
	uint64_t capacity;
};

static int add_amount(struct amounts *a, const struct qd_geom *g, uint64_t entry, uint64_t n,
		      struct qd_err *err)
{
	uint64_t first, last;

	if (!entry || !n)
		return 0;
	qd_l2_clusters(g, entry, &first, &last);
	for (; first <= last; first++) {
		if (a->n == a->capacity) {
			uint64_t capacity = a->capacity ? a->capacity * 2 : 1024;
			struct amount *v = realloc(a->v, capacity * sizeof(*v));

			if (!v)
				return qd_err_nomem(err, "a batch");
			a->v = v;
			a->capacity = capacity;
		}
		a->v[a->n++] = (struct amount){ first, n };
	}
	return 0;
}

static bool is_ascending(const struct amounts *a)
{
	for (uint64_t i = 1; i < a->n; i++)
		if (a->v[i - 1].cluster > a->v[i].cluster)
			return false;
	return true;
}

/* One amount for each cluster, ascending, as those to be lowered mostly come. */
static void sum_up(struct amounts *a)
{
	uint64_t kept = 0;

	if (a->v && !is_ascending(a))
		qsort(a->v, a->n, sizeof(*a->v), compare_amounts);
	for (uint64_t i = 0; i < a->n; i++) {
		if (kept && a->v[kept - 1].cluster == a->v[i].cluster)
			a->v[kept - 1].n += a->v[i].n;
		else
			a->v[kept++] = a->v[i];
	}
	a->n = kept;
}

int remap_raise_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct amounts a = { .n = 0 };
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		if (!moves[i].own)
			rc = add_amount(&a, r->geom, moves[i].to,
					(uint64_t)moves[i].references + moves[i].pin, err);
	sum_up(&a);
	for (uint64_t i = 0; rc == 0 && i < a.n; i++)
		rc = qd_alloc_share(r->change->alloc, a.v[i].cluster, a.v[i].n, err);
	free(a.v);
	return rc;
}

int remap_lower_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct amounts a = { .n = 0 };
	uint64_t count;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		rc = add_amount(&a, r->geom, moves[i].from,
				(uint64_t)moves[i].references + moves[i].places + moves[i].pins, err);
	sum_up(&a);
	for (uint64_t i = 0; rc == 0 && i < a.n; i++) {
		rc = qd_alloc_count(r->change->alloc, a.v[i].cluster, &count, err);
		if (rc == 0 && count == a.v[i].n)
			r->stats.freed++;
		if (rc == 0)
			rc = qd_alloc_release_many(r->change->alloc, a.v[i].cluster, a.v[i].n, err);
	}
	free(a.v);
	if (rc || !r->collecting)
		return rc ? rc : qd_change_settle(r->change, err);
	qd_alloc_holes_later(r->change->alloc, true);
	rc = qd_alloc_settle(r->change->alloc, err);
	return rc ? rc : qd_alloc_write(r->change->alloc, err);
}
