/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What lies where in an image that a check found consistent, so that everything can be
 * moved: each cluster in use is a single table, part of a run, or data.
 *
 *	single   L2 table, refcount block, cluster of a bitmap
 *	run      header, L1 tables, snapshot table, refcount table, bitmap directory and tables;
 *	         clusters with compressed streams, which move by other means
 *	data     whatever else is in use: the survey knows who reads it
 */
#include "ops/compact_int.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/bitmap.h"
#include "format/entry.h"
#include "format/snapshot.h"
#include "image/bitmaps.h"

struct making {
	struct qd_image *img;
	struct compact_map *map;
	struct qd_alloc *alloc;
	bool planning;			/* nothing moves yet: blocks will come before anything does */
	uint64_t move_limit;		/* moves of singles that one round takes */
};

static uint64_t cluster_of(const struct making *m, uint64_t off)
{
	return off >> m->img->geom.cluster_bits;
}

/* ---- lists ---- */

static int add_single(struct making *m, uint64_t cluster, enum compact_kind kind, uint64_t where,
		      struct qd_err *err)
{
	struct compact_map *map = m->map;

	if (map->nsingles == map->singles_capacity) {
		uint64_t capacity = map->singles_capacity ? map->singles_capacity * 2 : 256;
		struct compact_single *v = realloc(map->singles, capacity * sizeof(*v));

		if (!v)
			return qd_err_nomem(err, "the list of tables");
		map->singles = v;
		map->singles_capacity = capacity;
	}
	map->singles[map->nsingles++] = (struct compact_single){ cluster, where, kind };
	return 0;
}

static int add_run(struct making *m, uint64_t first, uint64_t nclusters, enum compact_run_kind kind,
		   uint64_t pointer, struct qd_err *err)
{
	struct compact_map *map = m->map;

	if (!nclusters)
		return 0;
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
							 .fixed = !pointer };
	map->infos[map->nruns++] = (struct compact_run){ kind, pointer };
	return 0;
}

static int add_table(struct making *m, uint64_t off, uint64_t nbytes, enum compact_run_kind kind,
		     uint64_t pointer, struct qd_err *err)
{
	return add_run(m, cluster_of(m, off), qd_div_up(nbytes, m->img->geom.cluster_size), kind, pointer,
		       err);
}

static int compare_singles(const void *pa, const void *pb)
{
	const struct compact_single *a = pa, *b = pb;

	return a->cluster < b->cluster ? -1 : a->cluster > b->cluster;
}

/* An L2 table that several L1 tables name is one; what else is named twice has no business to be. */
static int sort_singles(struct making *m, struct qd_err *err)
{
	struct compact_map *map = m->map;
	uint64_t kept = 0;

	if (map->nsingles)
		qsort(map->singles, map->nsingles, sizeof(*map->singles), compare_singles);
	for (uint64_t i = 0; i < map->nsingles; i++) {
		struct compact_single *s = &map->singles[i], *last = kept ? &map->singles[kept - 1] : NULL;

		if (!last || last->cluster != s->cluster)
			map->singles[kept++] = *s;
		else if (s->kind != COMPACT_L2 || last->kind != COMPACT_L2)
			return qd_err_set(err, QD_E_CORRUPT,
					  "two tables lie at 0x%" PRIx64 ", and the image is not "
					  "changed: run qdedup check",
					  s->cluster << m->img->geom.cluster_bits);
	}
	map->nsingles = kept;
	return 0;
}

const struct compact_single *compact_map_single(const struct compact_map *map, uint64_t cluster)
{
	struct compact_single key = { .cluster = cluster };

	return map->nsingles ? bsearch(&key, map->singles, map->nsingles, sizeof(key),
				       compare_singles) : NULL;
}

/* ---- layers ---- */

static int add_layer(struct making *m, const uint64_t *l1, uint64_t entries, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < entries; i++)
		if (qd_entry_host_off(l1[i]))
			rc = add_single(m, cluster_of(m, qd_entry_host_off(l1[i])), COMPACT_L2, 0, err);
	return rc;
}

static int add_snapshot_layers(struct making *m, struct qd_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < m->img->nsnapshots; i++) {
		const struct qd_snapshot *s = &m->img->snapshots[i];
		uint64_t *l1 = NULL;

		rc = qd_image_load_l1(m->img, s->l1_off, s->l1_entries, &l1, err);
		if (rc == 0)
			rc = add_layer(m, l1, s->l1_entries, err);
		free(l1);
	}
	return rc;
}

