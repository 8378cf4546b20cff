/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of convert share: the source as a sequence of batches, and the two
 * writers, qcow2 and raw.
 *
 *	convert_opts.c    checks options
 *	convert.c         opens source and target, gives the target its name
 *	convert_source.c  finds what holds data and reads it, batch by batch
 *	convert_qcow2.c   deduplicates, compresses, builds
 *	convert_raw.c     writes a sparse raw file or a stream
 */
#ifndef QD_OPS_CONVERT_INT_H
#define QD_OPS_CONVERT_INT_H

#include "image/disk.h"
#include "ops/convert.h"

/* Refuses what cannot be, before anything is opened. */
int qd_convert_check_opts(const struct qd_convert_opts *o, struct qd_err *err);

/* Whether the target is to be raw. */
bool qd_convert_is_raw(const struct qd_convert_opts *o);

/* A piece of consecutive guest bytes within a batch. */
struct qd_segment {
	uint64_t guest_off;		/* bytes, a multiple of the unit */
	size_t nbytes;			/* a multiple of the unit; may reach past the end of the disk */
	size_t buf_off;			/* where it lies in the batch's buffer */
};

#define QD_BATCH_SEGMENTS 64u

/* One job of the pipeline: segments in ascending order, their bytes one after the other. */
struct qd_batch {
	struct qd_segment segments[QD_BATCH_SEGMENTS];
	unsigned nsegments;
	size_t nbytes;
	uint64_t disk_size;		/* guest bytes there are; of a stream: as far as it was read for this batch */
	uint64_t progress;		/* guest bytes passed since the batch before */
	uint8_t *buf;			/* capacity of the source's batch_nbytes; aligned for direct I/O */
	struct qd_reader *reader;	/* NULL for a stream */
	struct qd_reader *backing_reader;	/* of the target's backing chain, or NULL */
};

/* The next data of a disk as found last: [off, end); both UINT64_MAX when there is no more. */
struct qd_found {
	uint64_t off;
	uint64_t end;
};

struct qd_source {
	struct qd_disk *disk;		/* NULL for a stream */
	struct qd_io *stream;
	struct qd_disk *backing;	/* the target's backing chain (-B), or NULL; owned */
	uint64_t unit;			/* bytes: the target's cluster size */
	size_t batch_nbytes;		/* a multiple of unit */
	uint64_t virtual_size;		/* of a stream: bytes read so far, a multiple of 512 */
	uint64_t pos;			/* guest bytes handed out */
	struct qd_found data;		/* of disk */
	struct qd_found backing_data;	/* of backing */
};

/* Opens opts->source (and nothing else); *src is filled, its unit and batch size are the caller's to set. */
int qd_source_open(const struct qd_convert_opts *opts, uint64_t memory, struct qd_source *src, struct qd_err *err);
void qd_source_close(struct qd_source *src);

/* Memory and readers of a batch; release with qd_batch_free. */
int qd_batch_init(struct qd_batch *b, const struct qd_source *src, struct qd_err *err);
void qd_batch_free(struct qd_batch *b);

/* Fills the batch's segments with the next data (a stream's: reads it too).  1, or 0 at the end. */
int qd_source_next(struct qd_source *src, struct qd_batch *b, struct qd_err *err);

/* Reads the segments into the buffer; nothing to do for a stream. */
int qd_batch_read(struct qd_batch *b, const struct qd_source *src, struct qd_err *err);

/* How many batches of how many bytes fit a budget; threads may come out lower. */
struct qd_batch_plan {
	unsigned nthreads;
	unsigned njobs;
	size_t batch_nbytes;
};
void qd_batch_plan(uint64_t memory, unsigned nthreads, uint64_t unit, unsigned buffers_per_job,
		   struct qd_batch_plan *ret_plan);

/* The writers: from source to io; io is truncated to its size, not flushed. */
struct qd_convert {
	const struct qd_convert_opts *opts;
	struct qd_source *src;
	struct qd_io *io;		/* the target */
	struct qd_io *data_io;		/* the target's external data file, or NULL */
	struct qd_io *index_io;		/* the file of its hash table, or NULL: embedded */
	uint64_t memory;		/* bytes */
	unsigned nthreads;
	const struct qd_layout *layout;
	uint64_t virtual_size;		/* of the target at least; 0: the source's */
	struct qd_progress *progress;
	struct qd_convert_result result;
};
int qd_convert_to_qcow2(struct qd_convert *c, struct qd_err *err);
int qd_convert_to_raw(struct qd_convert *c, struct qd_err *err);

#endif
