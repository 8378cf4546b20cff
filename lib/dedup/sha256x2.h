/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * SHA-256 of two messages at a time.
 *
 * The processor's SHA instructions wait for one another within a message; those of two
 * messages, taken in turns, do not.  How much that gains is the processor's: from a quarter up to
 * all of it.
 */
#ifndef QD_DEDUP_SHA256X2_H
#define QD_DEDUP_SHA256X2_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define QD_SHA256_NBYTES 32u
#define QD_SHA256_BLOCK 64u

/* The constants of the rounds; defined where the processor can be one that has the instructions. */
extern const uint32_t qd_sha256_k[64];

/* Whether this processor has the instructions. */
bool qd_sha256x2_usable(void);

/* nbytes, of each message, is a multiple of QD_SHA256_BLOCK.  Only where it is usable. */
void qd_sha256x2(const void *const data[2], size_t nbytes, uint8_t *const ret[2]);

#endif
