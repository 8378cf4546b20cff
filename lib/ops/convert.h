/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Converting a disk into a new image, deduplicated unless asked otherwise.
 */
#ifndef QD_OPS_CONVERT_H
#define QD_OPS_CONVERT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io_file.h"
#include "base/progress.h"
#include "ops/autosize.h"
#include "ops/layout.h"

struct qd_convert_opts {
	const char *source;		/* path, or "-" for standard input (raw) */
	const char *target;		/* path, or "-" for standard output (raw) */
	const char *source_format;	/* "raw", "qcow2"; NULL: the content decides */
	const char *target_format;	/* "raw", "qcow2"; NULL: raw for "*.raw" and "-", else qcow2 */
	const char *snapshot;		/* -l: internal snapshot by ID or name */
	struct qd_layout layout;	/* -o, -B, -F; qcow2 targets only */
	bool compress;
	int compress_level;		/* 1..9; 0: the default */
	bool no_create;			/* -n: write into the existing target */
	bool sparse_given;		/* -S was given */
	uint64_t sparse_size;		/* bytes of zeros that make a hole in a raw target; 0: no holes */
	enum qd_cache_mode source_cache;	/* -T */
	enum qd_cache_mode target_cache;	/* -t */
	bool force_share;		/* -U */
	bool untrusted;
	bool no_dedup;
	bool no_pin;
	const char *hash;		/* name as in dedup/digest.h; NULL: xxh128 */
	bool no_index;			/* store no hash table */
	const char *index_path;		/* store it in this file; NULL: in the image */
	bool trust_hash;		/* equal hash means equal content: no byte comparison */
	uint64_t max_share;		/* 0: the default of the refcount width */
	bool bitmaps;			/* copy persistent bitmaps */
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* for spill files; NULL: /tmp */
};

struct qd_convert_result {
	const char *target_format;
	uint64_t virtual_size;		/* bytes */
	uint64_t cluster_size;		/* bytes; 0 for raw */
	uint64_t guest_clusters;	/* that hold data (not all zero) */
	uint64_t data_clusters;		/* stored after deduplication */
	uint64_t shared_clusters;	/* stored clusters with two references or more */
	uint64_t file_size;		/* bytes of the target file */
	uint64_t index_entries;		/* hashes stored */
	uint64_t index_nbytes;		/* that they take; 0: no hash table */
	struct qd_autosize autosize;	/* cluster_size=auto: what was weighed; nsizes 0: it was not asked for */
	uint64_t hint_cluster_size;	/* would have made a smaller image; 0: none, or not known */
	uint64_t hint_nbytes;		/* smaller by about so many */
	uint32_t bitmaps_left;		/* persistent bitmaps of the source not copied */
	uint32_t bitmaps_stale;		/* ... because somebody wrote the image without keeping them */
};

/* On failure no output has appeared and an older target is untouched (not so with no_create). */
int qd_convert(const struct qd_convert_opts *opts, struct qd_progress *progress,
	       struct qd_convert_result *ret_result, struct qd_err *err);

#endif
