/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compacting in place:
 *
 *	refuse | check | hash table out
 *	round:  empty refcount blocks dropped | compressed clusters | plan | data | tables | runs
 *	truncate | hash table back
 *
 * A round plans from what the file holds then, so rounds go on until there is nothing left to
 * move; what the first one could not place (something lay in the way, memory bounds the
 * moves of one round) the next one can.
 *
 * Invariants
 *  F1  an image that is not consistent, by the check of this library, is not touched; nor is
 *      one whose clusters have no better place.
 *  F2  bytes are copied and flushed before anything refers to the copy, and the old place is
 *      given up after nothing refers to it any more: every state between two writes
 *      holds every guest byte, and the dirty bit says that counts may be wrong.
 *  F3  the file is cut only behind the last cluster that has a count, when all of the above
 *      is on stable storage.
 */
#include "ops/compact_int.h"

#include "base/bytes.h"
#include "base/host.h"
#include "ops/soundness.h"

#define MAX_ROUNDS 16u	/* that are not cut short by memory */
#define INDEX_SLACK 4u	/* clusters that putting the hash table back may leave free: not worth a second run */

int compact_open(const struct compact *c, struct qd_image **ret_img, struct qd_err *err)
{
	return qd_image_open(c->io, 0, ret_img, err);
}

void compact_close(struct qd_image *img)
{
	qd_image_detach(img);
}

/* ---- before ---- */

static int refuse(struct compact *c, struct qd_err *err)
{
	struct qd_image *img = NULL;
	int rc = compact_open(c, &img, err);

	if (rc == 0)
		rc = qd_change_refuse(img, err);
	if (rc == 0 && c->io->is_device)
		rc = qd_err_set(err, QD_E_UNSUPPORTED, "a block device cannot be made shorter");
	if (rc == 0) {
		c->res->cluster_size = img->geom.cluster_size;
		c->slack = qd_image_find_ext(img, QD_EXT_QDEDUP) ? INDEX_SLACK : 0;
	}
	compact_close(img);
	return rc;
}

static int take_sizes(struct compact *c, unsigned when, struct qd_err *err)
{
	int rc = qd_io_size(c->io, &c->res->file_size[when], err);

	return rc ? rc : qd_io_allocated(c->io, &c->res->allocated[when], err);
}

/* ---- rounds ---- */

/*
 * Where the file will reach there are refcount blocks for clusters to move to, and nowhere else
 * empty ones.
 */
static int tidy_blocks(struct compact *c, struct qd_err *err)
{
	struct qd_image *img = NULL;
	struct qd_change *ch = NULL;
	struct qd_queue_stats stats;
	uint64_t changed = 0;
	int rc = compact_open(c, &img, err);

	if (rc == 0)
		rc = qd_change_open(img, c->memory / 2, &ch, err);
	if (rc == 0)
		rc = qd_alloc_tidy_blocks(ch->alloc, &changed, err);
	if (rc == 0 && changed)
		rc = qd_change_begin(ch, err);
	if (rc == 0 && changed)
		rc = qd_alloc_write(ch->alloc, err);
	if (rc == 0 && changed)
		rc = qd_queue_flush(ch->queue, err);
	if (rc == 0 && changed)
		rc = qd_change_settle(ch, err);
	if (rc == 0)
		rc = qd_change_end(ch, err);
	if (ch) {
		qd_queue_stats(ch->queue, &stats);
		c->res->flushes += stats.flushes;
	}
	qd_change_free(ch);
	compact_close(img);
	return rc;
}

/* The plan by what the file holds now; nothing is written. */
static int make_map(struct compact *c, struct compact_map *map, struct qd_err *err)
{
	struct qd_image *img = NULL;
	struct qd_change *ch = NULL;
	int rc;

	compact_map_free(map);
	rc = compact_open(c, &img, err);
	if (rc == 0)
		rc = qd_change_open(img, c->memory / 2, &ch, err);
	if (rc == 0)
		rc = compact_map_make(c, img, ch->alloc, map, err);
	qd_change_free(ch);
	compact_close(img);
	return rc;
}

