/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Measuring adds up what a target needs:
 *
 *	required         = all metadata of a full disk + the target clusters that hold data
 *	fully_allocated  = all metadata of a full disk + the disk
 *
 * which is how QEMU counts, so that both give the same numbers.  It overestimates the
 * metadata of a sparse disk.
 *
 * With dedup the conversion itself is run into nowhere: data is dropped, metadata goes to
 * a temporary file, and digests stand for contents.  The size of the result is then that
 * of the image convert would write.
 */
#include "ops/measure.h"

#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/tmpfile.h"
#include "format/header.h"
#include "image/bitmaps.h"
#include "ops/convert_int.h"
#include "ops/extent.h"
#include "space/refcount.h"

#define DEFAULT_CLUSTER_SIZE 65536u

/* ---- sizes by arithmetic ---- */

static void geometry_of(const struct qd_layout *l, uint64_t virtual_size, struct qd_geom *ret_geom)
{
	struct qd_header h = {
		.version = l->version,
		.cluster_bits = (uint32_t)__builtin_ctzll(l->cluster_size ? l->cluster_size : DEFAULT_CLUSTER_SIZE),
		.virtual_size = virtual_size,
		.refcount_order = (uint32_t)__builtin_ctz(l->refcount_bits),
		.incompatible = l->extended_l2 ? QD_INCOMPAT_EXTL2 : 0,
	};

	qd_geom_init(&h, ret_geom);
}

/* Metadata of a disk of nclusters with every cluster allocated: header, L2, L1, refcounts. */
static int measure_metadata(const struct qd_geom *g, uint64_t nclusters, uint64_t *ret_nbytes, struct qd_err *err)
{
	uint64_t tables = qd_div_up(nclusters, g->l2_entries);
	uint64_t l1 = qd_div_up(tables, g->cluster_size / 8);
	uint64_t blocks, table_clusters;

	if (tables > QD_MAX_L1_BYTES / 8)
		return qd_err_set(err, QD_E_INVALID,
				  "a disk of %" PRIu64 " clusters is too large for clusters of %" PRIu64
				  " bytes: use larger clusters",
				  nclusters, g->cluster_size);
	qd_refcount_structure(g, 1 + tables + l1 + nclusters, &blocks, &table_clusters);
	*ret_nbytes = (1 + tables + l1 + blocks + table_clusters) << g->cluster_bits;
	return 0;
}

/* Bytes of target clusters that hold data: each counted once, however little of it. */
static int measure_data(const struct qd_disk *disk, uint64_t cluster_size, uint64_t *ret_nbytes, struct qd_err *err)
{
	struct qd_extent_walk *walk = NULL;
	uint64_t pos = 0, sum = 0;
	struct qd_extent e;
	int r = qd_extent_walk_new(disk, &walk, err);

	while (!r && pos < disk->virtual_size) {
		uint64_t end;

		r = qd_extent_next(walk, pos, disk->virtual_size - pos, &e, err);
		if (r)
			break;
		end = pos + e.nbytes;
		if (e.data && !e.zero) {
			end = qd_align_up(end, cluster_size);
			sum += end - qd_align_down(pos, cluster_size);
		}
		pos = end;
	}
	qd_extent_walk_free(walk);
	if (!r)
		*ret_nbytes = sum;
	return r;
}

struct bitmap_sum {
	uint64_t disk_size;
	uint64_t cluster_size;
	uint64_t tables_nbytes;		/* bitmaps and their tables */
	uint64_t directory_nbytes;
};

/* As if every bit were set; a bitmap in use would not be copied. */
static int add_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct bitmap_sum *sum = ctx;
	struct qd_bitmap_entry entry = { .name_len = (uint16_t)strlen(b->name) };
	uint64_t clusters;

	(void)err;
	if (b->in_use)
		return 0;
	clusters = qd_div_up(qd_div_up(sum->disk_size, b->granularity), 8 * sum->cluster_size);
	sum->tables_nbytes += clusters * sum->cluster_size + qd_align_up(clusters * 8, sum->cluster_size);
	sum->directory_nbytes += qd_bitmap_entry_encoded_size(&entry);
	return 0;
}