/* The L1 tables of snapshots, and the table that names them. */
static int add_snapshot_tables(struct making *m, struct qd_err *err)
{
	uint64_t off = m->img->header.snapshots_off, nbytes = m->img->snapshots_nbytes, pos = 0;
	uint8_t *table;
	int rc;

	if (!m->img->nsnapshots)
		return 0;
	table = malloc(nbytes);
	if (!table)
		return qd_err_nomem(err, "the snapshot table");
	rc = qd_io_read(m->img->io, table, nbytes, off, err);
	for (uint32_t i = 0; rc == 0 && i < m->img->nsnapshots; i++) {
		struct qd_snapshot_entry e;
		size_t entry_nbytes = 0;

		rc = qd_snapshot_decode(table + pos, nbytes - pos, 0, &e, &entry_nbytes, err);
		if (rc == 0)
			rc = add_table(m, e.l1_off, (uint64_t)e.l1_entries * 8, COMPACT_NAMED, off + pos,
				       err);
		pos += entry_nbytes;
	}
	free(table);
	return rc ? rc : add_table(m, off, nbytes, COMPACT_NAMING, QD_HEADER_OFF_SNAPSHOTS_OFF, err);
}

static int add_header_tables(struct making *m, struct qd_err *err)
{
	const struct qd_header *h = &m->img->header;
	int rc = add_run(m, 0, 1, COMPACT_NAMING, 0, err);

	if (rc == 0)
		rc = add_table(m, h->l1_off, (uint64_t)h->l1_entries * 8, COMPACT_NAMING,
			       QD_HEADER_OFF_L1_OFF, err);
	if (rc == 0)
		rc = add_run(m, cluster_of(m, h->reftable_off), h->reftable_clusters, COMPACT_REFTABLE,
			     QD_HEADER_OFF_REFTABLE_OFF, err);
	return rc;
}

/* ---- bitmaps ---- */

#define PIECE 8192u		/* entries of a bitmap table read at a time */
#define BYTES_PER_MOVE 256u	/* of memory: a quarter of it for moves, in this list and the next */

static int add_bitmap_data(struct making *m, uint64_t table_off, uint64_t entries, struct qd_err *err)
{
	uint8_t *buf = malloc((size_t)PIECE * 8);
	int rc = buf ? 0 : qd_err_nomem(err, "a bitmap table");

	for (uint64_t at = 0; rc == 0 && at < entries; at += PIECE) {
		uint64_t n = qd_min_u64(entries - at, PIECE);

		rc = qd_io_read(m->img->io, buf, (size_t)n * 8, table_off + at * 8, err);
		for (uint64_t i = 0; rc == 0 && i < n; i++) {
			uint64_t off = qd_entry_host_off(qd_get_be64(buf + i * 8));

			if (off)
				rc = add_single(m, cluster_of(m, off), COMPACT_BITMAP,
						table_off + (at + i) * 8, err);
		}
	}
	free(buf);
	return rc;
}

static int add_bitmap_tables(struct making *m, const struct qd_bitmap_ext *ext, struct qd_err *err)
{
	uint8_t *dir = malloc(ext->dir_size + 1);
	uint64_t pos = 0;
	int rc = dir ? 0 : qd_err_nomem(err, "the bitmap directory");

	if (rc == 0)
		rc = qd_io_read(m->img->io, dir, ext->dir_size, ext->dir_off, err);
	for (uint32_t i = 0; rc == 0 && i < ext->count; i++) {
		struct qd_bitmap_entry e;
		size_t nbytes = 0;

		rc = qd_bitmap_entry_decode(dir + pos, ext->dir_size - pos, &e, &nbytes, err);
		if (rc == 0)
			rc = add_table(m, e.table_off, (uint64_t)e.table_entries * 8, COMPACT_NAMED,
				       ext->dir_off + pos, err);
		if (rc == 0)
			rc = add_bitmap_data(m, e.table_off, e.table_entries, err);
		pos += nbytes;
	}
	free(dir);
	return rc;
}

