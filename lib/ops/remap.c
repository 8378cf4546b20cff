/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch: two passes over all L2 tables, in the order of the file, and between them and the
 * refcounts (remap_counts.c) the flushes.
 */
#include "ops/remap.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/pin.h"
#include "ops/remap_int.h"

#define ALL_ALLOCATED 0xffffffffull
#define BYTES_PER_MOVE 160u	/* the move, its slots in two maps, its references */

int qd_remap_open(struct qd_image *img, const struct qd_remap_opts *opts, struct qd_remap **ret_remap,
		  struct qd_err *err)
{
	struct qd_remap *r = calloc(1, sizeof(*r));
	struct qd_pin_image pi = { .img = img };
	int rc;

	if (!r)
		return qd_err_nomem(err, "a change");
	r->img = img;
	r->geom = &img->geom;
	r->opts = *opts;
	/* Of that a half is the queue's, which has to hold a batch that is logged. */
	rc = qd_change_open(img, opts->memory / (opts->journal ? 2 : 4), &r->change, err);
	if (rc == 0)
		rc = remap_list_tables(img, opts->memory / 4, &r->tables, err);
	if (rc == 0) {
		pi.queue = r->change->queue;
		pi.cache = r->change->cache;
		pi.alloc = r->change->alloc;
		rc = qd_pin_open(&pi, &r->pin, err);
	}
	if (rc) {
		qd_remap_free(r);
		return rc;
	}
	if (opts->no_punch)
		qd_alloc_keep_bytes(r->change->alloc);
	qd_alloc_punch_around(r->change->alloc);	/* dedup and compact have checked */
	*ret_remap = r;
	return 0;
}

void qd_remap_free(struct qd_remap *r)
{
	if (!r)
		return;
	qd_pin_free(r->pin);
	qd_change_free(r->change);
	qd_l2set_free(&r->tables);
	remap_map_free(&r->from);
	remap_map_free(&r->to);
	free(r);
}

struct qd_change *qd_remap_change(struct qd_remap *r)
{
	return r->change;
}

uint64_t qd_remap_capacity(const struct qd_remap *r)
{
	uint64_t n = r->opts.memory / 2 / BYTES_PER_MOVE;

	/* What the area can hold at best: measuring more would be for nothing. */
	if (r->opts.journal)
		n = qd_min_u64(n / 2, qd_journal_redo_area(r->opts.journal) / 12);
	return qd_max_u64(n, 256);
}

/* ---- entries ---- */

/*
 * Changed entries leave the file's pages whole: the writes of a table are few, and what is
 * written besides is what stands there.
 */
struct pages {
	uint64_t first, end;	/* bytes of the table: [first, end), whole pages, not queued yet */
};

static int flush_pages(struct qd_remap *r, struct pages *p, uint64_t l2_off, const uint8_t *entries,
		       struct qd_err *err)
{
	int rc = 0;

	if (p->first < p->end)
		rc = qd_queue_write(r->change->queue, entries + p->first, p->end - p->first,
				    l2_off + p->first, err);
	p->first = p->end;
	return rc;
}

static int put_entry(struct qd_remap *r, struct pages *p, uint64_t l2_off, uint8_t *entries, uint64_t index,
		     uint64_t entry, uint64_t bitmap, struct qd_err *err)
{
	uint64_t at = index * r->geom->l2_entry_size, page = qd_align_down(at, REMAP_PAGE);
	int rc = 0;

	if (page > p->end)
		rc = flush_pages(r, p, l2_off, entries, err);
	if (rc)
		return rc;
	if (p->first == p->end)
		p->first = page;
	p->end = qd_min_u64(page + REMAP_PAGE, r->geom->cluster_size);
	qd_put_be64(entries + at, entry);
	if (r->geom->extended_l2)
		qd_put_be64(entries + at + 8, bitmap);
	return 0;
}

uint64_t remap_key(uint64_t entry)
{
	return qd_l2_is_compressed(entry) ? entry & ~QD_COPIED : qd_entry_host_off(entry);
}

/* Step 2, one table. */
static int clear_copied(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err)
{
	struct qd_remap *r = ctx;
	const struct qd_geom *g = r->geom;
	struct pages pages = { 0, 0 };
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < g->l2_entries; i++) {
		const uint8_t *p = entries + i * g->l2_entry_size;
		uint64_t entry = qd_get_be64(p);

		if (!(entry & QD_COPIED) || !remap_key(entry) ||
		    remap_map_get(&r->to, remap_key(entry)) == REMAP_NONE)
			continue;
		rc = put_entry(r, &pages, l2_off, entries, i, entry & ~QD_COPIED,
			       g->extended_l2 ? qd_get_be64(p + 8) : 0, err);
	}
	return rc ? rc : flush_pages(r, &pages, l2_off, entries, err);
}

