/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making the file of an image shorter in place: clusters from its tail move into the holes
 * in front of it, and the file is truncated behind the last one.  compact.c tells how.
 */
#ifndef QD_OPS_COMPACT_H
#define QD_OPS_COMPACT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/io_file.h"
#include "base/progress.h"

struct qd_compact_opts {
	bool dry_run;			/* plan only; nothing is written */
	const char *index_path;		/* the file of an external hash table; NULL: embedded */
	enum qd_cache_mode cache;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for spill files; NULL: /tmp */
	bool no_punch;			/* free clusters that are left keep their bytes */
	/* free clusters may still hold bytes, which go even when nothing moves */
	bool after_dedup;
};

enum qd_compact_stage {			/* how far it came: for telling after a failure */
	QD_COMPACT_READING,		/* nothing was written */
	QD_COMPACT_WRITING,		/* the image may be marked dirty; what is done is done */
	QD_COMPACT_DONE,
};

struct qd_compact_result {
	enum qd_compact_stage stage;	/* kept up to date, also when it fails */
	uint64_t cluster_size;		/* bytes */
	uint64_t data_moved;		/* host clusters of data */
	uint64_t streams_moved;		/* compressed clusters */
	uint64_t metadata_moved;	/* host clusters of tables */
	uint64_t rounds;
	uint64_t flushes;
	uint64_t file_size[2];		/* before, after */
	uint64_t allocated[2];		/* on the host, likewise */
	bool indexed;			/* the hash table was written anew */
	bool changed;			/* anything was (or would be) */
	bool interrupted;		/* asked to stop between two batches: the image is clean */
};

/* io is writable, unless it is a dry run, and stays the caller's.  *ret_result is filled also on failure. */
int qd_compact_io(struct qd_io *io, const struct qd_compact_opts *opts, struct qd_progress *progress,
		  struct qd_compact_result *ret_result, struct qd_err *err);

/* The same of a file, under its lock. */
int qd_compact(const char *path, const struct qd_compact_opts *opts, struct qd_progress *progress,
	       struct qd_compact_result *ret_result, struct qd_err *err);

#endif
