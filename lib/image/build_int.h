/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What build.c (allocation) and build_finish.c (metadata) share.
 */
#ifndef QD_IMAGE_BUILD_INT_H
#define QD_IMAGE_BUILD_INT_H

#include "image/build.h"
#include "image/image.h"
#include "image/l2store.h"
#include "space/tally.h"

#define QD_BUILD_GAPS 16u
#define QD_BUILD_ALL_ALLOCATED 0x00000000ffffffffull	/* subcluster bitmap of extended L2 */

struct qd_build_gap {		/* free bytes [off, end) at the end of a cluster of streams */
	uint64_t off;
	uint64_t end;
};

struct qd_build {
	struct qd_io *io;
	struct qd_build_opts opts;
	char *backing_name;		/* owned copies of the names in opts */
	char *backing_format;
	char *data_file_name;
	struct qd_header header;
	struct qd_geom geom;
	struct qd_tally counts;	/* by host cluster: references, the pin's included (B2) */
	struct qd_tally shares;	/* by guest cluster: references beyond its own to what it owns */
	struct qd_l2store l2;
	uint64_t next_cluster;		/* host cluster that is allocated next */
	struct qd_build_gap tail;
	struct qd_build_gap gaps[QD_BUILD_GAPS];
	uint64_t first_pinned;		/* host clusters that the pin references besides shared ones */
	uint64_t npinned;
	struct qd_ext_copy *exts;
	unsigned nexts;
	struct qd_build_stats stats;
};

/* nclusters contiguous clusters with a count of 1 each. */
int qd_build_alloc(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err);

/* QD_E_INVALID when a disk of that size needs a larger L1 table than QEMU reads. */
int qd_build_check_size(const struct qd_build *b, uint64_t virtual_size, struct qd_err *err);

#endif
