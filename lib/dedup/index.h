/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which cluster has this content: fingerprint -> guest cluster that holds it first.
 *
 * Exact under a memory ceiling at any size: the table lives in memory until that would
 * exceed the budget, then in an unnamed file in the directory for temporary files.  What
 * a look-up finds does not depend on where the table lives.
 *
 * The index nominates, it does not decide: 44 bits of the fingerprint are kept, so a
 * look-up may yield clusters of other content, and the caller compares.  It yields
 * QD_INDEX_CANDIDATES at most: whoever crafts clusters of equal fingerprint makes them
 * fall out of the index, not the run slow.
 *
 * Memory: 10 bytes a slot, 73 to 88 % of the slots used: at most 14 bytes an entry.
 *
 * One thread at a time uses an index.
 */
#ifndef QD_DEDUP_INDEX_H
#define QD_DEDUP_INDEX_H

#include "dedup/digest.h"

struct qd_index;

#define QD_INDEX_VALUE_MAX ((1ull << 36) - 2)
#define QD_INDEX_CANDIDATES 16u

/* `memory` bytes at most are used for slots.  tmpdir (NULL: /tmp) must stay valid. */
int qd_index_new(uint64_t memory, const char *tmpdir, struct qd_index **ret_index, struct qd_err *err);
void qd_index_free(struct qd_index *ix);

/* The candidates for a fingerprint. */
int qd_index_find(struct qd_index *ix, struct qd_fingerprint f, uint64_t ret_values[QD_INDEX_CANDIDATES],
		  unsigned *ret_n, struct qd_err *err);

/* Brings what a look-up will touch into the cache; worth it before many look-ups. */
void qd_index_prefetch(const struct qd_index *ix, struct qd_fingerprint f);

/* value <= QD_INDEX_VALUE_MAX. */
int qd_index_insert(struct qd_index *ix, struct qd_fingerprint f, uint64_t value, struct qd_err *err);

/* The entry with old_value, if there is one, gets new_value. */
int qd_index_replace(struct qd_index *ix, struct qd_fingerprint f, uint64_t old_value, uint64_t new_value,
		     struct qd_err *err);

uint64_t qd_index_entries(const struct qd_index *ix);

/* Bytes of memory the table takes now, directory included. */
uint64_t qd_index_memory(const struct qd_index *ix);

/* True once the table lives in a file. */
bool qd_index_spilled(const struct qd_index *ix);

#endif
