/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All tables of an image, each told where it lies and who names it: singles of one cluster, and
 * runs.  What is told twice (an L2 table of several layers, above all) is told again; nothing
 * is kept here, so that walking twice takes the place of a list.
 */
#include "ops/compact_int.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/bitmap.h"
#include "format/entry.h"
#include "format/snapshot.h"
#include "image/bitmaps.h"

struct walk {
	struct qd_image *img;
	const struct compact_walk *fns;
	void *ctx;
};

static uint64_t cluster_of(const struct walk *w, uint64_t off)
{
	return off >> w->img->geom.cluster_bits;
}

static int add_single(const struct walk *w, uint64_t off, enum compact_kind kind, uint64_t where,
		      struct qd_err *err)
{
	struct compact_single s = { cluster_of(w, off), where, kind };

	return w->fns->single(w->ctx, &s, err);
}

static int add_run(const struct walk *w, uint64_t first, uint64_t nclusters, enum compact_run_kind kind,
		   uint64_t pointer, struct qd_err *err)
{
	struct compact_run info = { kind, pointer };

	return nclusters && w->fns->run ? w->fns->run(w->ctx, first, nclusters, &info, err) : 0;
}

static int add_table(const struct walk *w, uint64_t off, uint64_t nbytes, enum compact_run_kind kind,
		     uint64_t pointer, struct qd_err *err)
{
	return add_run(w, cluster_of(w, off), qd_div_up(nbytes, w->img->geom.cluster_size), kind, pointer,
		       err);
}

/* ---- layers ---- */

static int add_layer(const struct walk *w, const uint64_t *l1, uint64_t entries, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < entries; i++)
		if (qd_entry_host_off(l1[i]))
			rc = add_single(w, qd_entry_host_off(l1[i]), COMPACT_L2, 0, err);
	return rc;
}

static int add_snapshot_layers(const struct walk *w, struct qd_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < w->img->nsnapshots; i++) {
		const struct qd_snapshot *s = &w->img->snapshots[i];
		uint64_t *l1 = NULL;

		rc = qd_image_load_l1(w->img, s->l1_off, s->l1_entries, &l1, err);
		if (rc == 0)
			rc = add_layer(w, l1, s->l1_entries, err);
		free(l1);
	}
	return rc;
}

/* The L1 tables of snapshots, and the table that names them. */
static int add_snapshot_tables(const struct walk *w, struct qd_err *err)
{
	uint64_t off = w->img->header.snapshots_off, nbytes = w->img->snapshots_nbytes, pos = 0;
	uint8_t *table;
	int rc;

	if (!w->img->nsnapshots)
		return 0;
	table = malloc(nbytes);
	if (!table)
		return qd_err_nomem(err, "the snapshot table");
	rc = qd_io_read(w->img->io, table, nbytes, off, err);
	for (uint32_t i = 0; rc == 0 && i < w->img->nsnapshots; i++) {
		struct qd_snapshot_entry e;
		size_t entry_nbytes = 0;

		rc = qd_snapshot_decode(table + pos, nbytes - pos, 0, &e, &entry_nbytes, err);
		if (rc == 0)
			rc = add_table(w, e.l1_off, (uint64_t)e.l1_entries * 8, COMPACT_NAMED, off + pos,
				       err);
		pos += entry_nbytes;
	}
	free(table);
	return rc ? rc : add_table(w, off, nbytes, COMPACT_NAMING, QD_HEADER_OFF_SNAPSHOTS_OFF, err);
}

static int add_header_tables(const struct walk *w, struct qd_err *err)
{
	const struct qd_header *h = &w->img->header;
	int rc = add_run(w, 0, 1, COMPACT_NAMING, 0, err);

	if (rc == 0)
		rc = add_table(w, h->l1_off, (uint64_t)h->l1_entries * 8, COMPACT_NAMING,
			       QD_HEADER_OFF_L1_OFF, err);
	if (rc == 0)
		rc = add_run(w, cluster_of(w, h->reftable_off), h->reftable_clusters, COMPACT_REFTABLE,
			     QD_HEADER_OFF_REFTABLE_OFF, err);
	return rc;
}

/* ---- bitmaps ---- */

#define PIECE 8192u		/* entries of a bitmap table read at a time */

