/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which records of a table tell of clusters that the pin references: a bit for each, so that it
 * costs next to nothing even where all clusters are shared.
 */
#ifndef QD_DEDUP_PIN_BITS_H
#define QD_DEDUP_PIN_BITS_H

#include "dedup/container.h"

struct qd_pin_bits;

/*
 * Reads the pin once, and the container's table once for each `memory` bytes of the pin's entries, 8
 * bytes an entry.  each (may be NULL) is told every entry, but for those of the container itself.
 */
int qd_pin_bits_load(const struct qd_image *img, const struct qd_container *c, uint64_t memory,
		     int (*each)(void *ctx, uint64_t entry, struct qd_err *err), void *ctx,
		     struct qd_pin_bits **ret_bits, struct qd_err *err);
void qd_pin_bits_free(struct qd_pin_bits *b);

/* Of record number n of the table. */
bool qd_pin_bits_has(const struct qd_pin_bits *b, uint64_t n);

#endif
