/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How large the file of a new image will be, before it is made.
 */
#ifndef QD_OPS_MEASURE_H
#define QD_OPS_MEASURE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/progress.h"
#include "ops/layout.h"

struct qd_measure_opts {
	const char *source;		/* path; NULL: an empty disk of `size` bytes */
	uint64_t size;
	const char *source_format;	/* "raw", "qcow2"; NULL: the content decides */
	const char *target_format;	/* "raw" (also NULL), "qcow2" */
	const char *snapshot;		/* -l: internal snapshot by ID or name */
	struct qd_layout layout;	/* of a qcow2 target */
	bool dedup;			/* read the data, count duplicates once, as qdedup convert stores them */
	bool force_share;		/* -U */
	bool untrusted;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for spill files; NULL: /tmp */
};

struct qd_measure_result {
	uint64_t required;		/* bytes */
	uint64_t fully_allocated;	/* bytes, should the guest write everywhere */
	bool has_bitmaps;		/* source and target can have persistent bitmaps */
	uint64_t bitmaps;		/* bytes they take on top of required */
	/* With dedup: */
	uint64_t guest_clusters;	/* that hold data */
	uint64_t data_clusters;		/* to be stored for them */
	uint64_t shared_clusters;
	uint64_t cluster_size;
};

/* progress serves dedup; everything else is metadata. */
int qd_measure(const struct qd_measure_opts *opts, struct qd_progress *progress,
	       struct qd_measure_result *ret_result, struct qd_err *err);

#endif
