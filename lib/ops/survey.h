/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every distinct cluster of data in an image, once, in the order they lie in the file:
 * who refers to it, and what it holds.
 *
 *	L2 tables of all layers --sort, merge--> clusters --read, hash (all threads)--> commit, in order
 *
 * Memory is bounded: when the clusters do not fit, the file is covered in several windows of
 * host offsets, each with a walk over the L2 tables of its own.  What commit sees does not
 * depend on memory or threads.
 *
 * Clusters that are only kept (places) or only pinned are included: whoever redirects references
 * needs them.
 *
 * An extended entry's cluster counts with its allocated subclusters only: the others are
 * zeros in `data`.
 */
#ifndef QD_OPS_SURVEY_H
#define QD_OPS_SURVEY_H

#include <stdbool.h>
#include <stdint.h>

#include "base/progress.h"
#include "dedup/digest.h"
#include "image/image.h"

struct qd_surveyed {
	uint64_t entry;		/* host byte offset, or a compressed one's L2 entry (COPIED clear) */
	uint64_t bitmap;	/* extended L2: of the entries that read it; 0 for compressed ones */
	uint64_t guest;		/* lowest guest cluster (number) that reads it, in the active layer if any */
	uint32_t references;	/* L2 entries of active layer and snapshots that read it */
	uint32_t places;	/* those that keep it, but read as zeros or (extended L2) nothing of it */
	uint16_t pins;		/* entries of the pin */
	bool in_active;		/* some entry of the active layer reads it */
	bool several;		/* entries at different guest clusters read it */
	bool mixed;		/* extended L2: entries with different bitmaps read it */
};

struct qd_survey_content {
	struct qd_surveyed c;
	uint64_t number;	/* of the cluster, from 0, in host order */
	uint8_t *data;		/* cluster_size bytes, valid during commit; NULL: not wanted */
	bool known;		/* not read: the digest is what `know` said */
	bool zero;		/* data is all zeros */
	bool broken;		/* a compressed stream that yields no cluster; nothing else holds */
	uint8_t digest[QD_DIGEST_MAX];
	uint64_t candidate;	/* for prepare's own use, as the next; candidate is UINT64_MAX at first */
	uint64_t candidate_entry;
	bool verified;
};

#define QD_SURVEY_SCRATCH 65536u	/* bytes, or one cluster, whichever is more */

struct qd_survey_opts {
	const struct qd_digest *digest;		/* NULL: none is computed */
	unsigned threads;			/* 0: all processors */
	uint64_t memory;			/* bytes */
	struct qd_progress *progress;		/* bytes of the file passed; may be NULL */
};

struct qd_survey_ops {
	/* Is it to be read?  Asked in order, one at a time.  NULL: every one with references. */
	bool (*want)(void *ctx, const struct qd_surveyed *c, uint64_t number);
	/* Is the digest of one that would be read known already (and now in x)?  In order.  NULL: never. */
	bool (*know)(void *ctx, struct qd_survey_content *x);
	/* A batch that was read, by any thread, before its commit; scratch is free to use.  NULL: none. */
	int (*prepare)(void *ctx, struct qd_survey_content *v, unsigned n, uint8_t *scratch,
		       struct qd_err *err);
	/* A batch, in order, one at a time; those not wanted are in it, too.  Other than 0 ends the walk. */
	int (*commit)(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err);
};

/* For `want`: who refers to a cluster is all that matters. */
bool qd_survey_want_nothing(void *ctx, const struct qd_surveyed *c, uint64_t number);

/* References past the end of the file or unaligned are left out; *ret_bad (may be NULL) counts them. */
int qd_survey_walk(const struct qd_image *img, const struct qd_survey_opts *opts,
		   const struct qd_survey_ops *ops, void *ctx, uint64_t *ret_bad, struct qd_err *err);

#endif
