/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What finding compressed clusters that move (compact_streams.c) and packing them anew
 * (compact_pack.c) share.
 */
#ifndef QD_OPS_COMPACT_PACK_H
#define QD_OPS_COMPACT_PACK_H

#include "image/codec.h"
#include "ops/compact_int.h"

#define COMPACT_GAPS 64u

struct compact_stream {
	struct qd_surveyed s;
	uint64_t nbytes;	/* about: up to the next stream, or into the middle of the last sector */
};

struct compact_packing {
	struct compact *c;
	struct qd_image *img;
	const struct qd_geom *g;
	uint64_t end;		/* clusters: streams behind it move */
	uint64_t nbytes;	/* of all streams */
	uint64_t nclusters;	/* that hold any of them */
	uint64_t counted;	/* those before this one are counted */
	struct qd_bits still;	/* clusters whose streams stay: named as a whole, or packed before */
	bool pack;		/* sparse clusters are emptied */
	struct compact_stream last;	/* waits for the next one to tell its end */
	int (*each)(struct compact_packing *p, const struct compact_stream *s, struct qd_err *err);

	/* What moves in one pass, by ascending `from`: streams after this one. */
	uint64_t after_off, after_entry;
	struct qd_move *moves;
	uint64_t n;
	uint64_t limit;
	uint64_t nleft;		/* streams that were left for another pass */
	uint64_t total;		/* of all passes */
	bool cut;		/* there are more */

	/* Where the next clusters come from: claimed already (packing), or known to be free. */
	uint64_t next, next_end;
	struct compact_move *holes;	/* stretches [from, to) below the end, the longest last */
	uint64_t nholes, holes_capacity, holes_limit;
	bool holes_cut;		/* there are more of them */

	/* What is left of clusters that are done with: bytes [from, to) of the file. */
	struct compact_move gaps[COMPACT_GAPS];

	/* The cluster that is being filled. */
	struct qd_remap *remap;
	uint64_t cluster;	/* 0: none */
	uint64_t used;		/* bytes */
	uint64_t references;
	struct qd_codec *codec;
	uint8_t *in, *out;
};

/* Moves p->moves, p->n of them, batch by batch; fills in where to. */
int compact_pack_all(struct compact_packing *p, struct qd_err *err);

#endif
