/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup compact`: no byte of any layer may change; judge.h says the rest.
 * Mode: small (little memory).
 */
#include <string.h>

#include "judge.h"
#include "ops/compact.h"
#include "ops/journal.h"
#include "ops/repair.h"

#define MEMORY (64u << 20)

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_compact_opts opts = {
		.threads = 1,
		.memory = strstr(judge_mode(j), "small") ? 1u << 20 : MEMORY,
	};
	struct qd_compact_result result;
	int rc = qd_compact_io(io, &opts, NULL, &result, err);

	if (rc == 0 && !result.changed)
		return qd_err_set(err, QD_E_INVALID, "there was nothing to do: no test");
	judge_settled(j);
	return rc;
}

/*
 * What there is no journal for, or what others may have written, is refused: then the way is the one
 * the message names.  A journal that holds must do.
 */
static int replay(struct qd_io *io, struct qd_err *err)
{
	struct qd_ops_journal_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_repair_opts repair = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };
	struct qd_ops_journal_result result = { .nbytes = 0 };
	struct qd_repair_result repaired;
	int rc = qd_ops_journal_replay_io(io, &opts, NULL, &result, err);

	if (rc == 0 || (result.nbytes && !result.others_wrote && !result.obsolete))
		return rc;
	qd_err_clear(err);
	return qd_repair(io, &repair, NULL, &repaired, err);
}

int main(int argc, char **argv)
{
	static const struct judge_way ways[] = { { "journal replay", replay }, { NULL, NULL } };
	static const struct judge_task task = { .run = run, .ways = ways };

	return judge_main(argc, argv, &task);
}
