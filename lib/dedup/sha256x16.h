/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SHA-256 of sixteen messages at a time, one in each lane of the widest vectors (AVX-512).
 *
 * An Intel processor with both does sixteen messages this way in the time that its SHA
 * instructions take for seven, or for nine of sha256x2.h.
 */
#ifndef QD_DEDUP_SHA256X16_H
#define QD_DEDUP_SHA256X16_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QD_SHA256X16_LANES 16u

/* Whether this processor has the instructions, and the system keeps their registers. */
bool qd_sha256x16_usable(void);

/*
 * nbytes, of each message, is a multiple of QD_SHA256_BLOCK.  Pointers of data may be equal,
 * and so may those of ret then.  Only where it is usable.
 */
void qd_sha256x16(const void *const data[QD_SHA256X16_LANES], size_t nbytes,
		  uint8_t *const ret[QD_SHA256X16_LANES]);

#endif
