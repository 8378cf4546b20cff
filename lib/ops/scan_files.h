/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which files are known already, by what they are (device and inode) and not by name.
 */
#ifndef QD_OPS_SCAN_FILES_H
#define QD_OPS_SCAN_FILES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct scan_files {		/* all zero: empty */
	struct scan_file {
		uint64_t id[2];
		bool taken;
	} *slots;
	size_t nslots;		/* 0 or a power of two, at most half of them taken */
	size_t n;
};

/* Adds a file; *ret_new says whether it was not there yet. */
int qd_scan_files_add(struct scan_files *t, const uint64_t id[2], bool *ret_new, struct qd_err *err);

void qd_scan_files_free(struct scan_files *t);

#endif
