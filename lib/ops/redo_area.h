/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redo area that an operation in place borrows: the container it installs anyway is
 * made larger for as long as it works.
 *
 *	installed    | directory | blocks | log A | log B | redo area ................ |
 *	             \_ as long as it stays ____________________/\_ lent: of the pin, too _/
 *	given back   | directory | blocks | (log A | log B | redo, if there was a journal)
 *
 * Without a journal of its own the container gets log areas of one cluster that nobody
 * writes to; that, or more of a redo area than goes with the log, says that it is lent
 * (qd_log_is_lent).
 *
 * Giving back, with every batch applied and the dirty bit still set:
 *
 *	the extension says the shorter length   flush
 *	slots of the pin cleared                flush
 *	the clusters are free, and holes
 *
 * Invariants
 *  W1  at every write the extension names a run that the pin references whole.
 *  W2  a crash leaves either a container with what was lent, which replay and rehash and
 *      the next dedup replace, or slots of the pin that nothing else refers to, as an
 *      exchange of containers does: the next dedup or rehash clears them.
 *  W3  records are written only while the feature bit is set that QEMU clears before its
 *      first write: without it no replay could know that they are still right.  So an
 *      image with snapshots of its own, whose index never has it (ops/install.h, N2),
 *      has none.
 */
#ifndef QD_OPS_REDO_AREA_H
#define QD_OPS_REDO_AREA_H

#include "image/image.h"
#include "ops/remap.h"
#include "txn/journal.h"

/*
 * Sizes for struct qd_install.  In: those of the container's own journal, or 0.  Out: with a
 * redo area for batches of as many bytes of records, as far as `memory` (bytes) allows.
 */
void qd_redo_area_plan(uint64_t nbytes, uint64_t memory, uint64_t *log_nbytes, uint64_t *redo_nbytes);

/*
 * The journal of an embedded index, to be closed; *ret_journal NULL: there is none to be used (W3), or
 * the disk has no room for what it would write.
 */
int qd_redo_area_open(const struct qd_image *img, struct qd_journal **ret_journal, struct qd_err *err);

/*
 * Gives back what was lent, if anything was: before qd_remap_finish, img as it was when the change was
 * opened.  nrecords: of the hash table.  The journal that was open must not be used any more.
 */
int qd_redo_area_give_back(struct qd_remap *r, const struct qd_image *img, uint64_t nrecords,
			   struct qd_err *err);

#endif
