/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What deduplication would save: images are read once, and the contents of their
 * clusters are counted at several cluster sizes at a time.
 *
 *	sources -> views -> digests of clusters -> records, partitioned by digest
 *	        -> groups of equal digest -> counts -> report
 *
 * What is counted
 *
 *  - A view is what a guest sees of a disk: the active layer of an image, and with
 *    `snapshots` each internal snapshot (never the pin).  A raw file and a qcow2 image of
 *    the same content count alike.
 *  - A cluster is counted (`clusters`) when it holds a byte that is not zero; the last one
 *    of a view is padded with zeros.  All others are `zero`, allocated or not.
 *  - An overlay counts what it holds itself: a cluster no part of which is allocated in
 *    it, within its backing file, is `inherited`, and neither read nor counted there.  A
 *    cluster it holds a part of is completed from the backing file.  Every file of a
 *    chain is an image of its own, named or not, and is counted once, however many
 *    images lead to it.
 *  - clusters + zero + inherited == the clusters of all views.
 *  - `unique` is the number of different contents, duplicate == clusters - unique: what
 *    need not be stored.  Guest clusters that share a host cluster already count as
 *    duplicates, too, but are read once (the image's `reused_nbytes` says how much).
 *
 * Images are in the report in the order of their names (bytes), so that the records of
 * many runs merge to the report of one run.
 *
 * Nothing of the report depends on the number of threads or the memory, and nothing is
 * approximate unless sample_n > 1: contents are told apart by 128 bits of digest at least.
 */
#ifndef QD_OPS_SCAN_H
#define QD_OPS_SCAN_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/io_file.h"
#include "base/progress.h"

#define QD_SCAN_SIZE_MIN 512u
#define QD_SCAN_SIZE_MAX (2u << 20)
#define QD_SCAN_NSIZES_MAX 13u		/* 512 ... 2 MiB */
#define QD_SCAN_BUCKETS 64u		/* of the histogram of references */
#define QD_SCAN_STRIP 256u		/* parts of an image's strip */
#define QD_SCAN_DIGEST_MAX 32u		/* bytes */

/* ---- what is asked for ---- */

struct qd_scan_source {
	const char *path;		/* also the name in the report */
	struct qd_io *io;		/* NULL: open path.  Else its raw content, closed by the scan */
};

/* A content that was read (for an estimate of compression): valid during the call. */
struct qd_scan_content {
	uint64_t cluster_size;		/* bytes at data, the last cluster padded */
	const void *data;
	uint64_t key_hi, key_lo;	/* equal contents of one cluster size have equal keys */
};

/* One record, in the order of digest, name, offset; digest and name are valid during the call. */
struct qd_scan_record {
	const uint8_t *digest;		/* digest_nbytes of the report */
	const char *name;		/* of the image */
	const char *snapshot;		/* its ID; NULL: the active layer */
	const char *label;		/* name and snapshot as scan_record.h writes them */
	uint64_t offset;		/* guest bytes */
	uint64_t cluster_size;
};

struct qd_scan_view;

struct qd_scan_opts {
	const struct qd_scan_source *sources;
	unsigned nsources;
	uint64_t cluster_sizes[QD_SCAN_NSIZES_MAX];	/* powers of two, ascending */
	unsigned nsizes;
	const char *hash;		/* a name of dedup/digest.h; NULL: the default */
	const char *format;		/* of the sources: "raw", "qcow2"; NULL: the content decides */
	enum qd_cache_mode cache;
	bool no_lock;			/* -U */
	bool untrusted;			/* open nothing that an image names */
	bool snapshots;			/* internal snapshots are views, too */
	unsigned top;			/* contents with most references to name at each size */
	bool matrix;			/* what images have in common, pair by pair */
	bool strips;			/* where in each image duplicates lie */
	bool pictures;			/* both, as far as memory allows: else one of them or none */
	unsigned sample_n;		/* read about one part in so many; 0 or 1: everything */
	unsigned shard, nshards;	/* keep digests of part `shard` (from 1) of nshards; 0: all */
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* NULL: /tmp */
	struct qd_progress *progress;	/* bytes of disk seen, over all images; NULL: none */

	/*
	 * An image that cannot be read: it is left out, the others are counted.  err names
	 * the file.  NULL: the scan fails.
	 */
	void (*unreadable)(void *ctx, const struct qd_err *err);

	/*
	 * Called for the contents whose key_lo & content_mask is 0, at every cluster size, each
	 * time one is read; by several threads at once.  The choice is one of contents, so a
	 * content is seen each time or never.  NULL: not wanted.
	 */
	int (*content)(void *ctx, const struct qd_scan_content *content, struct qd_err *err);
	uint64_t content_mask;

	/* Before the first record, for each view; then for each record.  NULL: no records. */
	int (*record_view)(void *ctx, const struct qd_scan_view *view, struct qd_err *err);
	int (*record)(void *ctx, const struct qd_scan_record *record, struct qd_err *err);
	void *ctx;			/* of the functions above */
};

/* ---- what is answered ---- */

/* A view as the records of a run describe it. */
struct qd_scan_view {
	const char *name;		/* of the image */
	const char *snapshot;		/* ID; NULL: the active layer */
	uint64_t size;			/* bytes */
	bool backing;			/* not named by the caller: found in a backing chain */
	uint64_t zero_nbytes[QD_SCAN_NSIZES_MAX];	/* in such clusters, at each size of the report */
	uint64_t inherited_nbytes[QD_SCAN_NSIZES_MAX];
};

/* One part of 1/QD_SCAN_STRIP of an image's views: clusters by what they are. */
struct qd_scan_part {
	uint64_t alone;			/* content occurs nowhere else */
	uint64_t within;		/* elsewhere in this image, in no other */
	uint64_t across;		/* in another image, too */
	uint64_t clusters;		/* of the disk; the rest is zero or inherited */
};

struct qd_scan_image_count {		/* one image at one cluster size, in clusters */
	uint64_t clusters;
	uint64_t zero;
	uint64_t inherited;
	uint64_t distinct;		/* different contents in this image */
	uint64_t unique_to_image;	/* clusters whose content is in no other image */
	uint64_t shared;		/* clusters - unique_to_image */
};

struct qd_scan_image {
	char *name;
	bool backing;			/* not named by the caller */
	unsigned nsnapshots;		/* counted */
	uint64_t virtual_size;		/* bytes */
	uint64_t data_nbytes;		/* in clusters (of the smallest size) that hold data */
	uint64_t zero_nbytes;
	uint64_t inherited_nbytes;
	uint64_t read_nbytes;		/* data that was read; 0 after a merge */
	uint64_t reused_nbytes;		/* data that shares a host cluster with what was read */
	uint64_t missing;		/* after a merge: records (of all sizes) that are not there */
	struct qd_scan_image_count count[QD_SCAN_NSIZES_MAX];
	/* strips: [nsizes][QD_SCAN_STRIP], else NULL.  Part k of size i is strip[i * QD_SCAN_STRIP + k]. */
	struct qd_scan_part *strip;
};

struct qd_scan_top {
	uint8_t digest[QD_SCAN_DIGEST_MAX];	/* of the (padded) cluster */
	uint64_t references;
	const char *name;		/* of the image (by name) that has it first, and where */
	const char *snapshot;
	uint64_t offset;
};

struct qd_scan_size {
	uint64_t cluster_size;
	uint64_t clusters;
	uint64_t zero;
	uint64_t inherited;
	uint64_t unique;
	uint64_t duplicate;
	uint64_t shared_contents;	/* contents with two references or more */
	uint64_t max_references;
	uint64_t histogram[QD_SCAN_BUCKETS];	/* bucket k: contents with [2^k, 2^(k+1)) references */
	uint64_t saved_nbytes;		/* duplicate * cluster_size */
	uint64_t metadata_nbytes;	/* of qcow2 images of that size: tables, refcounts, the pin */
	uint64_t total_nbytes;		/* unique * cluster_size + metadata_nbytes */
	/* With sample_n > 1 the numbers above are estimates, and the truth lies within these. */
	uint64_t unique_low, unique_high;
	uint64_t saved_low, saved_high;	/* bytes */
	unsigned ntop;
	struct qd_scan_top *top;	/* most references first; contents with one are left out */
	/* [nimages][nimages] or NULL: clusters of the row's image whose content is in the column's. */
	uint64_t *matrix;
};

struct qd_scan_report {
	const char *hash;
	unsigned digest_nbytes;
	unsigned sample_n;		/* 1: exact */
	unsigned shard, nshards;	/* 0: all */
	unsigned nsizes;
	struct qd_scan_size sizes[QD_SCAN_NSIZES_MAX];
	unsigned best;			/* index of the size with the smallest total_nbytes */
	unsigned nimages;
	struct qd_scan_image *images;	/* by name */
	unsigned nunreadable;		/* images left out */
	uint64_t read_nbytes;
	bool spilled;			/* temporary files were used */
	char **texts;			/* owns the snapshot IDs that `top` points to */
	size_t ntexts;
};

/* What a name of --hash (NULL: the default) stands for; false when there is none of that name. */
bool qd_scan_hash_name(const char *name, const char **ret_name, unsigned *ret_digest_nbytes);

/* Clusters per content; 1 when there are none. */
double qd_scan_ratio(const struct qd_scan_size *s);

/* qd_scan_report_free after success. */
int qd_scan(const struct qd_scan_opts *opts, struct qd_scan_report *ret_report, struct qd_err *err);

/*
 * The same report from records (scan_record.h) that runs before have written: the sources
 * are files of records, "-" standard input, each sorted by digest.  Of the options those about
 * reading images mean nothing; cluster_sizes with nsizes 0 stands for what the records hold.
 */
int qd_scan_merge(const struct qd_scan_opts *opts, struct qd_scan_report *ret_report, struct qd_err *err);

void qd_scan_report_free(struct qd_scan_report *report);

#endif