static bool has_moves(const struct compact_map *map)
{
	for (uint64_t i = 0; i < map->nruns; i++)
		if (map->runs[i].to != QD_COMPACT_STAYS)
			return true;
	return map->nmoves > 0;
}

/* Clusters in use: where the file would end at best. */
static uint64_t count_used(const struct compact_map *map)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < map->used.nbits; i++)
		n += qd_bits_get(&map->used, i);
	return n;
}

/* The file goes on behind the last cluster in use. */
static bool ends_early(const struct compact *c, const struct compact_map *map)
{
	uint64_t size = qd_div_up(c->res->file_size[0], c->res->cluster_size);

	for (uint64_t i = map->used.nbits; i; i--)
		if (qd_bits_get(&map->used, i - 1))
			return i < size;
	return false;
}

/* Each stage by a plan of its own: what the one before allocated on its way is in use now. */
static int move_by_plan(struct compact *c, struct compact_map *map, struct qd_err *err)
{
	int rc = compact_move_data(c, map, err);

	if (rc == 0)
		rc = make_map(c, map, err);
	if (rc == 0)
		rc = compact_move_tables(c, map, err);
	if (rc == 0)
		rc = make_map(c, map, err);
	return rc ? rc : compact_move_runs(c, map, err);
}

static uint64_t moved_so_far(const struct compact *c)
{
	return c->res->data_moved + c->res->streams_moved + c->res->metadata_moved;
}

/* *ret_moved: there may be more to do.  *ret_cut: there is, because memory did not allow for all of it. */
static int round_of_moves(struct compact *c, bool *ret_moved, bool *ret_cut, struct qd_err *err)
{
	struct compact_map map = { .nmoves = 0 };
	uint64_t nstreams = 0, before = moved_so_far(c);
	bool cut = false;
	int rc = tidy_blocks(c, err);

	if (rc == 0)
		rc = make_map(c, &map, err);
	if (rc == 0)
		rc = compact_move_streams(c, count_used(&map), false, &nstreams, &cut, err);
	if (rc == 0 && nstreams)
		rc = make_map(c, &map, err);
	*ret_moved = rc == 0 && (has_moves(&map) || nstreams);
	cut = cut || map.cut;
	if (rc == 0 && has_moves(&map))
		rc = move_by_plan(c, &map, err);
	compact_map_free(&map);
	c->res->rounds++;
	*ret_cut = cut && moved_so_far(c) > before;
	return rc;
}

/* F3 */
static int truncate_file(struct compact *c, struct qd_err *err)
{
	struct compact_map map = { .nmoves = 0 };
	uint64_t end = 0, size = 0;
	int rc = make_map(c, &map, err);

	for (uint64_t i = 0; rc == 0 && i < map.used.nbits; i++)
		if (qd_bits_get(&map.used, i))
			end = i + 1;
	compact_map_free(&map);
	if (rc == 0)
		rc = qd_io_size(c->io, &size, err);
	if (rc == 0 && end * c->res->cluster_size < size)
		rc = qd_io_truncate(c->io, end * c->res->cluster_size, err);
	return rc ? rc : qd_io_flush(c->io, err);
}

/* What moves left free below the new end takes no space on the host. */
static int give_back(struct compact *c, struct qd_err *err)
{
	struct qd_image *img = NULL;
	struct qd_change *ch = NULL;
	int rc = c->opts->no_punch ? 0 : compact_open(c, &img, err);

	if (rc == 0 && img)
		rc = qd_change_open(img, c->memory / 2, &ch, err);
	if (rc == 0 && ch)
		rc = qd_alloc_punch_free(ch->alloc, err);
	qd_change_free(ch);
	compact_close(img);
	return rc;
}

/* ---- all of it ---- */

/* What a first round would do. */
static void foretell(struct compact *c, const struct compact_map *map, uint64_t nstreams)
{
	c->res->metadata_moved = map->ntables;
	c->res->data_moved = map->ndata;
	for (uint64_t i = 0; i < map->nruns; i++)
		if (map->runs[i].to != QD_COMPACT_STAYS)
			c->res->metadata_moved += map->runs[i].nclusters;
	c->res->streams_moved = nstreams;
	c->res->file_size[1] = count_used(map) * c->res->cluster_size;
}

