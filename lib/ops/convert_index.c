/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From stored clusters to the container: see convert_index.h.
 *
 * xxh128 costs nothing: it is the fingerprint that found the duplicates.  Other digests
 * are computed where a cluster is stored, in parallel as far as prepare can foresee that.
 */
#include "ops/convert_index.h"

#include "base/bytes.h"
#include "dedup/container.h"
#include "format/entry.h"

static bool is_wanted(const struct qd_cv_writer *w)
{
	const struct qd_convert_opts *o = w->c->opts;
	const struct qd_layout *l = w->c->layout;

	if (o->no_dedup || o->no_index || l->version < 3)
		return false;
	if (o->index_path)
		return true;
	return !o->no_pin && qd_build_has_header_room(w->build, QD_TABLE_EXT_SIZE);
}

static int refuse_external(const struct qd_cv_writer *w, struct qd_err *err)
{
	if (w->c->layout->version < 3)
		return qd_err_set(err, QD_E_INVALID, "--index: an image with compat=0.10 cannot say whether its index still holds");
	if (!qd_build_has_header_room(w->build, QD_TABLE_EXT_SIZE))
		return qd_err_set(err, QD_E_INVALID, "--index: the first cluster has no room beside the backing file's name: use larger clusters");
	return 0;
}

int qd_cv_index_open(struct qd_cv_writer *w, struct qd_err *err)
{
	int r = w->c->opts->index_path ? refuse_external(w, err) : 0;

	if (r || !is_wanted(w))
		return r;
	return qd_table_maker_new(w->geom, w->digest, w->c->memory / 16, w->c->opts->tmpdir, &w->table, err);
}

int qd_cv_index_hash(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	if (!w->table || w->digests || cl->hashed || !w->digest->algorithm)	/* it is there, or is the fingerprint */
		return 0;
	cl->hashed = true;
	return qd_digester_compute(j->digester, cl->data, (size_t)w->geom->cluster_size, cl->digest, err);
}

static int add(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, uint64_t entry, uint64_t guest,
	       uint8_t flags, struct qd_err *err)
{
	struct qd_record rec = { .entry = entry, .guest = guest, .flags = flags };
	int r = qd_cv_index_hash(w, j, cl, err);

	if (r)
		return r;
	if (w->digest->algorithm) {
		memcpy(rec.hash, cl->digest, w->digest->nbytes);
	} else {
		qd_put_be64(rec.hash, cl->print.hi);
		qd_put_be64(rec.hash + 8, cl->print.lo);
	}
	return qd_table_maker_add(w->table, &rec, err);
}

int qd_cv_index_stored(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	uint64_t entry = cl->host_off;

	if (!w->table)
		return 0;
	if (cl->out_nbytes < w->geom->cluster_size)
		entry = qd_l2_make_compressed(w->geom, cl->host_off, cl->out_nbytes);
	return add(w, j, cl, entry, cl->guest, 0, err);
}

int qd_cv_index_full(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, uint64_t owner,
		     struct qd_err *err)
{
	uint64_t entry;
	int r;

	if (!w->table)
		return 0;
	r = qd_build_entry(w->build, owner, &entry, err);
	return r ? r : add(w, j, cl, entry, owner, QD_RECORD_FULL, err);
}

/* Head, container, zeros to its end: one file, bound to the image by the extension's bytes. */
static int write_external(const struct qd_cv_writer *w, struct qd_table_ext *ext, uint64_t nbytes, struct qd_err *err)
{
	static const char magic[8] = QD_EXTERNAL_MAGIC;
	uint8_t head[QD_EXTERNAL_HEAD] = { 0 };
	int r;

	ext->flags = QD_TABLE_EXTERNAL;
	ext->container_nbytes = qd_align_up(nbytes, w->geom->cluster_size);
	memcpy(head, magic, sizeof(magic));
	qd_table_ext_encode(ext, head + 8);
	r = qd_io_write(w->c->index_io, head, sizeof(head), 0, err);
	if (!r)
		r = qd_table_maker_write(w->table, w->c->index_io, QD_EXTERNAL_HEAD, err);
	return r ? r : qd_io_truncate(w->c->index_io, QD_EXTERNAL_HEAD + ext->container_nbytes, err);
}

static int write_embedded(const struct qd_cv_writer *w, struct qd_table_ext *ext, uint64_t nbytes, struct qd_err *err)
{
	uint64_t size = w->geom->cluster_size, nclusters = qd_div_up(nbytes, size);
	int r = qd_build_add_pinned(w->build, nclusters, &ext->container_off, err);

	ext->container_nbytes = nclusters * size;
	ext->pin_id = QD_BUILD_PIN_ID;
	if (!r)
		r = qd_table_maker_write(w->table, w->c->io, ext->container_off, err);
	if (!r && nbytes < ext->container_nbytes)
		r = qd_io_zero(w->c->io, ext->container_off + nbytes, ext->container_nbytes - nbytes, err);
	return r;
}

int qd_cv_index_write(struct qd_cv_writer *w, uint64_t *ret_autoclear, struct qd_err *err)
{
	struct qd_table_ext ext = { 0 };
	uint8_t data[QD_TABLE_EXT_SIZE];
	uint64_t nbytes;
	int r;

	if (!w->table)
		return 0;
	r = qd_table_maker_finish(w->table, 1, &ext, &nbytes, err);
	if (!r)
		r = w->c->index_io ? write_external(w, &ext, nbytes, err) : write_embedded(w, &ext, nbytes, err);
	if (r)
		return r;
	qd_table_ext_encode(&ext, data);
	*ret_autoclear |= QD_AUTOCLEAR_INDEX;
	w->c->result.index_entries = qd_table_maker_records(w->table);
	w->c->result.index_nbytes = ext.container_nbytes;
	return qd_build_add_ext(w->build, QD_EXT_QDEDUP, data, sizeof(data), err);
}
