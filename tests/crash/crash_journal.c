/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of what has to do with the journal of an index; -M says what is done:
 *
 *	io      (default) random writes, zeros, discards and flushes with deduplication; a small
 *	        log is packed and merged on the way
 *	create  the index gets a journal, then one of another size
 *	pack    the image's log is packed
 *	replay  the image was left by an abort, and its journal is replayed
 *
 * judge.h says what must hold.  Besides: a replay completes what was logged, twice is once, and
 * whatever the index of a state says is so, after a repair, a replay, and further writes too.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "image/image.h"
#include "judge.h"
#include "layers.h"
#include "ops/dedup_write.h"
#include "ops/journal.h"
#include "ops/repair.h"
#include "ops/verify.h"

#define NCOMMANDS 30u
#define MEMORY (4u << 20)

static const struct qd_ops_journal_opts journal_opts = { .threads = 1, .memory = MEMORY };

/* ---- io ---- */

/* A few bytes over and over, and what lies elsewhere on the disk: content that is known. */
static int write_some(struct judge *j, struct qd_dedup_write *w, uint64_t off, uint64_t n, struct qd_err *err)
{
	uint8_t *data = malloc(n);
	uint64_t from = judge_random(j, judge_disk_size(j) - n + 1);
	int rc;

	if (!data)
		return qd_err_nomem(err, "data");
	if (judge_random(j, 2))
		memcpy(data, judge_disk(j) + qd_align_down(from, 4096), n);
	else
		memset(data, (int)judge_random(j, 5), n);
	judge_will_change(j, off, n, data);
	rc = qd_dedup_write_write(w, off, n, data, err);
	free(data);
	return rc;
}

static int discard_some(struct judge *j, struct qd_dedup_write *w, uint64_t off, uint64_t n, struct qd_err *err)
{
	uint64_t cluster = qd_dedup_write_image(w)->geom.cluster_size, size = judge_disk_size(j);
	uint64_t from = qd_align_up(off, cluster), to = off + n == size ? size : qd_align_down(off + n, cluster);

	if (from < to)
		judge_will_change(j, from, to - from, NULL);
	return qd_dedup_write_discard(w, off, n, err);
}

static int command(struct judge *j, struct qd_dedup_write *w, struct qd_err *err)
{
	uint64_t cluster = qd_dedup_write_image(w)->geom.cluster_size;
	uint64_t off = judge_random(j, judge_disk_size(j)), n = 1 + judge_random(j, 12 * cluster);
	uint64_t kind = judge_random(j, 8);
	int rc = 0;

	if (judge_random(j, 4))
		off = qd_align_down(off, cluster), n = qd_align_up(n, cluster);
	n = qd_min_u64(n, judge_disk_size(j) - off);
	if (kind < 5) {
		rc = write_some(j, w, off, n, err);
	} else if (kind == 5) {
		judge_will_change(j, off, n, NULL);
		rc = qd_dedup_write_zero(w, off, n, err);
	} else if (kind == 6) {
		rc = discard_some(j, w, off, n, err);
	} else {
		rc = qd_dedup_write_flush(w, err);
		if (rc == 0)
			judge_settled(j);
	}
	return rc;
}

static int run_io(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_dedup_write *w = NULL;
	int rc = qd_dedup_write_open(io, NULL, &w, err), end;

	for (unsigned i = 0; rc == 0 && i < NCOMMANDS; i++)
		rc = command(j, w, err);
	if (rc == 0 && !qd_dedup_write_is_live(w))
		rc = qd_err_set(err, QD_E_INVALID, "writes are not deduplicated");
	end = qd_dedup_write_close(w, rc ? NULL : err);
	if (rc == 0 && end == 0)
		judge_settled(j);
	return rc ? rc : end;
}

/* ---- the journal's own ---- */

static int run_create(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	static const uint64_t sizes[] = { 65536, 16384 };
	struct qd_ops_journal_opts opts = journal_opts;
	struct qd_ops_journal_result res;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		opts.log_nbytes = sizes[i];
		rc = qd_ops_journal_create_io(io, &opts, &res, err);
		judge_settled(j);
	}
	return rc;
}

static int run_pack(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_ops_journal_result res;
	int rc = qd_ops_journal_pack_io(io, &journal_opts, &res, err);

	(void)j;
	if (rc == 0 && !res.changed)
		rc = qd_err_set(err, QD_E_INVALID, "there was nothing to pack");
	return rc;
}

static int copy_of(struct qd_io *io, struct qd_io **ret_copy, struct qd_err *err)
{
	uint64_t size = 0;
	uint8_t *data = NULL;
	int rc = qd_io_size(io, &size, err);

	if (rc == 0 && !(data = malloc(size)))
		rc = qd_err_nomem(err, "a copy");
	if (rc == 0)
		rc = qd_io_read(io, data, size, 0, err);
	if (rc == 0)
		rc = qd_io_mem_new(data, size, true, ret_copy, err);
	free(data);
	return rc;
}

