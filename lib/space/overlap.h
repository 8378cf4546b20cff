/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where an image's metadata lies: a set of extents of whole host clusters, each with
 * what it is, and the question which of them overlap.
 *
 * L2 tables are usually too many to be extents: image/l2set.h keeps them, and both sets
 * are sorted by cluster so that they can be merged.
 */
#ifndef QD_SPACE_OVERLAP_H
#define QD_SPACE_OVERLAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum qd_struct_kind {
	QD_STRUCT_HEADER,
	QD_STRUCT_L1,
	QD_STRUCT_L2,
	QD_STRUCT_REFTABLE,
	QD_STRUCT_REFBLOCK,	/* id: index in the refcount table */
	QD_STRUCT_SNAPSHOT_TABLE,
	QD_STRUCT_SNAPSHOT_L1,	/* id: number of the snapshot */
	QD_STRUCT_CRYPTO,
	QD_STRUCT_BITMAP_DIR,
	QD_STRUCT_BITMAP_TABLE,	/* id: number of the bitmap */
	QD_STRUCT_BITMAP_DATA,	/* likewise */
	QD_STRUCT_NKINDS,
};

struct qd_extent {
	uint64_t first;		/* host cluster */
	uint64_t nclusters;	/* at least 1 */
	uint32_t kind;		/* enum qd_struct_kind */
	uint32_t id;
	size_t far;		/* which extent up to this one reaches farthest (after sorting) */
};

struct qd_extents {
	struct qd_extent *v;	/* sorted by (first, kind, id) after qd_extents_sort */
	size_t n;
	size_t capacity;
	uint64_t limit;		/* bytes that v may take */
};

/* "refcount block" */
const char *qd_struct_name(enum qd_struct_kind kind);

void qd_extents_init(struct qd_extents *set, uint64_t limit);
void qd_extents_free(struct qd_extents *set);

/* Extends the last extent when that is of the same kind and id and ends where this begins. */
int qd_extents_add(struct qd_extents *set, uint64_t first, uint64_t nclusters, enum qd_struct_kind kind,
		   uint32_t id, struct qd_err *err);

void qd_extents_sort(struct qd_extents *set);

/*
 * Calls fn(ctx, earlier, later, nclusters) for each extent that begins inside one before
 * it: once, with the earlier one that reaches farthest.  The set is sorted.
 */
int qd_extents_overlaps(const struct qd_extents *set,
			int (*fn)(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
				  uint64_t nclusters),
			void *ctx);

/*
 * Calls fn(ctx, first, end, depth) for each maximal run of clusters [first, end) that
 * the same number of extents cover (depth >= 1), in ascending order: work that depends
 * on the extents' number and union, however often they overlap.  The set is sorted.
 */
int qd_extents_cover(const struct qd_extents *set,
		     void (*fn)(void *ctx, uint64_t first, uint64_t end, uint64_t depth), void *ctx,
		     struct qd_err *err);

/* An extent that cluster lies in (where several do, the one that reaches farthest), or NULL.  The set is
 * sorted. */
const struct qd_extent *qd_extents_find(const struct qd_extents *set, uint64_t cluster);

#endif
