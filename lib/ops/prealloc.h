/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preallocation of a file that has its size already: what -o preallocation= means to the
 * host, for convert and create.
 */
#ifndef QD_OPS_PREALLOC_H
#define QD_OPS_PREALLOC_H

#include "base/io.h"
#include "base/progress.h"
#include "ops/layout.h"

/*
 * falloc: the host reserves space for all of [0, nbytes).  full: holes are written with
 * zeros.  off and metadata: nothing.  progress (may be NULL) is asked now and then whether
 * to go on; it does not advance.
 */
int qd_prealloc_file(struct qd_io *io, enum qd_prealloc mode, uint64_t nbytes, struct qd_progress *progress,
		     struct qd_err *err);

#endif
