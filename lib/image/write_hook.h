/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a writer (write.h) asks whoever knows the image's content by hash, and tells him.
 *
 *	begin                          before the first change
 *	find -> candidates             for the content of a whole cluster; the writer compares bytes
 *	stored / pinned / full         what it did about it
 *	redo                           all metadata writes of a commit are queued; none is in its place
 *	freed ...                      clusters whose last reference is gone from the tables
 *	linked                         the commit's writes are on stable storage in their places
 *	                               (only now may freed clusters be used again)
 *	closing                        the last thing before the dirty bit is cleared
 *
 * Each returns 0 or a negative QD_E_*.
 */
#ifndef QD_IMAGE_WRITE_HOOK_H
#define QD_IMAGE_WRITE_HOOK_H

#include <stdbool.h>
#include <stdint.h>

#include "txn/queue.h"

#define QD_WRITE_CANDIDATES 8u

struct qd_write_candidate {
	uint64_t entry;			/* as in an L2 table, COPIED clear */
	uint64_t guest;			/* cluster number: the first to refer to it */
	bool of_snapshot;		/* no entry of the active layer did */
};

struct qd_write_hook {
	void *ctx;
	uint64_t max_share;		/* references from which on a cluster is not shared further */
	int (*begin)(void *ctx, struct qd_err *err);
	/* Fills ret, QD_WRITE_CANDIDATES at most; content has cluster_size bytes. */
	int (*find)(void *ctx, const uint8_t *content, struct qd_write_candidate *ret, unsigned *ret_n,
		    struct qd_err *err);
	/* The content of the last find is now in this cluster, which is new. */
	int (*stored)(void *ctx, uint64_t entry, uint64_t guest, struct qd_err *err);
	int (*full)(void *ctx, uint64_t entry, struct qd_err *err);
	/* Does the pin reference this candidate of the last find? */
	bool (*is_pinned)(void *ctx, uint64_t entry);
	int (*pinned)(void *ctx, uint64_t entry, struct qd_err *err);
	/* QD_E_INVALID: there is no room for so much; the commit goes on without. */
	int (*redo)(void *ctx, struct qd_queue *queue, struct qd_err *err);
	int (*freed)(void *ctx, uint64_t cluster, struct qd_err *err);
	/* QD_E_INVALID: there is no room; the writer gives the hook up and clears the autoclear bit. */
	int (*linked)(void *ctx, struct qd_err *err);
	int (*closing)(void *ctx, struct qd_queue *queue, struct qd_err *err);
};

#endif
