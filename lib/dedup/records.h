/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fixed-size records by number, zero until written: in memory while they fit the
 * budget, then in an unnamed temporary file.
 */
#ifndef QD_DEDUP_RECORDS_H
#define QD_DEDUP_RECORDS_H

#include <stdint.h>

#include "base/err.h"

struct qd_records;

/* tmpdir (NULL: /tmp) must stay valid. */
int qd_records_new(uint32_t record_nbytes, uint64_t memory, const char *tmpdir, struct qd_records **ret_rec,
		   struct qd_err *err);
void qd_records_free(struct qd_records *rec);

int qd_records_put(struct qd_records *rec, uint64_t number, const void *record, struct qd_err *err);
int qd_records_get(struct qd_records *rec, uint64_t number, void *ret_record, struct qd_err *err);

#endif
