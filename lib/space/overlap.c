/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extents in an array.  Each remembers which of those up to itself reaches farthest: if
 * any extent that begins at or before a cluster covers it, that one does.
 */
#include "space/overlap.h"

#include <stdlib.h>

#include "base/bytes.h"

static const char *const names[QD_STRUCT_NKINDS] = {
	[QD_STRUCT_HEADER] = "header",
	[QD_STRUCT_L1] = "active L1 table",
	[QD_STRUCT_L2] = "L2 table",
	[QD_STRUCT_REFTABLE] = "refcount table",
	[QD_STRUCT_REFBLOCK] = "refcount block",
	[QD_STRUCT_SNAPSHOT_TABLE] = "snapshot table",
	[QD_STRUCT_SNAPSHOT_L1] = "L1 table of a snapshot",
	[QD_STRUCT_CRYPTO] = "encryption header",
	[QD_STRUCT_BITMAP_DIR] = "bitmap directory",
	[QD_STRUCT_BITMAP_TABLE] = "bitmap table",
	[QD_STRUCT_BITMAP_DATA] = "bitmap data",
};

const char *qd_struct_name(enum qd_struct_kind kind)
{
	return kind < QD_STRUCT_NKINDS ? names[kind] : "structure";
}

void qd_extents_init(struct qd_extents *set, uint64_t limit)
{
	*set = (struct qd_extents){ .limit = limit };
}

void qd_extents_free(struct qd_extents *set)
{
	free(set->v);
	set->v = NULL;
	set->n = set->capacity = 0;
}

static int grow(struct qd_extents *set, struct qd_err *err)
{
	size_t capacity = set->capacity ? set->capacity * 2 : 64;
	struct qd_extent *v;

	if (capacity > set->limit / sizeof(*v))
		return qd_err_set(err, QD_E_NOMEM, "the list of structures does not fit the memory limit");
	v = realloc(set->v, capacity * sizeof(*v));
	if (!v)
		return qd_err_nomem(err, "the list of structures");
	set->v = v;
	set->capacity = capacity;
	return 0;
}

int qd_extents_add(struct qd_extents *set, uint64_t first, uint64_t nclusters, enum qd_struct_kind kind,
		   uint32_t id, struct qd_err *err)
{
	struct qd_extent *last = set->n ? &set->v[set->n - 1] : NULL;
	int rc;

	if (last && last->kind == kind && last->id == id && last->first + last->nclusters == first) {
		last->nclusters += nclusters;
		return 0;
	}
	if (!set->v || set->n == set->capacity) {
		rc = grow(set, err);
		if (rc)
			return rc;
	}
	set->v[set->n++] = (struct qd_extent){ first, nclusters, kind, id, 0 };
	return 0;
}

static int compare(const void *pa, const void *pb)
{
	const struct qd_extent *a = pa, *b = pb;

	if (a->first != b->first)
		return a->first < b->first ? -1 : 1;
	if (a->kind != b->kind)
		return a->kind < b->kind ? -1 : 1;
	return a->id < b->id ? -1 : a->id > b->id;
}

static uint64_t end_of(const struct qd_extent *e)
{
	return e->first + e->nclusters;
}

void qd_extents_sort(struct qd_extents *set)
{
	size_t far = 0;

	if (set->n)
		qsort(set->v, set->n, sizeof(*set->v), compare);
	for (size_t i = 0; i < set->n; i++) {
		if (end_of(&set->v[i]) > end_of(&set->v[far]))
			far = i;
		set->v[i].far = far;
	}
}

int qd_extents_overlaps(const struct qd_extents *set,
			int (*fn)(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
				  uint64_t nclusters),
			void *ctx)
{
	for (size_t i = 1; i < set->n; i++) {
		const struct qd_extent *e = &set->v[i];
		const struct qd_extent *far = &set->v[set->v[i - 1].far];
		int rc;

		if (e->first >= end_of(far))
			continue;
		rc = fn(ctx, far, e, qd_min_u64(end_of(e), end_of(far)) - e->first);
		if (rc)
			return rc;
	}
	return 0;
}

static int compare_ends(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

int qd_extents_cover(const struct qd_extents *set,
		     void (*fn)(void *ctx, uint64_t first, uint64_t end, uint64_t depth), void *ctx,
		     struct qd_err *err)
{
	uint64_t *ends = malloc((set->n ? set->n : 1) * sizeof(*ends)), at = 0, depth = 0;
	size_t next_end = 0, next = 0;

	if (!ends)
		return qd_err_nomem(err, "the list of structures");
	for (size_t i = 0; i < set->n; i++)
		ends[i] = end_of(&set->v[i]);
	qsort(ends, set->n, sizeof(*ends), compare_ends);
	while (next_end < set->n) {
		uint64_t to = ends[next_end];

		if (next < set->n)
			to = qd_min_u64(to, set->v[next].first);
		if (depth && to > at)
			fn(ctx, at, to, depth);
		at = to;
		for (; next < set->n && set->v[next].first == at; next++)
			depth++;
		for (; next_end < set->n && ends[next_end] == at; next_end++)
			depth--;
	}
	free(ends);
	return 0;
}

const struct qd_extent *qd_extents_find(const struct qd_extents *set, uint64_t cluster)
{
	size_t low = 0, high = set->n;
	const struct qd_extent *far;

	while (low < high) {
		size_t mid = low + (high - low) / 2;

		if (set->v[mid].first <= cluster)
			low = mid + 1;
		else
			high = mid;
	}
	if (low == 0)
		return NULL;
	far = &set->v[set->v[low - 1].far];
	return cluster < end_of(far) ? far : NULL;
}
