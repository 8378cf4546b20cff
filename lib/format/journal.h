/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal, byte by byte: clusters of 4096 bytes, each with a header and entries.
 * qdedup-format(5) is the specification.
 *
 *	area (log A, log B or redo log)
 *	| cluster 0 | cluster 1 | cluster 2 | ...        sequence numbers from 0
 *	  |
 *	  header 56 | size type payload | size type payload | ... | END | 0xff ...
 *
 * A journal cluster is valid if and only if its magic, kind, identity, container and
 * sequence are those expected at its place, its generation is that of the area's first cluster, and
 * its checksum, which starts from a seed other than 0, is that of its bytes.
 *
 * A batch is what one COMMIT makes count: whole clusters, the COMMIT in the last of them.
 * Each cluster tells its batch, so that what a crash left of the last one is told from a
 * hole in what had been committed.
 *
 * The last cluster of the redo area holds no entries but the mark, 512 bytes: what became of
 * the batch.  It is written when the batch is on stable storage, so that from then on what is
 * missing of it is damage, and not a write that a crash cut short.
 *
 * Entries: the size byte counts the bytes of the payload (an entry takes size + 2 bytes);
 * 0xff in its place: nothing more in this cluster.  No entry crosses a cluster.
 *
 * Invariants
 *  J1  a cluster that a COMMIT made count is never written again while its generation is
 *      in use: a torn write can only hurt what was not committed.
 *  J2  entries count up to the last COMMIT; what follows it is as if not there.
 *
 * Pure: bytes <-> structs.
 */
#ifndef QD_FORMAT_JOURNAL_H
#define QD_FORMAT_JOURNAL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "format/fields.h"
#include "format/table.h"

#define QD_JOURNAL_CLUSTER 4096u
#define QD_JOURNAL_HEADER 56u
#define QD_JOURNAL_MAGIC 0x51446a63u	/* "QDjc" */
#define QD_JOURNAL_UNUSED 0xffu
#define QD_JOURNAL_MAX_PAYLOAD 253u	/* bytes of an entry's payload */
#define QD_JOURNAL_WRITE_HEAD 12u	/* of a WRITE's payload, before its bytes */
#define QD_JOURNAL_MAX_WRITE 240u	/* bytes of one WRITE */

enum qd_journal_kind {
	QD_JOURNAL_LOG = 1,		/* hashes inserted and removed: two areas, one in use */
	QD_JOURNAL_REDO = 2,		/* metadata writes of an operation in flight */
};

struct qd_journal_header {
	uint32_t magic;
	uint32_t crc;			/* CRC32C of all bytes of the cluster after this one */
	uint64_t identity_hi;		/* of the container's table, its first half */
	uint64_t identity_lo;		/* the journal's own, from the extension */
	uint64_t container;		/* the container's generation */
	uint64_t generation;		/* >= 1; one more with each log begun anew in this container's areas of the kind */
	uint64_t batch;			/* number of the COMMIT that these entries wait for, from 1 */
	uint32_t sequence;		/* of the cluster in its area, from 0 */
	uint8_t kind;			/* enum qd_journal_kind */
	uint8_t reserved;		/* 0 */
	uint16_t used;			/* bytes of the cluster in use, header included */
};

enum qd_journal_type {
	QD_JOURNAL_END = 1,		/* closes a cluster; no payload */
	QD_JOURNAL_HASH = 2,		/* a record as in the table: inserted, or replacing that of the same entry */
	QD_JOURNAL_REVOKE = 3,		/* u64 entry: its record, in table or log, does not hold any more */
	QD_JOURNAL_COMMIT = 4,		/* u64 number: ascending from 1 in a generation */
	/*
	 * u64 offset in the image, u32 CRC32C of the bytes there before the batch, bytes
	 * (1..240).  Does not cross a multiple of 512, so that it is on disk whole or not; two
	 * of a batch name the same bytes or have none in common.
	 */
	QD_JOURNAL_WRITE = 5,
	QD_JOURNAL_BARRIER = 6,		/* what follows is written after all before is on stable storage */
	QD_JOURNAL_APPLIED = 7,		/* u64 number of the last COMMIT whose writes are on stable storage */
	QD_JOURNAL_COMPLETE = 8,	/* a log counts from here on: it holds all that lives of the one before, if any */
};

