/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What `qdedup journal` does with the journal of an image.
 *
 * dump, verify and replay need the header and its extension only, so that they work on an
 * image whose tables cannot be read; pack, create and drop open the image, and refuse one whose
 * refcounts may be too low (ops/soundness.h).
 *
 * Replay is refused unless extension, generation and what the file holds prove that nobody
 * else wrote: then qdedup check --repair and qdedup rehash are the way.  An image that is
 * not dirty was repaired since: what is pending is crossed out.  It always leads to a clean
 * image: when the dirty bit is set, refcounts are repaired as well.
 */
#ifndef QD_OPS_JOURNAL_H
#define QD_OPS_JOURNAL_H

#include "base/io_file.h"
#include "base/progress.h"
#include "ops/repair.h"
#include "txn/journal.h"

struct qd_ops_journal_opts {
	const char *index_path;		/* file of an external index; NULL: in the image */
	uint64_t log_nbytes;		/* create: of each log area; 0: the default */
	bool dry_run;
	bool no_lock;			/* -U: dump and verify */
	enum qd_cache_mode cache;
	unsigned threads;		/* 0: all processors */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* NULL: /tmp */
};

struct qd_ops_journal_result {
	struct qd_journal_state state;	/* as found */
	uint64_t nbytes;		/* of all areas; 0: no journal */
	uint64_t container;		/* generation of the index */
	uint32_t digest_nbytes;
	bool others_wrote;		/* the autoclear bit is gone */
	bool obsolete;			/* what is pending is of no use: others wrote, or the image was repaired */
	bool dirty;			/* the image's dirty bit, as found */
	uint64_t writes;		/* replay: made, or with dry_run and for verify: would be */
	bool repaired;			/* replay: refcounts were looked at, and repaired where needed; */
	uint64_t found;			/* what was wrong before that, leaks included: 0 when replaying did it all */
	int repair_status;		/* what qd_check_status says of the image afterwards */
	bool changed;			/* pack, create, drop: something is (dry_run: would be) different now */
	bool merged;			/* pack: into the table, because most of the log lives */
	uint64_t entries_after, clusters_after;	/* pack: of the log; otherwise the table's records */
};

/* Calls fn for every cluster and entry (qd_journal_walk); ret_result is filled before the first call. */
int qd_ops_journal_dump(const char *path, const struct qd_ops_journal_opts *opts,
			int (*fn)(void *ctx, const struct qd_journal_item *item, struct qd_err *err), void *ctx,
			struct qd_ops_journal_result *ret_result, struct qd_err *err);

/*
 * What is wrong with the journal is in ret_result->state, also that the pending writes do not
 * fit the file; QD_E_CORRUPT is damage that leaves nothing to look at.
 */
int qd_ops_journal_verify(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_ops_journal_result *ret_result, struct qd_err *err);

int qd_ops_journal_replay(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_progress *progress, struct qd_ops_journal_result *ret_result,
			  struct qd_err *err);

/* The same of an open file (writable unless dry_run), for an embedded index. */
int qd_ops_journal_replay_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			     struct qd_progress *progress, struct qd_ops_journal_result *ret_result,
			     struct qd_err *err);

/*
 * Only the writes of an operation that a crash cut short, before a repair would do without them:
 * completes them in an image that is dirty and that nobody else wrote to; *ret_nwrites of them
 * (dry_run: would be).  What cannot be completed, and an image without a journal of its own, is
 * left to the repair: 0 writes.
 */
int qd_ops_journal_finish_io(struct qd_io *io, bool dry_run, uint64_t *ret_nwrites, struct qd_err *err);

int qd_ops_journal_pack(const char *path, const struct qd_ops_journal_opts *opts,
			struct qd_ops_journal_result *ret_result, struct qd_err *err);

/* QD_E_INVALID when there is no index, or none that holds. */
int qd_ops_journal_create(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_ops_journal_result *ret_result, struct qd_err *err);
int qd_ops_journal_drop(const char *path, const struct qd_ops_journal_opts *opts,
			struct qd_ops_journal_result *ret_result, struct qd_err *err);
/* The same of open files, for an embedded index. */
int qd_ops_journal_pack_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			   struct qd_ops_journal_result *ret_result, struct qd_err *err);
int qd_ops_journal_create_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			     struct qd_ops_journal_result *ret_result, struct qd_err *err);

#endif
