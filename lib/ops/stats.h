/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image's metadata tells about it, without reading its data.
 */
#ifndef QD_OPS_STATS_H
#define QD_OPS_STATS_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"
#include "ops/index_info.h"

#define QD_STATS_BUCKETS 64u

struct qd_stats_opts {
	const char *format;		/* "raw", "qcow2"; NULL: the content decides */
	bool force_share;		/* -U */
	uint64_t memory;		/* bytes; 0: the default */
};

/* For a raw image only the first four members say something. */
struct qd_stats {
	const char *format;
	uint64_t virtual_size;		/* bytes */
	uint64_t actual_size;		/* bytes allocated on the host */
	bool is_qcow2;

	uint64_t cluster_size;		/* bytes */
	uint32_t refcount_bits;
	uint32_t snapshots;		/* the pin included */
	bool pin;
	bool dirty;
	bool corrupt;
	bool lazy_refcounts;
	bool encrypted;
	bool data_file;			/* data lies in an external file */

	uint64_t guest_total;		/* guest clusters of the active layer */
	uint64_t guest_allocated;
	uint64_t guest_zero;
	uint64_t guest_unallocated;
	uint64_t guest_compressed;	/* of guest_allocated */

	uint64_t references;		/* L2 entries that name data, active layer and snapshots, not the pin */
	uint64_t data_clusters;		/* distinct clusters (compressed: descriptors) they name */
	uint64_t data_nbytes;		/* that those take in the file */
	uint64_t preallocated_clusters;	/* kept for guest clusters that read as zeros */
	uint64_t metadata_clusters;	/* those of an embedded index included */
	uint64_t leaked_clusters;	/* have a refcount, and nothing references them */
	uint64_t pinned_clusters;	/* without those of the index */
	uint64_t pinned_unused;		/* referenced by nothing but the pin */
	uint64_t shared_clusters;	/* two references or more */
	uint64_t saved_nbytes;
	uint64_t max_refcount;		/* most references of one data cluster */
	uint64_t histogram[QD_STATS_BUCKETS];	/* bucket k: data clusters with [2^k, 2^(k+1)) references */
	uint64_t mapped;		/* clusters of the active layer with a place in the file */
	uint64_t fragmented;		/* of those, not following their predecessor */
	uint64_t bad_entries;		/* cannot be true, and were left out */
	struct qd_index_info index;
};

/* Opens path alone, nothing that it names. */
int qd_stats_collect(const char *path, const struct qd_stats_opts *opts, struct qd_stats *ret_stats,
		     struct qd_err *err);

/* Share of mapped clusters that are fragmented, 0..1. */
double qd_stats_fragmentation(const struct qd_stats *s);

/* References per data cluster; 1 when there is no data. */
double qd_stats_dedup_ratio(const struct qd_stats *s);

#endif
