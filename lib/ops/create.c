/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An empty image: the builder with no data, or, preallocated, with a place for every
 * guest cluster.
 *
 * The backing file is opened to know that it is there and how large it is.  A data file
 * gets its name before the image that names it.
 */
#include "ops/create.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/newfile.h"
#include "image/build.h"
#include "image/disk.h"
#include "ops/prealloc.h"

#define DEFAULT_CLUSTER_SIZE 65536u
#define TABLE_MEMORY (16u << 20)

struct creation {
	const struct qd_create_opts *opts;
	struct qd_progress *progress;
	struct qd_layout layout;	/* a copy that can be completed */
	struct qd_disk *backing;
	struct qd_newfile *file;
	struct qd_newfile *data_file;
	struct qd_create_result result;
};

static bool is_raw(const struct qd_create_opts *o)
{
	size_t n = strlen(o->path);

	if (o->format)
		return !strcmp(o->format, "raw");
	return n >= 4 && !strcmp(o->path + n - 4, ".raw");
}

/* The first option that only qcow2 knows, or NULL. */
static const char *foreign_to_raw(const struct qd_layout *l)
{
	struct qd_layout plain;
	const char *name = NULL;

	qd_layout_init(&plain);
	if (l->backing_file)
		name = "a backing file";
	else if (l->data_file)
		name = "data_file";
	else if (l->cluster_size != plain.cluster_size || l->cluster_size_auto)
		name = "cluster_size";
	else if (l->version != plain.version)
		name = "compat";
	else if (l->refcount_bits != plain.refcount_bits)
		name = "refcount_bits";
	else if (l->lazy_refcounts)
		name = "lazy_refcounts";
	else if (l->extended_l2)
		name = "extended_l2";
	else if (l->compression_type != plain.compression_type)
		name = "compression_type";
	else if (l->preallocation == QD_PREALLOC_METADATA)
		name = "preallocation=metadata";
	qd_layout_free(&plain);
	return name;
}

static int check_opts(const struct qd_create_opts *o, struct qd_err *err)
{
	const struct qd_layout *l = &o->layout;
	const char *foreign = is_raw(o) ? foreign_to_raw(l) : NULL;

	if (foreign)
		return qd_err_set(err, QD_E_INVALID, "%s needs a qcow2 image, and this one is raw", foreign);
	if (is_raw(o))
		return 0;
	if (l->cluster_size_auto)
		return qd_err_set(err, QD_E_INVALID, "cluster_size=auto is for convert: an empty image has no best size");
	if (o->unsafe_backing && l->backing_file && !l->backing_fmt)
		return qd_err_set(err, QD_E_INVALID, "the format of the backing file must be given when it is not opened");
	return qd_layout_validate(l, err);
}

static int open_backing(struct creation *c, struct qd_err *err)
{
	const struct qd_create_opts *o = c->opts;
	struct qd_disk_opts disk_opts = { .no_lock = o->force_share, .untrusted = o->untrusted };
	char *path = NULL;
	int r;

	if (!c->layout.backing_file || o->unsafe_backing)
		return 0;
	r = qd_disk_backing_format(c->layout.backing_fmt, &disk_opts.format, err);
	if (!r)
		r = qd_disk_resolve_name(o->path, c->layout.backing_file, "backing file", &path, err);
	if (!r)
		r = qd_disk_open(path, &disk_opts, &c->backing, err);
	if (!r && qd_disk_uses_path(c->backing, o->path))
		r = qd_err_set(err, QD_E_INVALID, "the new image would replace (part of) its own backing file");
	free(path);
	if (r || c->layout.backing_fmt)
		return r;
	c->result.detected_format = c->backing->is_qcow2 ? "qcow2" : "raw";
	c->layout.backing_fmt = strdup(c->result.detected_format);
	return c->layout.backing_fmt ? 0 : qd_err_nomem(err, "a format name");
}

static int decide_size(struct creation *c, struct qd_err *err)
{
	uint64_t size;

	if (c->opts->has_size)
		size = c->opts->size;
	else if (c->backing)
		size = c->backing->virtual_size;
	else
		return qd_err_set(err, QD_E_INVALID, "the size is missing, and there is no backing file to take it from");
	if (size > INT64_MAX - 511)
		return qd_err_set(err, QD_E_INVALID, "a size of %" PRIu64 " bytes is too large", size);
	c->result.virtual_size = qd_align_up(size, 512);
	return 0;
}

