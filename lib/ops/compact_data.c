/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving clusters of data: the bytes are copied to claimed clusters, then all references
 * are redirected batch by batch (remap.h).
 */
#include "ops/compact_int.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define COPY_BYTES (1u << 20)

int compact_copy(const struct compact *c, const struct qd_geom *g, uint64_t from, uint64_t to,
		 uint64_t nclusters, struct qd_err *err)
{
	uint64_t left = nclusters << g->cluster_bits;
	uint64_t src = from << g->cluster_bits, dst = to << g->cluster_bits;
	size_t piece = (size_t)qd_max_u64(g->cluster_size, COPY_BYTES);
	uint8_t *buf = malloc(piece);
	int rc = buf ? 0 : qd_err_nomem(err, "copying clusters");

	while (rc == 0 && left) {
		size_t n = (size_t)qd_min_u64(left, piece);

		rc = qd_io_read_padded(c->io, buf, n, src, err);
		if (rc == 0)
			rc = qd_io_write(c->io, buf, n, dst, err);
		src += n;
		dst += n;
		left -= n;
	}
	free(buf);
	return rc;
}

struct gathering {
	const struct qd_geom *g;
	const struct compact_map *map;
	uint64_t next;			/* of map->moves */
	struct qd_move *moves;
	uint64_t n;
};

static int unknown_cluster(const struct qd_geom *g, uint64_t cluster, struct qd_err *err)
{
	return qd_err_set(err, QD_E_CORRUPT,
			  "the cluster at 0x%" PRIx64 " is in use by something that is not known: "
			  "run qdedup check", cluster << g->cluster_bits);
}

/* The next move of data, those of tables left aside; NULL: no more. */
static const struct compact_move *peek(struct gathering *d)
{
	while (d->next < d->map->nmoves && compact_map_single(d->map, d->map->moves[d->next].from))
		d->next++;
	return d->next < d->map->nmoves ? &d->map->moves[d->next] : NULL;
}

/* Both lists ascend. */
static int gather(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct gathering *d = ctx;

	for (unsigned i = 0; i < n; i++) {
		const struct qd_surveyed *s = &v[i].c;
		const struct compact_move *m = peek(d);
		uint64_t cluster = s->entry >> d->g->cluster_bits;

		if (qd_l2_is_compressed(s->entry) || !m || cluster < m->from)
			continue;
		if (cluster > m->from)
			return unknown_cluster(d->g, m->from, err);
		d->moves[d->n++] = (struct qd_move){
			.from = s->entry, .to = m->to << d->g->cluster_bits, .bitmap = s->bitmap,
			.references = s->references, .places = s->places, .pins = s->pins, .own = true,
		};
		d->next++;
	}
	return 0;
}

/*
 * Claims the new cluster with the old one's count.  *ret_free is false, and nothing is done, when a
 * batch before took it (for a table of the pin): another round finds another place.
 */
static int claim(struct compact *c, struct qd_alloc *alloc, const struct qd_geom *g, const struct qd_move *m,
		 bool *ret_free, struct qd_err *err)
{
	uint64_t count, taken = 0, to = m->to >> g->cluster_bits;
	int rc = qd_alloc_count(alloc, m->from >> g->cluster_bits, &count, err);

	if (rc == 0 && count != (uint64_t)m->references + m->places + m->pins)
		rc = unknown_cluster(g, m->from >> g->cluster_bits, err);
	if (rc == 0)
		rc = qd_alloc_count(alloc, to, &taken, err);
	*ret_free = rc == 0 && !taken;
	if (!*ret_free)
		return rc;
	rc = qd_alloc_claim_at(alloc, to, err);
	if (rc == 0 && count > 1)
		rc = qd_alloc_share(alloc, to, count - 1, err);
	return rc ? rc : compact_index_moved(c, m->from, m->to, err);
}

/* Of n moves those that can be made, in front; *ret_n of them. */
static int claim_all(struct compact *c, struct qd_alloc *alloc, const struct qd_geom *g,
		     struct qd_move *moves,
		     uint64_t n, uint64_t *ret_n, struct qd_err *err)
{
	bool is_free = false;
	int rc = 0;

	*ret_n = 0;
	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		rc = claim(c, alloc, g, &moves[i], &is_free, err);
		if (is_free)
			moves[(*ret_n)++] = moves[i];
	}
	return rc;
}

/* Clusters from moves[i] on that are neighbours before and after. */
static uint64_t run_length(const struct qd_move *moves, uint64_t i, uint64_t n, uint64_t size)
{
	uint64_t len = 1;

	while (i + len < n && moves[i + len].from == moves[i].from + len * size &&
	       moves[i + len].to == moves[i].to + len * size)
		len++;
	return len;
}

static int move_batch(struct compact *c, struct qd_remap *remap, const struct qd_geom *g,
		      struct qd_move *moves,
		      uint64_t n, struct qd_err *err)
{
	struct qd_change *change = qd_remap_change(remap);
	int rc = qd_change_begin(change, err);

	if (rc == 0)
		rc = claim_all(c, change->alloc, g, moves, n, &n, err);
	for (uint64_t i = 0, len; rc == 0 && i < n; i += len) {
		len = run_length(moves, i, n, g->cluster_size);
		rc = compact_copy(c, g, moves[i].from >> g->cluster_bits, moves[i].to >> g->cluster_bits, len,
				  err);
	}
	qd_queue_wrote_data(change->queue);
	if (rc == 0 && n)
		rc = qd_remap_batch(remap, moves, n, err);
	c->res->data_moved += n;
	return rc ? rc : qd_progress_add(c->progress, n << g->cluster_bits, err);
}

static int move_all(struct compact *c, struct qd_image *img, struct gathering *d, struct qd_err *err)
{
	struct qd_remap_opts opts = { .memory = c->memory / 2 };
	struct qd_remap_stats stats = { 0 };
	struct qd_err why;
	struct qd_remap *remap = NULL;
	int rc = qd_remap_open(img, &opts, &remap, err), stop = 0;

	for (uint64_t i = 0, n; rc == 0 && stop == 0 && i < d->n; i += n) {
		n = qd_min_u64(d->n - i, qd_remap_capacity(remap));
		rc = move_batch(c, remap, d->g, d->moves + i, n, err);
		if (rc == QD_E_CANCELLED) {	/* between two batches: the image can be left clean */
			stop = rc;
			rc = 0;
			qd_err_copy(&why, err);
			qd_err_clear(err);
		}
	}
	if (rc == 0)
		rc = qd_remap_finish(remap, &stats, err);
	c->res->flushes += stats.flushes;
	qd_remap_free(remap);
	if (rc == 0 && stop)
		qd_err_copy(err, &why);
	return rc ? rc : stop;
}

int compact_move_data(struct compact *c, const struct compact_map *map, struct qd_err *err)
{
	struct gathering d = { .map = map, .moves = malloc((map->nmoves + 1) * sizeof(struct qd_move)) };
	struct qd_survey_opts opts = { .threads = 1, .memory = c->memory / 4 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = gather };
	struct qd_image *img = NULL;
	int rc = d.moves ? compact_open(c, &img, err) : qd_err_nomem(err, "the list of moves");

	if (rc == 0) {
		d.g = &img->geom;
		rc = qd_survey_walk(img, &opts, &ops, &d, NULL, err);
	}
	if (rc == 0 && peek(&d))
		rc = unknown_cluster(d.g, peek(&d)->from, err);
	if (rc == 0 && d.n)
		rc = move_all(c, img, &d, err);
	compact_close(img);
	free(d.moves);
	return rc;
}
