/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup dedup`: no byte of any layer may change; judge.h says the rest.
 * Modes, any of them in one word: lazy (--lazy-refcounts), nopin, noindex, small (batches of a
 * few clusters).
 */
#include <string.h>

#include "judge.h"
#include "ops/dedup.h"

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	const char *mode = judge_mode(j);
	struct qd_dedup_opts opts = {
		.threads = 1,
		.memory = 64u << 20,
		.batch = strstr(mode, "small") ? 7 : 0,
		.late_counts = strstr(mode, "lazy") != NULL,
		.no_pin = strstr(mode, "nopin") != NULL,
		.no_index = strstr(mode, "noindex") != NULL,
		.upgrade = true,
	};
	struct qd_dedup_result result;
	int rc = qd_dedup_io(io, &opts, NULL, &result, err);

	if (rc == 0 && !result.changed)
		return qd_err_set(err, QD_E_INVALID, "there was nothing to do: no test");
	judge_settled(j);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct judge_task task = { .run = run };

	return judge_main(argc, argv, &task);
}