static int measure_bitmaps(const struct qd_disk *disk, const struct qd_geom *g, const struct qd_layout *l,
			   struct qd_measure_result *res, struct qd_err *err)
{
	struct bitmap_sum sum = { .cluster_size = g->cluster_size };
	int r;

	if (!disk->img || disk->img->header.version < 3 || l->version < 3)
		return 0;
	sum.disk_size = disk->img->header.virtual_size;
	r = qd_bitmaps_walk(disk->img, add_bitmap, &sum, err);
	if (r)
		return qd_err_file(err, r, disk->path);
	res->has_bitmaps = true;
	res->bitmaps = sum.tables_nbytes + qd_align_up(sum.directory_nbytes, g->cluster_size);
	return 0;
}

static int measure_qcow2(const struct qd_measure_opts *o, const struct qd_disk *disk,
			 struct qd_measure_result *res, struct qd_err *err)
{
	uint64_t size = disk ? disk->virtual_size : o->size, data = 0, metadata = 0;
	struct qd_geom g;
	int r;

	geometry_of(&o->layout, size, &g);
	if (size > INT64_MAX - g.cluster_size)
		return qd_err_set(err, QD_E_INVALID, "a disk of %" PRIu64 " bytes is too large", size);
	size = qd_align_up(size, g.cluster_size);
	r = measure_metadata(&g, size >> g.cluster_bits, &metadata, err);
	if (r)
		return r;
	if (o->layout.preallocation >= QD_PREALLOC_FALLOC || (disk && o->layout.backing_file))
		data = size;	/* with a backing file: what it shares with the source is not known */
	else if (disk)
		r = measure_data(disk, g.cluster_size, &data, err);
	if (!r && disk)
		r = measure_bitmaps(disk, &g, &o->layout, res, err);
	res->required = metadata + data;
	res->fully_allocated = metadata + size;
	res->cluster_size = g.cluster_size;
	return r;
}

static int measure_raw(const struct qd_measure_opts *o, const struct qd_disk *disk,
		       struct qd_measure_result *res, struct qd_err *err)
{
	uint64_t size = disk ? disk->virtual_size : o->size;

	if (size > INT64_MAX - 511)
		return qd_err_set(err, QD_E_INVALID, "a disk of %" PRIu64 " bytes is too large", size);
	res->required = res->fully_allocated = qd_align_up(size, 512);
	return 0;
}

/* ---- by conversion into nowhere ---- */

static ssize_t nowhere_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	(void)io;
	(void)buf;
	(void)nbytes;
	(void)off;
	return -EIO;	/* nobody asks: digests are compared, not data */
}

static ssize_t nowhere_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	ssize_t nbytes = 0;

	(void)io;
	(void)off;
	for (int i = 0; i < niov; i++)
		nbytes += (ssize_t)iov[i].iov_len;
	return nbytes;
}

static int nowhere_flush(struct qd_io *io)
{
	(void)io;
	return 0;
}

static int nowhere_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	(void)io;
	*ret_nbytes = 0;
	return 0;
}

static int nowhere_truncate(struct qd_io *io, uint64_t nbytes)
{
	(void)io;
	(void)nbytes;
	return 0;
}

static const struct qd_io_ops nowhere_ops = {
	.pread = nowhere_pread,
	.pwritev = nowhere_pwritev,
	.flush = nowhere_flush,
	.size = nowhere_size,
	.truncate = nowhere_truncate,
};

static int convert_to_nowhere(struct qd_convert *c, struct qd_err *err)
{
	char name[] = "nowhere";
	struct qd_io nowhere = { .ops = &nowhere_ops, .name = name, .writable = true, .align = 1 };
	struct qd_io *metadata = NULL;
	int r = qd_tmpfile_open(c->opts->tmpdir, &metadata, err);

	if (r)
		return r;
	c->io = metadata;
	c->data_io = &nowhere;
	qd_progress_set_total(c->progress, c->src->virtual_size);
	r = qd_convert_to_qcow2(c, err);
	c->io = NULL;
	c->data_io = NULL;
	qd_io_close(metadata);
	return r;
}

