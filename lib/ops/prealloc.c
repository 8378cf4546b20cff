/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Only holes are filled: what was written already has its space.
 */
#include "ops/prealloc.h"

#include "base/bytes.h"

#define STEP (64u << 20)	/* bytes written between two looks at the progress callback */

static int fill_hole(struct qd_io *io, uint64_t off, uint64_t end, struct qd_progress *progress, struct qd_err *err)
{
	int r = 0;

	for (; !r && off < end; off += STEP) {
		r = qd_progress_add(progress, 0, err);
		if (!r)
			r = qd_io_fill_zeros(io, off, qd_min_u64(STEP, end - off), err);
	}
	return r;
}

int qd_prealloc_file(struct qd_io *io, enum qd_prealloc mode, uint64_t nbytes, struct qd_progress *progress,
		     struct qd_err *err)
{
	uint64_t data, hole, off = 0;
	int r = 0;

	if (mode < QD_PREALLOC_FALLOC)
		return 0;
	if (mode == QD_PREALLOC_FALLOC)
		return qd_io_reserve(io, 0, nbytes, err);
	while (!r && off < nbytes) {
		r = qd_io_next_data(io, off, &data, &hole, err);
		if (!r && data > off)
			r = fill_hole(io, off, qd_min_u64(data, nbytes), progress, err);
		off = data == hole ? nbytes : hole;
	}
	return r;
}
