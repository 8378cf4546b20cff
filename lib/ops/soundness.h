/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How sound the metadata of an image must be before an operation changes it in place.
 *
 * Whoever claims a cluster believes that refcount 0 means free, and whoever gives one up that
 * no count is too low: where either is wrong, guest data is overwritten or punched out.  The
 * counts alone do not tell, so all tables are checked (ops/check.h) before the first claim:
 *
 *	level   refuses                                            for
 *	COUNTS  what makes a count too low, or might: kinds that   rehash, journal, io
 *	        say nothing of counts (COPIED flags) and leaks
 *	        do not stop anybody
 *	TABLES  every corruption                                   dedup
 *	SPACE   leaks, too: they would be moved about              compact
 *
 * What could not be read is refused at each: something may be referenced from there.
 *
 * It costs a pass over L2 tables and refcounts, in bounded memory, and reads no guest data.
 */
#ifndef QD_OPS_SOUNDNESS_H
#define QD_OPS_SOUNDNESS_H

#include <stdint.h>

#include "base/err.h"
#include "base/io.h"
#include "base/progress.h"

enum qd_soundness { QD_SOUND_COUNTS, QD_SOUND_TABLES, QD_SOUND_SPACE };

/*
 * Writes nothing; the caller, who holds the lock, has written nothing that is still queued.
 * QD_E_CORRUPT says what was found and what to run.  threads 0: all processors; memory, in
 * bytes, 0: the default.  QD_E_CANCELLED: whom listener, which may be NULL, calls asks to stop; its
 * counts are those of the operation and do not change.
 */
int qd_soundness_require(struct qd_io *io, enum qd_soundness level, unsigned threads, uint64_t memory,
			 struct qd_progress *listener, struct qd_err *err);

#endif
