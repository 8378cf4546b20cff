/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparing the content of two disks.
 */
#ifndef QD_OPS_COMPARE_H
#define QD_OPS_COMPARE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io_file.h"
#include "base/progress.h"

struct qd_compare_opts {
	const char *format[2];		/* "raw", "qcow2"; NULL: the content decides */
	enum qd_cache_mode cache;	/* -T */
	bool strict;			/* sizes and what is allocated count too */
	bool force_share;		/* -U */
	bool untrusted;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
};

enum qd_compare_verdict {
	QD_COMPARE_IDENTICAL,		/* where one disk is longer, its rest is zeros */
	QD_COMPARE_CONTENT,
	QD_COMPARE_SIZE,		/* strict */
	QD_COMPARE_ALLOCATION,		/* strict */
};

struct qd_compare_result {
	enum qd_compare_verdict verdict;
	uint64_t size[2];		/* virtual sizes, bytes */
	uint64_t offset;		/* of the first difference: its sector of 512 bytes, or extent */
	uint64_t byte_offset;		/* CONTENT: the very byte */
};

int qd_compare(const char *path_a, const char *path_b, const struct qd_compare_opts *opts,
	       struct qd_progress *progress, struct qd_compare_result *ret_result, struct qd_err *err);

#endif
