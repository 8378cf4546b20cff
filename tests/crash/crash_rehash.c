/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup rehash`: the table is made, made again with another hash, and dropped.  No
 * byte of any layer may change; judge.h says the rest.  What can be believed of the index in
 * each state is looked at as well: a hash that holds is a hash that is right.
 */
#include <string.h>

#include "judge.h"
#include "ops/repair.h"
#include "ops/rehash.h"
#include "ops/verify.h"

static int step(struct judge *j, struct qd_io *io, const char *hash, bool drop, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .hash = hash, .drop = drop, .threads = 1, .memory = 4u << 20 };
	struct qd_rehash_result result;
	int rc = qd_rehash_io(io, &opts, NULL, &result, err);

	judge_settled(j);
	return rc;
}

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	int rc = step(j, io, "xxh128", false, err);

	if (rc == 0)
		rc = step(j, io, "sha256", false, err);
	if (rc == 0 && strstr(judge_mode(j), "drop"))
		rc = step(j, io, NULL, true, err);
	return rc;
}

/* Not a way back: what the index of a state says must be true, or it must not be believed. */
static int verify(struct qd_io *io, struct qd_err *err)
{
	struct qd_verify_opts opts = { .threads = 1, .memory = 4u << 20 };
	struct qd_verify_result result;
	int rc = qd_verify_io(io, &opts, NULL, &result, err);

	if (rc == QD_E_INVALID)		/* absent or stale */
		return 0;
	if (rc == 0 && (result.bad_clusters || result.index_damaged))
		return qd_err_set(err, QD_E_CORRUPT, "the %s index says what is not so (%llu clusters)",
				  result.state, (unsigned long long)result.bad_clusters);
	return rc;
}

/* Verifies, repairs, and makes a table again. */
static int again(struct qd_io *io, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .threads = 1, .memory = 4u << 20 };
	struct qd_repair_opts repair = { .what = QD_REPAIR_ALL, .threads = 1, .memory = 16u << 20 };
	struct qd_repair_result repaired;
	struct qd_rehash_result result;
	int rc = verify(io, err);

	if (rc == 0)
		rc = qd_repair(io, &repair, NULL, &repaired, err);
	if (rc == 0)
		rc = verify(io, err);
	if (rc == 0)
		rc = qd_rehash_io(io, &opts, NULL, &result, err);
	return rc ? rc : verify(io, err);
}

int main(int argc, char **argv)
{
	static const struct judge_way ways[] = { { "rehash after a repair", again }, { NULL, NULL } };
	static const struct judge_task task = { .run = run, .ways = ways };

	return judge_main(argc, argv, &task);
}
