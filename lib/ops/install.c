/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The steps of install.h, each on stable storage before the next:
 *
 *	dirty bit | container's bytes, refcounts, pin | extension | autoclear bit |
 *	old slots of the pin | old clusters free | dirty bit
 *
 * An external container is written under its name first; then only the header changes.
 */
#include "ops/install.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_file.h"
#include "base/newfile.h"
#include "format/entry.h"
#include "format/journal.h"
#include "image/change.h"
#include "image/ext_edit.h"
#include "image/pin.h"

#define MEMORY (32u << 20)

struct install {
	struct qd_image *img;
	const struct qd_container *old;
	const struct qd_install *in;
	struct qd_install_result *result;
	struct qd_change *change;
	struct qd_pin *pin;
	uint64_t kept;			/* slots that stay */
};

/* ---- what both need ---- */

static int open_change(struct install *x, struct qd_err *err)
{
	struct qd_pin_image pi = { .img = x->img };
	int rc = qd_change_open(x->img, MEMORY, &x->change, err);

	if (rc)
		return rc;
	pi.queue = x->change->queue;
	pi.cache = x->change->cache;
	pi.alloc = x->change->alloc;
	return qd_pin_open(&pi, &x->pin, err);
}

static void close_change(struct install *x)
{
	struct qd_queue_stats stats;

	if (x->change) {
		qd_queue_stats(x->change->queue, &stats);
		x->result->flushes = stats.flushes;
	}
	qd_pin_free(x->pin);
	qd_change_free(x->change);
}

/* Everything that was changed of pin and refcounts is on stable storage, and what it replaced is free. */
static int commit(struct install *x, struct qd_err *err)
{
	int rc = qd_change_tables(x->change, err);

	if (rc == 0)
		rc = qd_pin_write(x->pin, err);
	if (rc == 0)
		rc = qd_queue_flush(x->change->queue, err);
	return rc ? rc : qd_change_settle(x->change, err);
}

/* ---- the extension ---- */

static int set_extension(struct qd_ext_edit *e, const struct qd_table_ext *ext, bool named,
			 struct qd_err *err)
{
	uint8_t data[QD_TABLE_EXT_SIZE];
	int rc = 0;

	qd_table_ext_encode(ext, data);
	if (named)
		rc = qd_ext_edit_name_autoclear(e, QD_AUTOCLEAR_INDEX_BIT, QD_AUTOCLEAR_INDEX_NAME, err);
	return rc ? rc : qd_ext_edit_set(e, QD_EXT_QDEDUP, data, sizeof(data), err);
}

/* Is there room?  *ret_named: for the feature's name as well. */
static int try_extension(const struct qd_image *img, const struct qd_table_ext *ext, bool *ret_named,
			 struct qd_err *err)
{
	int rc = 0;

	*ret_named = true;
	for (unsigned i = 0; i < 2; i++) {
		struct qd_ext_edit *e = NULL;

		qd_err_clear(err);
		rc = qd_ext_edit_open(img, NULL, &e, err);
		if (rc == 0)
			rc = set_extension(e, ext, *ret_named, err);
		qd_ext_edit_free(e);
		if (rc != QD_E_UNSUPPORTED)
			break;
		*ret_named = false;
	}
	return rc;
}

/* N1, N2: the extension, then the bit. */
static int switch_to(struct install *x, bool named, struct qd_err *err)
{
	struct qd_ext_edit *e = NULL;
	int rc = qd_ext_edit_open(x->img, x->change->queue, &e, err);

	if (rc == 0 && qd_image_has_own_snapshots(x->img))
		rc = qd_ext_edit_autoclear(e, 0, QD_AUTOCLEAR_INDEX, err);
	if (rc == 0)
		rc = set_extension(e, &x->result->ext, named, err);
	if (rc == 0 && x->in->valid && !qd_image_has_own_snapshots(x->img))
		rc = qd_ext_edit_autoclear(e, QD_AUTOCLEAR_INDEX, 0, err);
	qd_ext_edit_free(e);
	return rc ? rc : qd_queue_flush(x->change->queue, err);
}

