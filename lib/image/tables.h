/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every L2 table of an image, once each, in the order they lie in the file: what an
 * operation on all metadata walks over.
 *
 *	L1 tables --sort by L2 offset--> (L2 table, who uses it) --read in order--> callback
 *
 * Memory is bounded: images with more L1 entries than fit are walked in several
 * rounds, and a table that several layers use may then come up once per round.
 */
#ifndef QD_IMAGE_TABLES_H
#define QD_IMAGE_TABLES_H

#include "image/image.h"

enum qd_layer_kind { QD_LAYER_ACTIVE, QD_LAYER_SNAPSHOT, QD_LAYER_PIN };

struct qd_table_use {
	uint64_t l2_off;
	uint32_t l1_index;
	uint32_t layer;			/* enum qd_layer_kind */
};

/* entries: the table as it stands in the file.  Non-zero stops the walk and is its result. */
typedef int (*qd_tables_fn)(void *ctx, uint64_t l2_off, const uint8_t *entries,
			    const struct qd_table_use *uses, uint64_t nuses, struct qd_err *err);

/*
 * *ret_bad: L1 entries and L1 tables left out because they are unaligned, have
 * reserved bits set or lie past the end of the file.
 */
int qd_tables_walk(const struct qd_image *img, qd_tables_fn fn, void *ctx, uint64_t *ret_bad,
		   struct qd_err *err);

#endif
