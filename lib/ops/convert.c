/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Conversion: what is asked for is checked as a whole before anything is opened for
 * writing; the source is opened, then the target, then a writer runs, and only then
 * does the target get its name.
 *
 * Targets
 *	new file      newfile.h: unnamed until complete; an older file stays until then
 *	in place      -n, or a block device: written where it is
 *	stream        "-": standard output, raw
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/newfile.h"
#include "dedup/digest.h"
#include "format/table.h"
#include "format/header.h"
#include "image/bitmaps.h"
#include "ops/convert_int.h"
#include "ops/prealloc.h"

#define HEADER_ROOM 512u	/* the smallest cluster, which holds the header of an image */

struct target {
	struct qd_newfile *nf;		/* new file, or NULL */
	struct qd_io *io;		/* owned unless it is nf's */
	struct qd_newfile *data_nf;	/* external data file */
	struct qd_newfile *index_nf;	/* hash table beside the image */
	bool index_is_new;		/* there was no file of its name */
};

/* --- cluster_size=auto --- */

static int choose_cluster_size(struct qd_convert *c, struct qd_layout *l, struct qd_err *err)
{
	const struct qd_convert_opts *o = c->opts;
	const struct qd_digest *digest = qd_digest_find(o->hash ? o->hash : QD_DIGEST_DEFAULT);
	bool table = !o->no_index && l->version >= 3 && (!o->no_pin || o->index_path);
	struct qd_autosize_opts opts = {
		.smallest = l->extended_l2 ? 16384 : 0, .threads = c->nthreads, .memory = c->memory, .tmpdir = o->tmpdir,
		.record_nbytes = table ? qd_record_nbytes(digest->nbytes) : 0,
	};
	int r;

	if (!l->cluster_size_auto)
		return 0;
	r = qd_autosize(c->src->disk, &opts, c->progress, &c->result.autosize, err);
	if (r)
		return qd_err_file(err, r, o->source);
	l->cluster_size = c->result.autosize.cluster_size[c->result.autosize.best];
	l->cluster_size_auto = false;
	if (c->progress) {	/* from the start again */
		pthread_mutex_lock(&c->progress->lock);
		c->progress->current = 0;
		pthread_mutex_unlock(&c->progress->lock);
	}
	return 0;
}

/* --- the backing file of the target --- */

static int open_backing(const struct qd_convert_opts *o, struct qd_layout *l, struct qd_source *src,
			uint64_t memory, struct qd_err *err)
{
	struct qd_disk_opts dopts = { .no_lock = o->force_share, .cache = o->source_cache, .untrusted = o->untrusted,
				      .map_cache_nbytes = memory / 16 };
	char *path = NULL;
	int r;

	if (!l->backing_file)
		return 0;
	if (src->stream)
		return qd_err_set(err, QD_E_UNSUPPORTED, "-B: the source must be a file, not a pipe");
	r = qd_disk_backing_format(l->backing_fmt, &dopts.format, err);
	if (!r)
		r = qd_disk_resolve_name(o->target, l->backing_file, "backing file", &path, err);
	if (!r)
		r = qd_disk_open(path, &dopts, &src->backing, err);
	free(path);
	if (r || l->backing_fmt)
		return r;
	l->backing_fmt = strdup(src->backing->is_qcow2 ? "qcow2" : "raw");
	return l->backing_fmt ? 0 : qd_err_nomem(err, "a format name");
}

/* --- the target --- */

static int refuse_source(const struct qd_convert_opts *o, const struct qd_source *src, struct qd_err *err)
{
	const char *what = src->disk && qd_disk_uses_path(src->disk, o->target) ? "source" :
			   src->backing && qd_disk_uses_path(src->backing, o->target) ? "backing file" : NULL;

	if (!what && !o->bitmaps)
		return 0;
	if (!what && src->disk && src->disk->img)
		return qd_bitmaps_check_copy(src->disk->img, err);
	if (!what)
		return qd_err_file(err, qd_err_set(err, QD_E_INVALID, "--bitmaps: a raw source has none"), o->source);
	qd_err_set(err, QD_E_INVALID, "the target is (part of) the %s: it would be overwritten while it is read", what);
	return qd_err_file(err, QD_E_INVALID, o->target);
}

static int open_in_place(const struct qd_convert_opts *o, struct target *t, struct qd_err *err)
{
	struct qd_file_opts fo = { .cache = o->target_cache, .writable = true };

	return qd_io_file_open(o->target, &fo, &t->io, err);
}

static int open_target(const struct qd_convert_opts *o, struct target *t, struct qd_err *err)
{
	struct stat st;
	int r;

	if (!strcmp(o->target, "-"))
		return qd_io_stream_out(STDOUT_FILENO, "standard output", &t->io, err);
	if (o->no_create || (stat(o->target, &st) == 0 && S_ISBLK(st.st_mode)))
		return open_in_place(o, t, err);
	r = qd_newfile_open(o->target, o->target_cache, &t->nf, err);
	if (!r)
		t->io = qd_newfile_io(t->nf);
	return r;
}

