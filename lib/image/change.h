/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A change to the metadata of an existing image: queue, cache, guard, allocator, and the
 * dirty bit around it, for everything that works in place and does not write guest data.
 *
 *	open --begin--> dirty bit on disk --> claims, shares, tables --> commit ... --> end
 *
 * Invariants
 *  C1  the dirty bit (version 3) is on stable storage before the first metadata write, and
 *      cleared after the last one is: so QEMU repairs by itself after a crash.
 *  C2  autoclear bits stay as they are: a change keeps guest content as it is.
 *
 * Left to others: what is changed and in which order; locks.  One thread at a time.
 */
#ifndef QD_IMAGE_CHANGE_H
#define QD_IMAGE_CHANGE_H

#include "image/image.h"
#include "space/alloc.h"
#include "space/cache.h"
#include "txn/queue.h"

struct qd_change {			/* open for reading; the parts are for use */
	struct qd_image *img;		/* not kept up to date */
	struct qd_queue *queue;
	struct qd_cache *cache;
	struct qd_alloc *alloc;
	struct qd_extents guard;	/* header, L1 tables, snapshot table, refcounts, L2 tables */
	bool begun;
};

/* QD_E_UNSUPPORTED/CORRUPT, by name: encrypted, external data file, marked corrupt, dirty. */
int qd_change_refuse(const struct qd_image *img, struct qd_err *err);

/*
 * img (its io is writable) outlives it.  memory: bytes for queue and cache.  Refuses as above;
 * writes nothing.
 */
int qd_change_open(struct qd_image *img, uint64_t memory, struct qd_change **ret_change, struct qd_err *err);

/* C1; does nothing the second time. */
int qd_change_begin(struct qd_change *c, struct qd_err *err);

/*
 * Refcounts | barrier | L2 tables | barrier: what the caller queues next (L1 entries, header
 * words) comes after all of it.
 */
int qd_change_tables(struct qd_change *c, struct qd_err *err);

/* What references were released for is on stable storage (the caller flushed): settles, writes, flushes. */
int qd_change_settle(struct qd_change *c, struct qd_err *err);

/* Flushes and clears the dirty bit, if begun.  Not after a failure: the image stays dirty then. */
int qd_change_end(struct qd_change *c, struct qd_err *err);

/* Frees; what is queued and cached is lost.  NULL is allowed. */
void qd_change_free(struct qd_change *c);

#endif
