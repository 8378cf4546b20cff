/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The life of a writer: what it refuses, the first change, commits, the clean end.
 *
 *	open --begin--> changes in memory --commit--> linked on disk --settle--> old clusters free
 *	                     ^---------------------------------------------------------|
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/write_int.h"

#define CACHE_BYTES (32u << 20)
#define QUEUE_BYTES (16u << 20)
#define GUARD_BYTES (64u << 20)
#define MAX_PENDING 65536u	/* released clusters that wait for a commit */
#define MAX_PENDING_BYTES (64u << 20)

static int refuse(const struct qd_image *img, struct qd_err *err)
{
	uint64_t incompatible = img->header.incompatible;
	int rc = qd_image_require_plain(img, err);

	if (rc)
		return rc;
	if (incompatible & QD_INCOMPAT_CORRUPT)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the image is marked corrupt and is not written to: "
				  "run qdedup check --repair");
	if (incompatible & QD_INCOMPAT_DIRTY)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the image was not closed cleanly (dirty bit) and is not written to: "
				  "run qdedup check --repair");
	if (incompatible & QD_INCOMPAT_DATA_FILE)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "writing to an image with an external data file is not supported");
	if (img->header.autoclear & QD_AUTOCLEAR_BITMAPS)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the image has persistent bitmaps, which writing would make stale: "
				  "remove them with qemu-img bitmap --remove first");
	return 0;
}

/* ---- the guard ---- */

static int guard_bytes(struct qd_writer *w, uint64_t off, uint64_t nbytes, enum qd_struct_kind kind,
		       uint32_t id, struct qd_err *err)
{
	uint64_t size = w->geom->cluster_size;

	if (nbytes == 0)
		return 0;
	return qd_extents_add(&w->guard, off / size, qd_div_up(nbytes, size), kind, id, err);
}

static int fill_guard(struct qd_writer *w, struct qd_err *err)
{
	const struct qd_header *h = &w->img->header;
	int rc = guard_bytes(w, 0, w->geom->cluster_size, QD_STRUCT_HEADER, 0, err);

	if (rc == 0)
		rc = guard_bytes(w, h->l1_off, (uint64_t)h->l1_entries * 8, QD_STRUCT_L1, 0, err);
	if (rc == 0 && h->snapshot_count)
		rc = guard_bytes(w, h->snapshots_off, w->img->snapshots_nbytes, QD_STRUCT_SNAPSHOT_TABLE, 0,
				 err);
	for (uint32_t i = 0; rc == 0 && i < w->img->nsnapshots; i++)
		rc = guard_bytes(w, w->img->snapshots[i].l1_off,
				 (uint64_t)w->img->snapshots[i].l1_entries * 8,
				 QD_STRUCT_SNAPSHOT_L1, i, err);
	for (uint32_t i = 0; rc == 0 && i < h->l1_entries; i++)
		if (qd_entry_host_off(w->l1[i]))
			rc = guard_bytes(w, qd_entry_host_off(w->l1[i]), 1, QD_STRUCT_L2, i, err);
	return rc;
}

/* An L2 table that was copied is no longer the active layer's. */
static bool still_there(void *ctx, const struct qd_extent *e)
{
	const struct qd_writer *w = ctx;

	return e->kind != QD_STRUCT_L2 ||
	       qd_entry_host_off(w->l1[e->id]) >> w->geom->cluster_bits == e->first;
}

/*
 * Where two structures lie in one place, writing to one of them destroys the other.
 */
static int refuse_overlap(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
			  uint64_t nclusters)
{
	(void)nclusters;
	return qd_err_set(ctx, QD_E_CORRUPT, "the %s and the %s lie in the same place, and the image is not "
			  "written to: run qdedup check", qd_struct_name(earlier->kind),
			  qd_struct_name(later->kind));
}

/* ---- opening ---- */

