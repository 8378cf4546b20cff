/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Building a new qcow2 image in one pass over the guest's clusters, in guest order.
 *
 *	header | data clusters and L2 tables as they come | pin L2, L1 | L1 | snapshot table |
 *	bitmaps | refcount blocks | refcount table
 *
 * The caller says, cluster by cluster in ascending order, what each one is; clusters it
 * does not mention are unallocated.  The builder allocates from the end of the file,
 * keeps the counts, and writes all metadata; data is written by the caller, at the
 * offset it is given, by any thread, before or after the next call.
 *
 * Invariants
 *  B1  host offsets and entries depend only on the sequence of calls.
 *  B2  counts[host cluster] is the sum of the references to it, the pin's included.
 *  B3  an entry carries COPIED if and only if its host cluster's count is 1 and it is not
 *      compressed.  Sharing clears it in the owner's entry: in memory while the L2 table
 *      is held, else when the table is read back in qd_build_finish.
 *  B4  every descriptor shared once or more is referenced by the pin exactly once.
 *  B5  no count exceeds what refcount_bits can hold.
 *  B6  the header is written last: before qd_build_finish the file is not a qcow2 image.
 *
 * One thread at a time calls the builder.
 */
#ifndef QD_IMAGE_BUILD_H
#define QD_IMAGE_BUILD_H

#include "base/io.h"
#include "format/header.h"

struct qd_build;

struct qd_build_opts {
	uint32_t version;		/* 2 or 3 */
	uint32_t cluster_bits;
	uint32_t refcount_order;
	bool lazy_refcounts;
	bool extended_l2;
	enum qd_compression compression;
	const char *backing_name;	/* NULL: none */
	const char *backing_format;
	const char *data_file_name;	/* NULL: none; else data clusters live there, at their guest offset */
	bool data_file_raw;
	bool pin;			/* reference shared and pinned clusters from a snapshot named qdedup */
	uint64_t max_share;		/* references a cluster may have; 0: the default for refcount_order */
	uint64_t memory;		/* bytes of L2 tables to hold at most */
};

/* The largest max_share for a width (room left for the pin), and the default (half of what the width counts). */
uint64_t qd_build_share_limit(uint32_t refcount_order, bool pin);
uint64_t qd_build_share_default(uint32_t refcount_order);

/*
 * Starts an image in io (which stays the caller's), from offset 0.  virtual_size may be
 * 0 while unknown: qd_build_finish has the last word.
 */
int qd_build_new(struct qd_io *io, uint64_t virtual_size, const struct qd_build_opts *opts,
		 struct qd_build **ret_build, struct qd_err *err);
void qd_build_free(struct qd_build *b);

const struct qd_geom *qd_build_geom(const struct qd_build *b);

/* A new data cluster of this guest cluster; *ret_host_off is where its bytes go. */
int qd_build_add_data(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_host_off, struct qd_err *err);

/*
 * The same, but with extended L2 none of its subclusters holds anything yet: a place for
 * what the guest will write, through which a backing file still shows.
 */
int qd_build_add_place(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_host_off, struct qd_err *err);

/* A new compressed cluster of nbytes; packed behind the previous one. */
int qd_build_add_compressed(struct qd_build *b, uint64_t guest_cluster, uint64_t nbytes,
			    uint64_t *ret_host_off, struct qd_err *err);

/* A cluster that reads as zeros though the backing file may not. */
int qd_build_add_zero(struct qd_build *b, uint64_t guest_cluster, struct qd_err *err);

/*
 * One more reference to what `owner` (a guest cluster added before) names.  *ret_full
 * is true, and nothing is done, when that is at the share cap.
 */
int qd_build_share(struct qd_build *b, uint64_t guest_cluster, uint64_t owner, bool *ret_full,
		   struct qd_err *err);

/* True when what `owner` names has as many references as max_share allows. */
bool qd_build_is_full(const struct qd_build *b, uint64_t owner);

/* The entry of a guest cluster added before (without COPIED): to read its bytes back. */
int qd_build_entry(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_entry, struct qd_err *err);

/* Clusters for something else (bitmaps): contiguous; the caller writes them. */
int qd_build_add_raw(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err);

/*
 * Clusters in a row (at least 1) that the pin references (so opts.pin is set), for what must
 * survive in the image and belongs to no guest cluster; once.  The caller writes them.
 */
int qd_build_add_pinned(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err);
#define QD_BUILD_PIN_ID 1u		/* snapshot ID of the pin */

/* True when the first cluster has room for one more extension, that of bitmaps aside. */
bool qd_build_has_header_room(const struct qd_build *b, size_t ext_nbytes);

/* A header extension, copied (bitmaps, index; the index's comes first in the file): before qd_build_finish. */
int qd_build_add_ext(struct qd_build *b, uint32_t type, const void *data, size_t nbytes, struct qd_err *err);

struct qd_build_stats {
	uint64_t data_clusters;		/* distinct clusters stored (for compressed ones: descriptors) */
	uint64_t references;		/* L2 entries that name them */
	uint64_t shared_clusters;	/* of data_clusters, those with two references or more */
	uint64_t file_size;		/* bytes */
};

/* Writes all metadata, the header last, and truncates io to its size; does not flush. */
int qd_build_finish(struct qd_build *b, uint64_t virtual_size, uint64_t autoclear,
		    struct qd_build_stats *ret_stats, struct qd_err *err);

#endif