/* An entry that only keeps `from`, or reads it while `to` is zeros. */
static void drop(const struct qd_geom *g, bool reads, uint64_t *entry, uint64_t *bitmap)
{
	bool compressed = qd_l2_is_compressed(*entry);

	*entry = 0;
	if (!g->extended_l2)
		*entry = QD_L2_ZERO;
	if (g->extended_l2 && compressed)
		*bitmap = ALL_ALLOCATED << 32;
	else if (g->extended_l2 && reads)
		*bitmap = (*bitmap | *bitmap << 32) & (ALL_ALLOCATED << 32);
}

/* The entry after the move. */
static void redirect(const struct qd_geom *g, const struct qd_move *m, uint64_t *entry, uint64_t *bitmap)
{
	bool reads = true;

	if (m->own && !qd_l2_is_compressed(*entry)) {
		*entry = (*entry & ~QD_OFFSET_MASK) | m->to;
		return;
	}
	if (m->own) {
		*entry = m->to;
		return;
	}
	if (!qd_l2_is_compressed(*entry))
		reads = g->extended_l2 ? (*bitmap & ALL_ALLOCATED) != 0 : !(*entry & QD_L2_ZERO);
	if (!reads || !m->to) {
		drop(g, reads, entry, bitmap);
		return;
	}
	*entry = m->to;
	*bitmap = m->bitmap;
}

/* Step 3, one table. */
static int redirect_table(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err)
{
	struct qd_remap *r = ctx;
	const struct qd_geom *g = r->geom;
	struct pages pages = { 0, 0 };
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < g->l2_entries; i++) {
		const uint8_t *p = entries + i * g->l2_entry_size;
		uint64_t entry = qd_get_be64(p), bitmap = g->extended_l2 ? qd_get_be64(p + 8) : 0;
		uint32_t index = remap_key(entry) ? remap_map_get(&r->from, remap_key(entry)) : REMAP_NONE;

		if (index == REMAP_NONE)
			continue;
		redirect(g, &r->moves[index], &entry, &bitmap);
		rc = put_entry(r, &pages, l2_off, entries, i, entry, bitmap, err);
		r->stats.redirected++;
	}
	return rc ? rc : flush_pages(r, &pages, l2_off, entries, err);
}

/* ---- the pin ---- */

static int clear_slot(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove, struct qd_err *err)
{
	struct qd_remap *r = ctx;

	(void)bitmap;
	(void)err;
	*remove = remap_map_get(&r->from, remap_key(entry)) != REMAP_NONE;
	r->stats.unpinned += *remove;
	return 0;
}

/* Slots of old clusters are cleared, those of new ones filled; in memory. */
static int change_pin(struct qd_remap *r, const struct qd_move *moves, uint64_t n, bool *ret_changed,
		      struct qd_err *err)
{
	bool remove = false;
	int rc = 0;

	*ret_changed = false;
	for (uint64_t i = 0; i < n; i++)
		remove = remove || moves[i].pins;
	if (remove)
		rc = qd_pin_walk(r->pin, clear_slot, r, err);
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		unsigned add = moves[i].own ? moves[i].pins : moves[i].pin;

		for (; rc == 0 && add; add--) {
			rc = qd_pin_add(r->pin, moves[i].to, moves[i].bitmap, err);
			r->stats.pinned++;
			*ret_changed = true;
		}
	}
	*ret_changed |= remove;
	return rc;
}

/* ---- batches ---- */

static int fill_maps(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = remap_map_init(&r->from, n, err);

	if (rc == 0)
		rc = remap_map_init(&r->to, n, err);
	for (uint64_t i = n; rc == 0 && i-- > 0;) {
		if (moves[i].from)
			remap_map_set(&r->from, moves[i].from, (uint32_t)i);
		if (moves[i].to && !moves[i].own)
			remap_map_set(&r->to, moves[i].to, (uint32_t)i);
	}
	r->moves = moves;
	return rc;
}

static void free_maps(struct qd_remap *r)
{
	remap_map_free(&r->from);
	remap_map_free(&r->to);
}

/* Everything before is on stable storage before anything after is written. */
static int end_step(struct qd_remap *r, struct qd_err *err)
{
	struct qd_queue *q = r->change->queue;

	return r->collecting ? qd_queue_barrier(q, err) : qd_queue_flush(q, err);
}

static int walk_tables(struct qd_remap *r,
		       int (*fn)(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err),
		       struct qd_err *err)
{
	return remap_walk_tables(r->img, r->collecting ? r->change->queue : NULL, &r->tables, fn, r, err);
}

