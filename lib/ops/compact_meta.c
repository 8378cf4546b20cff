/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving tables.  A table is copied to claimed clusters, then whoever names it is changed by
 * one write of 8 bytes, then the old clusters are given up:
 *
 *	copy, refcounts | flush | offsets that name them | flush | refcounts of the old ones
 *
 * Single tables first, then runs, those that name others last: so a table that is copied
 * already says where what it names is now.
 */
#include "ops/compact_int.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define CHANGE_MEMORY(c) ((c)->memory / 2)

/* ---- claiming and copying ---- */

/* The new cluster has the count of the old one, and its bytes. */
static int take_place(struct compact *c, struct qd_change *ch, uint64_t from, uint64_t to, struct qd_err *err)
{
	uint64_t count;
	int rc = qd_alloc_count(ch->alloc, from, &count, err);

	if (rc == 0)
		rc = qd_alloc_claim_at(ch->alloc, to, err);
	if (rc == 0 && count > 1)
		rc = qd_alloc_share(ch->alloc, to, count - 1, err);
	if (rc == 0)
		rc = compact_copy(c, &ch->img->geom, from, to, 1, err);
	qd_queue_wrote_data(ch->queue);
	return rc;
}

/* Changes the offset in the 8 bytes at `pointer`, the flags around it stay. */
static int redirect(struct qd_change *ch, uint64_t pointer, uint64_t off, struct qd_err *err)
{
	uint8_t word[8];
	int rc = qd_queue_read(ch->queue, word, sizeof(word), pointer, err);

	if (rc)
		return rc;
	qd_put_be64(word, (qd_get_be64(word) & ~QD_OFFSET_MASK) | off);
	return qd_queue_write(ch->queue, word, sizeof(word), pointer, err);
}

static int give_up(struct qd_change *ch, uint64_t cluster, struct qd_err *err)
{
	uint64_t count;
	int rc = qd_alloc_count(ch->alloc, cluster, &count, err);

	return rc ? rc : qd_alloc_release_many(ch->alloc, cluster, count, err);
}

/* ---- L2 tables, clusters of bitmaps ---- */

static int redirect_l1(struct qd_change *ch, const struct compact_map *map, const uint64_t *l1,
		       uint64_t l1_off, uint64_t entries, struct qd_err *err)
{
	uint32_t bits = ch->img->geom.cluster_bits;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < entries; i++) {
		uint64_t off = qd_entry_host_off(l1[i]);
		const struct compact_move *m = off ? compact_map_move(map, off >> bits) : NULL;

		if (m)
			rc = redirect(ch, l1_off + i * 8, m->to << bits, err);
	}
	return rc;
}

static int redirect_layers(struct qd_change *ch, const struct compact_map *map, struct qd_err *err)
{
	const struct qd_image *img = ch->img;
	int rc = redirect_l1(ch, map, img->l1, img->header.l1_off, img->header.l1_entries, err);

	for (uint32_t i = 0; rc == 0 && i < img->nsnapshots; i++) {
		const struct qd_snapshot *s = &img->snapshots[i];
		uint64_t *l1 = NULL;

		rc = qd_image_load_l1(img, s->l1_off, s->l1_entries, &l1, err);
		if (rc == 0)
			rc = redirect_l1(ch, map, l1, s->l1_off, s->l1_entries, err);
		free(l1);
	}
	return rc;
}

/* Calls fn for each move of a table of one of the kinds. */
static int each_table(struct compact *c, struct qd_change *ch, const struct compact_map *map, bool blocks,
		      int (*fn)(struct compact *c, struct qd_change *ch, const struct compact_single *s,
				const struct compact_move *m, struct qd_err *err), struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < map->nmoves; i++) {
		const struct compact_single *s = compact_map_single(map, map->moves[i].from);

		if (s && (s->kind == COMPACT_BLOCK) == blocks)
			rc = fn(c, ch, s, &map->moves[i], err);
	}
	return rc;
}

static int take_single(struct compact *c, struct qd_change *ch, const struct compact_single *s,
		       const struct compact_move *m, struct qd_err *err)
{
	(void)s;
	c->res->metadata_moved++;
	return take_place(c, ch, m->from, m->to, err);
}

static int redirect_single(struct compact *c, struct qd_change *ch, const struct compact_single *s,
			   const struct compact_move *m, struct qd_err *err)
{
	(void)c;
	if (s->kind == COMPACT_L2)	/* by layers: several may name it */
		return 0;
	return redirect(ch, s->where, m->to << ch->img->geom.cluster_bits, err);
}

static int give_up_single(struct compact *c, struct qd_change *ch, const struct compact_single *s,
			  const struct compact_move *m, struct qd_err *err)
{
	(void)c;
	(void)s;
	return give_up(ch, m->from, err);
}

static int move_block(struct compact *c, struct qd_change *ch, const struct compact_single *s,
		      const struct compact_move *m, struct qd_err *err)
{
	int rc = qd_alloc_claim_at(ch->alloc, m->to, err);

	c->res->metadata_moved++;
	return rc ? rc : qd_alloc_move_block(ch->alloc, s->where, m->to, err);
}

