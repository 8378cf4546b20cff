/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table: making one, reading one (format/table.h has the bytes).
 *
 *	add, in any order --> records in memory, then in a temporary file
 *	finish            --> sorted by key; directory and identity are known, and the size
 *	write             --> blocks and directory at a place, in one sequential pass
 *
 * Memory: qd_table_new takes a budget; what does not fit goes to an unnamed temporary
 * file.  Same records, same bytes, whatever the budget and the order of the calls.
 *
 * Reading keeps the directory (16 bytes a block of 64 KiB) and a few blocks in memory.
 * A block is checked against the directory before any record of it is used; one that
 * fails is QD_E_CORRUPT.
 *
 * Left to others: where in an image it lies, and whether it still holds (container.h).
 */
#ifndef QD_DEDUP_TABLE_H
#define QD_DEDUP_TABLE_H

#include "base/io.h"
#include "dedup/digest.h"
#include "format/table.h"

struct qd_table_maker;

/* digest outlives it.  tmpdir (NULL: /tmp) must stay valid. */
int qd_table_maker_new(const struct qd_geom *geom, const struct qd_digest *digest, uint64_t memory,
		       const char *tmpdir, struct qd_table_maker **ret_maker, struct qd_err *err);
void qd_table_maker_free(struct qd_table_maker *m);

/*
 * One record for each distinct entry: of those added with an equal entry the last one counts.
 * Records that come in ascending order of their host offset cost no sorting.
 */
int qd_table_maker_add(struct qd_table_maker *m, const struct qd_record *record, struct qd_err *err);

/*
 * No more records.  Fills what the extension says of the table: identity, digest,
 * cluster_bits, dir_nbytes, dir_crc for that generation, version, and *ret_nbytes: the
 * bytes of directory and blocks (a multiple of QD_TABLE_ALIGN).
 */
int qd_table_maker_finish(struct qd_table_maker *m, uint64_t generation, struct qd_table_ext *ret_ext,
			  uint64_t *ret_nbytes, struct qd_err *err);

/* Writes directory and blocks from byte off of io on.  After finish; any number of times. */
int qd_table_maker_write(struct qd_table_maker *m, struct qd_io *io, uint64_t off, struct qd_err *err);

uint64_t qd_table_maker_records(const struct qd_table_maker *m);

/* ---- reading ---- */

struct qd_table;

/*
 * Opens the table that ext describes, whose container starts at byte off of io (which
 * stays the caller's).  Reads and checks the directory only.
 */
int qd_table_open(struct qd_io *io, uint64_t off, const struct qd_table_ext *ext, const struct qd_geom *geom,
		  struct qd_table **ret_table, struct qd_err *err);
void qd_table_close(struct qd_table *t);

uint64_t qd_table_nrecords(const struct qd_table *t);
const struct qd_digest *qd_table_digest(const struct qd_table *t);

/* Record number n (in host order, from 0). */
int qd_table_get(struct qd_table *t, uint64_t n, struct qd_record *ret_record, struct qd_err *err);

/* The record of an entry (COPIED and the zero flag clear).  1: found, 0: there is none. */
int qd_table_find(struct qd_table *t, uint64_t entry, struct qd_record *ret_record, struct qd_err *err);

/* Number of the first record whose host offset is not below that; the number of records when there is none. */
int qd_table_lower(struct qd_table *t, uint64_t host_off, uint64_t *ret_n, struct qd_err *err);

/* Calls fn for each record in order, reading sequentially; fn's value other than 0 ends it. */
int qd_table_walk(struct qd_table *t, int (*fn)(void *ctx, uint64_t n, const struct qd_record *record,
						struct qd_err *err), void *ctx, struct qd_err *err);

/*
 * Reads every block: *ret_bad are those that fail their checks (bad(ctx, block number, message)
 * is called for each; may be NULL).
 */
int qd_table_check(struct qd_table *t, void (*bad)(void *ctx, uint32_t block, const char *why), void *ctx,
		   uint64_t *ret_bad, struct qd_err *err);

#endif
