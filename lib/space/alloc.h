/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host clusters of an existing image: claiming free ones, giving up references, and the
 * refcount structure that says so, of every width, which grows as the file does.
 *
 *	claim     0 -> 1 at once in memory; on disk with qd_alloc_write
 *	share     n -> n + amount, likewise
 *	release   remembered; n -> n - 1 with qd_alloc_settle, a hole where that makes 0
 *
 * Invariants
 *  A1  what qd_alloc_write queues is safe at any time: a cluster that something on disk
 *      refers to never has too low a refcount there.  The owner writes references to
 *      claimed clusters after it, behind the barrier that it ends with, and settles only
 *      when what dropped the released references is on stable storage.
 *  A2  so a released cluster is not claimed again, nor its bytes overwritten, before that.
 *  A3  a refcount block is on stable storage before the table names it, a new table
 *      before the header does.
 *  A4  no cluster is claimed, and none may be overwritten, that holds a structure of the
 *      image, whatever its refcount says (the guard).
 *
 * Left to others: L1 and L2 tables, data, when to flush.  One thread at a time.
 */
#ifndef QD_SPACE_ALLOC_H
#define QD_SPACE_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

#include "base/io.h"
#include "format/header.h"
#include "space/cache.h"
#include "space/overlap.h"
#include "txn/queue.h"

struct qd_alloc;

struct qd_alloc_image {			/* what an image tells the allocator */
	const struct qd_geom *geom;	/* like the rest, outlives the allocator */
	struct qd_io *io;
	struct qd_queue *queue;
	struct qd_cache *cache;
	uint64_t file_size;		/* bytes */
	uint64_t reftable_off;
	uint32_t reftable_clusters;
	/*
	 * The guard: structures other than refcounts, to which these are added.  still(ctx,
	 * extent) says whether that structure is there yet; NULL: all are.
	 */
	struct qd_extents *guard;
	bool (*still)(void *ctx, const struct qd_extent *extent);
	void *ctx;
};

/* Reads the refcount table; QD_E_CORRUPT when an entry cannot be true. */
int qd_alloc_open(const struct qd_alloc_image *image, struct qd_alloc **ret_alloc, struct qd_err *err);

/* NULL is allowed. */
void qd_alloc_free(struct qd_alloc *a);

/* The refcount as it will be, releases that are not settled yet left aside. */
int qd_alloc_count(struct qd_alloc *a, uint64_t cluster, uint64_t *ret_count, struct qd_err *err);

/* One free cluster, the first there is; its refcount is 1 now.  What it holds is undefined. */
int qd_alloc_claim(struct qd_alloc *a, uint64_t *ret_cluster, struct qd_err *err);

/*
 * nclusters (at least 1) free ones in a row, the lowest place there is; their refcounts are
 * 1 now.  Refcount blocks that it needs go right before it.
 */
int qd_alloc_claim_run(struct qd_alloc *a, uint64_t nclusters, uint64_t *ret_first, struct qd_err *err);

/*
 * `amount` more references to a cluster in use: to be on stable storage (qd_alloc_write)
 * before they are.  QD_E_CORRUPT: its refcount is 0; QD_E_UNSUPPORTED: it would exceed
 * refcount_max.  Either way nothing changes.
 */
int qd_alloc_share(struct qd_alloc *a, uint64_t cluster, uint64_t amount, struct qd_err *err);

/* One reference to the cluster will be gone. */
int qd_alloc_release(struct qd_alloc *a, uint64_t cluster, struct qd_err *err);

/* `amount` references (0 is allowed), as one release that waits. */
int qd_alloc_release_many(struct qd_alloc *a, uint64_t cluster, uint64_t amount, struct qd_err *err);

/* Free clusters keep their bytes from now on: qd_alloc_settle makes no holes. */
void qd_alloc_keep_bytes(struct qd_alloc *a);

/*
 * The image was checked, so that what has no count is in no use: holes may be made of free clusters
 * between released ones too, which makes them fewer and longer.
 */
void qd_alloc_punch_around(struct qd_alloc *a);

/* Likewise: what free clusters of the file still hold is given back.  Everything is on stable storage. */
int qd_alloc_punch_free(struct qd_alloc *a, struct qd_err *err);

/*
 * With `later` qd_alloc_settle may come before what it relies on is on stable storage: the
 * holes wait for qd_alloc_make_holes, and nothing may be claimed until then.
 */
void qd_alloc_holes_later(struct qd_alloc *a, bool later);
int qd_alloc_make_holes(struct qd_alloc *a, struct qd_err *err);

/* QD_E_CORRUPT, with the structure's name, when the cluster must not be overwritten with guest data. */
int qd_alloc_guard(const struct qd_alloc *a, uint64_t cluster, struct qd_err *err);

/*
 * A structure lay in the cluster and does not any more: the guard stops naming it.  Its
 * reference is released separately.
 */
int qd_alloc_forget(struct qd_alloc *a, uint64_t cluster, struct qd_err *err);

/* Queues all refcounts, and a barrier after them (A1). */
int qd_alloc_write(struct qd_alloc *a, struct qd_err *err);

/* Applies the releases (A1): to be written with the next qd_alloc_write. */
int qd_alloc_settle(struct qd_alloc *a, struct qd_err *err);

/*
 * Calls fn for each cluster (ascending) that settling will free: none of its references is
 * left.  A value other than 0 ends it.
 */
int qd_alloc_each_freed(struct qd_alloc *a, int (*fn)(void *ctx, uint64_t cluster, struct qd_err *err),
			void *ctx, struct qd_err *err);

/* Releases that wait to be settled. */
uint64_t qd_alloc_pending(const struct qd_alloc *a);

/* Host bytes that are in use or were when the image was opened: no reference points past them. */
uint64_t qd_alloc_end(const struct qd_alloc *a);

/* ---- moving the refcount structure itself (alloc_move.c) ---- */

/* This cluster, which must be free: its refcount is 1 now. */
int qd_alloc_claim_at(struct qd_alloc *a, uint64_t cluster, struct qd_err *err);

/* Entries of the refcount table, and the cluster of block number `index` (0: there is none). */
uint64_t qd_alloc_nblocks(const struct qd_alloc *a);
uint64_t qd_alloc_block(const struct qd_alloc *a, uint64_t index);

/* The block moves to `to`, just claimed; to be written, flushed and settled like any release. */
int qd_alloc_move_block(struct qd_alloc *a, uint64_t index, uint64_t to, struct qd_err *err);

/*
 * Before clusters move to the front: blocks that count nothing go where the file would not reach
 * if it had no holes, and come, each at the first cluster that it counts, where one is missing before
 * that; written, flushed and settled likewise.  *ret_changed: blocks that came or went.
 */
int qd_alloc_tidy_blocks(struct qd_alloc *a, uint64_t *ret_changed, struct qd_err *err);

/* The table moves to the clusters from `to` on, just claimed; on stable storage at once, the old ones are released. */
int qd_alloc_move_table(struct qd_alloc *a, uint64_t to, struct qd_err *err);

/* Host bytes that the refcount table covers: a claim past them grows the table, which writes at once. */
uint64_t qd_alloc_reach(const struct qd_alloc *a);

#endif
