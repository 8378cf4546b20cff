/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A wrong cluster_bits that is within bounds makes everything look damaged, and a repair by it
 * would put an image right that nobody wrote.  It shows where things lie: their offsets, of
 * tables and of what the first entries of these name, are multiples of the real cluster size
 * and of none larger, and the L1 table is as long as the disk needs at that size.
 */
#include "ops/repair_geometry.h"

#include "base/bytes.h"

#define FIRST_ENTRIES 64u
#define OFFSET_MASK 0x00fffffffffffe00ull
#define COMPRESSED (1ull << 62)
#define MANY 8u			/* so many even multiples by chance: one in 256 */

struct places {
	uint32_t claimed;		/* cluster_bits */
	uint64_t all;			/* offsets, or'ed */
	unsigned n;
	unsigned unaligned;		/* at the claimed size */
};

static void add_place(struct places *p, uint64_t off)
{
	if (off == 0)
		return;
	p->all |= off;
	p->n++;
	p->unaligned += !qd_is_aligned(off, 1ull << p->claimed);
}

/* What the first entries of the table at off name; *ret_first: the first of them, or 0. */
static int add_entries(struct qd_io *io, struct places *p, uint64_t off, size_t entry_nbytes,
		       uint64_t *ret_first, struct qd_err *err)
{
	uint8_t buf[FIRST_ENTRIES * 8] = { 0 };
	size_t nread;
	int rc = qd_io_read_upto(io, buf, sizeof(buf), off, &nread, err);

	*ret_first = 0;
	for (size_t i = 0; rc == 0 && i + entry_nbytes <= nread; i += entry_nbytes) {
		uint64_t entry = qd_get_be64(buf + i);

		if (entry & COMPRESSED)
			continue;
		add_place(p, entry & OFFSET_MASK);
		if (*ret_first == 0)
			*ret_first = entry & OFFSET_MASK;
	}
	return rc;
}

/* Whether an L1 table of a disk of this size has so many entries with such clusters. */
static bool fits_l1(const struct qd_header *h, uint32_t bits)
{
	struct qd_header other = *h;
	struct qd_geom geom;

	other.cluster_bits = bits;
	qd_geom_init(&other, &geom);
	return qd_geom_l1_entries(&geom, h->virtual_size) == h->l1_entries;
}

int qd_rep_other_cluster_bits(struct qd_io *io, const struct qd_header *h, uint32_t *ret_bits,
			      struct qd_err *err)
{
	size_t l2_entry_nbytes = h->incompatible & QD_INCOMPAT_EXTL2 ? 16 : 8;
	struct places p = { .claimed = h->cluster_bits };
	uint64_t l2 = 0, first;
	uint32_t bits;
	int rc;

	*ret_bits = 0;
	add_place(&p, h->l1_off);
	add_place(&p, h->reftable_off);
	rc = add_entries(io, &p, h->reftable_off, 8, &first, err);
	if (rc == 0)
		rc = add_entries(io, &p, h->l1_off, 8, &l2, err);
	if (rc == 0 && l2)
		rc = add_entries(io, &p, l2, l2_entry_nbytes, &first, err);
	if (rc || p.n < 4)
		return rc;
	bits = (uint32_t)__builtin_ctzll(p.all);
	if (bits < QD_MIN_CLUSTER_BITS || bits > QD_MAX_CLUSTER_BITS || !fits_l1(h, bits))
		return 0;
	if ((bits > h->cluster_bits && p.n >= MANY) || (bits < h->cluster_bits && p.unaligned >= 3))
		*ret_bits = bits;
	return 0;
}