static int move_singles(struct compact *c, struct qd_change *ch, const struct compact_map *map,
			struct qd_err *err)
{
	int rc = each_table(c, ch, map, false, take_single, err);

	if (rc == 0)
		rc = each_table(c, ch, map, true, move_block, err);
	if (rc == 0)
		rc = qd_alloc_write(ch->alloc, err);
	if (rc == 0)
		rc = each_table(c, ch, map, false, redirect_single, err);
	if (rc == 0)
		rc = redirect_layers(ch, map, err);
	if (rc == 0)
		rc = qd_queue_flush(ch->queue, err);
	if (rc == 0)
		rc = each_table(c, ch, map, false, give_up_single, err);
	return rc ? rc : qd_change_settle(ch, err);
}

/* ---- runs ---- */

static int move_run(struct compact *c, struct qd_change *ch, const struct qd_compact_run *run,
		    const struct compact_run *info, struct qd_err *err)
{
	uint32_t bits = ch->img->geom.cluster_bits;
	int rc = 0;

	for (uint64_t k = 0; rc == 0 && k < run->nclusters; k++)
		rc = take_place(c, ch, run->first + k, run->to + k, err);
	c->res->metadata_moved += run->nclusters;
	if (rc == 0 && info->kind == COMPACT_REFTABLE)
		return qd_alloc_move_table(ch->alloc, run->to, err);
	if (rc == 0)
		rc = qd_alloc_write(ch->alloc, err);
	if (rc == 0)
		rc = redirect(ch, info->pointer, run->to << bits, err);
	if (rc == 0)
		rc = qd_queue_flush(ch->queue, err);
	for (uint64_t k = 0; rc == 0 && k < run->nclusters; k++)
		rc = give_up(ch, run->first + k, err);
	return rc;
}

/* Where it goes, there may still be what another round moves away. */
static int is_free(struct qd_change *ch, const struct qd_compact_run *run, bool *ret_free, struct qd_err *err)
{
	uint64_t count = 0;
	int rc = 0;

	for (uint64_t k = 0; rc == 0 && count == 0 && k < run->nclusters; k++)
		rc = qd_alloc_count(ch->alloc, run->to + k, &count, err);
	*ret_free = count == 0;
	return rc;
}

static int move_run_if_free(struct compact *c, struct qd_change *ch, const struct qd_compact_run *run,
			    const struct compact_run *info, struct qd_err *err)
{
	bool free_there = false;
	int rc = run->to == QD_COMPACT_STAYS ? 0 : is_free(ch, run, &free_there, err);

	return rc == 0 && free_there ? move_run(c, ch, run, info, err) : rc;
}

/*
 * A table is copied as it stands in the file, so what changed in it must be there: each run is
 * flushed before the next one.
 */
static int move_runs(struct compact *c, struct qd_change *ch, const struct compact_map *map,
		     struct qd_err *err)
{
	int rc = 0;

	for (int kind = COMPACT_NAMED; rc == 0 && kind <= COMPACT_REFTABLE; kind++)
		for (uint64_t i = 0; rc == 0 && i < map->nruns; i++)
			if ((int)map->infos[i].kind == kind)
				rc = move_run_if_free(c, ch, &map->runs[i], &map->infos[i], err);
	return rc ? rc : qd_change_settle(ch, err);
}

/* ---- both ---- */

static int in_a_change(struct compact *c, const struct compact_map *map,
		       int (*fn)(struct compact *c, struct qd_change *ch, const struct compact_map *map,
				 struct qd_err *err), struct qd_err *err)
{
	struct qd_image *img = NULL;
	struct qd_change *ch = NULL;
	struct qd_queue_stats stats;
	int rc = compact_open(c, &img, err);

	if (rc == 0)
		rc = qd_change_open(img, CHANGE_MEMORY(c), &ch, err);
	if (rc == 0)
		qd_alloc_punch_around(ch->alloc);
	if (rc == 0)
		rc = qd_change_begin(ch, err);
	if (rc == 0)
		rc = fn(c, ch, map, err);
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

static bool has_tables(const struct compact_map *map)
{
	for (uint64_t i = 0; i < map->nmoves; i++)
		if (compact_map_single(map, map->moves[i].from))
			return true;
	return false;
}

static bool has_runs(const struct compact_map *map)
{
	for (uint64_t i = 0; i < map->nruns; i++)
		if (map->runs[i].to != QD_COMPACT_STAYS)
			return true;
	return false;
}

int compact_move_tables(struct compact *c, const struct compact_map *map, struct qd_err *err)
{
	return has_tables(map) ? in_a_change(c, map, move_singles, err) : 0;
}

int compact_move_runs(struct compact *c, const struct compact_map *map, struct qd_err *err)
{
	return has_runs(map) ? in_a_change(c, map, move_runs, err) : 0;
}
