/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is known of a guest range without reading it, in the terms of QEMU's block
 * status: `map` prints it, `compare -s` compares it, `measure` adds it up.
 *
 *	             data  zero  present  offset
 *	written      yes   no    yes      where (none for a compressed cluster)
 *	reads zero   no    yes   yes      of the cluster kept for it, if any; raw: of the hole
 *	nothing      no    yes   no       -
 *	preallocated yes   yes   yes      a cluster that is a hole of the host's file
 */
#ifndef QD_OPS_EXTENT_H
#define QD_OPS_EXTENT_H

#include "image/disk.h"

struct qd_extent {
	uint64_t start;			/* guest offset, bytes */
	uint64_t nbytes;
	uint64_t offset;		/* in data_path of the layer, when has_offset */
	const struct qd_disk *layer;	/* who decides */
	bool data;
	bool zero;
	bool present;			/* some layer holds it */
	bool compressed;
	bool has_offset;
};

struct qd_extent_walk;

/* The disk must outlive the walk.  One thread at a time. */
int qd_extent_walk_new(const struct qd_disk *disk, struct qd_extent_walk **ret_walk, struct qd_err *err);
void qd_extent_walk_free(struct qd_extent_walk *walk);

/* The extent that starts at guest_off (< virtual_size), at most max_nbytes; neighbours may be alike. */
int qd_extent_next(struct qd_extent_walk *walk, uint64_t guest_off, uint64_t max_nbytes,
		   struct qd_extent *ret_extent, struct qd_err *err);

#endif
