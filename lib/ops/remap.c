/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch: two passes over all L2 tables, in the order of the file; refcounts in the order
 * of their clusters.
 */
#include "ops/remap.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/pin.h"
#include "ops/remap_int.h"

#define ALL_ALLOCATED 0xffffffffull
#define PAGE 4096u
#define BYTES_PER_MOVE 160u	/* the move, its slots in two maps, its references */

struct qd_remap {
	struct qd_image *img;
	const struct qd_geom *geom;
	struct qd_remap_opts opts;
	struct qd_change *change;
	struct qd_pin *pin;
	struct qd_l2set tables;
	struct remap_map from;		/* entry -> index of its move */
	struct remap_map to;		/* entries that will be shared */
	const struct qd_move *moves;
	struct qd_remap_stats stats;
};

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
	rc = qd_change_open(img, opts->memory / 4, &r->change, err);
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
	return qd_max_u64(r->opts.memory / 2 / BYTES_PER_MOVE, 256);
}

/* ---- refcounts ---- */

struct amount {			/* references of a host cluster */
	uint64_t cluster;
	uint64_t n;
};

static int compare_amounts(const void *pa, const void *pb)
{
	const struct amount *a = pa, *b = pb;

	return a->cluster < b->cluster ? -1 : a->cluster > b->cluster;
}

struct amounts {
	struct amount *v;
	uint64_t n;
	uint64_t capacity;
};

static int add_amount(struct amounts *a, const struct qd_geom *g, uint64_t entry, uint64_t n,
		      struct qd_err *err)
{
	uint64_t first, last;

	if (!entry || !n)
		return 0;
	qd_l2_clusters(g, entry, &first, &last);
	for (; first <= last; first++) {
		if (a->n == a->capacity) {
			uint64_t capacity = a->capacity ? a->capacity * 2 : 1024;
			struct amount *v = realloc(a->v, capacity * sizeof(*v));

			if (!v)
				return qd_err_nomem(err, "a batch");
			a->v = v;
			a->capacity = capacity;
		}
		a->v[a->n++] = (struct amount){ first, n };
	}
	return 0;
}

static bool is_ascending(const struct amounts *a)
{
	for (uint64_t i = 1; i < a->n; i++)
		if (a->v[i - 1].cluster > a->v[i].cluster)
			return false;
	return true;
}

/* One amount for each cluster, ascending, as those to be lowered mostly come. */
static void sum_up(struct amounts *a)
{
	uint64_t kept = 0;

	if (!is_ascending(a))
		qsort(a->v, a->n, sizeof(*a->v), compare_amounts);
	for (uint64_t i = 0; i < a->n; i++) {
		if (kept && a->v[kept - 1].cluster == a->v[i].cluster)
			a->v[kept - 1].n += a->v[i].n;
		else
			a->v[kept++] = a->v[i];
	}
	a->n = kept;
}

static int raise_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct amounts a = { .n = 0 };
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		if (!moves[i].own)
			rc = add_amount(&a, r->geom, moves[i].to,
					(uint64_t)moves[i].references + moves[i].pin, err);
	sum_up(&a);
	for (uint64_t i = 0; rc == 0 && i < a.n; i++)
		rc = qd_alloc_share(r->change->alloc, a.v[i].cluster, a.v[i].n, err);
	free(a.v);
	return rc;
}

/* Step 4.  Who reads the old clusters no longer stands on stable storage. */
static int lower_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct amounts a = { .n = 0 };
	uint64_t count;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++)
		rc = add_amount(&a, r->geom, moves[i].from,
				(uint64_t)moves[i].references + moves[i].places + moves[i].pins, err);
	sum_up(&a);
	for (uint64_t i = 0; rc == 0 && i < a.n; i++) {
		rc = qd_alloc_count(r->change->alloc, a.v[i].cluster, &count, err);
		if (rc == 0 && count == a.v[i].n)
			r->stats.freed++;
		if (rc == 0)
			rc = qd_alloc_release_many(r->change->alloc, a.v[i].cluster, a.v[i].n, err);
	}
	free(a.v);
	return rc ? rc : qd_change_settle(r->change, err);
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
	uint64_t at = index * r->geom->l2_entry_size, page = qd_align_down(at, PAGE);
	int rc = 0;

	if (page > p->end)
		rc = flush_pages(r, p, l2_off, entries, err);
	if (rc)
		return rc;
	if (p->first == p->end)
		p->first = page;
	p->end = qd_min_u64(page + PAGE, r->geom->cluster_size);
	qd_put_be64(entries + at, entry);
	if (r->geom->extended_l2)
		qd_put_be64(entries + at + 8, bitmap);
	return 0;
}

/* What a map knows the entry by; 0: it names no cluster. */
static uint64_t key_of(uint64_t entry)
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

		if (!(entry & QD_COPIED) || !key_of(entry) ||
		    remap_map_get(&r->to, key_of(entry)) == REMAP_NONE)
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
		uint32_t index = key_of(entry) ? remap_map_get(&r->from, key_of(entry)) : REMAP_NONE;

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
	*remove = remap_map_get(&r->from, key_of(entry)) != REMAP_NONE;
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
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		if (moves[i].from)
			remap_map_set(&r->from, moves[i].from, (uint32_t)i);
		if (moves[i].to && !moves[i].own)
			remap_map_set(&r->to, moves[i].to, 0);
	}
	r->moves = moves;
	return rc;
}

static int redirect_all(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	struct qd_change *c = r->change;
	bool pin_changed;
	int rc = change_pin(r, moves, n, &pin_changed, err);

	if (rc == 0)
		rc = qd_alloc_write(c->alloc, err);
	if (rc == 0)
		rc = remap_walk_tables(r->img, &r->tables, clear_copied, r, err);
	if (rc == 0)
		rc = qd_queue_flush(c->queue, err);
	if (rc == 0)
		rc = remap_walk_tables(r->img, &r->tables, redirect_table, r, err);
	if (rc == 0 && pin_changed)
		rc = qd_change_tables(c, err);
	if (rc == 0 && pin_changed)
		rc = qd_pin_write(r->pin, err);
	return rc ? rc : qd_queue_flush(c->queue, err);
}

int qd_remap_batch(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = qd_change_begin(r->change, err);

	if (rc == 0)
		rc = fill_maps(r, moves, n, err);
	if (rc == 0 && !r->opts.late_counts)
		rc = raise_counts(r, moves, n, err);
	if (rc == 0)
		rc = redirect_all(r, moves, n, err);
	remap_map_free(&r->from);
	remap_map_free(&r->to);
	r->stats.batches++;
	if (rc == 0 && !r->opts.late_counts)
		rc = lower_counts(r, moves, n, err);
	return rc;
}

int qd_remap_counts(struct qd_remap *r, struct qd_move *moves, uint64_t n, struct qd_err *err)
{
	int rc = raise_counts(r, moves, n, err);

	return rc ? rc : lower_counts(r, moves, n, err);
}

int qd_remap_finish(struct qd_remap *r, struct qd_remap_stats *ret_stats, struct qd_err *err)
{
	struct qd_queue_stats stats;
	int rc = qd_change_end(r->change, err);

	qd_queue_stats(r->change->queue, &stats);
	r->stats.flushes = stats.flushes;
	*ret_stats = r->stats;
	return rc;
}
