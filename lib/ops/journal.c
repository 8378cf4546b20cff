/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * dump, verify, replay: from the first cluster's extension straight to the journal.
 */
#include "ops/journal.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dedup/container.h"
#include "dedup/log.h"
#include "ops/rehash.h"

struct bare {			/* an image of which only the header is believed */
	struct qd_io *io;
	struct qd_io *index_io;		/* of an external index, owned; else NULL */
	struct qd_header header;
	struct qd_table_ext ext;
	struct qd_journal *journal;
};

static void close_bare(struct bare *b)
{
	qd_journal_close(b->journal);
	qd_io_close(b->index_io);
}

/* ---- from the header to the journal ---- */

static int find_extension(struct bare *b, const uint8_t *buf, size_t nbytes, struct qd_header_ext *ret_ext,
			  struct qd_err *err)
{
	const struct qd_header *h = &b->header;
	size_t pos = h->header_length, end = nbytes;

	if (h->backing_name_off && h->backing_name_off < end)
		end = (size_t)h->backing_name_off;
	if (h->version >= 3)
		while (qd_header_ext_next(buf, end, &pos, ret_ext, err) == 1)
			if (ret_ext->type == QD_EXT_QDEDUP)
				return 0;
	return qd_err_set(err, QD_E_INVALID,
			  "the image has no index, and so no journal: qdedup rehash makes one, "
			  "then qdedup journal create");
}

static int read_header(struct bare *b, uint8_t *ret_ext_data, struct qd_err *err)
{
	uint8_t head[512] = { 0 }, *buf = NULL;
	struct qd_header_ext ext;
	size_t nread = 0, size;
	int rc = qd_io_read_upto(b->io, head, sizeof(head), 0, &nread, err);

	if (rc == 0 && !qd_header_is_qcow2(head, nread))
		rc = qd_err_set(err, QD_E_UNSUPPORTED, "not a qcow2 image: it has no journal");
	if (rc == 0)
		rc = qd_header_decode_raw(head, nread, &b->header, err);
	if (rc)
		return rc;
	if (b->header.cluster_bits < 9 || b->header.cluster_bits > 21)
		return qd_err_set(err, QD_E_CORRUPT, "header: cluster_bits is %" PRIu32 ", expected 9..21",
				  b->header.cluster_bits);
	size = (size_t)1 << b->header.cluster_bits;
	buf = malloc(size);
	if (!buf)
		return qd_err_nomem(err, "the first cluster");
	rc = qd_io_read_padded(b->io, buf, size, 0, err);
	if (rc == 0)
		rc = find_extension(b, buf, size, &ext, err);
	if (rc == 0)
		rc = qd_table_ext_decode(ext.data, ext.nbytes, &b->ext, err);
	if (rc == 0)
		memcpy(ret_ext_data, ext.data, QD_TABLE_EXT_SIZE);
	free(buf);
	return rc;
}

static int open_index_file(struct bare *b, const struct qd_ops_journal_opts *opts, bool writable,
			   const uint8_t *ext_data, struct qd_err *err)
{
	struct qd_file_opts file = { .writable = writable, .no_lock = !writable, .cache = opts->cache };
	uint8_t head[8 + QD_TABLE_EXT_SIZE];
	uint64_t size = 0;
	int rc;

	if (!opts->index_path)
		return qd_err_set(err, QD_E_INVALID,
				  "the index lies in a file of its own: name it with --index=FILE");
	rc = qd_io_file_open(opts->index_path, &file, &b->index_io, err);
	if (rc == 0)
		rc = qd_io_read_padded(b->index_io, head, sizeof(head), 0, err);
	if (rc)
		return rc;
	if (memcmp(head, QD_EXTERNAL_MAGIC, 8) || memcmp(head + 8, ext_data, QD_TABLE_EXT_SIZE))
		return qd_err_file(err, qd_err_set(err, QD_E_INVALID,
						   "the file is not the index of this image"),
				   opts->index_path);
	rc = qd_io_size(b->index_io, &size, err);
	if (rc == 0 && (size < QD_EXTERNAL_HEAD || size - QD_EXTERNAL_HEAD < b->ext.container_nbytes))
		rc = qd_err_file(err, qd_err_set(err, QD_E_CORRUPT, "the index ends at byte %" PRIu64 ", "
						 "and has %" PRIu64 " behind a head of %u", size,
						 b->ext.container_nbytes, QD_EXTERNAL_HEAD), opts->index_path);
	return rc;
}