static int redirect_all(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct qd_change *c = r->change;
	bool pin_changed;
	int rc = change_pin(r, moves, n, &pin_changed, err);

	if (rc == 0)
		rc = qd_alloc_write(c->alloc, err);
	if (rc == 0)
		rc = walk_tables(r, clear_copied, err);
	if (rc == 0)
		rc = end_step(r, err);
	if (rc == 0)
		rc = walk_tables(r, redirect_table, err);
	if (rc == 0 && pin_changed)
		rc = qd_change_tables(c, err);
	if (rc == 0 && pin_changed)
		rc = qd_pin_write(r->pin, err);
	return rc ? rc : end_step(r, err);
}

/* Steps 1 to 4, in the file or in the queue. */
static int carry_out(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = 0;

	if (!r->opts.late_counts)
		rc = remap_raise_counts(r, moves, n, err);
	if (rc == 0)
		rc = redirect_all(r, moves, n, err);
	r->stats.batches++;
	if (rc == 0 && !r->opts.late_counts)
		rc = remap_lower_counts(r, moves, n, err);
	return rc;
}

static uint64_t writes_so_far(const struct qd_remap *r)
{
	struct qd_queue_stats stats;

	qd_queue_stats(r->change->queue, &stats);
	return stats.writes;
}

/* Step 0.  What has left the queue already cannot be logged any more, nor what the area has no room for. */
static int log_batch(struct qd_remap *r, uint64_t writes_before, struct qd_err *err)
{
	int rc;

	if (writes_so_far(r) != writes_before)
		return 0;
	rc = qd_journal_redo_log(r->opts.journal, r->change->queue, r->img->io, err);
	if (rc == 0) {
		r->stats.logged++;
		r->stats.flushes += 2;	/* this one, and that of step 5 */
	}
	if (rc != QD_E_INVALID)
		return rc;
	qd_err_clear(err);
	return 0;
}

/* M5 */
static int logged_batch(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct qd_alloc *alloc = r->change->alloc;
	uint64_t writes;
	int rc = qd_queue_flush(r->change->queue, err);

	writes = writes_so_far(r);
	r->collecting = true;
	if (rc == 0)
		rc = carry_out(r, moves, n, err);
	r->collecting = false;
	if (rc == 0)
		rc = log_batch(r, writes, err);
	if (rc == 0)
		rc = qd_queue_flush(r->change->queue, err);
	qd_alloc_holes_later(alloc, false);
	if (rc == 0)
		rc = qd_alloc_make_holes(alloc, err);
	return rc ? rc : qd_journal_redo_applied(r->opts.journal, err);
}

/* The first ones of n moves; *ret_done: how many. */
static int next_batch(struct qd_remap *r, const struct qd_move *moves, uint64_t n, uint64_t *ret_done,
		      struct qd_err *err)
{
	uint64_t fit = n;
	int rc = fill_maps(r, moves, n, err);

	if (rc == 0 && r->opts.journal)
		rc = remap_fit(r, n, &fit, err);
	if (rc == 0 && fit < n) {
		free_maps(r);
		rc = fill_maps(r, moves, fit, err);
	}
	if (rc == 0)
		rc = r->opts.journal ? logged_batch(r, moves, fit, err) : carry_out(r, moves, fit, err);
	free_maps(r);
	*ret_done = fit;
	return rc;
}

int qd_remap_batch(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = qd_change_begin(r->change, err);

	for (uint64_t done; rc == 0 && n; moves += done, n -= done)
		rc = next_batch(r, moves, n, &done, err);
	return rc;
}

int qd_remap_unpin(struct qd_remap *r, uint64_t first, uint64_t nclusters, struct qd_err *err)
{
	struct qd_move *moves = calloc(nclusters, sizeof(*moves));
	bool changed;
	int rc = moves ? qd_change_begin(r->change, err) : qd_err_nomem(err, "a batch");

	for (uint64_t i = 0; moves && i < nclusters; i++) {
		moves[i].from = (first + i) << r->geom->cluster_bits;
		moves[i].pins = 1;
	}
	if (rc == 0)
		rc = fill_maps(r, moves, nclusters, err);
	if (rc == 0)
		rc = change_pin(r, moves, nclusters, &changed, err);
	if (rc == 0)
		rc = qd_change_tables(r->change, err);
	if (rc == 0)
		rc = qd_pin_write(r->pin, err);
	if (rc == 0)
		rc = qd_queue_flush(r->change->queue, err);
	if (rc == 0)
		rc = remap_lower_counts(r, moves, nclusters, err);
	free_maps(r);
	free(moves);
	return rc;
}

int qd_remap_counts(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = remap_raise_counts(r, moves, n, err);

	return rc ? rc : remap_lower_counts(r, moves, n, err);
}

int qd_remap_finish(struct qd_remap *r, struct qd_remap_stats *ret_stats, struct qd_err *err)
{
	struct qd_queue_stats stats;
	int rc = qd_change_end(r->change, err);

	qd_queue_stats(r->change->queue, &stats);
	r->stats.flushes += stats.flushes;
	*ret_stats = r->stats;
	return rc;
}