static int run_replay(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_ops_journal_result res;
	struct layer after = { .name = NULL };
	struct qd_io *copy = NULL;
	int rc = copy_of(io, &copy, err);

	if (rc == 0)
		rc = qd_ops_journal_replay_io(copy, &journal_opts, NULL, &res, err);
	if (rc == 0 && !res.writes)
		rc = qd_err_set(err, QD_E_INVALID, "there was nothing to replay");
	if (rc == 0)
		rc = layer_read(copy, &after, err);
	if (rc == 0) {
		judge_will_change(j, 0, after.size, after.bytes);
		rc = qd_ops_journal_replay_io(io, &journal_opts, NULL, &res, err);
		judge_settled(j);
	}
	free(after.bytes);
	qd_io_close(copy);
	return rc;
}

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	static const struct {
		const char *mode;
		int (*run)(struct judge *j, struct qd_io *io, struct qd_err *err);
	} modes[] = { { "io", run_io }, { "create", run_create }, { "pack", run_pack }, { "replay", run_replay } };

	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++)
		if (!strcmp(judge_mode(j)[0] ? judge_mode(j) : "io", modes[i].mode))
			return modes[i].run(j, io, err);
	return qd_err_set(err, QD_E_INVALID, "unknown mode %s", judge_mode(j));
}

/* ---- ways back ---- */

static int verify(struct qd_io *io, const char *when, struct qd_err *err)
{
	struct qd_verify_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_verify_result result;
	int rc = qd_verify_io(io, &opts, NULL, &result, err);

	if (rc == QD_E_INVALID)		/* absent, stale, or not to be told */
		return 0;
	if (rc == 0 && (result.bad_clusters || result.index_damaged))
		return qd_err_set(err, QD_E_CORRUPT, "%s the %s index says what is not so (%llu clusters)", when,
				  result.state, (unsigned long long)result.bad_clusters);
	return rc;
}

static int repair(struct qd_io *io, struct qd_err *err)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = 16u << 20 };
	struct qd_repair_result res;

	return qd_repair(io, &opts, NULL, &res, err);
}

static int replay(struct qd_io *io, struct qd_err *err)
{
	struct qd_ops_journal_result res;
	int rc = qd_ops_journal_replay_io(io, &journal_opts, NULL, &res, err);

	if (rc == 0 && res.state.health == QD_JOURNAL_DAMAGED)
		return qd_err_set(err, QD_E_CORRUPT, "the journal is damaged: %s", res.state.why);
	return rc == QD_E_INVALID ? repair(io, err) : rc;	/* there is no journal yet */
}

static int replay_twice(struct qd_io *io, struct qd_err *err)
{
	struct qd_io *once = NULL;
	size_t n, m;
	int rc = replay(io, err);

	if (rc == 0)
		rc = verify(io, "after a replay", err);
	if (rc == 0)
		rc = copy_of(io, &once, err);
	if (rc == 0)
		rc = replay(io, err);
	if (rc == 0) {
		const uint8_t *a = qd_io_mem_data(io, &n), *b = qd_io_mem_data(once, &m);

		if (n != m || memcmp(a, b, n))
			rc = qd_err_set(err, QD_E_CORRUPT, "the second replay changed something");
	}
	qd_io_close(once);
	return rc;
}

/* Writes with deduplication into what a way back left; the content may be anything then. */
static int write_again(struct qd_io *io, struct qd_err *err)
{
	static const uint64_t offs[] = { 0, 65536, 16384, 131072, 4096 };
	struct qd_dedup_write *w = NULL;
	uint8_t data[16384];
	int rc = qd_dedup_write_open(io, NULL, &w, err), end;

	for (unsigned i = 0; rc == 0 && i < 15; i++) {
		memset(data, (int)(i % 7), sizeof(data));
		rc = qd_dedup_write_write(w, offs[i % 5], sizeof(data), data, err);
		if (rc == 0 && i % 4 == 3)
			rc = qd_dedup_write_flush(w, err);
	}
	end = qd_dedup_write_close(w, rc ? NULL : err);
	return rc ? rc : end;
}

/* On a copy: repaired, written to, and every hash still holds and no refcount is wrong. */
static int go_on(struct qd_io *io, struct qd_err *err)
{
	struct qd_check_opts opts = { .threads = 1, .memory = 16u << 20 };
	struct qd_check_result res;
	struct qd_io *copy = NULL;
	int rc = repair(io, err);

	if (rc == 0)
		rc = verify(io, "after a repair", err);
	if (rc == 0)
		rc = copy_of(io, &copy, err);
	if (rc == 0)
		rc = write_again(copy, err);
	if (rc == 0)
		rc = verify(copy, "after a repair and writes", err);
	if (rc == 0)
		rc = qd_check(copy, &opts, NULL, &res, err);
	if (rc == 0 && qd_check_status(&res))
		rc = qd_err_set(err, QD_E_CORRUPT, "writes after a repair leave an image of status %d, leaks %llu",
				qd_check_status(&res), (unsigned long long)res.leaks);
	qd_io_close(copy);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct judge_way ways[] = {
		{ "journal replay", replay_twice }, { "repair, and go on", go_on }, { NULL, NULL },
	};
	static const struct judge_task task = { .run = run, .ways = ways, .completes = true };

	return judge_main(argc, argv, &task);
}
