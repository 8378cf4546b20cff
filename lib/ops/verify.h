/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparing the data of an image with its stored hashes: bit rot that no check of tables
 * can see.  Nothing is written.
 */
#ifndef QD_OPS_VERIFY_H
#define QD_OPS_VERIFY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/progress.h"

struct qd_verify_bad {		/* a guest cluster whose content is not what it was */
	const char *layer;	/* NULL: the active layer; else the snapshot's name */
	const char *snapshot_id;	/* likewise */
	uint64_t offset;	/* bytes */
	uint64_t nbytes;	/* up to the layer's end */
	uint64_t host_off;	/* bytes: where it lies in the file */
	bool compressed;
	bool certain;		/* false: somebody may have written it in place (verify.c says when) */
};

struct qd_verify_opts {
	const char *index_path;		/* the file of an external index, or NULL */
	bool no_lock;			/* -U */
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	/* Layer by layer, the active one first, in order of offset.  May be NULL. */
	void (*bad)(void *ctx, const struct qd_verify_bad *bad);
	void *ctx;
};

struct qd_verify_result {
	const char *state;		/* of the index: "valid" or "partial" */
	const char *hash;
	uint64_t checked;		/* distinct clusters read and compared */
	uint64_t unknown;		/* distinct clusters without a hash that holds: not read */
	uint64_t bad_clusters;		/* of checked: other content, or not to be unpacked */
	uint64_t bad_ranges;		/* times bad was called */
	uint64_t bytes_read;
	bool index_damaged;		/* parts of the table could not be believed */
};

/*
 * 0 when the comparison ran, whatever came of it.  QD_E_INVALID when there is no index that
 * could be compared with: the message says why and what to do.
 */
int qd_verify_io(struct qd_io *io, const struct qd_verify_opts *opts, struct qd_progress *progress,
		 struct qd_verify_result *ret_result, struct qd_err *err);
int qd_verify(const char *path, const struct qd_verify_opts *opts, struct qd_progress *progress,
	      struct qd_verify_result *ret_result, struct qd_err *err);

#endif
