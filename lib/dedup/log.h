/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal of a container (txn/journal.h), found through its extension.
 */
#ifndef QD_DEDUP_LOG_H
#define QD_DEDUP_LOG_H

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
 * Notes in the extension what the log holds now, so that a loss of it will be seen: queued, or
 * with queue NULL written and flushed.  The log of an external container is empty (J9).
 */
int qd_log_record_closed(const struct qd_image *img, bool external, const struct qd_table_ext *ext,
			 const struct qd_journal *journal, struct qd_queue *queue, struct qd_err *err);

#endif
