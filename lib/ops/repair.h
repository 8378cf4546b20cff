/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing a qcow2 image: what check found, put right where that is possible without
 * losing anything that could be read.
 *
 * repair.c says how, and what holds at every moment.
 */
#ifndef QD_OPS_REPAIR_H
#define QD_OPS_REPAIR_H

#include "ops/check.h"

enum qd_repair_what {
	QD_REPAIR_LEAKS,	/* give back what nothing uses; nothing else */
	QD_REPAIR_ALL,
};

/* What was (or would be) done about a finding. */
enum qd_repair_verb {
	QD_REPAIR_SET,		/* a field, flag or count gets the value it must have */
	QD_REPAIR_DROP,		/* an entry that cannot be true is given up: the guest range is lost */
	QD_REPAIR_COPY,		/* two owners of one cluster: one of them gets a copy */
	QD_REPAIR_FOUND,	/* what was lost was found elsewhere in the file */
	QD_REPAIR_REBUILD,	/* refcount table and blocks are made anew */
	QD_REPAIR_FREE,		/* leaked clusters are given back */
	QD_REPAIR_REMOVE,	/* a snapshot or all bitmaps are removed */
	QD_REPAIR_NVERBS,
};

/* "dropped", and what that means in half a sentence. */
const char *qd_repair_verb_name(enum qd_repair_verb verb);
const char *qd_repair_verb_meaning(enum qd_repair_verb verb);

struct qd_repair_result;

struct qd_repair_opts {
	enum qd_repair_what what;
	bool dry_run;			/* plan only */
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for what of the plan does not fit; NULL: /tmp */
	struct qd_io *save;		/* metadata about to be changed goes here first; NULL: nowhere */
	qd_finding_fn found;		/* findings of the image as it was; may be NULL */
	/* Each thing planned; may be NULL.  The finding is the one that it answers. */
	void (*planned)(void *ctx, enum qd_repair_verb verb, const struct qd_finding *f,
			uint64_t cluster_size);
	/*
	 * The plan is complete, what it changes is saved, and it is about to be carried out
	 * (so_far: before, changed).  Other than 0 stops here.  May be NULL.
	 */
	int (*ready)(void *ctx, const struct qd_repair_result *so_far, struct qd_err *err);
	void *ctx;
};

struct qd_repair_result {
	struct qd_check_result before;
	struct qd_check_result after;	/* of the image, or, in a dry run, of the image as it would be */
	bool changed;			/* something was written, or would be */
	const char *refused;		/* why nothing was done about corruptions, or NULL */
	uint64_t flushes;
};

/*
 * 0 when all that could be done was done: *ret_result tells what is left.  io is
 * writable, unless it is a dry run.
 */
int qd_repair(struct qd_io *io, const struct qd_repair_opts *opts, struct qd_progress *progress,
	      struct qd_repair_result *ret_result, struct qd_err *err);

#endif
