/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An index in use: table and log of a container, looked up by content and by cluster while
 * the image is written to, and what changes goes to the log.  It is the hook of a writer
 * (image/write_hook.h).
 *
 *	content --digest--> index in memory --> record number --> table    n < records of the table
 *	                                                    `---> overlay  the log's, and what came since
 *
 * Memory: a table record costs what an index entry does (dedup/index.h), 14 bytes at most, and a bit
 * for the pin; while that is read, before there is an index, 8 bytes for each cluster it references
 * at most.  The overlay is bounded by the log.
 *
 * Invariants
 *  V1  a record whose cluster has no reference is never nominated; it is taken back before
 *      the cluster can be used again.
 *  V2  a HASH is committed only when the cluster's bytes and a reference to it are on
 *      stable storage, a REVOKE before the cluster's bytes can change.
 */
#ifndef QD_DEDUP_LIVE_H
#define QD_DEDUP_LIVE_H

#include "dedup/container.h"
#include "image/write_hook.h"
#include "txn/journal.h"

struct qd_live;

struct qd_live_opts {
	struct qd_image *img;
	struct qd_container *container;	/* state valid, opened, embedded */
	struct qd_journal *journal;	/* its own, sound */
	uint64_t max_share;		/* references */
	uint64_t memory;		/* bytes, for the index */
	const char *tmpdir;		/* NULL: /tmp */
	/* The refcount of a host cluster. */
	int (*count)(void *ctx, uint64_t cluster, uint64_t *ret_count, struct qd_err *err);
	void *ctx;
};

/* What opts names stays the caller's and outlives it.  Reads the whole table; writes nothing. */
int qd_live_open(const struct qd_live_opts *opts, struct qd_live **ret_live, struct qd_err *err);
void qd_live_free(struct qd_live *l);

const struct qd_write_hook *qd_live_hook(const struct qd_live *l);

/* Journal clusters that a commit of `nclusters` written clusters can cost at most. */
uint32_t qd_live_cost(const struct qd_live *l, uint64_t nclusters);

/*
 * Makes room in the log, between commits: packs when that leaves half of it free.
 * *ret_merge: it does not, and the log is to be merged into the table.
 */
int qd_live_make_room(struct qd_live *l, bool *ret_merge, struct qd_err *err);

#endif
