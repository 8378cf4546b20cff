/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pin of an existing image: the internal snapshot named qdedup whose L2 entries
 * reference every shared cluster, and every cluster of the container, once.
 *
 *	header (12 bytes) --> snapshot table --> pin's L1 --> pin's L2 tables: slots, each 0 or an entry
 *
 * Which slot holds which entry means nothing; entries never carry COPIED.
 *
 * Changes go through the owner's queue, cache and allocator (one transaction): slots that
 * are filled are like redirected L2 entries (behind the barrier after raised refcounts; their
 * tables are of the cache's class QD_CACHE_PIN), a
 * new L1 or snapshot table is linked by one write of the header's 12 bytes (count and
 * offset), queued behind a barrier of its own.
 *
 * Invariants
 *  P1  the caller raises a cluster's refcount (qd_alloc_share) in the section before the
 *      one that receives the slot; it lowers it (qd_alloc_release) when the slot was
 *      cleared, to be settled behind the barrier after that.
 *  P2  other snapshots, their order, IDs and names are never changed; a new pin gets the
 *      lowest free numeric ID and goes to the end of the snapshot table.  Their entries keep
 *      every byte.
 *  P3  a snapshot named qdedup that is not a pin (its disk size is a multiple of 512) is the
 *      user's: it is left alone, and a pin cannot be made (QD_E_INVALID says so).
 */
#ifndef QD_IMAGE_PIN_H
#define QD_IMAGE_PIN_H

#include "image/image.h"
#include "space/alloc.h"
#include "space/cache.h"
#include "txn/queue.h"

struct qd_pin;

struct qd_pin_image {			/* like the rest, outlives the pin */
	const struct qd_image *img;
	struct qd_queue *queue;
	struct qd_cache *cache;
	struct qd_alloc *alloc;
};

/* Reads the pin's L1; there may be no pin yet. */
int qd_pin_open(const struct qd_pin_image *pi, struct qd_pin **ret_pin, struct qd_err *err);
void qd_pin_free(struct qd_pin *p);

bool qd_pin_exists(const struct qd_pin *p);

/* The snapshot ID as a number; 0 when there is no pin or its ID is no number. */
uint32_t qd_pin_id(const struct qd_pin *p);

/*
 * 0 when there is a pin, or one can be made: QD_E_INVALID by P3, or when there are too many
 * snapshots.  To be asked before anything is written.
 */
int qd_pin_possible(const struct qd_pin *p, struct qd_err *err);

/*
 * Calls fn for each slot in use; fn may set *remove, and the slot is cleared (its
 * reference is the caller's to release).  Sequential reading; a value other than 0 ends it.
 */
int qd_pin_walk(struct qd_pin *p, int (*fn)(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove,
					    struct qd_err *err), void *ctx, struct qd_err *err);

/*
 * Fills a free slot (entry without COPIED; bitmap for extended L2).  Makes the pin when
 * there is none: QD_E_INVALID by P3, or when there are too many snapshots or slots.
 */
int qd_pin_add(struct qd_pin *p, uint64_t entry, uint64_t bitmap, struct qd_err *err);

/* The pin goes; there is one, and the caller has released what its slots refer to (qd_pin_walk). */
int qd_pin_delete(struct qd_pin *p, struct qd_err *err);

/*
 * Queues what adds and removes changed besides L2 tables: a new L1, snapshot table, header
 * words, with the barriers they need; frees what they replace (qd_alloc_release).  Refcounts
 * and L2 tables are queued before, with a barrier (qd_change_tables does both); the caller
 * flushes after, then settles.  Then the next adds and removes may come.
 */
int qd_pin_write(struct qd_pin *p, struct qd_err *err);

#endif
