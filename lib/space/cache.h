/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata clusters (refcount blocks, L2 tables) in memory, as they will be in the file.
 *
 *	get --> clean --touch--> dirty --write--> clean (and in the queue) --> evicted
 *	add ----------------------^
 *
 * Changes stay here until the owner says when the clusters of a class may leave: the
 * order between classes is the owner's.  Clean clusters are evicted, the least recently
 * used first, so that all of them together stay under the limit; dirty ones are kept, and
 * qd_cache_is_full() tells the owner that it is time to write.
 *
 * A pointer to a cluster's bytes is valid until the next call.  One thread at a time.
 */
#ifndef QD_SPACE_CACHE_H
#define QD_SPACE_CACHE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "txn/queue.h"

enum qd_cache_class { QD_CACHE_REFBLOCK, QD_CACHE_L2, QD_CACHE_PIN };	/* PIN: L2 tables of the pin */

struct qd_cache;

/* The queue must outlive the cache.  limit: bytes; a few clusters are kept whatever it is. */
int qd_cache_new(struct qd_queue *queue, uint64_t cluster_size, uint64_t limit, struct qd_cache **ret_cache,
		 struct qd_err *err);

/* Dirty clusters are lost.  NULL is allowed. */
void qd_cache_free(struct qd_cache *cache);

/* The cluster at host_off, read through the queue if need be. */
int qd_cache_get(struct qd_cache *cache, enum qd_cache_class class, uint64_t host_off, uint8_t **ret_data,
		 struct qd_err *err);

/* A new cluster: zeros and dirty, whatever the file holds there. */
int qd_cache_add(struct qd_cache *cache, enum qd_cache_class class, uint64_t host_off, uint8_t **ret_data,
		 struct qd_err *err);

/* What the last get returned was changed. */
void qd_cache_touch(struct qd_cache *cache);

/* Forgets the cluster, if it is here, with its changes: it is no metadata any more. */
void qd_cache_drop(struct qd_cache *cache, uint64_t host_off);

/* Queues every dirty cluster of the class. */
int qd_cache_write(struct qd_cache *cache, enum qd_cache_class class, struct qd_err *err);

/* True when half of the limit is dirty. */
bool qd_cache_is_full(const struct qd_cache *cache);

#endif
