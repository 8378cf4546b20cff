/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies where in an image that a check found consistent, so that everything can be
 * moved: each cluster in use is a single table, part of a run, a stream's, or data.
 *
 *	single   L2 table, refcount block, cluster of a bitmap
 *	run      header, L1 tables, snapshot table, refcount table, bitmap directory and tables
 *	stream   compressed clusters, which move by other means
 *	data     whatever else is in use: the survey knows who reads it
 *
 * Memory: a few bits for each cluster of the file while the plan is made, one afterwards; runs are few;
 * and of singles and data those that move in this round, which --memory bounds.
 */
#include "ops/compact_int.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define BYTES_PER_MOVE 256u	/* of memory: a quarter of it for moves, in this list and the next */

struct making {
	struct qd_image *img;
	struct compact_map *map;
	struct qd_alloc *alloc;
	bool planning;			/* nothing moves yet: blocks will come before anything does */
	uint64_t move_limit;		/* moves that one round takes */
	struct qd_bits l2;		/* L2 tables; */
	struct qd_bits others;		/* other single tables */
	struct qd_bits still;		/* streams, and runs */
};

/* ---- tables ---- */

static bool is_table(const struct making *m, uint64_t cluster)
{
	return qd_bits_get(&m->l2, cluster) || qd_bits_get(&m->others, cluster);
}

/* An L2 table that several L1 tables name is one; what else is named twice has no business to be. */
static int mark_single(void *ctx, const struct compact_single *s, struct qd_err *err)
{
	struct making *m = ctx;
	bool known = s->cluster < m->l2.nbits;

	if (!known || qd_bits_get(&m->others, s->cluster) ||
	    (s->kind != COMPACT_L2 && qd_bits_get(&m->l2, s->cluster)))
		return qd_err_set(err, QD_E_CORRUPT,
				  "%s 0x%" PRIx64 ", and the image is not changed: run qdedup check",
				  known ? "two tables lie at" : "nothing counts the table at",
				  s->cluster << m->img->geom.cluster_bits);
	qd_bits_set(s->kind == COMPACT_L2 ? &m->l2 : &m->others, s->cluster);
	return 0;
}

static int add_run(void *ctx, uint64_t first, uint64_t nclusters, const struct compact_run *info,
		   struct qd_err *err)
{
	struct making *m = ctx;
	struct compact_map *map = m->map;

	if (first + nclusters > m->still.nbits)
		return qd_err_set(err, QD_E_CORRUPT,
				  "nothing counts the table at 0x%" PRIx64 ": run qdedup check",
				  first << m->img->geom.cluster_bits);
	if (map->nruns == map->runs_capacity) {
		uint64_t capacity = map->runs_capacity ? map->runs_capacity * 2 : 64;
		struct qd_compact_run *runs = realloc(map->runs, capacity * sizeof(*runs));
		struct compact_run *infos;

		if (!runs)
			return qd_err_nomem(err, "the list of tables");
		map->runs = runs;
		infos = realloc(map->infos, capacity * sizeof(*infos));
		if (!infos)
			return qd_err_nomem(err, "the list of tables");
		map->infos = infos;
		map->runs_capacity = capacity;
	}
	map->runs[map->nruns] = (struct qd_compact_run){ .first = first, .nclusters = nclusters,
							 .fixed = !info->pointer };
	map->infos[map->nruns++] = *info;
	return 0;
}

/* The plan is there: of the tables those that move, each once. */
static int take_single(void *ctx, const struct compact_single *s, struct qd_err *err)
{
	struct making *m = ctx;
	struct compact_map *map = m->map;

	if (!is_table(m, s->cluster) || !compact_map_move(map, s->cluster))
		return 0;
	if (map->nsingles == map->singles_capacity) {
		uint64_t capacity = map->singles_capacity ? map->singles_capacity * 2 : 256;
		struct compact_single *v = realloc(map->singles, capacity * sizeof(*v));

		if (!v)
			return qd_err_nomem(err, "the list of tables");
		map->singles = v;
		map->singles_capacity = capacity;
	}
	map->singles[map->nsingles++] = *s;
	qd_bits_clear(&m->l2, s->cluster);
	qd_bits_clear(&m->others, s->cluster);
	return 0;
}

static int compare_singles(const void *pa, const void *pb)
{
	const struct compact_single *a = pa, *b = pb;

	return a->cluster < b->cluster ? -1 : a->cluster > b->cluster;
}

static int take_singles(struct making *m, struct qd_err *err)
{
	static const struct compact_walk fns = { .single = take_single };
	int rc = m->map->ntables ? compact_walk(m->img, m->alloc, &fns, m, err) : 0;

	if (m->map->nsingles)
		qsort(m->map->singles, m->map->nsingles, sizeof(*m->map->singles), compare_singles);
	return rc;
}

const struct compact_single *compact_map_single(const struct compact_map *map, uint64_t cluster)
{
	struct compact_single key = { .cluster = cluster };

	return map->nsingles ? bsearch(&key, map->singles, map->nsingles, sizeof(key),
				       compare_singles) : NULL;
}

