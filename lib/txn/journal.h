/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of a container: appending, committing, scanning (format/journal.h has the
 * bytes and J1, J2).  Knows offsets and bytes, no L2 tables.
 *
 *	log    hashes inserted and removed since the table was written.  Two areas: packing
 *	       writes the live entries to the idle one, ended by COMPLETE and COMMIT, and
 *	       from that commit on the higher generation is the log.
 *	redo   the metadata writes of one operation in flight, committed before the first of
 *	       them reaches its place.  Behind them a mark, in one sector, which is on disk whole
 *	       or not: "committed" is written when the batch is on stable storage, "applied" when
 *	       all its writes are; only then an APPLIED takes the place of its first cluster.
 *
 * Invariants (J1, J2: format/journal.h)
 *  J3  an area's live clusters are sequence 0, 1, 2, ... of one generation without a gap.
 *      A valid cluster that this does not explain, nor one commit that a crash cut short,
 *      is damage, and so is a log with less in it than the extension recorded when it was
 *      last closed.
 *  J4  an append goes behind the last committed cluster, or with a new generation to an
 *      area's start.  What a crash left there, torn clusters included, is zeroed on stable
 *      storage first, so that neither a later commit nor a later torn write brings it back.
 *  J5  the generation never falls, whatever was lost of the areas: the next one is above
 *      what the areas hold and above what the extension recorded.  An older log is crossed
 *      out (its first cluster zeroed) once the packed one is committed, so that it does not
 *      come back when that one is damaged.
 *  J6  replay writes nothing unless for every write of the batch the bytes in the file
 *      are those before the batch or those that a write of it puts there.
 *  J7  while the mark says "committed", a redo batch that is not whole is damage.  Without it,
 *      the batch counts if it is whole, and is what a crash left if it is not: nothing had been
 *      flushed behind it.
 *  J8  replay writes within the file as it was when the batch was committed, and never to the
 *      container, nor to what of the header says what kind of image it is.
 *  J9  the log of a container in a file of its own stays empty: what the extension recorded of a
 *      log cannot be brought up to date in two files at once.
 *
 * One thread at a time.
 */
#ifndef QD_TXN_JOURNAL_H
#define QD_TXN_JOURNAL_H

#include "base/io.h"
#include "format/journal.h"
#include "txn/queue.h"

#define QD_JOURNAL_MAX_AREA (16u << 20)	/* bytes: our limit, so that what lives of a log fits in memory */

struct qd_journal_place {		/* from the extension */
	uint64_t off;			/* byte of the io where area A of the log starts */
	uint64_t own_off;		/* where the container lies in the image, which no replay writes to; */
	uint64_t own_nbytes;		/* 0: in a file of its own */
	bool no_log;			/* nobody vouches for a log there: one is damage */
	uint64_t head_nbytes;		/* of the image's first cluster, with its header; 0: not known */
	uint64_t log_nbytes;		/* of each log area: a multiple of QD_JOURNAL_CLUSTER, at most QD_JOURNAL_MAX_AREA */
	uint64_t redo_nbytes;		/* likewise */
	struct qd_journal_owner owner;	/* identity and generation of the extension */
	uint64_t closed_generation;	/* log_generation and log_clusters of the extension */
	uint32_t closed_clusters;	/* ... and log_crc */
	uint32_t closed_crc;
};

/*
 * What the extension says of a container's journal (there is one: journal_off is not 0);
 * the container starts at byte container_off.  QD_E_CORRUPT: it does not lie in there.
 */
int qd_journal_place_of(const struct qd_table_ext *ext, uint64_t container_off,
			struct qd_journal_place *ret_place, struct qd_err *err);

struct qd_journal;

enum qd_journal_health { QD_JOURNAL_SOUND, QD_JOURNAL_PENDING, QD_JOURNAL_DAMAGED };

