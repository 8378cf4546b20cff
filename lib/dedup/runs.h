/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of a hash table, added in any order and handed back in the order of the table
 * (qd_table_key): what memory does not hold waits in an unnamed temporary file.
 *
 *	add ... add --settle--> one run, read by number
 *
 * Same records, same run, whatever the memory.  For one thread at a time.
 */
#ifndef QD_DEDUP_RUNS_H
#define QD_DEDUP_RUNS_H

#include "base/err.h"
#include "format/table.h"

struct qd_runs;

/* Digests have digest_nbytes, memory is bytes.  geom outlives it, tmpdir (NULL: /tmp) must stay valid. */
int qd_runs_new(const struct qd_geom *geom, uint32_t digest_nbytes, uint64_t memory, const char *tmpdir,
		struct qd_runs **ret_runs, struct qd_err *err);
void qd_runs_free(struct qd_runs *s);

/* Of records with equal entries the last one added counts. */
int qd_runs_add(struct qd_runs *s, const struct qd_record *record, struct qd_err *err);

/* Nothing more is added: brings all into one run. */
int qd_runs_settle(struct qd_runs *s, struct qd_err *err);

/* ---- after settle ---- */

uint64_t qd_runs_count(const struct qd_runs *s);

/* Records as on disk, n from number `first` on; buf (room for n) is used when they lie in the file. */
int qd_runs_get(const struct qd_runs *s, uint64_t first, uint64_t n, uint8_t *buf, const uint8_t **ret_p,
		struct qd_err *err);

#endif
