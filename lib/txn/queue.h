/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An ordered queue of metadata writes.
 *
 *	          barrier            barrier
 *	section 0    |    section 1     |    section 2      <- writes go here
 *	 [..] [....] |  [.]  [..] [.]   |  [...]
 *
 * Writes are kept in memory, byte by byte what was written last within a section.  A
 * barrier ends the section: nothing written after it reaches the file before all that was
 * written before it is on stable storage.
 *
 * Invariants
 *  Q1  a byte of a later section is never written before every byte of the earlier ones
 *      is written and flushed.
 *  Q2  within a section the order of writes on the file is free; of writes that overlap,
 *      the last one counts.  A write never changes what an earlier section will write.
 *  Q3  qd_queue_read returns what the file will hold when the queue is empty.
 *  Q4  as few flushes as Q1 allows: barriers with nothing between them, or with nothing
 *      written since the last flush, cost none.
 *  Q5  neighbouring writes of a section leave in one, ascending.
 *  Q6  after a failed write or flush the queue refuses everything but reading, for it is
 *      not known what the file holds: the error is returned again.
 *
 * Queued bytes stay under a limit: what goes over it is written earlier, in order, which
 * changes nothing of the above.
 *
 * Left to others: what belongs together (the owner sets barriers), and data, which is
 * written directly; a write that must come after data needs a barrier, because the flush
 * that it brings covers all writes to the io (qd_queue_wrote_data).
 *
 * One thread at a time.
 */
#ifndef QD_TXN_QUEUE_H
#define QD_TXN_QUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/io.h"

struct qd_queue;

/* io stays the caller's and must outlive the queue.  limit: bytes of memory; at least one write is kept. */
int qd_queue_new(struct qd_io *io, uint64_t limit, struct qd_queue **ret_queue, struct qd_err *err);

/* Drops what is queued.  NULL is allowed. */
void qd_queue_free(struct qd_queue *q);

/* Queues a copy of buf for [off, off + nbytes). */
int qd_queue_write(struct qd_queue *q, const void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

/* Everything before is on stable storage before anything after is written. */
int qd_queue_barrier(struct qd_queue *q, struct qd_err *err);

/* Exactly nbytes of the file as it will be; what lies past its end, queued writes included, is zeros. */
int qd_queue_read(struct qd_queue *q, void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

/*
 * Calls fn(ctx, section, data, nbytes, off) for each run of queued bytes within a page, the
 * sections in order, numbered from 0, and in each by ascending off.  data is valid until
 * the next call for this queue.  A value other than 0 ends the walk and is returned.
 */
int qd_queue_walk(struct qd_queue *q,
		  int (*fn)(void *ctx, uint32_t section, const uint8_t *data, size_t nbytes, uint64_t off),
		  void *ctx, struct qd_err *err);

/* The caller wrote to the io himself: the next barrier is not free. */
void qd_queue_wrote_data(struct qd_queue *q);

/* Writes everything; what the last section wrote need not be on stable storage yet. */
int qd_queue_submit(struct qd_queue *q, struct qd_err *err);

/* Writes everything, and all of it is on stable storage. */
int qd_queue_flush(struct qd_queue *q, struct qd_err *err);

struct qd_queue_stats {
	uint64_t flushes;	/* of the io */
	uint64_t writes;	/* to the io */
	uint64_t nbytes;	/* written to the io */
	uint64_t queued;	/* calls of qd_queue_write */
};
void qd_queue_stats(const struct qd_queue *q, struct qd_queue_stats *ret_stats);

#endif