/* ---- refcounts, streams ---- */

static int take_counts(struct making *m, struct qd_err *err)
{
	uint64_t nclusters = qd_alloc_end(m->alloc) >> m->img->geom.cluster_bits, count;
	int rc = qd_bits_new(nclusters, &m->map->used, err);

	for (uint64_t c = 0; rc == 0 && c < nclusters; c++) {
		rc = qd_alloc_count(m->alloc, c, &count, err);
		if (rc == 0 && count)
			qd_bits_set(&m->map->used, c);
	}
	if (rc == 0)
		rc = qd_bits_new(nclusters, &m->l2, err);
	if (rc == 0)
		rc = qd_bits_new(nclusters, &m->others, err);
	return rc ? rc : qd_bits_new(nclusters, &m->still, err);
}

static int mark_streams(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct making *m = ctx;

	(void)err;
	for (unsigned i = 0; i < n; i++) {
		uint64_t first, last;

		if (!qd_l2_is_compressed(v[i].c.entry))
			continue;
		qd_l2_clusters(&m->img->geom, v[i].c.entry, &first, &last);
		for (; first <= last && first < m->still.nbits; first++)
			qd_bits_set(&m->still, first);
	}
	return 0;
}

/* ---- the plan ---- */

/* Nothing can go where no refcount block counts it: the next round makes one, if it is worth it. */
static bool is_counted(const struct making *m, uint64_t cluster)
{
	uint64_t index = cluster / m->img->geom.block_entries;

	return m->planning || (index < qd_alloc_nblocks(m->alloc) && qd_alloc_block(m->alloc, index));
}

static void leave_runs(const struct making *m)
{
	for (uint64_t i = 0; i < m->map->nruns; i++) {
		struct qd_compact_run *r = &m->map->runs[i];

		for (uint64_t k = 0; r->to != QD_COMPACT_STAYS && k < r->nclusters; k++)
			if (!is_counted(m, r->to + k))
				r->to = QD_COMPACT_STAYS;
	}
}

static int add_move(void *ctx, uint64_t from, uint64_t to, struct qd_err *err)
{
	struct making *m = ctx;
	struct compact_map *map = m->map;

	if (is_table(m, from))
		map->ntables++;
	else
		map->ndata++;
	map->cut = map->cut || map->nmoves == m->move_limit;
	if (map->nmoves == m->move_limit || !is_counted(m, to))
		return 0;	/* the next round plans again */
	if (map->nmoves == map->moves_capacity) {
		uint64_t capacity = map->moves_capacity ? map->moves_capacity * 2 : 1024;
		struct compact_move *v = realloc(map->moves, capacity * sizeof(*v));

		if (!v)
			return qd_err_nomem(err, "the list of moves");
		map->moves = v;
		map->moves_capacity = capacity;
	}
	map->moves[map->nmoves++] = (struct compact_move){ from, to };
	return 0;
}

const struct compact_move *compact_map_move(const struct compact_map *map, uint64_t from)
{
	uint64_t lo = 0, hi = map->nmoves;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (map->moves[mid].from < from)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < map->nmoves && map->moves[lo].from == from ? &map->moves[lo] : NULL;
}

static int make(struct making *m, const struct compact *c, struct qd_err *err)
{
	static const struct compact_walk fns = { .single = mark_single, .run = add_run };
	struct qd_survey_opts opts = { .threads = 1, .memory = c->memory / 4 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = mark_streams };
	struct compact_map *map = m->map;
	int rc = take_counts(m, err);

	if (rc == 0 && !c->no_streams)
		rc = qd_survey_walk(m->img, &opts, &ops, m, NULL, err);
	if (rc == 0)
		rc = compact_walk(m->img, m->alloc, &fns, m, err);
	if (rc == 0)
		rc = qd_compact_plan(&map->used, &m->still, map->runs, map->nruns, add_move, m, &map->end,
				     err);
	if (rc == 0)
		rc = take_singles(m, err);
	if (rc == 0)
		leave_runs(m);
	return rc;
}

int compact_map_make(const struct compact *c, struct qd_image *img, struct qd_alloc *alloc,
		     struct compact_map *map, struct qd_err *err)
{
	struct making m = { .img = img, .map = map, .alloc = alloc,
			    .planning = c->res->stage == QD_COMPACT_READING,
			    .move_limit = qd_max_u64(c->memory / BYTES_PER_MOVE, 1024) };
	int rc = make(&m, c, err);

	qd_bits_free(&m.l2);
	qd_bits_free(&m.others);
	qd_bits_free(&m.still);
	return rc;
}

void compact_map_free(struct compact_map *map)
{
	qd_bits_free(&map->used);
	free(map->singles);
	free(map->runs);
	free(map->infos);
	free(map->moves);
	*map = (struct compact_map){ .nmoves = 0 };
}
