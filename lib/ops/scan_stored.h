/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table of an image instead of its data.
 *
 * It is used when it is valid (nobody has written to the image since), the image is locked
 * while we look, its hash is the one asked for and its clusters are the smallest ones asked
 * for: then its hashes are the keys, and larger sizes follow from them.  A cluster it does
 * not know is read.
 */
#ifndef QD_OPS_SCAN_STORED_H
#define QD_OPS_SCAN_STORED_H

#include "ops/scan_hash.h"

struct scan_stored;

struct scan_known {			/* a cluster whose hash is stored */
	uint64_t off;			/* bytes from the beginning of the stretch */
	bool zero;
	uint8_t key[QD_DIGEST_MAX];
};

/* *ret_stored is NULL when there is nothing of use.  disk must outlive it. */
int qd_scan_stored_open(const struct scan *s, const struct qd_disk *disk, struct scan_stored **ret_stored,
			struct qd_err *err);
void qd_scan_stored_close(struct scan_stored *st);

/*
 * The clusters of [off, off + nbytes) with a stored hash that lie wholly on the disk; list has
 * room for all clusters.  One thread at a time.
 */
int qd_scan_stored_find(struct scan_stored *st, uint64_t off, uint64_t nbytes, struct scan_known *list,
			size_t *ret_n, struct qd_err *err);

#endif