static int remove_extension(struct install *x, struct qd_err *err)
{
	struct qd_ext_edit *e = NULL;
	int rc = qd_ext_edit_open(x->img, x->change->queue, &e, err);

	if (rc == 0)
		rc = qd_ext_edit_autoclear(e, 0, QD_AUTOCLEAR_INDEX, err);
	if (rc == 0)
		rc = qd_ext_edit_remove(e, QD_EXT_QDEDUP, err);
	if (rc == 0)
		rc = qd_ext_edit_unname_autoclear(e, QD_AUTOCLEAR_INDEX_BIT, err);
	qd_ext_edit_free(e);
	return rc ? rc : qd_queue_flush(x->change->queue, err);
}

/* ---- the new container ---- */

/*
 * Two journals of one identity are those of copies of one image, of which each continued what the
 * other had: their generations, sizes of logs and checksums tell them apart.
 */
static uint64_t journal_id(const struct install *x)
{
	uint8_t known[QD_TABLE_EXT_SIZE + QD_HEADER_FULL_SIZE] = { 0 };
	uint64_t id = x->in->journal_id;

	if (!id && x->old)
		id = x->old->ext.journal_id;
	if (id)
		return id;
	qd_table_ext_encode(&x->result->ext, known);
	qd_header_encode(&x->img->header, known + QD_TABLE_EXT_SIZE);
	id = qd_fingerprint_of(known, sizeof(known)).hi;
	return id ? id : 1;
}

/* Everything of the extension but place and pin. */
static int plan(struct install *x, struct qd_err *err)
{
	struct qd_table_ext *ext = &x->result->ext;
	const struct qd_install *in = x->in;
	uint64_t nbytes = 0, end;
	int rc = qd_table_maker_finish(in->maker, x->old ? x->old->ext.generation + 1 : 1, ext, &nbytes, err);

	if (rc)
		return rc;
	end = nbytes;
	if (in->log_nbytes || in->redo_nbytes) {
		ext->journal_off = qd_align_up(nbytes, QD_JOURNAL_CLUSTER);
		ext->log_nbytes = (uint32_t)in->log_nbytes;
		ext->redo_nbytes = (uint32_t)in->redo_nbytes;
		end = ext->journal_off + 2 * in->log_nbytes + in->redo_nbytes;
		ext->journal_id = journal_id(x);
	}
	ext->container_nbytes = qd_align_up(end, x->img->geom.cluster_size);
	ext->flags = in->index_path ? QD_TABLE_EXTERNAL : 0;
	x->result->nbytes = ext->container_nbytes;
	x->result->nrecords = qd_table_maker_records(in->maker);
	return 0;
}

/* Table, then zeros (N3). */
static int write_container(struct install *x, struct qd_io *io, uint64_t off, struct qd_err *err)
{
	const struct qd_table_ext *ext = &x->result->ext;
	uint64_t used = qd_table_end(x->result->nrecords, ext->digest_nbytes);
	int rc = qd_table_maker_write(x->in->maker, io, off, err);

	if (rc == 0 && used < ext->container_nbytes)
		rc = qd_io_zero(io, off + used, ext->container_nbytes - used, err);
	return rc;
}

static int pin_container(struct install *x, uint64_t first, uint64_t nclusters, struct qd_err *err)
{
	const struct qd_geom *g = &x->img->geom;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < nclusters; i++) {
		rc = qd_pin_add(x->pin, (first + i) << g->cluster_bits, g->extended_l2 ? UINT32_MAX : 0, err);
		if (rc == 0 && qd_cache_is_full(x->change->cache))
			rc = commit(x, err);
	}
	return rc;
}

/*
 * The bytes go to free clusters before anything is marked: when there is no space for them the
 * image is as it was.  Only a refcount table that must grow is written to at once.
 */
