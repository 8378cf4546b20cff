/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two extents are one entry when nothing tells them apart: same kind, same layer, and
 * the second continues the first on the host.
 */
#include "ops/mapping.h"

#include "base/bytes.h"
#include "ops/extent.h"

static struct qd_mapping make_entry(const struct qd_extent *e)
{
	return (struct qd_mapping){
		.start = e->start,
		.nbytes = e->nbytes,
		.offset = e->offset,
		.path = e->layer->data_path ? e->layer->data_path : e->layer->path,
		.depth = e->layer->depth,
		.data = e->data,
		.zero = e->zero,
		.present = e->present,
		.compressed = e->compressed,
		.has_offset = e->has_offset,
	};
}

static bool continues(const struct qd_mapping *m, const struct qd_mapping *next)
{
	return m->data == next->data && m->zero == next->zero && m->present == next->present &&
	       m->depth == next->depth && m->compressed == next->compressed &&
	       m->has_offset == next->has_offset && (!m->has_offset || m->offset + m->nbytes == next->offset);
}

static int emit(qd_mapping_fn fn, void *ctx, const struct qd_mapping *m, struct qd_err *err)
{
	return fn(ctx, m) ? qd_err_set(err, QD_E_CANCELLED, "stopped") : 0;
}

static int list_range(struct qd_extent_walk *walk, uint64_t start, uint64_t end, qd_mapping_fn fn, void *ctx,
		      struct qd_err *err)
{
	struct qd_mapping current = { .start = start }, next;
	struct qd_extent e;
	int r;

	for (uint64_t pos = start; pos < end; pos += e.nbytes) {
		r = qd_extent_next(walk, pos, end - pos, &e, err);
		if (r)
			return r;
		next = make_entry(&e);
		if (current.nbytes && continues(&current, &next)) {
			current.nbytes += next.nbytes;
			continue;
		}
		if (current.nbytes) {
			r = emit(fn, ctx, &current, err);
			if (r)
				return r;
		}
		current = next;
	}
	return emit(fn, ctx, &current, err);
}

int qd_mapping_list(const char *path, const struct qd_mapping_opts *opts, qd_mapping_fn fn, void *ctx,
		    struct qd_err *err)
{
	struct qd_disk_opts disk_opts = {
		.format = opts->format,
		.no_lock = opts->force_share,
		.untrusted = opts->untrusted,
	};
	struct qd_extent_walk *walk = NULL;
	struct qd_disk *disk = NULL;
	uint64_t end;
	int r = qd_disk_open(path, &disk_opts, &disk, err);

	if (!r)
		r = qd_extent_walk_new(disk, &walk, err);
	if (!r) {
		end = disk->virtual_size;
		if (opts->start < end)
			end = opts->start + qd_min_u64(opts->max_nbytes, end - opts->start);
		r = list_range(walk, opts->start, end, fn, ctx, err);
	}
	qd_extent_walk_free(walk);
	qd_disk_close(disk);
	return r;
}