static int open_bare(struct bare *b, struct qd_io *io, const struct qd_ops_journal_opts *opts, bool writable,
		     struct qd_ops_journal_result *result, struct qd_err *err)
{
	uint8_t ext_data[QD_TABLE_EXT_SIZE];
	int rc;

	*b = (struct bare){ .io = io };
	*result = (struct qd_ops_journal_result){ .nbytes = 0 };
	rc = read_header(b, ext_data, err);
	if (rc)
		return rc;
	result->container = b->ext.generation;
	result->digest_nbytes = b->ext.digest_nbytes;
	result->others_wrote = !(b->header.autoclear & QD_AUTOCLEAR_INDEX);
	result->dirty = (b->header.incompatible & QD_INCOMPAT_DIRTY) != 0;
	if (b->ext.flags & QD_TABLE_EXTERNAL)
		rc = open_index_file(b, opts, writable, ext_data, err);
	if (rc == 0)
		rc = qd_log_open(b->index_io ? b->index_io : io,
				 b->index_io ? QD_EXTERNAL_HEAD : b->ext.container_off, &b->ext, &b->journal, err);
	if (rc)
		return rc;
	if (!b->journal)
		return qd_err_set(err, QD_E_INVALID,
				  "the index has no journal: qdedup journal create makes one");
	qd_journal_state(b->journal, &result->state);
	result->nbytes = 2ull * b->ext.log_nbytes + b->ext.redo_nbytes;
	result->obsolete = result->state.health == QD_JOURNAL_PENDING &&
			   (result->others_wrote || !result->dirty);
	return 0;
}

static int open_file(const char *path, const struct qd_ops_journal_opts *opts, bool writable,
		     struct qd_io **ret_io, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = opts->cache, .writable = writable,
				     .no_lock = opts->no_lock && !writable };

	return qd_io_file_open(path, &file, ret_io, err);
}

/* ---- dump ---- */

int qd_ops_journal_dump(const char *path, const struct qd_ops_journal_opts *opts,
			int (*fn)(void *ctx, const struct qd_journal_item *item, struct qd_err *err),
			void *ctx,
			struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	struct qd_io *io = NULL;
	struct bare b = { .io = NULL };
	int rc = open_file(path, opts, false, &io, err);

	if (rc == 0)
		rc = open_bare(&b, io, opts, false, ret_result, err);
	if (rc == 0)
		rc = qd_journal_walk(b.journal, fn, ctx, err);
	close_bare(&b);
	qd_io_close(io);
	return rc ? qd_err_file(err, rc, path) : 0;
}

/* ---- verify ---- */

/* Pending writes that do not fit the file are damage, too. */
static int try_replay(struct bare *b, struct qd_ops_journal_result *result, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc;

	if (result->state.health != QD_JOURNAL_PENDING || result->obsolete)
		return 0;
	rc = qd_journal_replay(b->journal, b->io, true, &result->writes, &why);
	if (rc != QD_E_CORRUPT) {
		if (rc)
			qd_err_copy(err, &why);
		return rc;
	}
	result->state.health = QD_JOURNAL_DAMAGED;
	memcpy(result->state.why, why.msg, sizeof(result->state.why) - 1);
	return 0;
}

int qd_ops_journal_verify(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_ops_journal_result *ret_result, struct qd_err *err)
{
	struct qd_io *io = NULL;
	struct bare b = { .io = NULL };
	int rc = open_file(path, opts, false, &io, err);

	if (rc == 0)
		rc = open_bare(&b, io, opts, false, ret_result, err);
	if (rc == 0)
		rc = try_replay(&b, ret_result, err);
	close_bare(&b);
	qd_io_close(io);
	return rc ? qd_err_file(err, rc, path) : 0;
}

/* ---- replay ---- */

/* The dirty bit says that refcounts may be off, as every crash leaves them: check and repair see to it. */
static int repair(struct qd_io *io, const struct qd_ops_journal_opts *opts, struct qd_progress *progress,
		  struct qd_ops_journal_result *result, struct qd_err *err)
{
	struct qd_repair_opts ro = { .what = QD_REPAIR_ALL, .dry_run = opts->dry_run,
				    .threads = opts->threads,
				     .memory = opts->memory };
	struct qd_repair_result res;
	int rc;

