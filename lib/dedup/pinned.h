/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the pin of an image references: its L1 table, its L2 tables, slot by slot.
 *
 * Reading only; image/pin.h changes it.  What cannot be true of a table (unaligned, past
 * the end of the file) is left out and numbered.
 */
#ifndef QD_DEDUP_PINNED_H
#define QD_DEDUP_PINNED_H

#include "image/image.h"

/* Slots in use, in order, COPIED clear; other than 0 ends it.  *ret_bad: tables left out.  No pin: no slots. */
int qd_pinned_walk(const struct qd_image *img, int (*fn)(void *ctx, uint64_t entry, struct qd_err *err), void *ctx,
		   uint64_t *ret_bad, struct qd_err *err);

#endif
