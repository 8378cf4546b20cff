/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup compact`: no byte of any layer may change; judge.h says the rest.
 * Mode: small (little memory).
 */
#include <string.h>

#include "judge.h"
#include "ops/compact.h"

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_compact_opts opts = {
		.threads = 1,
		.memory = strstr(judge_mode(j), "small") ? 1u << 20 : 64u << 20,
	};
	struct qd_compact_result result;
	int rc = qd_compact_io(io, &opts, NULL, &result, err);

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
