/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What alloc.c, alloc_run.c, alloc_grow.c and alloc_punch.c share. */
#ifndef QD_SPACE_ALLOC_INT_H
#define QD_SPACE_ALLOC_INT_H

#include "space/alloc.h"

struct released {
	uint64_t cluster;
	uint64_t amount;		/* references */
};

struct hole {			/* clusters [first, end) */
	uint64_t first;
	uint64_t end;
};

struct qd_alloc {
	struct qd_alloc_image image;
	uint64_t *table;		/* refcount table, host-endian */
	uint64_t nentries;		/* all that its clusters hold */
	uint64_t table_off;
	uint64_t table_clusters;
	uint64_t dirty_first;		/* table entries to be written: [dirty_first, dirty_end) */
	uint64_t dirty_end;
	uint64_t hint;			/* no cluster below is free */
	uint64_t end;			/* clusters */
	struct released *released;
	uint64_t nreleased;
	uint64_t capacity;
	uint64_t *forgotten;		/* clusters that the guard still names */
	uint64_t nforgotten;
	bool keep_bytes;		/* no holes */
	bool punch_around;		/* holes may take in free clusters between released ones */
	bool holes_later;
	struct hole *holes;		/* that wait */
	uint64_t nholes;
	uint64_t hole_capacity;
};

/* *ret_block is NULL where there is no block: all its counts are 0. */
int alloc_get_block(struct qd_alloc *a, uint64_t index, uint8_t **ret_block, struct qd_err *err);

/* The block that counts the cluster exists. */
int alloc_set_count(struct qd_alloc *a, uint64_t cluster, uint64_t count, struct qd_err *err);

/* Makes the block number `index`, which the table has room for, at the first cluster that it counts. */
int alloc_add_block(struct qd_alloc *a, uint64_t index, struct qd_err *err);

/* The table names the block from the next qd_alloc_write on. */
void alloc_set_entry(struct qd_alloc *a, uint64_t index, uint64_t off);

/* Moves the table to a larger place behind everything it covers now, and all of it to the disk. */
int alloc_grow_table(struct qd_alloc *a, struct qd_err *err);

/* ---- alloc_punch.c ---- */

/* Clusters [first, end), none if they are equal, have become free: makes a hole of them, unless bytes are kept. */
int alloc_punch(struct qd_alloc *a, uint64_t first, uint64_t end, struct qd_err *err);

/* Are all of [from, to) free, and few enough that it is worth to find out? */
int alloc_is_gap(struct qd_alloc *a, uint64_t from, uint64_t to, bool *ret_free, struct qd_err *err);

/*
 * Is the cluster, which `block` counts (NULL: nothing does), free?  What lies behind the end is,
 * whatever its count says: that is a claim which a crash cut off before anything used it.
 */
bool alloc_is_free(const struct qd_alloc *a, const uint8_t *block, uint64_t cluster);

#endif