static int open_data_file(struct creation *c, struct qd_err *err)
{
	char *path = NULL;
	int r;

	if (!c->layout.data_file)
		return 0;
	r = qd_disk_resolve_name(c->opts->path, c->layout.data_file, "data file", &path, err);
	if (!r && c->backing && qd_disk_uses_path(c->backing, path))
		r = qd_err_set(err, QD_E_INVALID, "data file \"%s\" is part of the image's backing chain", path);
	if (!r)
		r = qd_newfile_open(path, c->opts->cache, &c->data_file, err);
	if (!r && qd_newfile_same(c->file, c->data_file))
		r = qd_err_set(err, QD_E_INVALID, "data file \"%s\" is the image itself", path);
	free(path);
	return r;
}

/* An image whose data file is to be read as raw needs every cluster mapped, as if preallocated. */
static bool maps_everything(const struct qd_layout *l)
{
	return l->preallocation != QD_PREALLOC_OFF || l->data_file_raw;
}

static int add_places(struct creation *c, struct qd_build *build, struct qd_err *err)
{
	uint64_t n = qd_div_up(c->result.virtual_size, c->layout.cluster_size), unused;
	int r = 0;

	for (uint64_t i = 0; !r && maps_everything(&c->layout) && i < n; i++)
		r = qd_build_add_place(build, i, &unused, err);
	return r;
}

static int preallocate(struct creation *c, uint64_t file_size, struct qd_err *err)
{
	struct qd_io *data_io = c->data_file ? qd_newfile_io(c->data_file) : NULL;
	int r;

	if (!data_io)
		return qd_prealloc_file(qd_newfile_io(c->file), c->layout.preallocation, file_size, c->progress, err);
	r = qd_io_truncate(data_io, c->result.virtual_size, err);
	return r ? r : qd_prealloc_file(data_io, c->layout.preallocation, c->result.virtual_size, c->progress, err);
}

static int write_qcow2(struct creation *c, struct qd_err *err)
{
	const struct qd_layout *l = &c->layout;
	struct qd_build_opts bo;
	struct qd_build *build = NULL;
	struct qd_build_stats stats = { .file_size = 0 };
	int r;

	qd_layout_to_build(l, &bo);
	bo.memory = TABLE_MEMORY;
	r = qd_build_new(qd_newfile_io(c->file), c->result.virtual_size, &bo, &build, err);
	if (!r)
		r = add_places(c, build, err);
	if (!r)
		r = qd_build_finish(build, c->result.virtual_size, 0, &stats, err);
	if (!r)
		r = preallocate(c, stats.file_size, err);
	qd_build_free(build);
	return r;
}

static int write_raw(struct creation *c, struct qd_err *err)
{
	struct qd_io *io = qd_newfile_io(c->file);
	int r = qd_io_truncate(io, c->result.virtual_size, err);

	return r ? r : qd_prealloc_file(io, c->layout.preallocation, c->result.virtual_size, c->progress, err);
}

static int publish(struct creation *c, struct qd_err *err)
{
	int r = 0;

	if (c->data_file) {
		r = qd_newfile_commit(c->data_file, err);
		c->data_file = NULL;
	}
	if (!r) {
		r = qd_newfile_commit(c->file, err);
		c->file = NULL;
	}
	return r;
}

static int create(struct creation *c, struct qd_err *err)
{
	bool raw = is_raw(c->opts);
	int r = open_backing(c, err);

	c->result.format = raw ? "raw" : "qcow2";
	if (!raw && !c->layout.cluster_size)
		c->layout.cluster_size = DEFAULT_CLUSTER_SIZE;
	c->result.cluster_size = raw ? 0 : c->layout.cluster_size;
	if (!r)
		r = decide_size(c, err);
	if (!r)
		r = qd_newfile_open(c->opts->path, c->opts->cache, &c->file, err);
	if (!r)
		r = open_data_file(c, err);
	if (!r)
		r = raw ? write_raw(c, err) : write_qcow2(c, err);
	if (!r)
		r = qd_progress_add(c->progress, 0, err);
	return r ? r : publish(c, err);
}

int qd_create(const struct qd_create_opts *opts, struct qd_progress *progress,
	      struct qd_create_result *ret_result, struct qd_err *err)
{
	struct creation c = { .opts = opts, .progress = progress };
	int r = check_opts(opts, err);

	if (!r)
		r = qd_layout_copy(&opts->layout, &c.layout, err);
	if (!r) {
		r = create(&c, err);
		if (!r)
			*ret_result = c.result;
		qd_newfile_abort(c.file);
		qd_newfile_abort(c.data_file);
		qd_disk_close(c.backing);
		qd_layout_free(&c.layout);
	}
	return r ? qd_err_file(err, r, opts->path) : 0;
}
