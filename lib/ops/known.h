/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an index says of a cluster: the record of its table, or what the log of its
 * journal says since then.
 *
 * A record that cannot be read, because its block is damaged, is as if there were none.
 */
#ifndef QD_OPS_KNOWN_H
#define QD_OPS_KNOWN_H

#include "dedup/container.h"
#include "ops/survey.h"

struct qd_known;

/*
 * Of a container that is open (opened is set); both outlive it.  Several may be used at
 * once, each by one thread.
 */
int qd_known_open(const struct qd_container *c, const struct qd_image *img, struct qd_known **ret_known,
		  struct qd_err *err);
void qd_known_free(struct qd_known *k);

/* 1: *ret_record filled; 0: nothing is known of the entry (COPIED clear). */
int qd_known_find(struct qd_known *k, uint64_t entry, struct qd_record *ret_record, struct qd_err *err);

/*
 * Calls fn for every record that qd_known_find would find, each once, in no particular order; its value
 * other than 0 ends it.
 */
int qd_known_each(struct qd_known *k, int (*fn)(void *ctx, const struct qd_record *record, struct qd_err *err),
		  void *ctx, struct qd_err *err);

/*
 * Is a record what reading its cluster would give?  In state valid, each; in state partial those
 * of clusters that the pin references: they keep their bytes, but which subclusters of an
 * extended entry count may have changed.
 */
bool qd_known_holds(const struct qd_container *c, const struct qd_image *img, const struct qd_surveyed *s,
		    const struct qd_record *record);

/*
 * Does a record tell of the same places as the tables?  Where all do, and nothing else is referred to, nothing
 * was allocated or freed since the index was written.
 */
bool qd_known_same_place(const struct qd_image *img, const struct qd_surveyed *s, const struct qd_record *record);

/* Records, those of damaged blocks included. */
uint64_t qd_known_count(const struct qd_known *k);

/* Entries of the log that count: 0 when there is no journal. */
uint64_t qd_known_logged(const struct qd_known *k);

/* The digest of all hashes. */
const struct qd_digest *qd_known_digest(const struct qd_known *k);

/* A block was found damaged, or the journal is. */
bool qd_known_is_damaged(const struct qd_known *k);

#endif