static int allocate(struct qd_writer *w, struct qd_err *err)
{
	const struct qd_header *h = &w->img->header;
	size_t size = (size_t)w->geom->cluster_size, l1_nbytes = (size_t)h->l1_entries * 8;

	w->cluster = malloc(size);
	w->table = malloc(size);
	w->packed = malloc(2 * size);
	w->plain = malloc(size);
	w->l1 = malloc(l1_nbytes ? l1_nbytes : 8);
	if (!w->cluster || !w->table || !w->packed || !w->plain || !w->l1)
		return qd_err_nomem(err, "a writer");
	memcpy(w->l1, w->img->l1, l1_nbytes);
	return qd_codec_new(h->compression_type, size, 0, &w->codec, err);
}

static int open_space(struct qd_writer *w, struct qd_err *err)
{
	struct qd_alloc_image ai = {
		.geom = w->geom, .io = w->io, .file_size = w->img->file_size,
		.reftable_off = w->img->header.reftable_off,
		.reftable_clusters = w->img->header.reftable_clusters,
		.guard = &w->guard, .still = still_there, .ctx = w,
	};
	int rc = qd_queue_new(w->io, QUEUE_BYTES, &w->queue, err);

	if (rc == 0)
		rc = qd_cache_new(w->queue, w->geom->cluster_size, CACHE_BYTES, &w->cache, err);
	if (rc == 0)
		rc = fill_guard(w, err);
	ai.queue = w->queue;
	ai.cache = w->cache;
	if (rc == 0)
		rc = qd_alloc_open(&ai, &w->alloc, err);
	return rc ? rc : qd_extents_overlaps(&w->guard, refuse_overlap, err);
}

static void free_writer(struct qd_writer *w)
{
	qd_pin_free(w->pin);
	qd_alloc_free(w->alloc);
	qd_extents_free(&w->guard);
	qd_cache_free(w->cache);
	qd_queue_free(w->queue);
	qd_codec_free(w->codec);
	qd_reader_free(w->backing_reader);
	free(w->cluster);
	free(w->table);
	free(w->packed);
	free(w->plain);
	free(w->zeros);
	free(w->cleared);
	free(w->l1);
	free(w);
}

int qd_writer_open(struct qd_image *img, const struct qd_disk *backing, struct qd_writer **ret_writer,
		   struct qd_err *err)
{
	struct qd_writer *w;
	int rc = refuse(img, err);

	if (rc)
		return qd_err_file(err, rc, img->io->name);
	w = calloc(1, sizeof(*w));
	if (!w)
		return qd_err_nomem(err, "a writer");
	w->img = img;
	w->io = img->io;
	w->geom = &img->geom;
	w->backing = backing;
	w->size = qd_align_up(img->header.virtual_size, 512);
	w->lazy = img->header.version >= 3 && (img->header.compatible & QD_COMPAT_LAZY_REFCOUNTS);
	qd_extents_init(&w->guard, GUARD_BYTES);
	rc = allocate(w, err);
	if (rc == 0 && backing)
		rc = qd_reader_new(backing, &w->backing_reader, err);
	if (rc == 0)
		rc = open_space(w, err);
	if (rc) {
		free_writer(w);
		return qd_err_file(err, rc, img->io->name);
	}
	*ret_writer = w;
	return 0;
}

uint64_t qd_writer_size(const struct qd_writer *w)
{
	return w->size;
}

int qd_writer_set_hook(struct qd_writer *w, const struct qd_write_hook *hook, struct qd_err *err)
{
	struct qd_pin_image pi = { .img = w->img, .queue = w->queue, .cache = w->cache, .alloc = w->alloc };
	int rc;

	if (w->img->header.version < 3 || w->geom->extended_l2)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "writing with deduplication: not for images of version 2 or "
				  "with extended L2 entries");
	w->zeros = calloc(1, (size_t)w->geom->cluster_size);
	if (!w->zeros)
		return qd_err_nomem(err, "a writer");
	rc = qd_pin_open(&pi, &w->pin, err);
	if (rc == 0)
		rc = qd_pin_possible(w->pin, err);
	if (rc == 0)
		w->hook = hook;
	return rc;
}

