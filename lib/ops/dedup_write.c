/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Room in the log is seen to before each piece of a write, so that every commit fits:
 *
 *	written since the last commit + this piece  >  room
 *	    commit; still no room: pack, if that leaves half of the log free
 *	    else: the writer is closed, log and table are merged, and all is opened again
 */
#include "ops/dedup_write.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/host.h"
#include "dedup/live.h"
#include "dedup/log.h"
#include "image/build.h"
#include "ops/merge.h"
#include "ops/soundness.h"

struct qd_dedup_write {
	struct qd_io *io;
	const struct qd_disk *backing;
	struct qd_image *img;
	struct qd_writer *writer;
	bool prepared;			/* the counts are known to be right, and the index was looked at */
	struct qd_container *index;
	struct qd_journal *journal;
	struct qd_live *live;		/* NULL: writes are not deduplicated */
	uint64_t waiting;		/* clusters written since the last commit, at most */
	uint64_t piece;			/* clusters of a write at a time */
};

/* ---- opening and closing the parts ---- */

static int open_writer(struct qd_dedup_write *dw, struct qd_err *err)
{
	int rc = qd_image_open(dw->io, 0, &dw->img, err);

	return rc ? rc : qd_writer_open(dw->img, dw->backing, &dw->writer, err);
}

static void forget_index(struct qd_dedup_write *dw)
{
	qd_live_free(dw->live);
	qd_journal_close(dw->journal);
	qd_container_close(dw->index);
	dw->live = NULL;
	dw->journal = NULL;
	dw->index = NULL;
}

static int close_parts(struct qd_dedup_write *dw, struct qd_err *err)
{
	int rc = qd_writer_close(dw->writer, err);

	dw->writer = NULL;
	forget_index(dw);
	qd_image_detach(dw->img);
	dw->img = NULL;
	return rc;
}

int qd_dedup_write_open(struct qd_io *io, const struct qd_disk *backing, struct qd_dedup_write **ret_dw,
			struct qd_err *err)
{
	struct qd_dedup_write *dw = calloc(1, sizeof(*dw));
	int rc;

	if (!dw)
		return qd_err_nomem(err, "a writer");
	dw->io = io;
	dw->backing = backing;
	rc = open_writer(dw, err);
	if (rc) {
		qd_dedup_write_close(dw, NULL);
		return rc;
	}
	*ret_dw = dw;
	return 0;
}

int qd_dedup_write_close(struct qd_dedup_write *dw, struct qd_err *err)
{
	int rc;

	if (!dw)
		return 0;
	rc = close_parts(dw, err);
	free(dw);
	return rc;
}

/* ---- the index ---- */

static bool is_usable(const struct qd_image *img, const struct qd_container *c)
{
	return c->state == QD_CONTAINER_VALID && c->opened && !c->external && !img->geom.extended_l2 &&
	       img->header.version >= 3;
}

/* What is wrong with the index costs deduplication, never a write. */
static int absorb(int rc, const struct qd_err *why, struct qd_err *err)
{
	if (rc == QD_E_CORRUPT || rc == QD_E_INVALID || rc == QD_E_UNSUPPORTED)
		return 0;
	if (rc)
		qd_err_copy(err, why);
	return rc;
}

/*
 * Table and log become one, with a log of the same size, or of the default one.  An index of which that
 * cannot be made is left as it is.
 */
static int merge(struct qd_dedup_write *dw, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	struct qd_merge m = { .log_nbytes = QD_MERGE_LOG_NBYTES, .redo_nbytes = QD_MERGE_REDO_NBYTES };
	struct qd_install_result res;
	uint64_t log, redo;
	int rc = close_parts(dw, err);

	if (rc == 0)
		rc = qd_image_open(dw->io, 0, &dw->img, err);
	if (rc == 0)
		rc = qd_container_open(dw->img, NULL, false, &dw->index, err);
	if (rc == 0 && is_usable(dw->img, dw->index)) {
		qd_log_own_sizes(&dw->index->ext, &log, &redo);
		if (log) {
			m.log_nbytes = log;
			m.redo_nbytes = redo;
		} else {
			rc = qd_draw_number(&m.journal_id, err);
		}
		if (rc == 0)
			rc = absorb(qd_merge(dw->img, dw->index, &m, &res, &why), &why, err);
	}
	forget_index(dw);
	qd_image_detach(dw->img);
	dw->img = NULL;
	return rc ? rc : open_writer(dw, err);
}

static int count(void *ctx, uint64_t cluster, uint64_t *ret_count, struct qd_err *err)
{
	struct qd_dedup_write *dw = ctx;

	return qd_writer_refcount(dw->writer, cluster, ret_count, err);
}

/* Half of the log holds a piece and more. */
static uint64_t piece_for(const struct qd_live *l, uint32_t log_clusters)
{
	uint64_t n = 1;

	while (n < 65536 && qd_live_cost(l, 2 * n) <= log_clusters / 4)
		n *= 2;
	return n;
}

static int load(struct qd_dedup_write *dw, struct qd_err *err)
{
	struct qd_live_opts lo = {
		.img = dw->img, .container = dw->index, .journal = dw->journal,
		.max_share = qd_build_share_default(dw->img->geom.refcount_order),
		.memory = qd_default_memory() / 4, .count = count, .ctx = dw,
	};
	struct qd_journal_state s;
	int rc;

	qd_journal_state(dw->journal, &s);
	if (s.health == QD_JOURNAL_DAMAGED)
		return qd_err_set(err, QD_E_CORRUPT, "%s", s.why);
	/* Not dirty: whoever repaired the image did without it. */
	rc = s.health == QD_JOURNAL_PENDING ? qd_journal_redo_applied(dw->journal, err) : 0;
	if (rc == 0)
		rc = qd_live_open(&lo, &dw->live, err);
	if (rc == 0 && qd_journal_log_need(dw->journal) > qd_journal_log_room(dw->journal))
		rc = qd_err_set(err, QD_E_INVALID, "the log is too small for what is to be taken back");
	if (rc == 0)
		rc = qd_writer_set_hook(dw->writer, qd_live_hook(dw->live), err);
	dw->piece = rc ? 0 : piece_for(dw->live, s.log_size);
	return rc;
}

