/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Redirecting references of an existing image, batch by batch: every L2 entry that names
 * one cluster names another one afterwards, or none.
 *
 *	once:   dirty bit                                           flush
 *	batch:  1  refcounts of the new ones grow                   flush
 *	        2  COPIED goes from the entries of who owned them   flush
 *	        3  entries redirected, slots of the pin             flush
 *	        4  refcounts of the old ones fall; holes
 *	once:   refcounts on stable storage                         flush, dirty bit off, flush
 *
 * With a journal a batch is collected in the queue first, all four steps of it:
 *
 *	batch:  0  redo records of everything that 1 to 4 write     flush: committed
 *	        1 - 4, flushes between them as above; then the holes
 *	        5  APPLIED over the first of the records            flush
 *
 * Invariants
 *  M1  new and old cluster hold the same bytes, as far as the entries read them, from
 *      before 3 until after 4 is on stable storage: each entry is right before and after.
 *  M2  no refcount on disk is too low but for those of steps 3 and 4 of an operation with
 *      late counts, for which, as for wrong COPIED flags, the dirty bit is there.
 *  M3  L2 tables are changed where they lie, those that several layers use once: all
 *      layers read what they did.
 *  M4  between two batches the image is as after a complete operation, but for the dirty
 *      bit; qd_remap_close after any number of them leaves it clean.
 *  M5  a logged batch reaches the file not at all or, by a replay (txn/journal.h), whole: then
 *      refcounts and COPIED are exact, as after step 4, and only the dirty bit is left to be
 *      cleared.  Its holes are made before its records are crossed out, so that no later
 *      batch finds in a cluster what a power failure would bring back.  What does not fit
 *      the redo area, or the queue, goes without records: M1 to M4 hold all the same.
 *
 * For dedup a move leads to a cluster that is in use, or to zeros; for compact (`own`) to
 * one that was just claimed and filled, and takes over flags and slots of the old one.
 *
 * Left to others: which moves there are, and that M1 holds.
 */
#ifndef QD_OPS_REMAP_H
#define QD_OPS_REMAP_H

#include "image/change.h"
#include "image/image.h"
#include "txn/journal.h"

/* Entries here are as in struct qd_surveyed: a host byte offset or a compressed descriptor. */
struct qd_move {
	uint64_t from;		/* 0: nothing is redirected, `to` is only pinned */
	uint64_t to;		/* 0: what read it reads as zeros */
	uint64_t bitmap;	/* extended L2: of the entries that read `to`; 0 for a compressed one */
	uint32_t references;	/* entries of active layer and snapshots that read it */
	uint32_t places;	/* those that only keep it: they keep nothing afterwards */
	uint16_t pins;		/* slots of the pin that hold it */
	bool pin;		/* `to` gets a slot of the pin */
	bool own;		/* `to` is new, its refcount right already; COPIED and slots move with it */
};

struct qd_remap;

struct qd_remap_opts {
	uint64_t memory;	/* bytes */
	bool no_punch;		/* freed clusters keep their bytes */
	bool late_counts;	/* refcounts are changed when all entries are (--lazy-refcounts) */
	/* Redo records are written to it; NULL: none are.  Outlives the change; not with late_counts. */
	struct qd_journal *journal;
};

struct qd_remap_stats {
	uint64_t batches;
	uint64_t logged;	/* of these, with redo records */
	uint64_t flushes;
	uint64_t freed;		/* host clusters whose refcount fell to 0 */
	uint64_t redirected;	/* L2 entries written anew */
	uint64_t pinned;	/* slots filled */
	uint64_t unpinned;	/* slots cleared */
};

/* img is writable and outlives it; nothing is written yet. */
int qd_remap_open(struct qd_image *img, const struct qd_remap_opts *opts, struct qd_remap **ret_remap,
		  struct qd_err *err);

/* The change that batches belong to: for claiming clusters between two of them. */
struct qd_change *qd_remap_change(struct qd_remap *r);

/* Moves that a batch may have. */
uint64_t qd_remap_capacity(const struct qd_remap *r);

/*
 * Carries out n >= 1 moves, each `from` once; the array is reordered.  One batch, or with a
 * journal as many as its area asks for.
 */
int qd_remap_batch(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err);

/* With late_counts: for each batch once more, when the last one is done. */
int qd_remap_counts(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err);

/* The pin gives up its slots of these host clusters, which nothing else refers to; they are free then. */
int qd_remap_unpin(struct qd_remap *r, uint64_t first, uint64_t nclusters, struct qd_err *err);

/* Clean again. */
int qd_remap_finish(struct qd_remap *r, struct qd_remap_stats *ret_stats, struct qd_err *err);

/* Frees; without qd_remap_finish the image stays dirty.  NULL is allowed. */
void qd_remap_free(struct qd_remap *r);

#endif