/* Byte of the file where the extension says where the directory is; 0: there is none. */
static int find_directory_pointer(struct making *m, uint64_t *ret_pointer, struct qd_err *err)
{
	const struct qd_header *h = &m->img->header;
	size_t size = (size_t)m->img->geom.cluster_size, pos = h->header_length;
	size_t end = h->backing_name_off ? (size_t)h->backing_name_off : size;
	uint8_t *buf = malloc(size);
	struct qd_header_ext ext;
	int rc = buf ? 0 : qd_err_nomem(err, "the header");

	*ret_pointer = 0;
	if (rc == 0)
		rc = qd_io_read_padded(m->img->io, buf, size, 0, err);
	while (rc == 0 && (rc = qd_header_ext_next(buf, end, &pos, &ext, err)) > 0) {
		rc = 0;
		if (ext.type == QD_EXT_BITMAPS)
			*ret_pointer = (uint64_t)(ext.data - buf) + 16;
	}
	free(buf);
	return rc;
}

static int add_bitmaps(struct making *m, struct qd_err *err)
{
	struct qd_bitmap_ext ext;
	uint64_t pointer = 0;
	int rc;

	if (!qd_bitmaps_count(m->img))
		return 0;
	rc = qd_bitmaps_directory(m->img, &ext, err);
	if (rc == 0)
		rc = find_directory_pointer(m, &pointer, err);
	if (rc == 0)
		rc = add_bitmap_tables(m, &ext, err);
	return rc ? rc : add_table(m, ext.dir_off, ext.dir_size, COMPACT_NAMING, pointer, err);
}

/* ---- refcounts, streams ---- */

static int take_counts(struct making *m, struct qd_alloc *alloc, struct qd_err *err)
{
	uint64_t nclusters = qd_alloc_end(alloc) >> m->img->geom.cluster_bits, count;
	int rc = qd_bits_new(nclusters, &m->map->used, err);

	for (uint64_t c = 0; rc == 0 && c < nclusters; c++) {
		rc = qd_alloc_count(alloc, c, &count, err);
		if (rc == 0 && count)
			qd_bits_set(&m->map->used, c);
	}
	for (uint64_t i = 0; rc == 0 && i < qd_alloc_nblocks(alloc); i++)
		if (qd_alloc_block(alloc, i))
			rc = add_single(m, qd_alloc_block(alloc, i), COMPACT_BLOCK, i, err);
	return rc;
}

static int take_streams(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct making *m = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct compact_map *map = m->map;
		struct qd_compact_run *run = map->nruns ? &map->runs[map->nruns - 1] : NULL;
		uint64_t first, last;

		if (!qd_l2_is_compressed(v[i].c.entry))
			continue;
		qd_l2_clusters(&m->img->geom, v[i].c.entry, &first, &last);
		if (run && map->infos[map->nruns - 1].kind == COMPACT_STREAMS &&
		    run->first + run->nclusters >= first)
			run->nclusters = qd_max_u64(run->nclusters, last + 1 - run->first);
		else
			rc = add_run(m, first, last + 1 - first, COMPACT_STREAMS, 0, err);
	}
	return rc;
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

int compact_map_make(const struct compact *c, struct qd_image *img, struct qd_alloc *alloc,
		     struct compact_map *map, struct qd_err *err)
{
	struct making m = { .img = img, .map = map, .alloc = alloc,
			    .planning = c->res->stage == QD_COMPACT_READING,
			    .move_limit = qd_max_u64(c->memory / BYTES_PER_MOVE, 1024) };
	struct qd_survey_opts opts = { .threads = 1, .memory = c->memory / 4 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = take_streams };
	int rc = take_counts(&m, alloc, err);

	if (rc == 0 && !c->no_streams)
		rc = qd_survey_walk(img, &opts, &ops, &m, NULL, err);
	if (rc == 0)
		rc = add_header_tables(&m, err);
	if (rc == 0)
		rc = add_layer(&m, img->l1, img->header.l1_entries, err);
	if (rc == 0)
		rc = add_snapshot_layers(&m, err);
	if (rc == 0)
		rc = add_snapshot_tables(&m, err);
	if (rc == 0)
		rc = add_bitmaps(&m, err);
	if (rc == 0)
		rc = sort_singles(&m, err);
	if (rc)
		return rc;
	rc = qd_compact_plan(&map->used, map->runs, map->nruns, add_move, &m, &map->end, err);
	leave_runs(&m);
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
