/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Changing the header extensions of an existing image, one at a time, so that at every
 * write the list can be read and says the old or the new thing.
 *
 *	| ext | filler | ext | END | free ................ | backing file name | ...
 *
 *	set      same length, within a sector:  its data is overwritten, one write
 *	         else: all but its head is written into a filler or behind END | the 8 bytes
 *	         that turn filler or END into it | the old one of the type becomes a filler
 *	remove   it becomes a filler, or END when it is the last
 *	room     the backing file name is copied farther down | the header's 12 bytes
 *
 * "|": a barrier.  A filler is an extension that says nothing (QD_EXT_FILLER), which QEMU keeps
 * like any it does not know.
 *
 * Invariants
 *  X1  of two extensions of a type the first one counts (qd_image_find_ext); there are two
 *      only between two writes of a set, and the other one is the new or the old.
 *  X2  data of up to 512 bytes never crosses a sector, so that overwriting it is one thing
 *      (on request: feature names may cross).
 *
 * All goes through the owner's queue; his next barrier or flush ends it.
 */
#ifndef QD_IMAGE_EXT_EDIT_H
#define QD_IMAGE_EXT_EDIT_H

#include "image/image.h"
#include "txn/queue.h"

#define QD_EXT_FILLER 0x51446670u	/* "QDfp" */

struct qd_ext_edit;

/*
 * Both outlive it.  queue NULL: everything is done in memory only, to see whether it fits.
 * QD_E_UNSUPPORTED: the list has no END mark to put something behind.
 */
int qd_ext_edit_open(const struct qd_image *img, struct qd_queue *queue, struct qd_ext_edit **ret_edit,
		     struct qd_err *err);
void qd_ext_edit_free(struct qd_ext_edit *e);

/* QD_E_UNSUPPORTED, and nothing was queued, when the first cluster has no room for it. */
int qd_ext_edit_set(struct qd_ext_edit *e, uint32_t type, const void *data, size_t nbytes,
		    struct qd_err *err);

/* Not there: nothing to do. */
int qd_ext_edit_remove(struct qd_ext_edit *e, uint32_t type, struct qd_err *err);

/* A row of the feature name table; without room it is left out, for names only help people. */
int qd_ext_edit_name_autoclear(struct qd_ext_edit *e, unsigned bit, const char *name, struct qd_err *err);
int qd_ext_edit_unname_autoclear(struct qd_ext_edit *e, unsigned bit, struct qd_err *err);

/* Autoclear feature bits, behind a barrier. */
int qd_ext_edit_autoclear(struct qd_ext_edit *e, uint64_t set, uint64_t clear, struct qd_err *err);

#endif