static int open_index(struct qd_dedup_write *dw, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = qd_container_open(dw->img, NULL, false, &dw->index, err);

	if (rc)
		return rc;
	if (is_usable(dw->img, dw->index) &&
	    (!dw->index->ext.journal_off || qd_log_is_lent(&dw->index->ext))) {
		rc = merge(dw, err);
		if (rc == 0)
			rc = qd_container_open(dw->img, NULL, false, &dw->index, err);
		if (rc)
			return rc;
	}
	if (is_usable(dw->img, dw->index))
		rc = qd_log_open(dw->io, dw->index->off, &dw->index->ext, &dw->journal, &why);
	if (rc == 0 && dw->journal)
		rc = load(dw, &why);
	rc = absorb(rc, &why, err);
	if (!qd_writer_has_hook(dw->writer))
		forget_index(dw);
	return rc;
}

/*
 * Before the first change.  Overwriting in place believes that refcount 1 means one reference, so
 * it is not only the first claim that needs sound counts.
 */
static int prepare(struct qd_dedup_write *dw, struct qd_err *err)
{
	int rc;

	if (dw->prepared)
		return 0;
	rc = qd_soundness_require(dw->io, QD_SOUND_COUNTS, 0, 0, NULL, err);
	if (rc)
		return rc;
	dw->prepared = true;
	return qd_image_find_ext(dw->img, QD_EXT_QDEDUP) ? open_index(dw, err) : 0;
}

/* ---- room ---- */

static int merge_and_go_on(struct qd_dedup_write *dw, struct qd_err *err)
{
	int rc = merge(dw, err);

	return rc ? rc : open_index(dw, err);
}

static int make_room(struct qd_dedup_write *dw, uint64_t nclusters, struct qd_err *err)
{
	bool merging = false;
	int rc;

	dw->waiting += nclusters;
	if (qd_live_cost(dw->live, dw->waiting) <= qd_journal_log_room(dw->journal))
		return 0;
	rc = qd_writer_flush(dw->writer, err);
	dw->waiting = nclusters;
	if (rc || qd_live_cost(dw->live, nclusters) <= qd_journal_log_room(dw->journal))
		return rc;
	rc = qd_live_make_room(dw->live, &merging, err);
	if (rc == 0 && (merging || qd_live_cost(dw->live, nclusters) > qd_journal_log_room(dw->journal)))
		rc = merge_and_go_on(dw, err);
	return rc;
}

/* Bytes of the next piece of [off, off + nbytes), with room in the log for it. */
static int next_piece(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes, uint64_t *ret_nbytes,
		      struct qd_err *err)
{
	uint64_t bits = dw->img->geom.cluster_bits, end;

	*ret_nbytes = nbytes;
	if (!dw->live || !qd_writer_has_hook(dw->writer))
		return 0;
	end = ((off >> bits) + dw->piece) << bits;
	*ret_nbytes = qd_min_u64(nbytes, end - off);
	return make_room(dw, ((off + *ret_nbytes - 1) >> bits) - (off >> bits) + 1, err);
}

/* ---- reading and writing ---- */

const struct qd_image *qd_dedup_write_image(const struct qd_dedup_write *dw)
{
	return dw->img;
}

bool qd_dedup_write_is_live(const struct qd_dedup_write *dw)
{
	return dw->live && qd_writer_has_hook(dw->writer);
}

uint64_t qd_dedup_write_size(const struct qd_dedup_write *dw)
{
	return qd_writer_size(dw->writer);
}

int qd_dedup_write_read(struct qd_dedup_write *dw, uint64_t off, size_t nbytes, void *buf, struct qd_err *err)
{
	return qd_writer_read(dw->writer, off, nbytes, buf, err);
}

int qd_dedup_write_write(struct qd_dedup_write *dw, uint64_t off, size_t nbytes, const void *buf,
			 struct qd_err *err)
{
	const uint8_t *from = buf;
	uint64_t n;
	int rc = prepare(dw, err);

	for (uint64_t done = 0; rc == 0 && done < nbytes; done += n) {
		rc = next_piece(dw, off + done, nbytes - done, &n, err);
		if (rc == 0)
			rc = qd_writer_write(dw->writer, off + done, (size_t)n, from + done, err);
	}
	return rc;
}

static int each_piece(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes,
		      int (*fn)(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes, struct qd_err *err),
		      struct qd_err *err)
{
	uint64_t n;
	int rc = prepare(dw, err);

	for (uint64_t done = 0; rc == 0 && done < nbytes; done += n) {
		rc = next_piece(dw, off + done, nbytes - done, &n, err);
		if (rc == 0)
			rc = fn(dw->writer, off + done, n, err);
	}
	return rc;
}

int qd_dedup_write_zero(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	return each_piece(dw, off, nbytes, qd_writer_zero, err);
}

int qd_dedup_write_discard(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	return each_piece(dw, off, nbytes, qd_writer_discard, err);
}

int qd_dedup_write_flush(struct qd_dedup_write *dw, struct qd_err *err)
{
	dw->waiting = 0;
	return qd_writer_flush(dw->writer, err);
}

int qd_dedup_write_crash(struct qd_dedup_write *dw, struct qd_err *err)
{
	return qd_writer_crash(dw->writer, err);
}
