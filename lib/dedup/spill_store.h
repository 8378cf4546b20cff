/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the records of a spill lie: partitions, each a list of chunks in memory or in a
 * temporary file.  Which record belongs to which partition is spill.c's affair.
 *
 *	add ... add     memory holds what it may, the oldest full chunks go to the file
 *	seal            from here on a chunk that fills goes to the file at once
 *	flush           everything of these partitions goes to the file
 *	read, discard   for several threads at once; the rest is for one at a time
 */
#ifndef QD_DEDUP_SPILL_STORE_H
#define QD_DEDUP_SPILL_STORE_H

#include "dedup/spill.h"

struct qd_spill_part {		/* empty: all zero */
	uintptr_t *chunks;	/* all full but the last */
	size_t nchunks;
	size_t capacity;
	size_t last_n;		/* records in the last chunk */
	size_t equal;		/* leading bytes equal in all; both are the caller's */
	bool tied;
};

struct qd_spill_store;

/* nparts: partitions that fill at a time. */
int qd_spill_store_new(const struct qd_spill_opts *opts, unsigned nparts, struct qd_spill_store **ret_store,
		       struct qd_err *err);
void qd_spill_store_free(struct qd_spill_store *st);

/* The partition must stay where it is until seal. */
int qd_spill_store_add(struct qd_spill_store *st, struct qd_spill_part *p, const uint8_t *record,
		       struct qd_err *err);
void qd_spill_store_seal(struct qd_spill_store *st);

/* After seal, and of all partitions that are in memory: their memory is given up. */
int qd_spill_store_flush(struct qd_spill_store *st, struct qd_spill_part *parts, unsigned nparts,
			 struct qd_err *err);

/* Chunk i of a partition: *ret_n records, at most qd_spill_store_chunk_nbytes. */
int qd_spill_store_read(struct qd_spill_store *st, const struct qd_spill_part *p, size_t i, void *buf,
			size_t *ret_n, struct qd_err *err);

/* Chunk i will not be read again: its place in the file is free. */
int qd_spill_store_discard(struct qd_spill_store *st, const struct qd_spill_part *p, size_t i,
			   struct qd_err *err);

size_t qd_spill_store_chunk_nbytes(const struct qd_spill_store *st);
bool qd_spill_store_spilled(const struct qd_spill_store *st);	/* the file was needed */

/* Records in a partition; forgetting it (partitions are the caller's). */
size_t qd_spill_store_count(const struct qd_spill_store *st, const struct qd_spill_part *p);
void qd_spill_store_clear(struct qd_spill_part *p);

#endif