static int plan(struct compact *c, struct qd_err *err)
{
	struct compact_map map = { .nmoves = 0 };
	uint64_t nstreams = 0, used = 0;
	bool cut;
	int rc = make_map(c, &map, err);

	if (rc == 0) {
		used = count_used(&map);
		rc = compact_move_streams(c, used + c->slack, true, &nstreams, &cut, err);
	}
	c->res->changed = rc == 0 &&
			  (nstreams || ((used + c->slack) * c->res->cluster_size < c->res->file_size[0] &&
						   (has_moves(&map) || ends_early(c, &map))));
	c->res->file_size[1] = c->res->file_size[0];
	if (rc == 0 && c->res->changed && c->opts->dry_run)
		foretell(c, &map, nstreams);
	compact_map_free(&map);
	return rc;
}

/*
 * What a signal does not keep from being done, so that the image is whole: rc is 0 or
 * QD_E_CANCELLED, and comes back unless this fails.
 */
static int finish(struct compact *c, int rc, struct qd_err *err)
{
	struct qd_err stop = { .code = 0 };
	int rc2;

	qd_err_copy(&stop, err);
	qd_err_clear(err);
	c->res->interrupted = rc != 0;
	rc2 = truncate_file(c, err);
	if (rc2 == 0)
		rc2 = compact_index_put(c, err);
	if (rc2 == 0)
		rc2 = give_back(c, err);
	if (rc2)
		return rc2;
	if (rc)
		qd_err_copy(err, &stop);
	return rc;
}

static int carry_out(struct compact *c, struct qd_err *err)
{
	uint64_t most = MAX_ROUNDS + c->res->file_size[0] / c->res->cluster_size / 256;
	bool more = true, cut;
	unsigned nwhole = 0;
	int rc;

	c->res->stage = QD_COMPACT_WRITING;
	rc = compact_index_take(c, err);
	while (rc == 0 && more && nwhole < MAX_ROUNDS && c->res->rounds < most) {
		rc = round_of_moves(c, &more, &cut, err);
		nwhole += !cut;
	}
	if (rc == 0 || rc == QD_E_CANCELLED)
		rc = finish(c, rc, err);
	compact_index_free(c);
	if (rc == 0)
		c->res->stage = QD_COMPACT_DONE;
	return rc;
}

static int run(struct compact *c, struct qd_err *err)
{
	int rc = refuse(c, err);

	if (rc == 0)
		/* F1 */
		rc = qd_soundness_require(c->io, QD_SOUND_SPACE, c->opts->threads, c->memory, c->progress,
					  err);
	if (rc == 0)
		rc = take_sizes(c, 0, err);
	if (rc == 0)
		rc = plan(c, err);
	if (rc)
		return rc;
	c->res->allocated[1] = c->res->allocated[0];
	if (c->opts->dry_run || !c->res->changed) {
		c->res->stage = QD_COMPACT_DONE;
		return c->opts->after_dedup && !c->opts->dry_run ? give_back(c, err) : 0;
	}
	rc = carry_out(c, err);
	return rc ? rc : take_sizes(c, 1, err);
}

int qd_compact_io(struct qd_io *io, const struct qd_compact_opts *opts, struct qd_progress *progress,
		  struct qd_compact_result *ret_result, struct qd_err *err)
{
	struct compact c = { .io = io, .opts = opts, .progress = progress, .res = ret_result };
	int rc;

	*ret_result = (struct qd_compact_result){ .stage = QD_COMPACT_READING };
	c.memory = opts->memory ? opts->memory : qd_default_memory();
	rc = run(&c, err);
	return rc ? qd_err_file(err, rc, io->name) : 0;
}

int qd_compact(const char *path, const struct qd_compact_opts *opts, struct qd_progress *progress,
	       struct qd_compact_result *ret_result, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = opts->cache, .writable = !opts->dry_run };
	struct qd_io *io = NULL;
	int rc = qd_io_file_open(path, &file, &io, err);

	if (rc == 0)
		rc = qd_compact_io(io, opts, progress, ret_result, err);
	qd_io_close(io);
	return rc;
}
