/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What collecting runs and merging them share.
 */
#ifndef QD_DEDUP_RUNS_INT_H
#define QD_DEDUP_RUNS_INT_H

#include <stdbool.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "base/io.h"
#include "dedup/runs.h"
#include "dedup/table_int.h"

struct qd_run {
	uint64_t off;			/* bytes of the file */
	uint64_t nrecords;
	struct qd_table_key last;
};

struct qd_runs {
	const struct qd_geom *geom;
	const char *tmpdir;
	uint32_t digest_nbytes;
	uint32_t size;			/* bytes of a record */
	uint64_t memory;
	uint64_t capacity;		/* records of a batch */
	struct qd_bigarray batch;
	uint64_t nbatch;
	bool unordered;
	struct qd_table_key last;	/* of the batch, when nbatch */
	struct qd_io *file;		/* the runs */
	struct qd_run *runs;
	uint64_t nruns;
	uint64_t nrecords;		/* after settle */
};

static inline struct qd_table_key qd_runs_key(const struct qd_runs *s, const uint8_t *record)
{
	return qd_table_key_of(s->geom, qd_get_be64(record));
}

/* The runs of the file become one, in a new file.  The batch is empty and is given up. */
int qd_runs_merge(struct qd_runs *s, struct qd_err *err);

#endif