struct qd_journal_entry {
	uint8_t type;
	uint8_t nbytes;			/* of the payload */
	const uint8_t *payload;		/* points into the caller's buffer */
	uint32_t off;			/* of the size byte, in the cluster */
};

extern const struct qd_fields qd_journal_header_fields;

void qd_journal_header_decode(const uint8_t *cluster, struct qd_journal_header *ret_header);

/*
 * Encodes the header over the first bytes (but magic and crc, which it knows), fills the
 * cluster with 0xff from h->used on, computes the checksum.
 */
void qd_journal_cluster_close(const struct qd_journal_header *h, uint8_t *cluster);

/* Which journal it is: what each of its clusters says. */
struct qd_journal_owner {
	uint64_t identity_hi;
	uint64_t identity_lo;
	uint64_t container;
};

/*
 * The mark of the redo area, and how it is told from other bytes.  All zeros: no batch yet.
 */
#define QD_JOURNAL_MARK 512u		/* bytes; zeros up to the end of its journal cluster */
#define QD_JOURNAL_MARK_MAGIC 0x51446a6du	/* "QDjm" */

enum qd_journal_mark_state {
	QD_JOURNAL_MARK_COMMITTED = 1,	/* the batch is on stable storage */
	QD_JOURNAL_MARK_APPLIED = 2,	/* so are its writes, or nobody wants them any more */
};

struct qd_journal_mark {
	uint32_t magic;
	uint32_t crc;			/* CRC32C of all bytes of the mark after this one */
	uint64_t identity_hi;		/* as in the journal clusters */
	uint64_t identity_lo;
	uint64_t container;
	uint64_t generation;		/* of the batch's clusters */
	uint32_t state;			/* enum qd_journal_mark_state */
	uint32_t nclusters;		/* of the batch */
	uint32_t batch_crc;		/* CRC32C of all their bytes */
	uint32_t reserved;		/* 0 */
	uint64_t target_nbytes;		/* length of the image when the batch was written: no WRITE goes beyond it */
};

extern const struct qd_fields qd_journal_mark_fields;

/* Fills all QD_JOURNAL_MARK bytes; magic, crc and reserved it knows. */
void qd_journal_mark_encode(const struct qd_journal_mark *m, uint8_t *p);
/* False: it is none of this owner's. */
bool qd_journal_mark_decode(const uint8_t *p, const struct qd_journal_owner *owner,
			    struct qd_journal_mark *ret_mark);

/* The validity rule, generation left to the caller. */
bool qd_journal_cluster_is_valid(const uint8_t *cluster, const struct qd_journal_owner *owner,
				 enum qd_journal_kind kind, uint32_t sequence);

/* A name for messages and dumps; NULL for a type that is not known. */
const char *qd_journal_type_name(unsigned type);

/*
 * The next entry of a valid cluster at *pos (start with QD_JOURNAL_HEADER).  1: *ret_entry
 * filled; 0: no more (an END is returned, and the last); QD_E_CORRUPT: one that
 * runs past `used` or has a size its type does not have (unknown types are
 * QD_E_UNSUPPORTED).
 */
int qd_journal_entry_next(const uint8_t *cluster, size_t *pos, struct qd_journal_entry *ret_entry,
			  struct qd_err *err);

/* Appends at *pos; false when it does not fit the cluster. */
bool qd_journal_entry_append(uint8_t *cluster, size_t *pos, enum qd_journal_type type, const void *payload,
			     size_t nbytes);

#endif
