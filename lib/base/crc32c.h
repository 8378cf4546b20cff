/* SPDX-License-Identifier: GPL-2.0-or-later */
/* CRC32C (Castagnoli), the checksum of our own structures. */
#ifndef QD_BASE_CRC32C_H
#define QD_BASE_CRC32C_H

#include <stddef.h>
#include <stdint.h>

/* Where each checksum of our own structures starts: not 0, so that zeros are never valid. */
#define QD_CRC32C_SEED 0x51644431u	/* "QdD1" */

/*
 * The register after nbytes more; start with QD_CRC32C_SEED.  The register is neither
 * inverted at the start nor at the end: pieces can be chained.
 */
uint32_t qd_crc32c(uint32_t crc, const void *data, size_t nbytes);

#endif
