/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sorting fixed-size records by their bytes, in place and without memory of its own.
 */
#ifndef QD_DEDUP_SORT_H
#define QD_DEDUP_SORT_H

#include <stddef.h>

#define QD_SORT_RECORD_MAX 64u		/* bytes */

/* Ascending as memcmp orders them; the first `equal` bytes are known to be the same in all. */
void qd_sort_records(void *records, size_t n, size_t record_nbytes, size_t equal);

#endif
