/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Deduplicating in place:
 *
 *	refuse | check | plan: read everything, decide        nothing is written until here
 *	version 3 | new hash table, with a redo area | moves, batch by batch, logged | area given back | clean
 *
 * Invariants
 *  D1  an image that is not consistent, by the check of this library, is not touched.
 *  D2  when nothing is to be done, nothing is written.
 *  D3  every state between two writes holds every guest byte of all layers, and says by the
 *      dirty bit that counts may be wrong (ops/remap.h).
 *  D4  the new hash table, which knows nothing of clusters that will be freed, replaces the old
 *      one before the first of them is: no record ever tells of a cluster whose bytes
 *      are gone.
 *
 * Left to others: moving clusters together (ops/compact.h), after all of this.
 */
#include "ops/dedup.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/host.h"
#include "dedup/log.h"
#include "image/build.h"
#include "ops/compact.h"
#include "ops/dedup_int.h"
#include "ops/redo_area.h"
#include "ops/soundness.h"

/* ---- refusals ---- */

static int refuse_width(const struct dedup *d, struct qd_err *err)
{
	bool pin = !d->opts->no_pin;

	if (d->geom->refcount_order == 0)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the image counts references in one bit and cannot share clusters: make "
				  "one with qdedup convert -o refcount_bits=16, or change it with "
				  "qemu-img amend -o refcount_bits=16");
	if (d->opts->max_share > qd_build_share_limit(d->geom->refcount_order, pin))
		return qd_err_set(err, QD_E_INVALID,
				  "--max-share: %" PRIu64 ", expected at most %" PRIu64
				  " with refcount_bits=%" PRIu32, d->opts->max_share,
				  qd_build_share_limit(d->geom->refcount_order, pin),
				  d->geom->refcount_bits);
	return 0;
}

static int refuse(const struct dedup *d, struct qd_err *err)
{
	int rc = qd_change_refuse(d->img, err);

	if (rc == 0)
		rc = refuse_width(d, err);
	if (rc)
		return rc;
	if (d->img->header.version < 3 && !d->opts->upgrade)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the image is of version 2 (compat=0.10), which has no dirty bit to be "
				  "safe with: --upgrade makes it version 3 (compat=1.1) first");
	if (d->img->header.version < 3)
		rc = dedup_check_upgrade(d, err);
	if (rc)
		return rc;
	if (!d->opts->no_pin && qd_image_find_snapshot(d->img, QD_PIN_NAME) && !qd_image_find_pin(d->img))
		return qd_err_set(err, QD_E_INVALID,
				  "there is a snapshot named " QD_PIN_NAME " that is not qdedup's: "
				  "rename it, or use --no-pin for an image that is never written again");
	return 0;
}

/* ---- opening ---- */

static int open_image(struct dedup *d, struct qd_err *err)
{
	int rc;

	qd_image_detach(d->img);
	d->img = NULL;
	rc = qd_image_open(d->io, 0, &d->img, err);
	if (rc == 0)
		d->geom = &d->img->geom;
	return rc;
}

static int look_at(struct dedup *d, struct qd_err *err)
{
	int rc = open_image(d, err);

	if (rc == 0)
		rc = refuse(d, err);
	if (rc == 0)
		/* D1 */
		rc = qd_soundness_require(d->io, QD_SOUND_TABLES, d->opts->threads, d->memory, d->progress,
					  err);
	if (rc)
		return rc;
	d->result->cluster_size = d->geom->cluster_size;
	d->max_share = d->opts->max_share ? d->opts->max_share :
					    qd_build_share_default(d->geom->refcount_order);
	rc = qd_digest_choose(d->opts->hash, &d->digest, err);
	return rc ? rc : dedup_index_open(d, err);
}

static int take_sizes(struct dedup *d, unsigned when, struct qd_err *err)
{
	int rc = qd_io_size(d->io, &d->result->file_size[when], err);

	return rc ? rc : qd_io_allocated(d->io, &d->result->allocated[when], err);
}

/* ---- what it brings ---- */

static uint64_t tables_for(const struct dedup *d, uint64_t slots)
{
	return qd_div_up(slots, d->geom->l2_entries);
}

