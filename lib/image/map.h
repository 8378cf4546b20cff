/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest offset -> where the bytes are, for one layer (the active one or a snapshot)
 * of one qcow2 file: walks L1 and L2 tables, plain and extended.
 *
 * L2 tables are cached in a bounded number of slots; the calls are safe from several
 * threads.  Every entry is validated before it is believed: reserved bits, alignment,
 * within the file.
 */
#ifndef QD_IMAGE_MAP_H
#define QD_IMAGE_MAP_H

#include "image/image.h"

struct qd_map;

enum qd_map_kind {
	QD_MAP_UNALLOCATED,	/* look into the backing file; host_off is not 0 for subclusters that have a place */
	QD_MAP_ZERO,		/* reads as zeros; host_off is not 0 when a cluster is preallocated for it */
	QD_MAP_DATA,		/* nbytes at host_off */
	QD_MAP_COMPRESSED,	/* part of one compressed cluster: `entry` is its descriptor */
};

struct qd_map_run {
	enum qd_map_kind kind;
	uint64_t guest_off;	/* bytes */
	uint64_t nbytes;
	uint64_t host_off;	/* of guest_off; DATA, or preallocated ZERO and UNALLOCATED */
	uint64_t entry;		/* the L2 entry of the (first) cluster */
};

/*
 * l1 (l1_entries values, copied) maps virtual_size bytes.  cache_nbytes bounds the
 * pieces of L2 tables held, of 64 KiB at most (two are held at least).  img must outlive the map.
 */
int qd_map_new(const struct qd_image *img, const uint64_t *l1, uint32_t l1_entries,
	       uint64_t virtual_size, uint64_t cache_nbytes, struct qd_map **ret_map,
	       struct qd_err *err);
void qd_map_free(struct qd_map *map);

/*
 * The run of equal kind that starts at guest_off (< virtual_size): contiguous on the
 * host for DATA, one cluster for COMPRESSED, ended by max_nbytes.  Runs of UNALLOCATED
 * and ZERO span L2 tables, so that an empty disk of any size is a few calls; runs with a
 * host offset end with their piece of an L2 table.  Whether a DATA run lies within the
 * data file is checked against that file's size: a cluster cut off by the end of the
 * file is kept (its tail reads as zeros), one wholly past it is QD_E_CORRUPT.
 */
int qd_map_get(struct qd_map *map, uint64_t guest_off, uint64_t max_nbytes, struct qd_map_run *ret_run,
	       struct qd_err *err);

/* Another bound on what is held of L2 tables, before the first qd_map_get. */
int qd_map_set_cache(struct qd_map *map, uint64_t cache_nbytes, struct qd_err *err);

/* The size of the file that DATA runs point into (an external data file); default: the image's own. */
void qd_map_set_data_size(struct qd_map *map, uint64_t nbytes);

#endif
