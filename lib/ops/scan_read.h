/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A view while it is read: what scan_next.c and scan_read.c share.
 */
#ifndef QD_OPS_SCAN_READ_H
#define QD_OPS_SCAN_READ_H

#include "ops/scan_hash.h"
#include "ops/scan_share.h"
#include "ops/scan_stored.h"

struct scan_job {		/* a stretch */
	uint64_t off;			/* of the view, bytes */
	uint64_t nbytes;		/* up to the reading's stretch; may pass the end of the view */
	bool dense;			/* data all over */
	struct qd_reader *reader;
	uint8_t *buf;			/* a piece */
	struct scan_cells cells;
	struct scan_shared *shared;	/* clusters that are read once */
	size_t nshared;
	bool later;			/* some of them are read by others */
	struct scan_known *known;	/* clusters that need not be read */
	size_t nknown;
	uint8_t *records;
	size_t nrecords;
	uint64_t read_nbytes, reused_nbytes;
	uint64_t data_nbytes[QD_SCAN_NSIZES_MAX];
	uint64_t inherited_nbytes[QD_SCAN_NSIZES_MAX];
};

struct scan_reading {		/* a view */
	struct scan *s;
	struct scan_view *v;
	const struct qd_disk *disk;
	struct scan_share *share;	/* NULL: nothing is shared */
	struct scan_stored *stored;	/* NULL: no hashes are stored; otherwise share is NULL */
	uint64_t block;			/* the largest cluster size; with share, of the image, too */
	uint64_t stretch;
	size_t piece;
	uint64_t pos;			/* everything before has been handed out; a multiple of block */
	uint64_t data, data_end;	/* of data known to be at or after pos */
	uint64_t lower_size;		/* of the backing file; 0: none */
	uint64_t passed_inherited[QD_SCAN_NSIZES_MAX];	/* bytes, in what was passed by */
	bool fatal;
};

/* The pipeline's first stage: the next stretch that holds data. */
int qd_scan_next_job(void *ctx, void *job, struct qd_err *err);

#endif
