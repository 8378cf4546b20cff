/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts as they lie in a refcount block: every width from 1 to 64 bits
 * (qcow2 specification, "Host cluster management").
 *
 * Widths below 8 pack several counts in a byte, the first in the least significant
 * bits; wider ones are big-endian.
 */
#ifndef QD_SPACE_REFCOUNT_H
#define QD_SPACE_REFCOUNT_H

#include <stdint.h>

#include "base/io.h"
#include "format/header.h"

uint64_t qd_refcount_get(const uint8_t *block, uint32_t refcount_order, uint64_t index);

/* value fits the width. */
void qd_refcount_set(uint8_t *block, uint32_t refcount_order, uint64_t index, uint64_t value);

/* Refcount table entries: bits 63..9 the block's offset, 8..0 reserved. */
#define QD_REFTABLE_OFFSET_MASK 0xfffffffffffffe00ull

/*
 * How many refcount blocks and refcount table clusters a file needs whose other
 * clusters number `others` when blocks and table count themselves too.
 */
void qd_refcount_structure(const struct qd_geom *g, uint64_t others, uint64_t *ret_blocks,
			   uint64_t *ret_table_clusters);

#endif