static int add_bitmap_data(const struct walk *w, uint64_t table_off, uint64_t entries, struct qd_err *err)
{
	uint8_t *buf = malloc((size_t)PIECE * 8);
	int rc = buf ? 0 : qd_err_nomem(err, "a bitmap table");

	for (uint64_t at = 0; rc == 0 && at < entries; at += PIECE) {
		uint64_t n = qd_min_u64(entries - at, PIECE);

		rc = qd_io_read(w->img->io, buf, (size_t)n * 8, table_off + at * 8, err);
		for (uint64_t i = 0; rc == 0 && i < n; i++) {
			uint64_t off = qd_entry_host_off(qd_get_be64(buf + i * 8));

			if (off)
				rc = add_single(w, off, COMPACT_BITMAP, table_off + (at + i) * 8, err);
		}
	}
	free(buf);
	return rc;
}

static int add_bitmap_tables(const struct walk *w, const struct qd_bitmap_ext *ext, struct qd_err *err)
{
	uint8_t *dir = malloc(ext->dir_size + 1);
	uint64_t pos = 0;
	int rc = dir ? 0 : qd_err_nomem(err, "the bitmap directory");

	if (rc == 0)
		rc = qd_io_read(w->img->io, dir, ext->dir_size, ext->dir_off, err);
	for (uint32_t i = 0; rc == 0 && i < ext->count; i++) {
		struct qd_bitmap_entry e;
		size_t nbytes = 0;

		rc = qd_bitmap_entry_decode(dir + pos, ext->dir_size - pos, &e, &nbytes, err);
		if (rc == 0)
			rc = add_table(w, e.table_off, (uint64_t)e.table_entries * 8, COMPACT_NAMED,
				       ext->dir_off + pos, err);
		if (rc == 0)
			rc = add_bitmap_data(w, e.table_off, e.table_entries, err);
		pos += nbytes;
	}
	free(dir);
	return rc;
}

/* Byte of the file where the extension says where the directory is; 0: there is none. */
static int find_directory_pointer(const struct walk *w, uint64_t *ret_pointer, struct qd_err *err)
{
	const struct qd_header *h = &w->img->header;
	size_t size = (size_t)w->img->geom.cluster_size, pos = h->header_length;
	size_t end = h->backing_name_off ? (size_t)h->backing_name_off : size;
	uint8_t *buf = malloc(size);
	struct qd_header_ext ext;
	int rc = buf ? 0 : qd_err_nomem(err, "the header");

	*ret_pointer = 0;
	if (rc == 0)
		rc = qd_io_read_padded(w->img->io, buf, size, 0, err);
	while (rc == 0 && (rc = qd_header_ext_next(buf, end, &pos, &ext, err)) > 0) {
		rc = 0;
		if (ext.type == QD_EXT_BITMAPS)
			*ret_pointer = (uint64_t)(ext.data - buf) + 16;
	}
	free(buf);
	return rc;
}

static int add_bitmaps(const struct walk *w, struct qd_err *err)
{
	struct qd_bitmap_ext ext;
	uint64_t pointer = 0;
	int rc;

	if (!qd_bitmaps_count(w->img))
		return 0;
	rc = qd_bitmaps_directory(w->img, &ext, err);
	if (rc == 0)
		rc = find_directory_pointer(w, &pointer, err);
	if (rc == 0)
		rc = add_bitmap_tables(w, &ext, err);
	return rc ? rc : add_table(w, ext.dir_off, ext.dir_size, COMPACT_NAMING, pointer, err);
}

/* ---- all ---- */

static int add_blocks(const struct walk *w, const struct qd_alloc *alloc, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < qd_alloc_nblocks(alloc); i++)
		if (qd_alloc_block(alloc, i))
			rc = add_single(w, qd_alloc_block(alloc, i) << w->img->geom.cluster_bits,
					COMPACT_BLOCK, i, err);
	return rc;
}

int compact_walk(struct qd_image *img, const struct qd_alloc *alloc, const struct compact_walk *fns,
		 void *ctx, struct qd_err *err)
{
	const struct walk w = { img, fns, ctx };
	int rc = add_blocks(&w, alloc, err);

	if (rc == 0)
		rc = add_header_tables(&w, err);
	if (rc == 0)
		rc = add_layer(&w, img->l1, img->header.l1_entries, err);
	if (rc == 0)
		rc = add_snapshot_layers(&w, err);
	if (rc == 0)
		rc = add_snapshot_tables(&w, err);
	return rc ? rc : add_bitmaps(&w, err);
}
