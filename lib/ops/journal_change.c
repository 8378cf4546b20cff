/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * pack, create, drop: with the image and its table open.
 *
 *	pack     little of the log lives: a new log in the idle area
 *	         most of it lives: merged into the table
 *	create   the container again, with journal areas; drop: without
 */
#include <inttypes.h>

#include "base/bytes.h"
#include "base/host.h"
#include "dedup/log.h"
#include "image/change.h"
#include "ops/journal.h"
#include "ops/merge.h"
#include "ops/soundness.h"

struct open {
	struct qd_image *img;
	struct qd_container *index;
	struct qd_journal *journal;	/* NULL: none */
};

static int refuse(const struct qd_container *c, struct qd_err *err)
{
	if (c->state == QD_CONTAINER_ABSENT)
		return qd_err_set(err, QD_E_INVALID, "the image has no index: run qdedup rehash first");
	if (c->state == QD_CONTAINER_STALE)
		return qd_err_set(err, QD_E_INVALID, "the index is stale (%s): run qdedup rehash", c->why);
	if (!c->opened)
		return qd_err_set(err, QD_E_INVALID, "the index cannot be read: %s", c->why);
	return 0;
}

static int open_index(struct open *o, const struct qd_ops_journal_opts *opts, bool writable,
		      struct qd_err *err)
{
	int rc = qd_container_open(o->img, opts->index_path, writable, &o->index, err);

	if (rc == 0)
		rc = refuse(o->index, err);
	return rc ? rc : qd_log_open(o->index->io, o->index->off, &o->index->ext, &o->journal, err);
}

static void close_index(struct open *o)
{
	qd_journal_close(o->journal);
	qd_container_close(o->index);
	o->journal = NULL;
	o->index = NULL;
}

static void close_all(struct open *o)
{
	close_index(o);
	qd_image_detach(o->img);
}

static int open_all(struct open *o, struct qd_io *io, const struct qd_ops_journal_opts *opts,
		    struct qd_ops_journal_result *result, struct qd_err *err)
{
	int rc = qd_image_open(io, 0, &o->img, err);

	/* Not for writing: the file of an external index is replaced under its name. */
	*result = (struct qd_ops_journal_result){ .nbytes = 0 };
	if (rc == 0)
		rc = qd_change_refuse(o->img, err);
	if (rc == 0)
		rc = qd_soundness_require(io, QD_SOUND_COUNTS, opts->threads, opts->memory, NULL, err);
	if (rc == 0)
		rc = open_index(o, opts, false, err);
	if (rc)
		return rc;
	result->container = o->index->ext.generation;
	result->digest_nbytes = o->index->ext.digest_nbytes;
	result->others_wrote = o->index->state != QD_CONTAINER_VALID;
	if (!o->journal)
		return 0;
	qd_journal_state(o->journal, &result->state);
	result->nbytes = 2ull * o->index->ext.log_nbytes + o->index->ext.redo_nbytes;
	/* Not dirty, so whoever cleared that bit repaired what the batch was about. */
	return 0;
}

/* ---- a new container ---- */

static int merge(struct open *o, const struct qd_ops_journal_opts *opts, uint64_t log_nbytes,
		 uint64_t redo_nbytes, struct qd_ops_journal_result *result, struct qd_err *err)
{
	struct qd_merge m = { .log_nbytes = log_nbytes, .redo_nbytes = redo_nbytes, .memory = opts->memory,
			      .index_path = o->index->external ? opts->index_path : NULL, .tmpdir = opts->tmpdir };
	struct qd_install_result res;
	int rc;

	result->changed = true;
	if (opts->dry_run)
		return 0;
	rc = log_nbytes ? qd_draw_number(&m.journal_id, err) : 0;
	if (rc == 0)
		rc = qd_merge(o->img, o->index, &m, &res, err);
	if (rc)
		return rc;
	result->entries_after = res.nrecords;
	result->container = res.ext.generation;
	result->nbytes = log_nbytes ? 2 * log_nbytes + redo_nbytes : 0;
	return 0;
}

static int check_size(uint64_t nbytes, struct qd_err *err)
{
	if (nbytes < 2 * QD_JOURNAL_CLUSTER || nbytes > QD_JOURNAL_MAX_AREA ||
	    !qd_is_aligned(nbytes, QD_JOURNAL_CLUSTER))
		return qd_err_set(err, QD_E_INVALID,
				  "a journal of %" PRIu64 " bytes: expected a multiple of %u from "
				  "%u to %u", nbytes, QD_JOURNAL_CLUSTER, 2 * QD_JOURNAL_CLUSTER,
				  QD_JOURNAL_MAX_AREA);
	return 0;
}