/* Clusters that a new hash table and more slots of the pin will take, less those of the old table. */
static uint64_t metadata_clusters(const struct dedup *d)
{
	const struct qd_table_ext *ext = &d->container->ext;
	uint64_t container = 0, old = ext->container_off ? ext->container_nbytes >> d->geom->cluster_bits : 0;
	uint64_t slots, grown, log, redo;

	if (dedup_index_needed(d) && d->maker && !d->opts->index_path) {
		container = qd_table_end(d->nrecords, d->digest->nbytes);
		qd_log_own_sizes(ext, &log, &redo);
		if (log || redo)
			container = qd_align_up(container, QD_JOURNAL_CLUSTER) + 2 * log + redo;
		container = qd_div_up(container, d->geom->cluster_size);
	}
	slots = d->pins_before + d->result->pinned + container;
	if (!d->pins_before && !slots)
		return 0;
	grown = tables_for(d, slots) - qd_min_u64(tables_for(d, d->pins_before), tables_for(d, slots));
	if (!qd_image_find_pin(d->img))
		grown += 1 + qd_div_up(tables_for(d, slots) * 8, d->geom->cluster_size);
	grown += container;
	return container ? grown - qd_min_u64(old, grown) : grown;
}

/* What was planned to be freed becomes what the file takes less on disk. */
static void settle_freed(struct dedup *d, uint64_t metadata_nbytes)
{
	struct qd_dedup_result *r = d->result;

	r->freed_nbytes -= qd_min_u64(metadata_nbytes, r->freed_nbytes);
	if (r->stage == QD_DEDUP_DONE)
		r->freed_nbytes = qd_min_u64(r->freed_nbytes, r->allocated[0] -
					     qd_min_u64(r->allocated[1], r->allocated[0]));
}

/* ---- carrying out ---- */

static int read_moves(struct dedup *d, uint64_t first, uint64_t n, struct qd_move *moves, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		rc = qd_records_get(d->moves, first + i, &moves[i], err);
	return rc;
}

/* Calls batch for the moves [0, end), so many at a time; *ret_end says how far it came. */
static int each_batch(struct dedup *d, struct qd_remap *r, uint64_t end,
		      int (*batch)(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err),
		      bool may_stop, uint64_t *ret_end, struct qd_err *err)
{
	uint64_t most = qd_min_u64(qd_remap_capacity(r), end), n;
	struct qd_move *moves;
	int rc;

	if (d->opts->batch)
		most = qd_min_u64(most, d->opts->batch);
	moves = malloc(most * sizeof(*moves));
	rc = moves ? 0 : qd_err_nomem(err, "a batch");
	*ret_end = 0;
	while (rc == 0 && *ret_end < end) {
		if (may_stop && qd_progress_add(d->progress, 0, NULL)) {
			d->result->interrupted = true;
			break;
		}
		n = qd_min_u64(most, end - *ret_end);
		rc = read_moves(d, *ret_end, n, moves, err);
		if (rc == 0)
			rc = batch(r, moves, n, err);
		*ret_end += n;
	}
	free(moves);
	return rc;
}

/*
 * Compacting fills what is freed here, or cuts it off, and makes holes of the rest.  But for packing
 * compressed clusters it may need room behind the end of the file, which a full disk gives only when
 * something is given back before.
 */
static bool leaves_holes_to_compact(const struct dedup *d)
{
	return d->opts->compact && !d->streams;
}

static int apply(struct dedup *d, struct qd_err *err)
{
	struct qd_remap_opts opts = { .memory = d->memory / 2, .late_counts = d->opts->late_counts,
				      .no_punch = d->opts->no_punch || leaves_holes_to_compact(d) };
	struct qd_remap_stats stats;
	struct qd_remap *r = NULL;
	uint64_t done = 0;
	int rc = 0;

	if (!d->nmoves)
		return 0;
	if (!opts.late_counts)
		rc = qd_redo_area_open(d->img, &opts.journal, err);
	if (rc == 0)
		rc = qd_remap_open(d->img, &opts, &r, err);
	if (rc == 0)
		rc = each_batch(d, r, d->nmoves, qd_remap_batch, true, &done, err);
	if (rc == 0 && opts.late_counts && done)
		rc = each_batch(d, r, done, qd_remap_counts, false, &done, err);
	if (rc == 0)
		rc = qd_redo_area_give_back(r, d->img, d->nstored, err);
	if (rc == 0)
		rc = qd_remap_finish(r, &stats, err);
	if (rc == 0) {
		d->result->batches = stats.batches;
		d->result->logged = stats.logged;
		d->result->flushes += stats.flushes;
	}
	qd_remap_free(r);
	qd_journal_close(opts.journal);
	return rc;
}