static int write_embedded(struct install *x, struct qd_err *err)
{
	const struct qd_geom *g = &x->img->geom;
	struct qd_table_ext *ext = &x->result->ext;
	uint64_t nclusters = ext->container_nbytes >> g->cluster_bits, first = 0;
	int rc = 0;

	if (qd_alloc_end(x->change->alloc) + 2 * ext->container_nbytes + 16 * g->cluster_size >
	    qd_alloc_reach(x->change->alloc))
		rc = qd_change_begin(x->change, err);
	if (rc == 0)
		rc = qd_alloc_claim_run(x->change->alloc, nclusters, &first, err);
	if (rc)
		return rc;
	ext->container_off = first << g->cluster_bits;
	rc = write_container(x, x->img->io, ext->container_off, err);
	qd_queue_wrote_data(x->change->queue);
	if (rc) {
		if (!x->change->begun)
			qd_io_truncate(x->img->io, x->img->file_size, NULL);
		return rc;
	}
	rc = qd_change_begin(x->change, err);
	if (rc == 0)
		rc = pin_container(x, first, nclusters, err);
	ext->pin_id = qd_pin_id(x->pin);
	return rc;
}

/* A file of that name is replaced only if it is an index, or empty. */
static int refuse_other_file(const char *path, struct qd_err *err)
{
	struct qd_file_opts opts = { .no_lock = true };
	struct qd_io *io = NULL;
	uint8_t start[8];
	size_t nread = 0;
	int rc;

	if (!qd_path_exists(path))
		return 0;
	rc = qd_io_file_open(path, &opts, &io, err);
	if (rc == 0)
		rc = qd_io_read_upto(io, start, sizeof(start), 0, &nread, err);
	qd_io_close(io);
	if (rc || nread == 0 || (nread == sizeof(start) && !memcmp(start, QD_EXTERNAL_MAGIC, sizeof(start))))
		return rc;
	rc = qd_err_set(err, QD_E_INVALID, "the file is there already, and it is no index: remove it, or name another");
	return qd_err_file(err, rc, path);
}

/* What can be known before anything is written. */
static int refuse(const struct install *x, struct qd_err *err)
{
	if (x->in->index_path)
		return refuse_other_file(x->in->index_path, err);
	if (qd_pin_exists(x->pin) && !qd_pin_id(x->pin))
		return qd_err_set(err, QD_E_UNSUPPORTED, "the ID of snapshot \"%s\" is not a number",
				  QD_PIN_NAME);
	return qd_pin_possible(x->pin, err);
}

static int write_external(struct install *x, struct qd_err *err)
{
	static const char magic[8] = QD_EXTERNAL_MAGIC;
	uint8_t head[QD_EXTERNAL_HEAD] = { 0 };
	struct qd_newfile *nf = NULL;
	struct qd_io *io;
	int rc = qd_newfile_open(x->in->index_path, QD_CACHE_WRITEBACK, &nf, err);

	if (rc)
		return rc;
	x->result->ext.pin_id = qd_pin_id(x->pin);
	memcpy(head, magic, sizeof(magic));
	qd_table_ext_encode(&x->result->ext, head + 8);
	io = qd_newfile_io(nf);
	rc = qd_io_write(io, head, sizeof(head), 0, err);
	if (rc == 0)
		rc = write_container(x, io, QD_EXTERNAL_HEAD, err);
	if (rc) {
		qd_newfile_abort(nf);
		return rc;
	}
	return qd_newfile_commit(nf, err);
}

/* ---- more slots ---- */

/* One reference more to what the entry refers to; *ret_full: there is no room for it in the refcounts. */
static int share(struct install *x, uint64_t entry, bool *ret_full, struct qd_err *err)
{
	uint64_t first, last, at, max = x->img->geom.refcount_max;
	int rc = 0;

	*ret_full = false;
	qd_l2_clusters(&x->img->geom, entry, &first, &last);
	for (at = first; rc == 0 && at <= last && !*ret_full; at++) {
		uint64_t count = 0;

		rc = qd_alloc_count(x->change->alloc, at, &count, err);
		*ret_full = count == max;
	}
	for (at = first; rc == 0 && at <= last && !*ret_full; at++)
		rc = qd_alloc_share(x->change->alloc, at, 1, err);
	return rc;
}

static int add_slots(struct install *x, struct qd_err *err)
{
	uint64_t entry, bitmap;
	int rc;

	if (!x->in->add || x->in->index_path)
		return 0;
	while ((rc = x->in->add(x->in->ctx, &entry, &bitmap, err)) == 1) {
		bool full;

		rc = share(x, entry, &full, err);
		if (rc == 0 && !full) {
			rc = qd_pin_add(x->pin, entry, bitmap, err);
			x->result->pinned++;
		}
		if (rc == 0 && qd_cache_is_full(x->change->cache))
			rc = commit(x, err);
		if (rc)
			return rc;
	}
	return rc;
}

