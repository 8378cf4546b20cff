/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What compression would add to deduplication: an estimate, from a sample of contents.
 *
 * A scan shows every content it reads to qd_scan_compress_add.  Of each cluster size those
 * are compressed, as convert -c does, whose key ends in `depth` zero bits; whenever there are
 * more of them than the sample holds, the depth grows by one and those that do not end so go.
 * So each content counts once, however often it occurs, and what remains follows from
 * the set of contents alone: not from their order, nor from threads.  While the depth is 0
 * every content is in the sample, and the numbers are exact.
 *
 * A sample holds about 32 MiB of clusters: 4096 small ones, at least 64 large ones.
 */
#ifndef QD_OPS_SCAN_COMPRESS_H
#define QD_OPS_SCAN_COMPRESS_H

#include "ops/scan.h"

struct qd_scan_compress;

/* At one cluster size. */
struct qd_scan_compressed {
	uint64_t cluster_size;
	uint64_t sampled;		/* contents that were compressed */
	uint64_t sampled_nbytes;	/* their size before */
	uint64_t packed_nbytes;		/* and after; one that does not shrink counts whole */
	double ratio;			/* before / after; 1 when there is no content */
	uint64_t data_nbytes;		/* all different contents, compressed */
	uint64_t data_low, data_high;	/* three standard errors of the sample's mean around it */
	uint64_t total_nbytes;		/* with the metadata */
	uint64_t saved_nbytes;		/* what it adds to deduplication: 0 or more */
};

/* type is "zlib" or "zstd"; QD_E_INVALID for any other. */
int qd_scan_compress_new(const char *type, struct qd_scan_compress **ret_c, struct qd_err *err);
void qd_scan_compress_free(struct qd_scan_compress *c);

const char *qd_scan_compress_type(const struct qd_scan_compress *c);

/* For struct qd_scan_opts.content, with a content_mask of 0; safe from several threads at once. */
int qd_scan_compress_add(struct qd_scan_compress *c, const struct qd_scan_content *content,
			 struct qd_err *err);

/* After the scan: the estimate for one row of its report. */
struct qd_scan_compressed qd_scan_compress_get(const struct qd_scan_compress *c,
					       const struct qd_scan_size *s);

#endif