	memset(&res, 0, sizeof(res));
	rc = qd_repair(io, &ro, progress, &res, err);
	if (rc)
		return rc;
	result->repaired = true;
	result->found = res.before.check_errors + res.before.corruptions + res.before.leaks;
	result->repair_status = qd_check_status(&res.after);
	return 0;
}

static int replay(struct bare *b, const struct qd_ops_journal_opts *opts,
		  struct qd_ops_journal_result *result, struct qd_err *err)
{
	/* Whoever made it clean again did without the batch; what it links may be in use for something else. */
	if (!result->dirty && !result->others_wrote)
		return opts->dry_run ? 0 : qd_journal_redo_applied(b->journal, err);
	if (result->state.redo_damaged)
		return qd_err_set(err, QD_E_CORRUPT, "%s: run qdedup check --repair, then qdedup rehash",
				  result->state.why);
	if (result->others_wrote && result->state.pending_writes)
		return qd_err_set(err, QD_E_INVALID,
				  "somebody else wrote to the image since (its feature bit is clear), "
				  "and the pending writes are of no use any more: run qdedup check --repair, then "
				  "qdedup rehash");
	return qd_journal_replay(b->journal, b->io, opts->dry_run, &result->writes, err);
}

/*
 * What the batch released has a record still, what it linked has none: the crash came before the
 * log said so.  Only the latter is read.  A table that says all this already is left alone.
 */
static int refresh_index(struct qd_io *io, const struct bare *b, const struct qd_ops_journal_opts *opts,
			 struct qd_progress *progress, struct qd_err *err)
{
	bool external = (b->ext.flags & QD_TABLE_EXTERNAL) != 0;
	struct qd_rehash_opts ro = {
		.index_path = external ? opts->index_path : NULL, .cache = opts->cache,
		.threads = opts->threads, .memory = opts->memory, .tmpdir = opts->tmpdir,
	};
	struct qd_rehash_result res;

	return qd_rehash_io(io, &ro, progress, &res, err);
}

int qd_ops_journal_replay_io(struct qd_io *io, const struct qd_ops_journal_opts *opts,
			     struct qd_progress *progress, struct qd_ops_journal_result *ret_result,
			     struct qd_err *err)
{
	struct bare b;
	int rc = open_bare(&b, io, opts, !opts->dry_run, ret_result, err);

	if (rc == 0)
		rc = replay(&b, opts, ret_result, err);
	close_bare(&b);
	if (rc == 0 && ret_result->dirty)
		rc = repair(io, opts, progress, ret_result, err);
	if (rc == 0 && ret_result->repaired && ret_result->repair_status == 0 &&
	    !ret_result->others_wrote && !opts->dry_run)
		rc = refresh_index(io, &b, opts, progress, err);
	return rc;
}

int qd_ops_journal_replay(const char *path, const struct qd_ops_journal_opts *opts,
			  struct qd_progress *progress, struct qd_ops_journal_result *ret_result,
			  struct qd_err *err)
{
	struct qd_io *io = NULL;
	int rc = open_file(path, opts, !opts->dry_run, &io, err);

	if (rc == 0)
		rc = qd_ops_journal_replay_io(io, opts, progress, ret_result, err);
	qd_io_close(io);
	return rc ? qd_err_file(err, rc, path) : 0;
}

int qd_ops_journal_finish_io(struct qd_io *io, bool dry_run, uint64_t *ret_nwrites, struct qd_err *err)
{
	struct qd_ops_journal_opts opts = { .dry_run = dry_run };
	struct qd_ops_journal_result result;
	struct qd_err why = { .code = 0 };
	struct bare b;
	int rc = open_bare(&b, io, &opts, !dry_run, &result, &why);

	if (rc == 0 && result.state.health == QD_JOURNAL_PENDING && !result.obsolete)
		rc = qd_journal_replay(b.journal, io, dry_run, &result.writes, &why);
	close_bare(&b);
	*ret_nwrites = rc ? 0 : result.writes;
	if (rc == QD_E_CORRUPT || rc == QD_E_INVALID || rc == QD_E_UNSUPPORTED)
		return 0;
	if (rc)
		qd_err_copy(err, &why);
	return rc;
}
