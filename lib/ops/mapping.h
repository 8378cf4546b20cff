/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The map of a disk: which guest range lies where, like extents joined with like.
 */
#ifndef QD_OPS_MAPPING_H
#define QD_OPS_MAPPING_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

struct qd_mapping_opts {
	const char *format;		/* "raw", "qcow2"; NULL: the content decides */
	bool force_share;		/* -U */
	bool untrusted;
	uint64_t start;			/* bytes */
	uint64_t max_nbytes;		/* UINT64_MAX: to the end */
};

struct qd_mapping {
	uint64_t start;			/* guest offset, bytes */
	uint64_t nbytes;		/* 0: the one entry of an empty range */
	uint64_t offset;		/* in `path`, when has_offset */
	const char *path;		/* the file that offset is of; valid during the callback */
	unsigned depth;			/* 0: the image itself */
	bool data;
	bool zero;
	bool present;
	bool compressed;
	bool has_offset;
};

/* Returning non-zero stops the operation with QD_E_CANCELLED. */
typedef int (*qd_mapping_fn)(void *ctx, const struct qd_mapping *m);

/* Calls fn for each entry in ascending order. */
int qd_mapping_list(const char *path, const struct qd_mapping_opts *opts, qd_mapping_fn fn, void *ctx,
		    struct qd_err *err);

#endif
