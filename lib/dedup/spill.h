/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * More records than memory holds, handed back in order: an external sort by partitions.
 *
 *	add ... add --> 256 partitions by the first byte --seal--> leaves, each fits into memory
 *
 * Records are strings of record_nbytes bytes, ordered as memcmp does.  They lie in memory
 * until that would exceed the budget, then in one unnamed file, which is gone however the
 * process ends.  A partition too large for memory is divided by the next byte in which
 * its records differ, whatever byte that is: equal keys are no obstacle as long as not
 * all bytes of a record are equal.
 *
 * Adding and `next` are for one thread at a time, `load` for several at once.
 */
#ifndef QD_DEDUP_SPILL_H
#define QD_DEDUP_SPILL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct qd_spill;

struct qd_spill_opts {
	uint32_t record_nbytes;
	uint32_t key_nbytes;		/* the first bytes of a record, by which the caller groups */
	uint64_t memory;		/* bytes; at least QD_SPILL_MEMORY_MIN is used */
	const char *tmpdir;		/* NULL: /tmp; must stay valid */
	/* When there is no space: how many bytes of records there will be.  NULL: unknown. */
	uint64_t (*expect)(void *ctx);
	void *ctx;
};

#define QD_SPILL_MEMORY_MIN (2u << 20)

int qd_spill_new(const struct qd_spill_opts *opts, struct qd_spill **ret_spill, struct qd_err *err);
void qd_spill_free(struct qd_spill *s);

int qd_spill_add(struct qd_spill *s, const void *records, size_t n, struct qd_err *err);

/* Nothing more is added; leaves of at most max_nbytes (of one record at least) are wanted. */
int qd_spill_seal(struct qd_spill *s, uint64_t max_nbytes, struct qd_err *err);

struct qd_spill_part;

struct qd_spill_leaf {		/* all zero at first; used again and again */
	uint8_t *records;		/* after load: sorted; owned */
	size_t n;
	size_t capacity;		/* bytes at records */
	bool tied;			/* its neighbours may hold the same key */
	size_t equal;			/* leading bytes that are the same in all records */
	struct qd_spill_part *part;	/* where they are before load */
};

/* The next leaf in order: 1, 0 when there is none, or an error.  It is not loaded yet. */
int qd_spill_next(struct qd_spill *s, struct qd_spill_leaf *leaf, struct qd_err *err);

/* Brings its records into memory, sorted, and forgets them elsewhere. */
int qd_spill_load(struct qd_spill *s, struct qd_spill_leaf *leaf, struct qd_err *err);
void qd_spill_leaf_clear(struct qd_spill_leaf *leaf);

/* Records added so far, and whether the file was needed. */
uint64_t qd_spill_count(const struct qd_spill *s);
bool qd_spill_spilled(const struct qd_spill *s);

#endif
