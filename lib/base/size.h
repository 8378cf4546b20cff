/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sizes as people write them: bytes, or one suffix letter of b K M G T P E (either
 * case; powers of 1024), fractions with a suffix ("1.5G"), hexadecimal bytes ("0x200").
 */
#ifndef QD_BASE_SIZE_H
#define QD_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

/*
 * Refuses "", signs, spaces, "1MB", "1MiB", overflow past INT64_MAX, and a fraction
 * that is not a whole number of bytes ("0.3" or "1.3K"): nothing is rounded silently.
 */
int qd_size_parse(const char *text, uint64_t *ret_nbytes, struct qd_err *err);

/* A whole decimal number within [min, max]; `what` names it in the message. */
int qd_number_parse(const char *text, const char *what, uint64_t min, uint64_t max,
		    uint64_t *ret_value, struct qd_err *err);

/* "1.5 GiB", three significant digits; returns buf. */
const char *qd_size_format(uint64_t nbytes, char *buf, size_t buf_size);
#define QD_SIZE_TEXT 32

#endif
