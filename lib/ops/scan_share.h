/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Host clusters that several guest clusters of one image share are read once.
 *
 * Before an image is read its tables are walked for host clusters with two references or
 * more.  Whoever comes first to one of these (in the order of jobs) owns it: he reads it
 * and leaves its keys here; for all others the keys are fetched, in the ordered stage.
 *
 * This only saves reading.  It is done without where there is nothing shared, or no memory
 * for it, or where keys cannot be put together from those of a cluster's parts.
 */
#ifndef QD_OPS_SCAN_SHARE_H
#define QD_OPS_SCAN_SHARE_H

#include "ops/scan_hash.h"

struct scan_share;

struct scan_shared {		/* a shared cluster within a stretch */
	uint64_t off;			/* bytes from its beginning */
	uint64_t host;			/* host cluster */
	bool owner;
};

/* *ret_share is NULL when it is to be done without.  disk is that of one view of the image. */
int qd_scan_share_new(struct scan *s, unsigned image, const struct qd_disk *disk,
		      struct scan_share **ret_share, struct qd_err *err);
void qd_scan_share_free(struct scan_share *sh);

/* Bytes: what stretches must be aligned to. */
uint64_t qd_scan_share_cluster(const struct scan_share *sh);

/*
 * The shared clusters of [off, off + nbytes) of a view's disk, which lie wholly within it; list
 * has room for all clusters there are.  Gives ownership: once for each stretch, in order.
 */
int qd_scan_share_find(struct scan_share *sh, const struct qd_disk *disk, uint64_t off, uint64_t nbytes,
		       struct scan_shared *list, size_t *ret_n, struct qd_err *err);

/* Keeps the keys of an owner's cluster; fetches those of another, which are no longer `later` then. */
int qd_scan_share_put(struct scan_share *sh, const struct scan_cells *c, const struct scan_shared *at,
		      struct qd_err *err);
int qd_scan_share_get(struct scan_share *sh, struct scan_cells *c, const struct scan_shared *at,
		      struct qd_err *err);

#endif
