/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Checking the index of an image: hash table, journal and pin.  Data is not read.
 *
 * Damage to an index costs time and never a byte, so none of it is a corruption: the
 * findings are notes.
 */
#ifndef QD_OPS_CHECK_INDEX_H
#define QD_OPS_CHECK_INDEX_H

#include "ops/check.h"

struct qd_index_check {
	const char *state;	/* "valid", "partial", "stale", "absent"; NULL: it could not be looked at */
	uint64_t errors;	/* what is wrong with it */
};

/*
 * Adds what it finds to result->count, and tells it to opts->found; result is that of a qd_check
 * of the same io.  An image that is not consistent is left out (state NULL): what its index
 * is worth cannot be said.
 */
int qd_check_index(struct qd_io *io, const struct qd_check_opts *opts, struct qd_check_result *result,
		   struct qd_index_check *ret_index, struct qd_err *err);

/*
 * Makes an index anew of which a part is wrong: what can be believed of it is kept, the rest read.  An
 * error leaves the old one.
 */
int qd_check_index_rebuild(struct qd_io *io, uint64_t memory, struct qd_err *err);

/*
 * Drops an index that something is wrong with; a consistent image, writable.  Guest content is
 * not touched.  qdedup rehash makes a new one.
 */
int qd_check_index_drop(struct qd_io *io, uint64_t memory, struct qd_err *err);

#endif
