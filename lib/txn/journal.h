/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of a container: appending, committing, scanning (format/journal.h has the
 * bytes and J1, J2).  Knows offsets and bytes, no L2 tables.
 *
 *	log    hashes inserted and removed since the table was written.  Two areas: packing
 *	       writes the live entries to the idle one, ended by COMPLETE and COMMIT, and
 *	       from that commit on the higher generation is the log.
 *	redo   the metadata writes of one operation in flight, committed before the first of
 *	       them reaches its place; APPLIED when all have.
 *
 * Invariants
 *  J3  an area's live clusters are sequence 0, 1, 2, ... of one generation without a gap;
 *      a valid cluster of that generation behind a gap is damage, and so is a log with
 *      fewer clusters than the extension recorded when it was last closed.
 *  J4  an append goes behind the last valid cluster, or with a new generation to the
 *      area's start; either way J1 holds.
 *  J5  the generation never falls, whatever was lost of the areas: the next one is above
 *      what the areas hold and above what the extension recorded.
 *  J6  replay writes nothing unless for every write of the batch the bytes in the file
 *      are those before or those after it.
 */
#ifndef QD_TXN_JOURNAL_H
#define QD_TXN_JOURNAL_H

#include "base/io.h"
#include "format/journal.h"
#include "txn/queue.h"

struct qd_journal_place {		/* from the extension */
	uint64_t off;			/* byte of the io where area A of the log starts */
	uint64_t log_nbytes;		/* of each log area */
	uint64_t redo_nbytes;
	uint64_t identity_hi;
	uint64_t identity_lo;
	uint64_t closed_generation;	/* log_generation and log_clusters of the extension */
	uint32_t closed_clusters;
};

struct qd_journal;

enum qd_journal_health { QD_JOURNAL_SOUND, QD_JOURNAL_PENDING, QD_JOURNAL_DAMAGED };

struct qd_journal_state {
	enum qd_journal_health health;	/* pending: a committed redo batch is not applied */
	char why[160];			/* damaged: what */
	uint64_t log_generation;	/* 0: no log yet */
	uint32_t log_area;		/* 0 or 1: which one is in use */
	uint32_t log_clusters;		/* in use */
	uint64_t log_used;		/* bytes of entries and headers in use */
	uint64_t entries;		/* HASH and REVOKE entries that count */
	uint64_t live;			/* of those: HASH not replaced or revoked later, and REVOKE (they hide table records) */
	uint64_t redo_generation;
	uint64_t pending_writes;	/* WRITE entries of the pending batch */
};

/* Scans; damage is a state, not an error. */
int qd_journal_open(struct qd_io *io, const struct qd_journal_place *place, uint32_t digest_nbytes,
		    struct qd_journal **ret_journal, struct qd_err *err);
void qd_journal_close(struct qd_journal *j);
void qd_journal_state(const struct qd_journal *j, struct qd_journal_state *ret_state);

/* Every cluster and entry, valid or not, for `dump`: committed says whether it counts. */
struct qd_journal_item {
	uint64_t off;			/* byte of the io */
	enum qd_journal_kind kind;
	uint32_t area;
	struct qd_journal_header header;
	struct qd_journal_entry entry;	/* type 0: the cluster itself */
	bool committed;
};
int qd_journal_walk(struct qd_journal *j, int (*fn)(void *ctx, const struct qd_journal_item *item,
						    struct qd_err *err), void *ctx, struct qd_err *err);

/* ---- log ---- */

/* Committed HASH and REVOKE entries of the log in use, in order. */
int qd_journal_log_walk(struct qd_journal *j,
			int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record,
				  struct qd_err *err), void *ctx, struct qd_err *err);

/* Collected in memory until the commit.  A revoke needs record->entry only. */
int qd_journal_log_add(struct qd_journal *j, enum qd_journal_type type, const struct qd_record *record,
		       struct qd_err *err);

/* Journal clusters that a commit of what was added would take, and those that are free in the area. */
uint32_t qd_journal_log_need(const struct qd_journal *j);
uint32_t qd_journal_log_room(const struct qd_journal *j);

/*
 * Appends what was added and a COMMIT, and flushes the io.  QD_E_INVALID, and nothing is
 * written, when there is no room: pack or merge first.
 */
int qd_journal_log_commit(struct qd_journal *j, struct qd_err *err);

/*
 * Packs: the live entries (a REVOKE is live while in_table(ctx, entry) says that the table
 * has a record it must hide) become a new log in the idle area.  On return what was added
 * before and not committed is still to be committed.
 */
int qd_journal_log_pack(struct qd_journal *j, bool (*in_table)(void *ctx, uint64_t entry), void *ctx,
			struct qd_err *err);

/* ---- redo ---- */

/*
 * Logs everything the queue holds, section by section, as one batch, commits and flushes:
 * call it right before the queue is flushed.  QD_E_INVALID, and nothing is written, when
 * the area is too small for it.
 */
int qd_journal_redo_log(struct qd_journal *j, struct qd_queue *queue, struct qd_err *err);

/* The batch is on stable storage in its place. */
int qd_journal_redo_applied(struct qd_journal *j, struct qd_err *err);

/* Bytes of queued writes that surely fit one batch. */
uint64_t qd_journal_redo_room(const struct qd_journal *j);

/*
 * Applies the pending batch to io (J6): QD_E_CORRUPT with the first offset where the file
 * holds something else.  dry_run: only checks.  *ret_nwrites: writes that were (or would
 * be) made.  Then marks it applied.  Nothing pending: 0 writes.
 */
int qd_journal_replay(struct qd_journal *j, bool dry_run, uint64_t *ret_nwrites, struct qd_err *err);

#endif