struct qd_journal_state {
	enum qd_journal_health health;	/* pending: a committed redo batch is not applied */
	char why[160];			/* damaged: what */
	bool redo_damaged;		/* it is the redo log: no replay is possible */
	uint64_t log_generation;	/* 0: no log yet */
	uint32_t log_area;		/* 0 or 1: which one is in use */
	uint32_t log_clusters;		/* in use, of log_size */
	uint32_t log_size;
	uint32_t log_crc;		/* CRC32C of these clusters */
	uint64_t log_used;		/* bytes of entries and headers in use */
	uint64_t entries;		/* HASH and REVOKE entries that count */
	uint64_t live;			/* of those: the last ones for their entry (a REVOKE may hide a table record) */
	uint64_t redo_generation;
	uint64_t pending_writes;	/* WRITE entries of the pending batch */
};

/*
 * Scans; damage is a state, not an error (but for a place that cannot be: QD_E_CORRUPT).
 * The io stays the caller's; it is written to by what is appended only.
 */
int qd_journal_open(struct qd_io *io, const struct qd_journal_place *place, uint32_t digest_nbytes,
		    struct qd_journal **ret_journal, struct qd_err *err);
/* What was added and not committed is lost.  NULL is allowed. */
void qd_journal_close(struct qd_journal *j);
void qd_journal_state(const struct qd_journal *j, struct qd_journal_state *ret_state);

/*
 * Every cluster that is not all zeros, valid or not, and the entries of valid ones, for `dump`:
 * committed says whether it counts.
 */
struct qd_journal_item {
	uint64_t off;			/* byte of the io */
	enum qd_journal_kind kind;
	uint32_t area;			/* 0 or 1; redo: 2 */
	uint32_t number;		/* of the cluster in its area */
	bool valid;			/* the cluster */
	struct qd_journal_header header;
	struct qd_journal_entry entry;	/* type 0: the cluster itself, or the mark */
	bool is_mark;			/* valid: mark is what it says */
	struct qd_journal_mark mark;
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

/* Journal clusters that a commit of what was added would take (0: nothing to commit), and those that are free. */
uint32_t qd_journal_log_need(const struct qd_journal *j);
uint32_t qd_journal_log_room(const struct qd_journal *j);

/*
 * Appends what was added and a COMMIT, and flushes the io.  QD_E_INVALID, and nothing is
 * written, when there is no room: pack or merge first.  QD_E_CORRUPT: the log is damaged.
 */
int qd_journal_log_commit(struct qd_journal *j, struct qd_err *err);

/*
 * What of the log lives: the last entry for each cluster, a REVOKE only if in_table(ctx,
 * entry) says that the table has a record it must hide (1; 0: not; negative: an error).
 */
struct qd_journal_live {
	int (*in_table)(void *ctx, uint64_t entry, struct qd_err *err);
	void *ctx;
};

/* Journal clusters that a packed log would take. */
int qd_journal_log_measure(struct qd_journal *j, const struct qd_journal_live *live, uint32_t *ret_nclusters,
			   struct qd_err *err);

/*
 * Packs: what lives becomes a new log in the idle area, flushed.  What was added before
 * and not committed is still to be committed.
 */
int qd_journal_log_pack(struct qd_journal *j, const struct qd_journal_live *live, struct qd_err *err);

/* ---- redo ---- */

/*
 * Logs everything the queue holds, section by section, as one batch, commits and flushes:
 * call it right before the queue is flushed.  QD_E_INVALID, and nothing is written, when
 * the area is too small for it.  target: the io that the queue writes to.  A queue that
 * changes nothing is no batch.
 */
int qd_journal_redo_log(struct qd_journal *j, struct qd_queue *queue, struct qd_io *target,
			struct qd_err *err);

/* The batch, if there is one, is on stable storage in its place; flushes the journal's io. */
int qd_journal_redo_applied(struct qd_journal *j, struct qd_err *err);

/* Bytes of the area, headers of its clusters included. */
uint64_t qd_journal_redo_area(const struct qd_journal *j);

/* Bytes of queued writes that surely fit one batch. */
uint64_t qd_journal_redo_room(const struct qd_journal *j);

/*
 * Applies the pending batch to target, section by section, flushed (J6): QD_E_CORRUPT with
 * the first offset where the file holds something else.  dry_run: only checks.
 * *ret_nwrites: writes that were (or would be) made; those whose bytes are there already
 * are not.  Then marks it applied.  Nothing pending: 0 writes.
 */
int qd_journal_replay(struct qd_journal *j, struct qd_io *target, bool dry_run, uint64_t *ret_nwrites,
		      struct qd_err *err);

#endif
