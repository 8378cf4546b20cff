/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A stretch of a disk -> the keys of its clusters at every cluster size.
 *
 *	size 0   [k][k][0][k][k][0][0][0]	a key each, zeros where all is zero
 *	size 1   [ k ][ k ][ k ][  0 ]		of the bytes, or of the keys above it
 *	size 2   [   k   ][    k     ]
 *
 * The keys of a stretch take its length / unit * key_nbytes, and as much again for all
 * larger sizes together.
 */
#ifndef QD_OPS_SCAN_HASH_H
#define QD_OPS_SCAN_HASH_H

#include "ops/scan_int.h"

enum scan_cell {
	SCAN_DATA = 1 << 0,		/* not all zero: has a key */
	SCAN_OWN = 1 << 1,		/* counted here, not inherited */
	SCAN_LATER = 1 << 2,		/* the key is not known yet (scan_share.h) */
	SCAN_KNOWN = 1 << 3,		/* it was known without reading (scan_stored.h) */
};

struct scan_cells {
	const struct scan *scan;
	struct qd_digester *digester;	/* NULL: fingerprints */
	uint64_t nbytes;		/* of the longest stretch; a multiple of the largest size */
	uint8_t *keys[QD_SCAN_NSIZES_MAX];
	uint8_t *cells[QD_SCAN_NSIZES_MAX];	/* enum scan_cell */
};

int qd_scan_cells_init(struct scan_cells *c, const struct scan *s, uint64_t nbytes, struct qd_err *err);
void qd_scan_cells_free(struct scan_cells *c);

/* Memory that init takes for a stretch of nbytes. */
uint64_t qd_scan_cells_memory(const struct scan *s, uint64_t nbytes);

/* A new stretch: nothing is data, everything is own or nothing is. */
void qd_scan_cells_clear(struct scan_cells *c, bool own);

/*
 * Hashes nbytes at data (units, whole clusters of the largest size unless `later` cells are
 * among them) that lie at `off` of the stretch.
 */
int qd_scan_cells_units(struct scan_cells *c, uint64_t off, const uint8_t *data, uint64_t nbytes,
			struct qd_err *err);

/*
 * Fills in the larger sizes over [off, off + nbytes) of the stretch, whole clusters of the
 * largest; data, when not NULL, are its bytes.
 */
int qd_scan_cells_larger(struct scan_cells *c, uint64_t off, const uint8_t *data, uint64_t nbytes,
			 struct qd_err *err);

#endif
