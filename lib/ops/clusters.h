/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Every distinct data cluster of an image, active layer and all internal snapshots, once
 * each, in host order: what reads, hashes and compares whole images walks over.
 *
 *	L2 tables --gather--> references --sort by (host offset, entry)--> distinct clusters
 *	distinct clusters --read in large runs, hashed by all threads--> callback, in host order
 *
 * Memory: a budget; references beyond it go to an unnamed temporary file.
 *
 * A cluster that only the pin references is not among them, nor are those of the
 * container, nor preallocated clusters that read as zeros.
 */
#ifndef QD_OPS_CLUSTERS_H
#define QD_OPS_CLUSTERS_H

#include "base/progress.h"
#include "dedup/digest.h"
#include "format/table.h"
#include "image/image.h"

struct qd_cluster {
	uint64_t entry;		/* as struct qd_record: host byte offset, or the compressed descriptor (bit 62) */
	uint64_t guest;		/* first guest cluster (number) of the active layer, else of a snapshot */
	uint64_t references;	/* L2 entries in all layers but the pin; a table that several layers use: once each */
	uint32_t mask;		/* extended L2: subclusters that some reference has allocated; else all ones */
	uint8_t flags;		/* QD_RECORD_PARTIAL, QD_RECORD_SNAPSHOT */
	bool shared;		/* more than one guest cluster refers to it: it belongs into the pin */
	bool pinned;		/* the pin refers to it */
	uint64_t bitmap;	/* extended L2: the bitmap of one of its references */
};

struct qd_clusters_opts {
	uint64_t memory;	/* bytes; 0: the default */
	const char *tmpdir;	/* NULL: /tmp */
	unsigned threads;	/* 0: all processors */
};

struct qd_clusters;

/* Reads all L2 tables.  QD_E_CORRUPT when an entry cannot be true (qdedup check tells more). */
int qd_clusters_open(const struct qd_image *img, const struct qd_clusters_opts *opts,
		     struct qd_clusters **ret_clusters, struct qd_err *err);
void qd_clusters_free(struct qd_clusters *c);

/* References gathered, of which distinct clusters are made; an upper bound of their number. */
uint64_t qd_clusters_references(const struct qd_clusters *c);

/* The next one, without reading it: 1; 0: no more.  Once through; not together with qd_clusters_read. */
int qd_clusters_next(struct qd_clusters *c, struct qd_cluster *ret_cluster, struct qd_err *err);

/* What became of a cluster that was to be read. */
struct qd_cluster_content {
	const uint8_t *data;	/* cluster_size bytes, valid during the call; NULL: not read, or broken */
	const uint8_t *hash;	/* digest->nbytes; NULL without digest, or as above */
	bool is_zero;		/* all bytes are 0 */
	bool broken;		/* a compressed stream that cannot be unpacked */
};

struct qd_clusters_read {
	const struct qd_digest *digest;	/* NULL: no hashes */
	struct qd_progress *progress;	/* in bytes read; may be NULL */
	/* In host order, one call at a time: false: not to be read.  NULL: all are.  *ret_tag goes to fn. */
	bool (*want)(void *ctx, const struct qd_cluster *cluster, uint64_t *ret_tag);
	/* In host order, one call at a time, for every cluster, wanted or not; other than 0 ends it. */
	int (*fn)(void *ctx, const struct qd_cluster *cluster, uint64_t tag,
		  const struct qd_cluster_content *content, struct qd_err *err);
	void *ctx;
};

struct qd_clusters_count {
	uint64_t clusters;	/* distinct */
	uint64_t read;		/* of those */
	uint64_t nbytes;	/* read from the file */
};

/*
 * Reads all that are wanted, once through.  want and fn may run in different threads, at
 * the same time, never two calls of the same.
 */
int qd_clusters_read(struct qd_clusters *c, const struct qd_clusters_read *read,
		     struct qd_clusters_count *ret_count, struct qd_err *err);

#endif
