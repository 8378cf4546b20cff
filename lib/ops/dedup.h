/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deduplicating an image in place: equal clusters of the active layer and all internal
 * snapshots become one, clusters of zeros are given up.  dedup.c tells how.
 */
#ifndef QD_OPS_DEDUP_H
#define QD_OPS_DEDUP_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/io_file.h"
#include "base/progress.h"

struct qd_dedup_opts {
	bool dry_run;			/* plan only; nothing is written */
	const char *hash;		/* see dedup/digest.h; NULL: the stored table's, or the default */
	bool trust_hash;		/* equal hash means equal content: no byte comparison */
	uint64_t max_share;		/* 0: the default of the refcount width */
	bool no_pin;
	bool no_index;
	const char *index_path;		/* the file of an external table; NULL: embedded */
	bool no_punch;			/* freed clusters keep their bytes */
	bool late_counts;		/* --lazy-refcounts */
	bool upgrade;			/* make version 3 of a version 2 image */
	bool compact;			/* then shorten the file (ops/compact.h); not with dry_run */
	enum qd_cache_mode cache;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for spill files; NULL: /tmp */
	uint64_t batch;			/* clusters freed in a batch, at most; 0: as many as memory allows */
};

enum qd_dedup_stage {			/* how far it came: for telling after a failure */
	QD_DEDUP_READING,		/* nothing was written */
	QD_DEDUP_WRITING,		/* what is done is done */
	QD_DEDUP_DONE,
};

struct qd_dedup_result {
	enum qd_dedup_stage stage;	/* kept up to date, also when it fails */
	uint64_t cluster_size;		/* bytes */
	uint64_t scanned;		/* distinct data clusters there were */
	uint64_t references;		/* entries that read them */
	uint64_t freed;			/* of scanned, those that are another one's duplicates */
	uint64_t zero_freed;		/* of scanned, those that hold zeros; and places kept for zeros */
	uint64_t unpinned;		/* clusters that nothing but the pin kept */
	uint64_t pinned;		/* clusters newly pinned */
	uint64_t remaining;		/* distinct data clusters afterwards */
	uint64_t freed_nbytes;		/* of the file that are free afterwards, and were not before */
	uint64_t read_nbytes;		/* of data */
	uint64_t batches;
	uint64_t logged;		/* of the batches, with redo records: a replay finishes them */
	uint64_t flushes;
	uint64_t file_size[2];		/* before, after */
	uint64_t allocated[2];		/* on the host, likewise */
	bool upgraded;			/* version 2 -> 3 */
	bool indexed;			/* a table was written */
	uint64_t moved;			/* clusters and streams moved to shorten the file */
	bool no_room;			/* not, because the header's cluster has no room for the extension */
	bool dirty;			/* after a failure: the image is marked dirty */
	bool changed;			/* anything was (or would be) */
	bool interrupted;		/* asked to stop between two batches: the image is clean */
};

/* io is writable, unless it is a dry run, and stays the caller's.  *ret_result is filled also on failure. */
int qd_dedup_io(struct qd_io *io, const struct qd_dedup_opts *opts, struct qd_progress *progress,
		struct qd_dedup_result *ret_result, struct qd_err *err);

/* The same of a file, under its lock. */
int qd_dedup(const char *path, const struct qd_dedup_opts *opts, struct qd_progress *progress,
	     struct qd_dedup_result *ret_result, struct qd_err *err);

#endif