bool qd_writer_has_hook(const struct qd_writer *w)
{
	return w->hook != NULL;
}

int qd_writer_refcount(struct qd_writer *w, uint64_t cluster, uint64_t *ret_count, struct qd_err *err)
{
	return qd_alloc_count(w->alloc, cluster, ret_count, err);
}

/* ---- the header ---- */

static int queue_feature_bits(struct qd_writer *w, uint64_t off, uint64_t bits, struct qd_err *err)
{
	uint8_t bytes[8];

	qd_put_be64(bytes, bits);
	return qd_queue_write(w->queue, bytes, sizeof(bytes), off, err);
}

int writer_begin(struct qd_writer *w, bool refcounts, struct qd_err *err)
{
	const struct qd_header *h = &w->img->header;
	bool set_dirty = refcounts && (w->lazy || w->hook) && !w->dirty;
	uint64_t keep = w->hook ? QD_AUTOCLEAR_INDEX : 0;
	int rc = 0;

	if (w->begun && !set_dirty)
		return 0;
	if (!w->begun && w->hook)
		rc = w->hook->begin(w->hook->ctx, err);
	if (rc == 0 && !w->begun && (h->autoclear & ~keep))
		rc = queue_feature_bits(w, QD_HEADER_OFF_AUTOCLEAR, h->autoclear & keep, err);
	if (rc == 0 && set_dirty)
		rc = queue_feature_bits(w, QD_HEADER_OFF_INCOMPATIBLE, h->incompatible | QD_INCOMPAT_DIRTY,
					err);
	if (rc == 0)
		rc = qd_queue_flush(w->queue, err);
	if (rc)
		return rc;
	w->begun = true;
	w->dirty = w->dirty || set_dirty;
	return 0;
}

/* ---- commits ---- */

/* What is about to be shared is pinned before it is, so that no crash leaves it shared and not pinned. */
static int queue_pin(struct qd_writer *w, struct qd_err *err)
{
	int rc = qd_cache_write(w->cache, QD_CACHE_PIN, err);

	if (rc == 0)
		rc = qd_queue_barrier(w->queue, err);
	if (rc == 0)
		rc = qd_pin_write(w->pin, err);
	return rc ? rc : qd_queue_barrier(w->queue, err);
}

/* W1, up to the queue.  Refcounts are left out on request. */
static int queue_all(struct qd_writer *w, bool refcounts, struct qd_err *err)
{
	int rc = 0;

	if (refcounts)
		rc = qd_alloc_write(w->alloc, err);
	if (rc == 0)
		rc = qd_queue_barrier(w->queue, err);
	if (rc == 0 && w->pin)
		rc = queue_pin(w, err);
	if (rc == 0)
		rc = writer_queue_cleared(w, err);
	if (rc == 0)
		rc = qd_cache_write(w->cache, QD_CACHE_L2, err);
	if (rc == 0)
		rc = qd_queue_barrier(w->queue, err);
	return rc ? rc : writer_queue_l1(w, err);
}

/* W4: the data, then the log of what is queued.  *ret_logged false: there is no room for it. */
static int log_redo(struct qd_writer *w, bool *ret_logged, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = w->wrote_data ? qd_io_flush(w->io, err) : 0;

	*ret_logged = false;
	if (rc)
		return rc;
	w->wrote_data = false;
	rc = w->hook->redo(w->hook->ctx, w->queue, &why);
	if (rc && rc != QD_E_INVALID) {
		qd_err_copy(err, &why);
		return rc;
	}
	*ret_logged = rc == 0;
	return 0;
}

static int tell_freed(void *ctx, uint64_t cluster, struct qd_err *err)
{
	const struct qd_write_hook *hook = ctx;

	return hook->freed(hook->ctx, cluster, err);
}