static int carry_out(struct dedup *d, struct qd_err *err)
{
	int rc;

	d->result->stage = QD_DEDUP_WRITING;
	if (d->img->header.version < 3) {
		rc = dedup_upgrade(d, err);
		if (rc == 0)
			rc = open_image(d, err);
		if (rc == 0)
			rc = dedup_index_check_room(d, err);
		if (rc)
			return rc;
	}
	if (dedup_index_needed(d)) {
		rc = dedup_index_write(d, err);		/* D4 */
		if (rc == 0)
			rc = open_image(d, err);
		if (rc)
			return rc;
	}
	rc = apply(d, err);
	if (rc == 0 && d->result->interrupted)
		rc = qd_err_set(err, QD_E_CANCELLED, "interrupted: the image is in order, and running it "
				"again does the rest");
	if (rc)
		return rc;
	d->result->stage = QD_DEDUP_DONE;
	return 0;
}

/* What a failure left. */
static void look_after_failure(struct dedup *d)
{
	uint8_t bits[8];

	if (d->result->stage == QD_DEDUP_WRITING &&
	    qd_io_read(d->io, bits, sizeof(bits), QD_HEADER_OFF_INCOMPATIBLE, NULL) == 0)
		d->result->dirty = (qd_get_be64(bits) & QD_INCOMPAT_DIRTY) != 0;
}

static int compact(struct dedup *d, struct qd_err *err)
{
	struct qd_compact_opts opts = { .index_path = d->opts->index_path, .cache = d->opts->cache,
					.threads = d->opts->threads, .memory = d->opts->memory,
					.tmpdir = d->opts->tmpdir, .no_punch = d->opts->no_punch,
					.after_dedup = d->nmoves && leaves_holes_to_compact(d) };
	struct qd_compact_result r;
	int rc = qd_compact_io(d->io, &opts, d->progress, &r, err);

	if (rc && r.stage != QD_COMPACT_READING)
		d->result->stage = QD_DEDUP_WRITING;
	d->result->moved = r.data_moved + r.streams_moved + r.metadata_moved;
	d->result->flushes += r.flushes;
	d->result->changed = d->result->changed || r.changed;
	return rc;
}

static int run(struct dedup *d, struct qd_err *err)
{
	uint64_t metadata_nbytes;
	int rc = look_at(d, err);

	if (rc == 0)
		rc = take_sizes(d, 0, err);
	if (rc == 0)
		rc = dedup_plan(d, err);
	if (rc)
		return rc;
	d->result->changed = d->nmoves || d->img->header.version < 3 || dedup_index_needed(d);
	metadata_nbytes = metadata_clusters(d) << d->geom->cluster_bits;
	if (d->result->changed && !d->opts->dry_run)
		rc = carry_out(d, err);
	if (rc == 0 && d->opts->compact && !d->opts->dry_run)
		rc = compact(d, err);
	if (rc == 0)
		rc = take_sizes(d, 1, err);
	settle_freed(d, metadata_nbytes);
	return rc;
}

int qd_dedup_io(struct qd_io *io, const struct qd_dedup_opts *opts, struct qd_progress *progress,
		struct qd_dedup_result *ret_result, struct qd_err *err)
{
	struct dedup d = { .io = io, .opts = opts, .progress = progress, .result = ret_result };
	int rc;

	*ret_result = (struct qd_dedup_result){ .stage = QD_DEDUP_READING };
	d.memory = opts->memory ? opts->memory : qd_default_memory();
	rc = run(&d, err);
	if (rc)
		look_after_failure(&d);
	dedup_index_close(&d);
	dedup_plan_free(&d);
	qd_image_detach(d.img);
	return rc ? qd_err_file(err, rc, io->name) : 0;
}

int qd_dedup(const char *path, const struct qd_dedup_opts *opts, struct qd_progress *progress,
	     struct qd_dedup_result *ret_result, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = opts->cache, .writable = !opts->dry_run };
	struct qd_io *io = NULL;
	int rc = qd_io_file_open(path, &file, &io, err);

	if (rc == 0)
		rc = qd_dedup_io(io, opts, progress, ret_result, err);
	qd_io_close(io);
	return rc;
}
