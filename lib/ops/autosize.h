/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which cluster size makes the smallest image: cluster_size=auto.  The disk is read once
 * more, before it is converted.
 */
#ifndef QD_OPS_AUTOSIZE_H
#define QD_OPS_AUTOSIZE_H

#include "base/progress.h"
#include "image/disk.h"

#define QD_AUTOSIZE_MIN 4096u
#define QD_AUTOSIZE_MAX 65536u
#define QD_AUTOSIZE_NSIZES 5u

struct qd_autosize {
	unsigned nsizes;			/* 0: there was nothing to choose */
	uint64_t cluster_size[QD_AUTOSIZE_NSIZES];	/* ascending */
	uint64_t nbytes[QD_AUTOSIZE_NSIZES];	/* of data, tables and hash table at that size, uncompressed */
	unsigned best;
};

struct qd_autosize_opts {
	uint64_t smallest;		/* cluster size that may be chosen; 0: QD_AUTOSIZE_MIN */
	uint32_t record_nbytes;		/* of the hash table, for each distinct cluster; 0: there is none */
	unsigned threads;
	uint64_t memory;		/* bytes */
	const char *tmpdir;
};

int qd_autosize(const struct qd_disk *disk, const struct qd_autosize_opts *opts, struct qd_progress *progress,
		struct qd_autosize *ret_auto, struct qd_err *err);

#endif
