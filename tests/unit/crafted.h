/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qcow2 images put together byte by byte, for tests of what reads them: nothing of lib/
 * is asked how, and nothing is checked, so that what is wrong can be made as well.
 *
 *	cluster 0: header, extensions | refcount table (zeros) | L1 | whatever is allocated
 *
 * Refcounts are not kept: readers do not look at them.
 */
#ifndef QD_TESTS_CRAFTED_H
#define QD_TESTS_CRAFTED_H

#include "base/io.h"

struct crafted_opts {
	uint32_t version;		/* 0: 3 */
	uint32_t cluster_bits;		/* 0: 9 */
	uint64_t virtual_size;
	bool extended_l2;
	uint64_t incompatible;		/* more bits than the other members ask for */
	uint64_t autoclear;
	uint8_t compression;
	const char *backing_name;
	const char *backing_format;
	const char *data_file_name;
};

struct crafted {
	uint8_t *bytes;
	uint64_t nbytes;
	uint32_t cluster_bits;
	uint64_t cluster_size;
	bool extended_l2;
	uint64_t l1_off;
	uint64_t l1_entries;
	uint64_t ext_off;		/* where the next header extension goes */
	uint64_t snapshots_end;
};

void crafted_new(struct crafted *c, const struct crafted_opts *opts);
void crafted_free(struct crafted *c);

void crafted_put(struct crafted *c, uint64_t off, unsigned width, uint64_t value);
uint64_t crafted_get64(const struct crafted *c, uint64_t off);

/* Zeroed clusters at the end; returns their offset. */
uint64_t crafted_alloc(struct crafted *c, uint64_t nclusters);

/* A cluster filled with bytes that depend on seed; returns its offset. */
uint64_t crafted_data(struct crafted *c, uint64_t seed);
void crafted_pattern(uint8_t *buf, uint64_t nbytes, uint64_t seed);

/* Sets an L2 entry below the L1 table at l1_off, with a table where there is none yet. */
void crafted_map(struct crafted *c, uint64_t l1_off, uint64_t guest_cluster, uint64_t entry, uint64_t bitmap);

/* Not with a backing name, which stands where extensions would go. */
void crafted_ext(struct crafted *c, uint32_t type, const void *data, uint32_t nbytes);

/* Appends to the snapshot table; the first call allocates it.  Returns the entry's offset. */
uint64_t crafted_snapshot(struct crafted *c, const char *id, const char *name, uint64_t disk_size, uint64_t l1_off,
			  uint32_t l1_entries);

/* A copy of the bytes; the caller owns it. */
struct qd_io *crafted_io(const struct crafted *c);

#endif
