/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup dedup`: no byte of any layer may change; judge.h says the rest.
 * Modes, any of them in one word: lazy (--lazy-refcounts), nopin, noindex, compact,
 * small (batches of a few clusters).
 *
 * Where batches are logged (neither lazy nor nopin nor noindex, and no snapshots of the
 * image's own) a replay must do it all: whatever the crash left of a batch, the check that
 * follows finds nothing.
 */
#include <string.h>

#include "dedup/log.h"
#include "image/image.h"
#include "judge.h"
#include "ops/dedup.h"
#include "ops/journal.h"
#include "ops/repair.h"

#define MEMORY (64u << 20)

static bool logs;		/* the operation's batches must be */
static bool had_index;		/* the clusters of an older index are given up, which leaks for a moment */

/* What of the image matters for what is logged. */
static int look(struct qd_io *io, const char *mode, struct qd_err *err)
{
	struct qd_image *img = NULL;
	int rc = qd_image_open(io, 0, &img, err);

	if (rc)
		return rc;
	had_index = qd_image_find_ext(img, QD_EXT_QDEDUP) != NULL;
	logs = !strstr(mode, "lazy") && !strstr(mode, "nopin") && !strstr(mode, "noindex") &&
	       img->nsnapshots == (qd_image_find_pin(img) ? 1u : 0u);
	qd_image_detach(img);
	return 0;
}

/* Is the container one with a borrowed redo area: are batches at work? */
static bool is_lent(struct qd_io *io)
{
	const struct qd_ext_copy *copy;
	struct qd_image *img = NULL;
	struct qd_table_ext ext;
	bool lent;

	if (qd_image_open(io, 0, &img, NULL))
		return false;
	copy = qd_image_find_ext(img, QD_EXT_QDEDUP);
	lent = copy && qd_table_ext_decode(copy->data, copy->nbytes, &ext, NULL) == 0 && qd_log_is_lent(&ext);
	qd_image_detach(img);
	return lent;
}

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	const char *mode = judge_mode(j);
	struct qd_dedup_opts opts = {
		.threads = 1,
		.memory = MEMORY,
		.batch = strstr(mode, "small") ? 7 : 0,
		.late_counts = strstr(mode, "lazy") != NULL,
		.no_pin = strstr(mode, "nopin") != NULL,
		.no_index = strstr(mode, "noindex") != NULL,
		.upgrade = true,
		.compact = strstr(mode, "compact") != NULL,
	};
	struct qd_dedup_result result;
	int rc = look(io, mode, err);

	if (rc == 0)
		rc = qd_dedup_io(io, &opts, NULL, &result, err);
	if (rc == 0 && !result.changed)
		return qd_err_set(err, QD_E_INVALID, "there was nothing to do: no test");
	if (rc == 0 && result.logged != (logs ? result.batches : 0))
		return qd_err_set(err, QD_E_INVALID, "not all batches are logged, or some that must not be");
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
	bool lent = is_lent(io);
	int rc = qd_ops_journal_replay_io(io, &opts, NULL, &result, err);

	if (rc == 0 && result.found &&
	    ((result.state.pending_writes && !result.obsolete) || (lent && !had_index)))
		return qd_err_set(err, QD_E_INVALID, "%u things are wrong after a batch was replayed",
				  (unsigned)result.found);
	if (rc == 0 && result.repaired && !result.others_wrote && is_lent(io))
		return qd_err_set(err, QD_E_INVALID, "the redo area was not given back");
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
