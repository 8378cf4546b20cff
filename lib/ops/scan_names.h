/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of images and views -> numbers: a fleet has hundreds of thousands of them.
 */
#ifndef QD_OPS_SCAN_NAMES_H
#define QD_OPS_SCAN_NAMES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct scan_names {		/* all zero: empty */
	struct scan_name {
		const char *text;	/* NULL: free */
		unsigned number;
	} *slots;
	size_t nslots;			/* 0 or a power of two, at most half of them taken */
	size_t n;
};

bool qd_scan_names_find(const struct scan_names *t, const char *text, unsigned *ret_number);

/* text is not there yet, and stays valid as long as the table. */
int qd_scan_names_add(struct scan_names *t, const char *text, unsigned number, struct qd_err *err);

void qd_scan_names_free(struct scan_names *t);

#endif
