/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of a container (txn/journal.h), found through its extension.
 */
#ifndef QD_DEDUP_LOG_H
#define QD_DEDUP_LOG_H

#include <stdbool.h>

#include "format/table.h"
#include "image/image.h"
#include "txn/journal.h"

/*
 * io holds the container from byte container_off on, and outlives the journal.  *ret_journal
 * is NULL when the extension says that there is none.  QD_E_CORRUPT: its areas do not lie
 * within the container.
 */
int qd_log_open(struct qd_io *io, uint64_t container_off, const struct qd_table_ext *ext,
		struct qd_journal **ret_journal, struct qd_err *err);

/*
 * qd_journal_log_walk, of records that a table of this geometry could hold (T1, T4 in format/table.h):
 * QD_E_CORRUPT at the first that is none, after fn was called for those before it.
 */
int qd_log_walk(struct qd_journal *j, const struct qd_geom *g,
		int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record,
			  struct qd_err *err), void *ctx, struct qd_err *err);

/*
 * Notes in the extension what the log holds now, so that a loss of it will be seen: queued, or
 * with queue NULL written and flushed.  The log of an external container is empty (J9).
 */
int qd_log_record_closed(const struct qd_image *img, bool external, const struct qd_table_ext *ext,
			 const struct qd_journal *journal, struct qd_queue *queue, struct qd_err *err);

/*
 * A journal, or the greater part of its redo area, that an operation in place has borrowed for
 * itself and a crash left behind: log areas of one cluster, or a redo area larger than what
 * goes with the log.  The next index is without.
 */
bool qd_log_is_lent(const struct qd_table_ext *ext);

/* Sizes of the areas without what was lent: all 0 when nothing is left. */
void qd_log_own_sizes(const struct qd_table_ext *ext, uint64_t *ret_log_nbytes, uint64_t *ret_redo_nbytes);

/* The redo area that goes with log areas of that size: metadata is written in larger pieces. */
uint64_t qd_log_redo_for(uint64_t log_nbytes);

#endif
