/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image's hash table and journal are like, for `info` and `stats`: from the
 * extension, the directory and the journal's own clusters; nothing that the image names
 * is opened.
 */
#ifndef QD_OPS_INDEX_INFO_H
#define QD_OPS_INDEX_INFO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

#define QD_INDEX_INFO_WHY 200

struct qd_index_info {
	const char *state;		/* "valid", "partial", "stale", "absent" */
	const char *location;		/* "embedded", "file"; NULL: not known, like what follows */
	const char *hash;		/* its name; NULL: not known */
	bool has_entries;		/* false: the table could not be read */
	uint64_t entries;
	uint64_t nbytes;		/* of the whole container */
	uint64_t generation;
	char why[QD_INDEX_INFO_WHY];	/* why it is stale, or why it was not read; "" otherwise */

	const char *journal;		/* "clean", "pending", "damaged", "absent"; NULL: not known */
	uint64_t journal_nbytes;	/* of all its areas */
	uint64_t journal_used;
	uint64_t journal_entries;
	uint64_t journal_live;
};

struct qd_image;

/* Damage is a state, not an error. */
int qd_index_info_get(struct qd_image *img, struct qd_index_info *ret_info, struct qd_err *err);

#endif