int qd_ops_journal_create_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			     struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	uint64_t size = opts->log_nbytes ? opts->log_nbytes : QD_MERGE_LOG_NBYTES;
	struct open o = { .img = NULL };
	int rc = check_size(size, err);

	if (rc == 0)
		rc = open_all(&o, io, opts, ret_result, err);
	if (rc == 0 && !(o.journal && !qd_log_is_lent(&o.index->ext) && (o.index->ext.log_nbytes == size || !opts->log_nbytes)))
		rc = merge(&o, opts, size, qd_log_redo_for(size), ret_result, err);
	close_all(&o);
	return rc;
}

static int drop_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
		   struct qd_ops_journal_result *result, struct qd_err *err)
{
	struct open o = { .img = NULL };
	int rc = open_all(&o, io, opts, result, err);

	if (rc == 0 && o.journal)
		rc = merge(&o, opts, 0, 0, result, err);
	close_all(&o);
	return rc;
}

/* ---- pack ---- */

static int in_table(void *ctx, uint64_t entry, struct qd_err *err)
{
	const struct open *o = ctx;
	struct qd_record record;

	return qd_table_find(o->index->table, entry, &record, err);
}

static int pack(struct open *o, const struct qd_ops_journal_opts *opts, struct qd_ops_journal_result *result,
		struct qd_err *err)
{
	const struct qd_journal_live live = { .in_table = in_table, .ctx = o };
	struct qd_journal_state s;
	uint64_t log, redo;
	uint32_t n = 0;
	int rc;

	if (!o->journal)
		return qd_err_set(err, QD_E_INVALID,
				  "the index has no journal: qdedup journal create makes one");
	result->entries_after = result->state.entries;
	result->clusters_after = result->state.log_clusters;
	if (!result->state.log_clusters)
		return 0;
	rc = qd_journal_log_measure(o->journal, &live, &n, err);
	if (rc)
		return rc;
	if (n > result->state.log_size / 2) {
		result->merged = true;
		result->entries_after = result->clusters_after = 0;
		qd_log_own_sizes(&o->index->ext, &log, &redo);
		return merge(o, opts, log, redo, result, err);
	}
	if (n >= result->state.log_clusters)
		return 0;
	result->changed = true;
	result->clusters_after = n;
	if (opts->dry_run)
		return 0;
	close_index(o);
	rc = open_index(o, opts, true, err);
	if (rc == 0)
		rc = qd_journal_log_pack(o->journal, &live, err);
	if (rc == 0)
		rc = qd_log_record_closed(o->img, o->index->external, &o->index->ext, o->journal, NULL, err);
	if (rc)
		return rc;
	qd_journal_state(o->journal, &s);
	result->entries_after = s.entries;
	return 0;
}

int qd_ops_journal_pack_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			   struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	struct open o = { .img = NULL };
	int rc = open_all(&o, io, opts, ret_result, err);

	if (rc == 0)
		rc = pack(&o, opts, ret_result, err);
	close_all(&o);
	return rc;
}

/* ---- by name ---- */

static int on_file(const char *path, const struct qd_ops_journal_opts *opts,
		   int (*fn)(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			     struct qd_ops_journal_result *result, struct qd_err *err),
		   struct qd_ops_journal_result *result, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = opts->cache, .writable = !opts->dry_run };
	struct qd_io *io = NULL;
	int rc = qd_io_file_open(path, &file, &io, err);

	if (rc == 0)
		rc = fn(io, opts, result, err);
	qd_io_close(io);
	return rc ? qd_err_file(err, rc, path) : 0;
}

int qd_ops_journal_pack(const char *path, const struct qd_ops_journal_opts *opts,
			struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	return on_file(path, opts, qd_ops_journal_pack_io, ret_result, err);
}

int qd_ops_journal_create(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	return on_file(path, opts, qd_ops_journal_create_io, ret_result, err);
}

int qd_ops_journal_drop(const char *path, const struct qd_ops_journal_opts *opts,
			struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	return on_file(path, opts, drop_io, ret_result, err);
}