static int open_data_file(const struct qd_convert *c, struct target *t, struct qd_err *err)
{
	const char *name = c->layout->data_file, *what = NULL;
	char *path = NULL;
	int r;

	if (!name)
		return 0;
	r = qd_disk_resolve_name(c->opts->target, name, "data file", &path, err);
	if (!r && c->src->disk && qd_disk_uses_path(c->src->disk, path))
		what = "(part of) the source";
	else if (!r && c->src->backing && qd_disk_uses_path(c->src->backing, path))
		what = "(part of) the backing file";
	else if (!r)
		r = qd_newfile_open(path, c->opts->target_cache, &t->data_nf, err);
	if (!r && !what && t->nf && qd_newfile_same(t->nf, t->data_nf))
		what = "the target itself";
	if (what) {
		qd_err_set(err, QD_E_INVALID, "the data file is %s", what);
		r = qd_err_file(err, QD_E_INVALID, path);
	}
	free(path);
	return r;
}

static int open_index_file(const struct qd_convert *c, struct target *t, struct qd_err *err)
{
	const char *path = c->opts->index_path, *what = NULL;
	int r;

	if (!path)
		return 0;
	t->index_is_new = !qd_path_exists(path);
	if (c->src->disk && qd_disk_uses_path(c->src->disk, path))
		what = "(part of) the source";
	else if (c->src->backing && qd_disk_uses_path(c->src->backing, path))
		what = "(part of) the backing file";
	else if (qd_io_is_path(c->io, path) || qd_path_same(c->opts->target, path))
		what = "the target itself";
	if (!what) {
		r = qd_newfile_open(path, c->opts->target_cache, &t->index_nf, err);
		if (r || !t->nf || !qd_newfile_same(t->nf, t->index_nf))
			return r;
		what = "the target itself";
	}
	qd_err_set(err, QD_E_INVALID, "--index: the file is %s", what);
	return qd_err_file(err, QD_E_INVALID, path);
}

/*
 * -n with qcow2: the existing image says what the new content looks like.  Whatever it
 * has that would be lost is refused.
 */
static int adopt_layout(struct qd_convert *c, struct qd_layout *l, struct qd_io *io, struct qd_err *err)
{
	struct qd_image *img = NULL;
	const char *what = NULL;
	int r = qd_image_open(io, 0, &img, err);

	if (r)
		return r;
	if (qd_image_has_own_snapshots(img))
		what = "internal snapshots";
	else if (img->backing_name)
		what = "a backing file";
	else if (img->header.incompatible & QD_INCOMPAT_DATA_FILE)
		what = "an external data file";
	else if (img->header.crypt_method)
		what = "encryption";
	else if (qd_image_find_ext(img, QD_EXT_BITMAPS))
		what = "persistent bitmaps";
	if (what)
		r = qd_err_set(err, QD_E_UNSUPPORTED, "-n: the existing target has %s, which would be lost", what);
	else if (c->src->virtual_size > img->header.virtual_size)
		r = qd_err_set(err, QD_E_INVALID, "-n: the existing target holds %" PRIu64 " bytes, the source %" PRIu64,
			       img->header.virtual_size, c->src->virtual_size);
	l->cluster_size = img->geom.cluster_size;
	l->version = img->header.version;
	l->refcount_bits = img->geom.refcount_bits;
	l->lazy_refcounts = img->header.compatible & QD_COMPAT_LAZY_REFCOUNTS;
	l->extended_l2 = img->geom.extended_l2;
	l->compression_type = img->header.compression_type;
	c->virtual_size = img->header.virtual_size;
	img->io = NULL;
	qd_image_close(img);
	return r;
}

static int check_room(const struct qd_convert *c, struct qd_err *err)
{
	uint64_t size;
	int r;

	if (c->io->is_stream || (!c->opts->no_create && !c->io->is_device))
		return 0;
	r = qd_io_size(c->io, &size, err);
	if (!r && size < c->src->virtual_size)
		r = qd_err_set(err, QD_E_INVALID, "the target holds %" PRIu64 " bytes, the source %" PRIu64, size,
			       c->src->virtual_size);
	return r;
}

static int prepare_in_place(struct qd_convert *c, struct qd_layout *l, struct qd_err *err)
{
	int r;

	if (qd_convert_is_raw(c->opts))
		return check_room(c, err);
	if (!c->opts->no_create)
		return 0;
	r = adopt_layout(c, l, c->io, err);
	if (r)
		return r;
	if (!c->opts->no_dedup && l->refcount_bits == 1)
		return qd_err_set(err, QD_E_INVALID, "the target's refcount_bits=1 cannot count shared clusters: use --no-dedup");
	return 0;
}

/*
 * An image in the target is gone with the first cluster that is written over it: from then
 * on it must not look like one, until it has the new header.
 */
static int forget_old_image(const struct qd_convert *c, struct qd_err *err)
{
	uint8_t zeros[HEADER_ROOM] = { 0 };
	uint64_t size;
	int r;

	if (qd_convert_is_raw(c->opts))
		return 0;
	if (!c->io->is_device)
		return qd_io_truncate(c->io, 0, err);
	r = qd_io_size(c->io, &size, err);
	if (!r)
		r = qd_io_write(c->io, zeros, (size_t)qd_min_u64(size, sizeof(zeros)), 0, err);
	return r ? r : qd_io_flush(c->io, err);
}