static int measure_dedup(const struct qd_measure_opts *o, struct qd_progress *progress,
			 struct qd_measure_result *res, struct qd_err *err)
{
	struct qd_convert_opts co = {
		.source = o->source,
		.source_format = o->source_format,
		.snapshot = o->snapshot,
		.force_share = o->force_share,
		.untrusted = o->untrusted,
		.trust_hash = true,
		.tmpdir = o->tmpdir,
	};
	struct qd_source src = { 0 };
	struct qd_layout layout = { 0 };
	struct qd_convert c = {
		.opts = &co,
		.src = &src,
		.memory = o->memory ? o->memory : qd_default_memory(),
		.nthreads = o->threads ? o->threads : qd_cpu_count(),
		.layout = &layout,
		.progress = progress,
	};
	int r = qd_layout_copy(&o->layout, &layout, err);

	if (r)
		return r;
	if (!layout.cluster_size)
		layout.cluster_size = DEFAULT_CLUSTER_SIZE;
	r = qd_source_open(&co, c.memory, &src, err);
	if (!r)
		r = convert_to_nowhere(&c, err);
	if (!r) {
		res->required = c.result.file_size;
		res->fully_allocated = qd_max_u64(res->fully_allocated, res->required);
		res->guest_clusters = c.result.guest_clusters;
		res->data_clusters = c.result.data_clusters;
		res->shared_clusters = c.result.shared_clusters;
	}
	qd_source_close(&src);
	qd_layout_free(&layout);
	return r;
}

/* ---- all of it ---- */

static int check_dedup(const struct qd_measure_opts *o, bool qcow2, struct qd_err *err)
{
	const struct qd_layout *l = &o->layout;

	if (!o->source)
		return qd_err_set(err, QD_E_INVALID, "--dedup needs a file to read");
	if (!qcow2)
		return qd_err_set(err, QD_E_INVALID, "--dedup: a raw target cannot share clusters: use -O qcow2");
	if (l->refcount_bits == 1)
		return qd_err_set(err, QD_E_INVALID, "--dedup: refcount_bits=1 cannot count shared clusters: use 2 or more");
	if (l->data_file || l->backing_file || l->preallocation != QD_PREALLOC_OFF)
		return qd_err_set(err, QD_E_INVALID,
				  "--dedup cannot be combined with data_file, backing_file or preallocation");
	return 0;
}

static int check_opts(const struct qd_measure_opts *o, bool qcow2, struct qd_err *err)
{
	int r = qcow2 ? qd_layout_validate(&o->layout, err) : 0;

	if (r)
		return r;
	if (qcow2 && o->layout.cluster_size_auto)
		return qd_err_set(err, QD_E_UNSUPPORTED, "cluster_size=auto is for convert: measure needs a number");
	return o->dedup ? check_dedup(o, qcow2, err) : 0;
}

int qd_measure(const struct qd_measure_opts *opts, struct qd_progress *progress,
	       struct qd_measure_result *ret_result, struct qd_err *err)
{
	struct qd_disk_opts disk_opts = {
		.format = opts->source_format,
		.snapshot = opts->snapshot,
		.no_lock = opts->force_share,
		.untrusted = opts->untrusted,
	};
	bool qcow2 = opts->target_format && !strcmp(opts->target_format, "qcow2");
	struct qd_measure_result res = { 0 };
	struct qd_disk *disk = NULL;
	int r = check_opts(opts, qcow2, err);

	if (!r && opts->source)
		r = qd_disk_open(opts->source, &disk_opts, &disk, err);
	if (!r)
		r = qcow2 ? measure_qcow2(opts, disk, &res, err) : measure_raw(opts, disk, &res, err);
	qd_disk_close(disk);
	if (!r && opts->dedup)
		r = measure_dedup(opts, progress, &res, err);
	if (!r)
		*ret_result = res;
	return r;
}
