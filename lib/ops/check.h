/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking a qcow2 image from its metadata alone, however broken it is.  Nothing is
 * written, no other file is opened, and guest data is never read.
 *
 * What is counted agrees with qemu-img check; finding.h says what can be found.
 */
#ifndef QD_OPS_CHECK_H
#define QD_OPS_CHECK_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/progress.h"
#include "ops/finding.h"

/* Called for each finding, one at a time, always in the same order for the same image. */
typedef void (*qd_finding_fn)(void *ctx, const struct qd_finding *f, uint64_t cluster_size);

struct qd_check_opts {
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	uint64_t list_memory;		/* the lists of tables fit if they would with so much; 0: memory */
	qd_finding_fn found;		/* may be NULL */
	void *ctx;
	bool without_refcounts;		/* as if there were no refcount table and no blocks */
};

struct qd_check_result {
	bool is_qcow2;			/* false: nothing below holds, there is no such check */
	uint64_t check_errors;		/* what could not be judged; not 0: the check is incomplete */
	uint64_t corruptions;
	uint64_t leaks;
	uint64_t image_end;		/* bytes: end of the last cluster in use */
	uint64_t total_clusters;	/* of the virtual disk */
	uint64_t allocated_clusters;	/* of the active layer; fragmented and compressed are among them */
	uint64_t fragmented_clusters;
	uint64_t compressed_clusters;
	uint64_t cluster_size;		/* bytes */
	bool dirty;
	bool corrupt_bit;
	/*
	 * Some table that names clusters could not be read: what looks like a leak may be
	 * in use.  Leaks must not be freed then.
	 */
	bool blind;
	uint64_t count[QD_F_NTYPES];	/* items found of each kind */
};

/*
 * 0 when the check ran, whatever it found: *ret_result tells.  A failure is one that
 * left nothing to tell (not readable at all, out of memory, cancelled).
 */
int qd_check(struct qd_io *io, const struct qd_check_opts *opts, struct qd_progress *progress,
	     struct qd_check_result *ret_result, struct qd_err *err);

/* 0 consistent, 1 incomplete, 2 corrupt, 3 leaks only, 63 not qcow2: as qemu-img check. */
int qd_check_status(const struct qd_check_result *r);

#endif