/* --- all of it --- */

/* What is left of the ceiling for tables and buffers: program, libraries and stacks take a part of it. */
static uint64_t working_memory(uint64_t ceiling)
{
	const uint64_t program = 12u << 20;

	return ceiling > 2 * program ? ceiling - program : qd_max_u64(ceiling / 4, 1u << 20);
}

static int write_target(struct qd_convert *c, struct target *t, struct qd_err *err)
{
	int r;

	if (t->data_nf)
		c->data_io = qd_newfile_io(t->data_nf);
	if (t->index_nf)
		c->index_io = qd_newfile_io(t->index_nf);
	if (qd_convert_is_raw(c->opts))
		return qd_convert_to_raw(c, err);
	r = qd_convert_to_qcow2(c, err);
	if (!r && c->data_io)
		r = qd_prealloc_file(c->data_io, c->layout->preallocation, c->result.virtual_size, c->progress, err);
	else if (!r)
		r = qd_prealloc_file(c->io, c->layout->preallocation, c->result.file_size, c->progress, err);
	return r;
}

static int commit_file(struct qd_newfile **nf, struct qd_err *err)
{
	int r = *nf ? qd_newfile_commit(*nf, err) : 0;

	*nf = NULL;
	return r;
}

/*
 * The data file gets its name first: an image must not name what is not there.  Then the
 * index, which is taken back when the image cannot appear.
 */
static int publish(struct qd_convert *c, struct target *t, struct qd_err *err)
{
	bool has_index = t->index_nf != NULL;
	int r = commit_file(&t->data_nf, err);

	if (!r)
		r = commit_file(&t->index_nf, err);
	if (r)
		has_index = false;
	if (!r && t->nf) {
		r = qd_newfile_commit(t->nf, err);
		t->nf = NULL;
		t->io = NULL;
	} else if (!r && !c->io->is_stream) {
		r = qd_io_flush(c->io, err);
	}
	if (r && has_index && t->index_is_new)
		unlink(c->opts->index_path);
	return r;
}

static void close_target(struct target *t)
{
	if (!t->nf)
		qd_io_close(t->io);
	qd_newfile_abort(t->nf);
	qd_newfile_abort(t->data_nf);
	qd_newfile_abort(t->index_nf);
}

static int convert(struct qd_convert *c, struct qd_layout *l, struct qd_err *err)
{
	struct target t = { 0 };
	int r = open_backing(c->opts, l, c->src, c->memory, err);

	if (!r)
		r = refuse_source(c->opts, c->src, err);
	if (!r)
		r = open_target(c->opts, &t, err);
	if (r)
		goto out;
	c->io = t.io;
	if (!t.nf && !c->io->is_stream)
		r = prepare_in_place(c, l, err);
	if (!r)
		r = open_data_file(c, &t, err);
	if (!r)
		r = open_index_file(c, &t, err);
	if (!r && !t.nf && !c->io->is_stream)
		r = forget_old_image(c, err);
	if (!r) {
		qd_progress_set_total(c->progress, c->src->virtual_size);
		r = write_target(c, &t, err);
	}
	if (!r)		/* whoever wants it to stop wants no output */
		r = qd_progress_add(c->progress, 0, err);
	if (!r)
		r = publish(c, &t, err);
out:
	if (r)
		qd_err_file(err, r, c->opts->target);
	close_target(&t);
	return r;
}

static void count_bitmaps(struct qd_convert *c)
{
	const struct qd_image *img = c->src->disk ? c->src->disk->img : NULL;

	if (img && !c->opts->bitmaps)
		c->result.bitmaps_left = qd_bitmaps_count(img);
	if (img)
		c->result.bitmaps_stale = qd_bitmaps_stale(img);
}

int qd_convert(const struct qd_convert_opts *opts, struct qd_progress *progress,
	       struct qd_convert_result *ret_result, struct qd_err *err)
{
	struct qd_source src = { 0 };
	struct qd_layout layout = { 0 };
	struct qd_convert c = {
		.opts = opts,
		.src = &src,
		.memory = working_memory(opts->memory ? opts->memory : qd_default_memory()),
		.nthreads = opts->threads ? opts->threads : qd_cpu_count(),
		.layout = &layout,
		.progress = progress,
	};
	int r = qd_convert_check_opts(opts, err);

	if (r)
		return r;
	r = qd_layout_copy(&opts->layout, &layout, err);
	if (r)
		return r;
	r = qd_source_open(opts, c.memory, &src, err);
	if (!r)
		r = choose_cluster_size(&c, &layout, err);
	if (!layout.cluster_size)
		layout.cluster_size = 65536;
	if (!r) {
		c.result.target_format = qd_convert_is_raw(opts) ? "raw" : "qcow2";
		count_bitmaps(&c);
		r = convert(&c, &layout, err);
	}
	if (!r)
		*ret_result = c.result;
	qd_source_close(&src);
	qd_layout_free(&layout);
	return r;
}
