/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What journal.c (opening, scanning), journal_log.c, redo.c and replay.c share: areas, and
 * the clusters of a batch while it is collected.
 */
#ifndef QD_TXN_JOURNAL_INT_H
#define QD_TXN_JOURNAL_INT_H

#include "txn/journal.h"

struct journal_area {
	enum qd_journal_kind kind;
	uint32_t index;			/* 0, 1: log; 2: redo */
	uint64_t off;			/* byte of the io */
	uint32_t nclusters;
	/* What the scan found: the clusters from sequence 0 on. */
	uint64_t generation;		/* of cluster 0; 0: it is not valid */
	uint32_t committed;		/* clusters that count */
	uint64_t batches;		/* the last COMMIT's number */
	bool complete;			/* a COMPLETE is among them */
	uint32_t residue_end;		/* behind the last valid cluster of this generation, counting or not */
	uint32_t torn_end;		/* behind the last cluster that is neither valid nor zeros */
	uint64_t newest;		/* highest generation of a valid cluster */
	uint64_t newest_later;		/* of one that is not of its log's first batch */
	uint32_t crc;			/* CRC32C of all clusters that count */
	uint32_t closed_crc;		/* of as many as the extension recorded */
	uint64_t applied_generation;	/* redo: whose batch cluster 0 says is applied; 0: it does not */
	char why[160];			/* what cannot be, or "" */
};

/* Clusters of a batch in memory, without headers yet. */
struct journal_batch {
	uint8_t *clusters;
	uint16_t *used;			/* of each */
	uint32_t nclusters, capacity;
	size_t pos;			/* in the last one */
	uint64_t entries;
};

struct qd_journal {
	struct qd_io *io;
	struct qd_journal_place place;
	uint32_t digest_nbytes;
	struct journal_area areas[3];	/* log A, log B, redo */
	struct journal_area *log;	/* the one in use; NULL: no log yet */
	struct journal_batch adds;	/* to be committed to the log */
	bool damaged;
	bool redo_damaged;		/* it is the redo area, or also */
	char why[160];
	uint64_t log_used, entries, live;
	struct qd_journal_mark mark;	/* of the redo area; generation 0: none */
	bool mark_bad;			/* what is in its place is neither one nor zeros */
	uint64_t pending_writes;	/* of the redo batch that is committed and not applied */
	bool pending;
};

/* ---- journal.c ---- */

/* Reads cluster `number` of the area; false: not valid. */
int journal_read(struct qd_journal *j, const struct journal_area *a, uint32_t number, uint8_t *cluster,
		 bool *ret_valid, struct qd_err *err);

/* Calls fn for each entry of the area's committed clusters; a value other than 0 ends it. */
int journal_each(struct qd_journal *j, const struct journal_area *a,
		 int (*fn)(void *ctx, const struct qd_journal_entry *entry, struct qd_err *err), void *ctx,
		 struct qd_err *err);

/* Counts again what the state says of the log. */
int journal_count(struct qd_journal *j, struct qd_err *err);

/* QD_E_CORRUPT when the journal is damaged. */
int journal_refuse_damaged(const struct qd_journal *j, struct qd_err *err);

/* ---- journal_batch.c ---- */

void journal_batch_free(struct journal_batch *b);
int journal_batch_add(struct journal_batch *b, enum qd_journal_type type, const void *payload, size_t nbytes,
		      struct qd_err *err);

/* Clusters that the batch takes when entries of `extra` more bytes are added. */
uint32_t journal_batch_need(const struct journal_batch *b, size_t extra);

/*
 * J4: zeroes what a crash left from cluster `first` of the area on, flushed.  Torn clusters
 * too: one more torn write over them could complete what the first had begun.
 */
int journal_clear_residue(struct qd_journal *j, struct journal_area *a, uint32_t first, struct qd_err *err);

/*
 * Adds the COMMIT, closes the clusters and writes them to the area from cluster `first`
 * on, what a crash left there cleared, and flushes.  The area's fields are brought up to date when that succeeded.
 */
int journal_batch_write(struct qd_journal *j, struct journal_batch *b, struct journal_area *a,
			uint64_t generation, uint32_t first, uint64_t number, struct qd_err *err);

int journal_batch_write_unflushed(struct qd_journal *j, struct journal_batch *b, struct journal_area *a,
				  uint64_t generation, uint32_t first, uint64_t number, struct qd_err *err);

/* Where the redo area's mark is: byte of the io. */
uint64_t journal_mark_off(const struct qd_journal *j);

#define JOURNAL_COMMIT_BYTES 10u	/* a COMMIT entry, size and type included */
#define JOURNAL_COMPLETE_BYTES 2u

/* ---- journal_log.c ---- */

/* The last entry for each cluster, by ascending entry. */
struct journal_last {
	uint64_t entry;
	uint64_t order;			/* number of the log entry, from 0 */
	bool revoked;
	uint8_t record[QD_TABLE_RECORD_HEAD + 32];	/* unless revoked */
};
int journal_last_entries(struct qd_journal *j, struct journal_last **ret_last, size_t *ret_n,
			 struct qd_err *err);

#endif
