/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's look at the refcount table: which blocks there are and can be used.
 *
 * Afterwards chk.reftable holds, for each entry, the block's offset, 0, or
 * CHK_UNKNOWN_BLOCK.  A block that turns out to be something else as well is made
 * unknown by qd_chk_overlaps.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "space/refcount.h"

/* False when the table cannot be used. */
static bool check_place(struct chk *c)
{
	const struct qd_header *h = &c->header;
	uint64_t max = QD_MAX_REFTABLE_BYTES >> c->geom.cluster_bits;
	uint64_t nbytes = (uint64_t)h->reftable_clusters << c->geom.cluster_bits;

	if (h->reftable_clusters == 0 || h->reftable_clusters > max) {
		qd_chk_found(c, QD_F_REFTABLE_SIZE, QD_AT_REFTABLE, 0, h->reftable_clusters, max, 0);
		return false;
	}
	if (!qd_is_aligned(h->reftable_off, c->geom.cluster_size)) {
		qd_chk_found(c, QD_F_REFTABLE_UNALIGNED, QD_AT_REFTABLE, 0, h->reftable_off, 0, 0);
		return false;
	}
	if (!qd_chk_in_file(c, h->reftable_off, nbytes)) {
		qd_chk_found(c, QD_F_REFTABLE_PAST_END, QD_AT_REFTABLE, 0, h->reftable_off, nbytes, 0);
		return false;
	}
	return true;
}

static int take_entry(struct chk *c, uint64_t i, uint64_t entry, struct qd_err *err)
{
	uint64_t off = entry & QD_REFTABLE_OFFSET_MASK;

	c->reftable[i] = 0;
	if (entry == 0)
		return 0;
	if (entry & ~QD_REFTABLE_OFFSET_MASK)
		qd_chk_found(c, QD_F_REFBLOCK_RESERVED, QD_AT_REFTABLE_ENTRY, i, entry, 0, 0);
	if (off == 0)
		return 0;
	c->reftable[i] = CHK_UNKNOWN_BLOCK;
	if (!qd_is_aligned(off, c->geom.cluster_size)) {
		qd_chk_found(c, QD_F_REFBLOCK_UNALIGNED, QD_AT_REFTABLE_ENTRY, i, entry, 0, 0);
		return 0;
	}
	if (off >> c->geom.cluster_bits >= c->nclusters) {
		qd_chk_found(c, QD_F_REFBLOCK_PAST_END, QD_AT_REFTABLE_ENTRY, i, entry, 0, 0);
		return 0;
	}
	c->reftable[i] = off;
	return qd_chk_add_struct(c, off, c->geom.cluster_size, QD_STRUCT_REFBLOCK, (uint32_t)i, err);
}

int qd_chk_reftable(struct chk *c, struct qd_err *err)
{
	const struct qd_header *h = &c->header;
	size_t nbytes;
	bool ok;
	int rc;

	if (c->opts->without_refcounts || !check_place(c)) {
		c->no_refcounts = true;
		return 0;
	}
	nbytes = (size_t)h->reftable_clusters << c->geom.cluster_bits;
	rc = qd_chk_add_struct(c, h->reftable_off, nbytes, QD_STRUCT_REFTABLE, 0, err);
	if (rc)
		return rc;
	c->reftable = malloc(nbytes);
	if (!c->reftable)
		return qd_err_nomem(err, "the refcount table");
	rc = qd_chk_read(c, c->reftable, nbytes, h->reftable_off, &ok, err);
	if (rc)
		return rc;
	c->no_refcounts = !ok;
	c->reftable_entries = nbytes / 8;
	for (uint64_t i = 0; i < c->reftable_entries; i++) {
		rc = take_entry(c, i, qd_get_be64((const uint8_t *)&c->reftable[i]), err);
		if (rc)
			return rc;
	}
	return 0;
}
