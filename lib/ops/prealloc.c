/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Only holes are filled: what was written already has its space.
 */
#include "ops/prealloc.h"

#include "base/bytes.h"

int qd_prealloc_file(struct qd_io *io, enum qd_prealloc mode, uint64_t nbytes, struct qd_err *err)
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
			r = qd_io_fill_zeros(io, off, qd_min_u64(data, nbytes) - off, err);
		off = data == hole ? nbytes : hole;
	}
	return r;
}
