/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qd_check on any bytes: it must end, tell through the callback exactly what it counts,
 * and find the same with one thread and much memory as with three threads and so little
 * memory that host clusters are counted window by window.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_mem.h"
#include "ops/check.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

struct told {
	uint64_t count[QD_F_NTYPES];
};

static void tell(void *ctx, const struct qd_finding *f, uint64_t cluster_size)
{
	struct told *told = ctx;
	char where[256], detail[256];

	MUST(f->type < QD_F_NTYPES && f->nitems > 0);
	told->count[f->type] += f->nitems;
	MUST(qd_finding_where(f, cluster_size, where, sizeof(where))[0]);
	MUST(qd_finding_detail(f, detail, sizeof(detail))[0]);
}

static int check(const uint8_t *data, size_t size, unsigned threads, uint64_t memory,
		 struct qd_check_result *ret)
{
	struct told told = { { 0 } };
	struct qd_check_opts opts = { .threads = threads, .memory = memory, .found = tell, .ctx = &told };
	struct qd_io *io = NULL;
	struct qd_err err;
	int rc;

	MUST(qd_io_mem_new(data, size, false, &io, NULL) == 0);
	qd_err_clear(&err);
	rc = qd_check(io, &opts, NULL, ret, &err);
	qd_io_close(io);
	MUST(rc == err.code);
	if (rc)
		MUST(err.msg[0]);
	else
		MUST(memcmp(told.count, ret->count, sizeof(told.count)) == 0);
	return rc;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qd_check_result one, other;

	memset(&one, 0, sizeof(one));
	memset(&other, 0, sizeof(other));
	if (check(data, size, 1, 256u << 20, &one))
		return 0;
	if (check(data, size, 3, 1u << 20, &other))
		return 0;
	MUST(memcmp(&one, &other, sizeof(one)) == 0);
	return 0;
}