/* ---- old slots ---- */

static int visit_slot(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove, struct qd_err *err)
{
	struct install *x = ctx;
	bool old = x->old && qd_table_ext_holds(&x->old->ext, entry);
	uint64_t first, last;
	int rc = 0;

	(void)bitmap;
	if (qd_table_ext_holds(&x->result->ext, entry) ||
	    (!old && !(x->in->remove && !x->in->index_path && x->in->remove(x->in->ctx, entry)))) {
		x->kept++;
		return 0;
	}
	*remove = true;
	x->result->unpinned += !old;
	qd_l2_clusters(&x->img->geom, entry, &first, &last);
	for (uint64_t at = first; rc == 0 && at <= last; at++)
		rc = qd_alloc_release(x->change->alloc, at, err);
	return rc;
}

/* Is there a slot to clear at all? */
static bool may_clear(const struct install *x)
{
	return qd_pin_exists(x->pin) && ((x->old && x->old->ext.container_off) || x->in->remove);
}

static int clear_slots(struct install *x, struct qd_err *err)
{
	int rc;

	if (!may_clear(x))
		return 0;
	rc = qd_change_begin(x->change, err);
	if (rc == 0)
		rc = qd_pin_walk(x->pin, visit_slot, x, err);
	if (rc == 0 && x->kept == 0)
		rc = qd_pin_delete(x->pin, err);
	return rc ? rc : commit(x, err);
}

/* ---- all of it ---- */

static int run_embedded(struct install *x, bool named, struct qd_err *err)
{
	int rc = write_embedded(x, err);

	if (rc == 0)
		rc = add_slots(x, err);
	if (rc == 0)
		rc = commit(x, err);
	return rc ? rc : switch_to(x, named, err);
}

static int run_external(struct install *x, bool named, struct qd_err *err)
{
	int rc = write_external(x, err);

	return rc ? rc : switch_to(x, named, err);
}

static int install(struct install *x, struct qd_err *err)
{
	const char *why = NULL;
	bool named = true;
	int rc;

	if (qd_container_is_impossible(&x->img->header, &why))
		return qd_err_set(err, QD_E_UNSUPPORTED, "the image cannot have an index: %s", why);
	rc = open_change(x, err);
	if (rc == 0)
		rc = refuse(x, err);
	if (rc == 0)
		rc = plan(x, err);
	if (rc == 0)
		rc = try_extension(x->img, &x->result->ext, &named, err);
	if (rc == 0)
		rc = x->in->index_path ? run_external(x, named, err) : run_embedded(x, named, err);
	if (rc == 0)
		rc = clear_slots(x, err);
	return rc ? rc : qd_change_end(x->change, err);
}

int qd_install_container(struct qd_image *img, const struct qd_container *old, const struct qd_install *in,
			 struct qd_install_result *ret_result, struct qd_err *err)
{
	struct install x = { .img = img, .old = old, .in = in, .result = ret_result };
	int rc;

	*ret_result = (struct qd_install_result){ .flushes = 0 };
	rc = install(&x, err);
	close_change(&x);
	return rc;
}

int qd_install_drop(struct qd_image *img, const struct qd_container *old,
		    struct qd_install_result *ret_result,
		    struct qd_err *err)
{
	return qd_install_drop_more(img, old, NULL, NULL, ret_result, err);
}

int qd_install_drop_more(struct qd_image *img, const struct qd_container *old,
			 bool (*remove)(void *ctx, uint64_t entry), void *ctx,
			 struct qd_install_result *ret_result, struct qd_err *err)
{
	struct qd_install in = { .remove = remove, .ctx = ctx };
	struct install x = { .img = img, .old = old, .in = &in, .result = ret_result };
	int rc;

	*ret_result = (struct qd_install_result){ .flushes = 0 };
	rc = open_change(&x, err);
	if (rc == 0)
		rc = remove_extension(&x, err);
	if (rc == 0)
		rc = clear_slots(&x, err);
	if (rc == 0)
		rc = qd_change_end(x.change, err);
	close_change(&x);
	return rc;
}
