/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An array in two parts: sorted and merged, and as added.  When the second part has
 * grown as large as the first (and is worth the trouble) the whole is sorted and merged
 * again: every record takes part in few sorts, and memory stays within twice the result.
 */
#include "image/l2set.h"

#include <stdlib.h>

#include "base/bytes.h"

#define MIN_UNSORTED 65536u

void qd_l2set_init(struct qd_l2set *set, uint64_t limit)
{
	*set = (struct qd_l2set){ .limit = limit };
}

void qd_l2set_free(struct qd_l2set *set)
{
	free(set->v);
	qd_l2set_init(set, set->limit);
}

static int grow(struct qd_l2set *set, struct qd_err *err)
{
	uint64_t most = set->limit / sizeof(*set->v);
	uint64_t capacity = qd_min_u64(most, set->capacity ? (uint64_t)set->capacity * 2 : 256);
	struct qd_l2ref *v;

	if (capacity <= set->capacity)
		return qd_err_set(err, QD_E_NOMEM, "the list of L2 tables does not fit the memory limit");
	v = realloc(set->v, capacity * sizeof(*v));
	if (!v)
		return qd_err_nomem(err, "the list of L2 tables");
	set->v = v;
	set->capacity = capacity;
	return 0;
}

int qd_l2set_add(struct qd_l2set *set, const struct qd_l2ref *ref, struct qd_err *err)
{
	if (set->n == set->capacity) {
		int rc = grow(set, err);

		if (rc)
			return rc;
	}
	set->v[set->n++] = *ref;
	return 0;
}

static int compare(const void *pa, const void *pb)
{
	const struct qd_l2ref *a = pa, *b = pb;

	if (a->cluster != b->cluster)
		return a->cluster < b->cluster ? -1 : 1;
	if (a->class != b->class)
		return a->class < b->class ? -1 : 1;
	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	return a->l1_index < b->l1_index ? -1 : a->l1_index > b->l1_index;
}

/* Ascending already, as the tables of a fresh image are: nothing to sort. */
static bool is_sorted(const struct qd_l2ref *v, size_t n)
{
	for (size_t i = 1; i < n; i++)
		if (compare(&v[i - 1], &v[i]) > 0)
			return false;
	return true;
}

static void sort(struct qd_l2ref *v, size_t n)
{
	if (!is_sorted(v, n))
		qsort(v, n, sizeof(*v), compare);
}

/* Sorts everything and merges what may merge. */
static void merge(struct qd_l2set *set)
{
	size_t kept = 0;

	sort(set->v, set->n);
	for (size_t i = 0; i < set->n; i++) {
		struct qd_l2ref *last = kept ? &set->v[kept - 1] : NULL;
		const struct qd_l2ref *r = &set->v[i];

		if (last && last->cluster == r->cluster && last->class == r->class &&
		    r->class != QD_L2_ACTIVE)
			last->nrefs = (uint32_t)qd_min_u64((uint64_t)last->nrefs + r->nrefs, UINT32_MAX);
		else
			set->v[kept++] = *r;
	}
	set->n = set->sorted = kept;
}

int qd_l2set_end_layer(struct qd_l2set *set, size_t first_of_layer,
		       int (*dup)(void *ctx, const struct qd_l2ref *first, const struct qd_l2ref *second),
		       void *ctx)
{
	const struct qd_l2ref *first = NULL;

	sort(set->v + first_of_layer, set->n - first_of_layer);
	for (size_t i = first_of_layer; i < set->n; i++) {
		int rc;

		if (!first || first->cluster != set->v[i].cluster) {
			first = &set->v[i];
			continue;
		}
		rc = dup(ctx, first, &set->v[i]);
		if (rc)
			return rc;
	}
	if (set->n - set->sorted >= qd_max_u64(set->sorted, MIN_UNSORTED))
		merge(set);
	return 0;
}

void qd_l2set_finish(struct qd_l2set *set)
{
	merge(set);
}

size_t qd_l2set_lower_bound(const struct qd_l2set *set, uint64_t cluster)
{
	size_t low = 0, high = set->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->v[mid].cluster < cluster)
			low = mid + 1;
		else
			high = mid;
	}
	return low;
}