/* The index cannot keep up: it is one that somebody else wrote past, from here on. */
static int give_up_hook(struct qd_writer *w, struct qd_err *err)
{
	int rc = queue_feature_bits(w, QD_HEADER_OFF_AUTOCLEAR, 0, err);

	w->hook = NULL;
	return rc ? rc : qd_queue_flush(w->queue, err);
}

/* W4: everything is linked; what is free now is noted before it can be used. */
static int note_linked(struct qd_writer *w, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = qd_alloc_each_freed(w->alloc, tell_freed, (void *)(uintptr_t)w->hook, err);

	if (rc)
		return rc;
	rc = w->hook->linked(w->hook->ctx, &why);
	if (rc == QD_E_INVALID)
		return give_up_hook(w, err);
	if (rc)
		qd_err_copy(err, &why);
	return rc;
}

/* W1. */
static int commit(struct qd_writer *w, bool refcounts, struct qd_err *err)
{
	bool logged;
	int rc = queue_all(w, refcounts, err);

	if (rc == 0 && w->hook && w->begun)
		rc = log_redo(w, &logged, err);
	if (rc == 0)
		rc = qd_queue_flush(w->queue, err);
	if (rc == 0 && w->hook && w->begun)
		rc = note_linked(w, err);
	return rc ? rc : qd_alloc_settle(w->alloc, err);
}

/* Nothing is written in place with a hook: what waits takes space. */
static bool much_is_waiting(const struct qd_writer *w)
{
	uint64_t n = qd_alloc_pending(w->alloc);

	return n >= MAX_PENDING || (w->hook && n << w->geom->cluster_bits >= MAX_PENDING_BYTES);
}

int writer_relieve(struct qd_writer *w, struct qd_err *err)
{
	if (qd_cache_is_full(w->cache))
		return commit(w, true, err);	/* counts that come early do no harm */
	return much_is_waiting(w) ? commit(w, !w->lazy, err) : 0;
}

/* Everything on disk as it should be, given-up clusters included. */
static int commit_all(struct qd_writer *w, struct qd_err *err)
{
	int rc = commit(w, true, err);

	if (rc == 0)
		rc = qd_alloc_write(w->alloc, err);
	return rc ? rc : qd_queue_flush(w->queue, err);
}

int qd_writer_flush(struct qd_writer *w, struct qd_err *err)
{
	int rc = w->lazy ? commit(w, false, err) : commit_all(w, err);

	return rc ? qd_err_file(err, rc, w->io->name) : 0;
}

/* Logged, with a hook, or else in its place. */
static int crash(struct qd_writer *w, struct qd_err *err)
{
	bool logged = false;
	int rc;

	if (!w->hook || !w->begun)
		return commit(w, !w->lazy, err);
	rc = queue_all(w, !w->lazy, err);
	if (rc == 0)
		rc = log_redo(w, &logged, err);
	return rc || logged ? rc : qd_queue_flush(w->queue, err);
}

int qd_writer_crash(struct qd_writer *w, struct qd_err *err)
{
	int rc = crash(w, err);

	return rc ? qd_err_file(err, rc, w->io->name) : 0;
}

int qd_writer_close(struct qd_writer *w, struct qd_err *err)
{
	int rc;

	if (!w)
		return 0;
	rc = commit_all(w, err);
	if (rc == 0 && w->hook && w->begun)
		rc = w->hook->closing(w->hook->ctx, w->queue, err);
	if (rc == 0 && w->dirty) {
		rc = qd_queue_flush(w->queue, err);
		if (rc == 0)
			rc = queue_feature_bits(w, QD_HEADER_OFF_INCOMPATIBLE, w->img->header.incompatible,
						err);
		if (rc == 0)
			rc = qd_queue_flush(w->queue, err);
	}
	if (rc)
		rc = qd_err_file(err, rc, w->io->name);
	free_writer(w);
	return rc;
}
