/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qd_repair on any bytes: it must end, leave what it says that it leaves, and once
 * nothing is wrong any more find nothing more to do.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_mem.h"
#include "ops/repair.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

#define MEMORY (16u << 20)

static int repair(struct qd_io *io, bool dry_run, struct qd_repair_result *res)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .dry_run = dry_run, .threads = 1, .memory = MEMORY };
	struct qd_err err;
	int rc;

	qd_err_clear(&err);
	rc = qd_repair(io, &opts, NULL, res, &err);
	MUST(rc == err.code);
	MUST(rc == 0 || err.msg[0]);
	return rc;
}

/* What cannot be written in a dry run is not; otherwise it leaves what the real one leaves. */
static void compare_dry(struct qd_io *io, const uint8_t *data, size_t size, const struct qd_repair_result *res)
{
	struct qd_repair_result dry;
	size_t nbytes;

	memset(&dry, 0, sizeof(dry));
	MUST(repair(io, true, &dry) == 0);
	MUST(memcmp(qd_io_mem_data(io, &nbytes), data, size) == 0 && nbytes == size);
	MUST(dry.changed == res->changed && dry.refused == res->refused);
	MUST(dry.after.corruptions == res->after.corruptions && dry.after.leaks == res->after.leaks);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qd_repair_result one, two;
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_check_result check;
	struct qd_io *io = NULL, *dry = NULL;

	memset(&one, 0, sizeof(one));
	memset(&two, 0, sizeof(two));
	MUST(qd_io_mem_new(data, size, true, &io, NULL) == 0);
	MUST(qd_io_mem_new(data, size, true, &dry, NULL) == 0);
	if (repair(io, false, &one) == 0 && one.before.is_qcow2) {
		compare_dry(dry, data, size, &one);
		MUST(qd_check(io, &opts, NULL, &check, NULL) == 0);
		MUST(memcmp(check.count, one.after.count, sizeof(check.count)) == 0);
		MUST(repair(io, false, &two) == 0);
		MUST(two.after.corruptions <= one.after.corruptions);
		if (qd_check_status(&one.after) == 0)
			MUST(!two.changed);
	}
	qd_io_close(io);
	qd_io_close(dry);
	return 0;
}
