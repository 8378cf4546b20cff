/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing persistent bitmaps.
 */
#ifndef QD_OPS_REPAIR_BITMAP_H
#define QD_OPS_REPAIR_BITMAP_H

#include "ops/repair_int.h"

/* A bitmap whose content is not known any more is all ones: everything is dirty. */
int qd_rep_fix_bitmap_entry(struct rep *r, const struct qd_finding *f, struct qd_err *err);

#endif
