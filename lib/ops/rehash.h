/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making the hash table of an image anew, or dropping it.
 *
 * Complete: every distinct data cluster of the active layer and all internal snapshots is
 * read once.  Partial: of an index with the same digest, what provably still holds is
 * kept, and only the rest is read:
 *
 *	state    kept
 *	valid    every record
 *	partial  those of clusters that the pin references, whole ones
 *
 * Either way the result is the same, but for its generation.
 */
#ifndef QD_OPS_REHASH_H
#define QD_OPS_REHASH_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/io_file.h"
#include "base/progress.h"

struct qd_rehash_opts {
	const char *hash;		/* as in dedup/digest.h; NULL: the stored table's, or the default */
	const char *index_path;		/* the file of an external index; NULL: embedded */
	bool drop;
	bool dry_run;
	enum qd_cache_mode cache;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for spill files; NULL: /tmp */
};

struct qd_rehash_result {
	const char *previous_state;	/* "valid", "partial", "stale", "absent" */
	char previous_why[200];		/* stale: the reason */
	const char *hash;		/* name of the digest */
	uint64_t entries;		/* of the new table */
	uint64_t nbytes;		/* of the new container */
	uint64_t changed;		/* entries that are new, gone, or say something else */
	uint64_t clusters;		/* distinct ones that are referenced */
	uint64_t clusters_read;
	uint64_t bytes_read;
	uint64_t pinned;		/* shared clusters that the pin did not reference */
	uint64_t unpinned;		/* clusters that nothing but the pin referenced */
	uint64_t generation;		/* of the new container; dropped: 0 */
	bool written;			/* the image was (or would be) changed */
};

/*
 * io is writable, unless it is a dry run, and stays the caller's.  Refuses by name images
 * that are dirty, corrupt, whose refcounts may be too low (ops/soundness.h), or cannot have an index.
 */
int qd_rehash_io(struct qd_io *io, const struct qd_rehash_opts *opts, struct qd_progress *progress,
		 struct qd_rehash_result *ret_result, struct qd_err *err);

/* The same of a file, under its lock. */
int qd_rehash(const char *path, const struct qd_rehash_opts *opts, struct qd_progress *progress,
	      struct qd_rehash_result *ret_result, struct qd_err *err);

#endif
