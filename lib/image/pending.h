/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writes of an operation that was cut short, left in the journal of an image that is clean
 * again: it was repaired without them, and the clusters they link may be in use for something
 * else.  They are crossed out before the image is marked dirty again, because a replay goes by
 * the dirty bit.
 */
#ifndef QD_IMAGE_PENDING_H
#define QD_IMAGE_PENDING_H

#include "image/image.h"

/* The image is not dirty, its io writable.  What the journal is like otherwise does not matter here. */
int qd_pending_cross_out(const struct qd_image *img, struct qd_err *err);

#endif
