/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What bitmaps.c (listing) and bitmaps_copy.c share.
 */
#ifndef QD_IMAGE_BITMAPS_INT_H
#define QD_IMAGE_BITMAPS_INT_H

#include <stdint.h>

/* Bytes of bits that a bitmap of a disk of that size has. */
uint64_t qd_bitmaps_data_nbytes(uint64_t virtual_size, uint64_t granularity);

#endif
