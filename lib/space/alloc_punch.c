/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Giving the bytes of free clusters back to the host.
 *
 *	settled          . . D D D . . D . . D D        D: its count has become 0
 *	around   |x x|      |x x x x x x|                .: free before; x: in the hole
 *
 * A host takes time for a hole, however long it is, and so few long holes are better than many short
 * ones: what was free already goes into them where the owner vouches for the counts.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "space/alloc_int.h"

#define GAP_MAX 4096u		/* clusters between two released ones that are looked at */

/* For qd_alloc_make_holes. */
static int remember(struct qd_alloc *a, uint64_t first, uint64_t end, struct qd_err *err)
{
	if (a->nholes == a->hole_capacity) {
		uint64_t capacity = a->hole_capacity ? a->hole_capacity * 2 : 256;
		struct hole *holes = realloc(a->holes, capacity * sizeof(*holes));

		if (!holes)
			return qd_err_nomem(err, "the list of freed clusters");
		a->holes = holes;
		a->hole_capacity = capacity;
	}
	a->holes[a->nholes++] = (struct hole){ first, end };
	return 0;
}

void qd_alloc_holes_later(struct qd_alloc *a, bool later)
{
	a->holes_later = later;
}

int qd_alloc_make_holes(struct qd_alloc *a, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < a->nholes; i++)
		rc = alloc_punch(a, a->holes[i].first, a->holes[i].end, err);
	a->nholes = 0;
	return rc;
}

int alloc_punch(struct qd_alloc *a, uint64_t first, uint64_t end, struct qd_err *err)
{
	uint32_t bits = a->image.geom->cluster_bits;

	if (first == end)
		return 0;
	if (a->holes_later)
		return remember(a, first, end, err);
	a->hint = qd_min_u64(a->hint, first);
	if (a->keep_bytes)
		return 0;
	qd_queue_wrote_data(a->image.queue);
	return qd_io_punch(a->image.io, first << bits, (end - first) << bits, err);
}

int alloc_is_gap(struct qd_alloc *a, uint64_t from, uint64_t to, bool *ret_free, struct qd_err *err)
{
	uint64_t count = 0;
	int rc = 0;

	if (to - from > GAP_MAX)
		return 0;
	for (; rc == 0 && count == 0 && from < to; from++)
		rc = qd_alloc_count(a, from, &count, err);
	*ret_free = rc == 0 && count == 0;
	return rc;
}

/* One hole, if the host keeps anything for [first, end). */
static int punch_data(struct qd_alloc *a, uint64_t first, uint64_t end, struct qd_err *err)
{
	uint32_t bits = a->image.geom->cluster_bits;
	uint64_t data, hole;
	int rc;

	if (first == end)
		return 0;
	rc = qd_io_next_data(a->image.io, first << bits, &data, &hole, err);
	if (rc || data >= end << bits)
		return rc;
	return alloc_punch(a, first, end, err);
}

int qd_alloc_punch_free(struct qd_alloc *a, struct qd_err *err)
{
	uint64_t nclusters = qd_div_up(a->image.file_size, a->image.geom->cluster_size), first = 0, count;
	int rc = 0;

	for (uint64_t c = 0; rc == 0 && c < nclusters; c++) {
		rc = qd_alloc_count(a, c, &count, err);
		if (rc || !count)
			continue;
		rc = punch_data(a, first, c, err);
		first = c + 1;
	}
	return rc ? rc : punch_data(a, first, nclusters, err);
}
