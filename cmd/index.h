/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hash table and journal as results: JSON objects, or lines of a page.
 */
#ifndef QD_CMD_INDEX_H
#define QD_CMD_INDEX_H

#include <jansson.h>

#include "ops/index_info.h"

/*
 * {state, location, hash, entries, bytes, generation}, and `reason` when something is wrong; NULL:
 * out of memory.
 */
json_t *index_json(const struct qd_index_info *info);

/* {state, bytes, used, entries, live}. */
json_t *journal_json(const struct qd_index_info *info);

void index_put(const struct qd_index_info *info);
void journal_put(const struct qd_index_info *info);

#endif
