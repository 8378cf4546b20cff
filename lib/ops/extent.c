/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs of a disk -> extents.
 *
 * The one thing that runs do not tell is whether a data cluster is a hole of the
 * host's file.  Asking the host for every run costs a system call each, so it is
 * asked only of files that look preallocated: noticeably more clusters have a
 * refcount than the host has allocated.
 */
#include "ops/extent.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "space/refcount.h"

enum prealloc { UNKNOWN = 0, NO, YES };

/* What the host said last of a layer's data file: [start, end) is all hole or all data. */
struct host_range {
	uint64_t start;
	uint64_t end;
	bool hole;
};

struct layer_state {
	enum prealloc prealloc;
	struct host_range host;
};

struct qd_extent_walk {
	const struct qd_disk *disk;
	struct layer_state *layers;	/* by depth */
};

int qd_extent_walk_new(const struct qd_disk *disk, struct qd_extent_walk **ret_walk, struct qd_err *err)
{
	struct qd_extent_walk *w = calloc(1, sizeof(*w));
	size_t nlayers = 0;

	for (const struct qd_disk *d = disk; d; d = d->backing)
		nlayers++;
	if (w)
		w->layers = calloc(nlayers, sizeof(*w->layers));
	if (!w || !w->layers) {
		free(w);
		return qd_err_nomem(err, "the walk over a disk");
	}
	w->disk = disk;
	*ret_walk = w;
	return 0;
}

void qd_extent_walk_free(struct qd_extent_walk *walk)
{
	if (!walk)
		return;
	free(walk->layers);
	free(walk);
}

/* Clusters with a refcount, as far as `enough`; what cannot be read counts as none. */
static uint64_t count_used(const struct qd_image *img, uint64_t enough)
{
	const struct qd_geom *g = &img->geom;
	uint64_t nclusters = qd_div_up(img->file_size, g->cluster_size);
	uint64_t table_nbytes = (uint64_t)img->header.reftable_clusters << g->cluster_bits;
	uint8_t *block = malloc(g->cluster_size);
	uint64_t used = 0;
	uint8_t slot[8];

	for (uint64_t i = 0; block && i * g->block_entries < nclusters && i * 8 < table_nbytes && used < enough; i++) {
		uint64_t n = qd_min_u64(g->block_entries, nclusters - i * g->block_entries);
		uint64_t off;

		if (qd_io_read(img->io, slot, sizeof(slot), img->header.reftable_off + i * 8, NULL))
			break;
		off = qd_get_be64(slot) & QD_REFTABLE_OFFSET_MASK;
		if (!off || qd_io_read(img->io, block, g->cluster_size, off, NULL))
			continue;
		for (uint64_t k = 0; k < n; k++)
			used += qd_refcount_get(block, g->refcount_order, k) != 0;
	}
	free(block);
	return used;
}

/* The rule of thumb that QEMU goes by, so that both say the same of an image. */
static bool looks_preallocated(const struct qd_image *img)
{
	uint64_t allocated, real, threshold;

	if (qd_io_allocated(img->io, &allocated, NULL))
		return false;
	real = allocated >> img->geom.cluster_bits;
	threshold = qd_max_u64(real + real / 9, real + 2);
	return count_used(img, threshold) >= threshold;
}

static struct layer_state *state_of(struct qd_extent_walk *w, const struct qd_disk *layer)
{
	struct layer_state *state = &w->layers[layer->depth - w->disk->depth];

	if (state->prealloc == UNKNOWN)
		state->prealloc = looks_preallocated(layer->img) ? YES : NO;
	return state;
}

static int ask_host(const struct qd_disk *layer, uint64_t off, struct host_range *ret_range, struct qd_err *err)
{
	uint64_t data, hole;
	int r = qd_io_next_data(layer->data_io, off, &data, &hole, err);

	if (r)
		return qd_err_file(err, r, layer->data_io->name);
	if (data == hole)		/* nothing but holes up to the end of the file and past it */
		*ret_range = (struct host_range){ off, UINT64_MAX, true };
	else if (data > off)
		*ret_range = (struct host_range){ off, data, true };
	else
		*ret_range = (struct host_range){ off, hole, false };
	return 0;
}

/* Cuts the extent where data and holes of the host's file meet. */
static int look_through(struct qd_extent *e, struct host_range *host, struct qd_err *err)
{
	int r = 0;

	if (e->offset < host->start || e->offset >= host->end)
		r = ask_host(e->layer, e->offset, host, err);
	if (r)
		return r;
	e->zero = host->hole;
	e->nbytes = qd_min_u64(e->nbytes, host->end - e->offset);
	return 0;
}

static bool run_has_offset(const struct qd_disk_run *run)
{
	const struct qd_image *img = run->layer->img;

	if (run->kind == QD_RUN_COMPRESSED)
		return false;
	if (run->kind == QD_RUN_DATA || run->host_off)
		return true;
	if (!img)
		return run->kind == QD_RUN_ZERO;
	/* Offset 0 of an external data file is as good as any other. */
	return run->kind == QD_RUN_ZERO && (img->header.incompatible & QD_INCOMPAT_DATA_FILE) &&
	       (run->entry & QD_COPIED);
}

int qd_extent_next(struct qd_extent_walk *walk, uint64_t guest_off, uint64_t max_nbytes,
		   struct qd_extent *ret_extent, struct qd_err *err)
{
	struct qd_disk_run run;
	struct qd_extent e;
	int r = qd_disk_next(walk->disk, guest_off, max_nbytes, &run, err);

	if (r)
		return r;
	e = (struct qd_extent){
		.start = guest_off,
		.nbytes = run.nbytes,
		.layer = run.layer,
		.data = run.kind == QD_RUN_DATA || run.kind == QD_RUN_COMPRESSED,
		.zero = run.kind == QD_RUN_HOLE || run.kind == QD_RUN_ZERO,
		.present = run.kind != QD_RUN_HOLE,
		.compressed = run.kind == QD_RUN_COMPRESSED,
		.has_offset = run_has_offset(&run),
	};
	if (e.has_offset)
		e.offset = run.host_off;
	if (e.data && e.has_offset && e.layer->is_qcow2) {
		struct layer_state *state = state_of(walk, e.layer);

		if (state->prealloc == YES)
			r = look_through(&e, &state->host, err);
		if (r)
			return r;
	}
	*ret_extent = e;
	return 0;
}
