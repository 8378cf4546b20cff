/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Creating an empty image.
 */
#ifndef QD_OPS_CREATE_H
#define QD_OPS_CREATE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io_file.h"
#include "base/progress.h"
#include "ops/layout.h"

struct qd_create_opts {
	const char *path;
	const char *format;		/* "raw", "qcow2"; NULL: raw for "*.raw", else qcow2 */
	struct qd_layout layout;	/* -o, -b, -F */
	bool has_size;
	uint64_t size;			/* bytes, rounded up to 512; without: the backing file's */
	bool unsafe_backing;		/* -u: do not open the backing file */
	bool force_share;		/* -U, for the backing file */
	bool untrusted;			/* open nothing that the backing file names */
	enum qd_cache_mode cache;	/* -t */
};

struct qd_create_result {
	const char *format;
	uint64_t virtual_size;		/* bytes */
	uint64_t cluster_size;		/* bytes; 0 for raw */
	const char *detected_format;	/* of a backing file given without one, recorded now; else NULL */
};

/* On failure no file has appeared and older ones are untouched. */
int qd_create(const struct qd_create_opts *opts, struct qd_progress *progress,
	      struct qd_create_result *ret_result, struct qd_err *err);

#endif
