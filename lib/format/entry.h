/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L1 and L2 entries (qcow2 specification, "Cluster mapping").
 *
 *	L1:  63 COPIED | 62..56 reserved | 55..9 offset of the L2 table | 8..0 reserved
 *	L2:  63 COPIED | 62 compressed | 61..0 descriptor
 *	     standard descriptor:   61..56 reserved | 55..9 host offset | 8..1 reserved | 0 reads as zeros
 *	     compressed descriptor: (61..x) additional 512-byte sectors | (x-1..0) host byte offset,
 *	                            x = 62 - (cluster_bits - 8); may start anywhere, may end in
 *	                            another cluster; the last sector need not be full
 *	extended L2: the entry, then 64 bits: 31..0 subcluster allocated, 63..32 subcluster reads as zeros
 *
 * Values here are host-endian; decode with qd_get_be64.
 */
#ifndef QD_FORMAT_ENTRY_H
#define QD_FORMAT_ENTRY_H

#include <stdbool.h>
#include <stdint.h>

#include "format/header.h"

#define QD_COPIED (1ull << 63)
#define QD_COMPRESSED (1ull << 62)
#define QD_L2_ZERO (1ull << 0)
#define QD_OFFSET_MASK 0x00fffffffffffe00ull
#define QD_L1_RESERVED 0x7f000000000001ffull
#define QD_L2_RESERVED 0x3f000000000001feull	/* of a standard entry; bit 0 too with extended L2 */

/* Bytes of the sectors a compressed descriptor names, counted from its host offset. */
struct qd_compressed {
	uint64_t host_off;	/* byte where the stream starts */
	uint64_t nbytes;	/* from there to the end of the last sector named */
};

static inline bool qd_l2_is_compressed(uint64_t entry)
{
	return (entry & QD_COMPRESSED) != 0;
}

static inline uint64_t qd_entry_host_off(uint64_t entry)
{
	return entry & QD_OFFSET_MASK;
}

static inline struct qd_compressed qd_l2_compressed(const struct qd_geom *g, uint64_t entry)
{
	struct qd_compressed c;
	uint64_t sectors;

	c.host_off = entry & ((1ull << g->csize_shift) - 1);
	sectors = ((entry & (QD_COMPRESSED - 1)) >> g->csize_shift) + 1;
	c.nbytes = sectors * 512 - (c.host_off & 511);
	return c;
}

/* The entry of a stream of nbytes at host_off; never with COPIED. */
static inline uint64_t qd_l2_make_compressed(const struct qd_geom *g, uint64_t host_off, uint64_t nbytes)
{
	uint64_t sectors = ((host_off + nbytes - 1) >> 9) - (host_off >> 9);

	return QD_COMPRESSED | (sectors << g->csize_shift) | host_off;
}

/* First and last host cluster number a compressed descriptor touches. */
static inline void qd_compressed_clusters(const struct qd_geom *g, struct qd_compressed c,
					  uint64_t *ret_first, uint64_t *ret_last)
{
	*ret_first = c.host_off >> g->cluster_bits;
	*ret_last = (c.host_off + c.nbytes - 1) >> g->cluster_bits;
}

/* The same of any L2 entry, or of the entry of a record; one that names no place: cluster 0. */
static inline void qd_l2_clusters(const struct qd_geom *g, uint64_t entry, uint64_t *ret_first,
				  uint64_t *ret_last)
{
	if (qd_l2_is_compressed(entry))
		qd_compressed_clusters(g, qd_l2_compressed(g, entry), ret_first, ret_last);
	else
		*ret_first = *ret_last = qd_entry_host_off(entry) >> g->cluster_bits;
}

#endif
