/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 writer: setting up, and the stages that only move bytes.  What it guarantees
 * and how the rest is divided stands in convert_qcow2.h.
 */
#include "ops/convert_qcow2.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/pipeline.h"
#include "image/bitmaps.h"
#include "ops/convert_index.h"

#define MAX_VECTORS 64

struct gather {
	struct iovec iov[MAX_VECTORS];
	int niov;
	uint64_t host_off;
	uint64_t nbytes;
};

static int write_gathered(const struct qd_cv_writer *w, struct gather *g, struct qd_err *err)
{
	struct qd_io *io = w->c->data_io ? w->c->data_io : w->c->io;
	int r = g->niov ? qd_io_writev(io, g->iov, g->niov, g->host_off, err) : 0;

	g->niov = 0;
	g->nbytes = 0;
	return r;
}

static void gather_piece(struct gather *g, uint8_t *data, size_t nbytes)
{
	struct iovec *last = g->niov ? &g->iov[g->niov - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == data)
		last->iov_len += nbytes;
	else
		g->iov[g->niov++] = (struct iovec){ .iov_base = data, .iov_len = nbytes };
	g->nbytes += nbytes;
}

/* Writes what the batch stores in as few calls as its places in the file allow. */
static int write_batch(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	struct gather g = { .niov = 0 };
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		const struct qd_cv_cluster *cl = &j->clusters[i];

		if (!cl->stored)
			continue;
		if (g.niov && (g.host_off + g.nbytes != cl->host_off || g.niov == MAX_VECTORS))
			r = write_gathered(w, &g, err);
		if (!g.niov)
			g.host_off = cl->host_off;
		gather_piece(&g, cl->out, cl->out_nbytes);
	}
	return r ? r : write_gathered(w, &g, err);
}

static int finish(void *ctx, void *job, struct qd_err *err)
{
	struct qd_cv_writer *w = ctx;
	struct qd_cv_job *j = job;
	int r = write_batch(w, j, err);

	pthread_mutex_lock(&w->lock);
	j->in_flight = false;
	pthread_mutex_unlock(&w->lock);
	return r ? r : qd_progress_add(w->c->progress, j->batch.progress, err);
}

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct qd_cv_writer *w = ctx;
	struct qd_cv_job *j = job;
	int r = qd_source_next(w->c->src, &j->batch, err);

	j->nclusters = 0;
	return r;
}

/* --- setting up --- */

static int init_job(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	size_t size = (size_t)w->geom->cluster_size;
	const struct qd_convert_opts *o = w->c->opts;
	int r = qd_batch_init(&j->batch, w->c->src, err);

	if (r)
		return r;
	j->clusters = calloc(w->c->src->batch_nbytes / size, sizeof(*j->clusters));
	j->scratch = aligned_alloc(4096, qd_align_up(qd_max_u64(size, QD_CV_SCRATCH), 4096));
	if (!j->clusters || !j->scratch)
		return qd_err_nomem(err, "a batch");
	if (o->compress) {
		j->packed = malloc(w->c->src->batch_nbytes);
		j->stream = malloc(2 * size);
		if (!j->packed || !j->stream)
			return qd_err_nomem(err, "a batch");
		r = qd_codec_new(w->c->layout->compression_type, size,
				 o->compress_level ? o->compress_level : QD_CODEC_DEFAULT_LEVEL, &j->codec, err);
	}
	return r || !(w->digests || w->table) ? r : qd_digester_new(w->digest, &j->digester, err);
}

static void free_job(struct qd_cv_job *j)
{
	qd_batch_free(&j->batch);
	free(j->clusters);
	free(j->packed);
	free(j->scratch);
	free(j->stream);
	qd_codec_free(j->codec);
	qd_digester_free(j->digester);
	qd_hint_sample_free(&j->sample);
}

static int init_build(struct qd_cv_writer *w, struct qd_err *err)
{
	const struct qd_layout *l = w->c->layout;
	const struct qd_convert_opts *o = w->c->opts;
	uint64_t size = qd_max_u64(w->c->virtual_size, w->c->src->virtual_size);
	struct qd_build_opts bo;
	int r;

	qd_layout_to_build(l, &bo);
	bo.pin = !o->no_dedup && !o->no_pin;
	bo.max_share = o->max_share;
	bo.memory = w->c->memory / 8;
	r = qd_build_new(w->c->io, size, &bo, &w->build, err);
	if (r)
		return r;
	w->geom = qd_build_geom(w->build);
	w->zero_entries = l->backing_file != NULL;
	w->zero_as_data = w->zero_entries && l->version < 3;
	/* What is written to a raw data file by way of its own name must show in the image: all of it is mapped. */
	w->fill = l->preallocation != QD_PREALLOC_OFF || l->data_file_raw || (o->sparse_given && !o->sparse_size);
	return 0;
}

static int init_dedup(struct qd_cv_writer *w, struct qd_err *err)
{
	const struct qd_convert_opts *o = w->c->opts;
	int r;

	if (o->no_dedup)
		return 0;
	w->digest = qd_digest_find(o->hash ? o->hash : QD_DIGEST_DEFAULT);
	r = qd_index_new(w->c->memory / 8 * 3, o->tmpdir, &w->index, err);
	if (!r && o->trust_hash)
		r = qd_records_new(w->digest->nbytes, w->c->memory / 8, o->tmpdir, &w->digests, err);
	if (!r && !o->compress && !o->no_create && !w->c->result.autosize.nsizes)
		r = qd_hint_init(&w->hint, w->geom->cluster_size, w->c->src->virtual_size, err);
	return r ? r : qd_cv_index_open(w, err);
}

static int run(struct qd_cv_writer *w, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = qd_cv_prepare, .commit = qd_cv_commit, .finish = finish };
	struct qd_batch_plan plan;
	int r = 0;

	qd_batch_plan(w->c->memory, w->c->nthreads, w->geom->cluster_size, w->c->opts->compress ? 2 : 1, &plan);
	w->c->src->unit = w->geom->cluster_size;
	w->c->src->batch_nbytes = plan.batch_nbytes;
	w->njobs = plan.njobs;
	w->jobs = calloc(plan.njobs, sizeof(*w->jobs));
	if (!w->jobs)
		r = qd_err_nomem(err, "batches");
	for (unsigned i = 0; !r && i < plan.njobs; i++)
		r = init_job(w, &w->jobs[i], err);
	if (!r)
		r = qd_pipeline_run(&ops, w, w->jobs, sizeof(*w->jobs), plan.njobs, plan.nthreads, err);
	return r;
}

static void answer_hint(const struct qd_cv_writer *w, const struct qd_build_stats *stats)
{
	struct qd_hint_image image = {
		.references = stats->references, .distinct = stats->data_clusters,
		.record_nbytes = w->table ? qd_record_nbytes(w->digest->nbytes) : 0,
	};

	w->c->result.hint_cluster_size = qd_hint_answer(&w->hint, &image, &w->c->result.hint_nbytes);
}

static int complete(struct qd_cv_writer *w, struct qd_err *err)
{
	struct qd_convert *c = w->c;
	uint64_t size = qd_max_u64(c->virtual_size, c->src->virtual_size);
	const struct qd_image *img = c->opts->bitmaps && size && c->src->disk ? c->src->disk->img : NULL;
	struct qd_build_stats stats;
	uint64_t autoclear = img && qd_bitmaps_count(img) ? QD_AUTOCLEAR_BITMAPS : 0;
	int r = qd_cv_fill(w, qd_div_up(size, w->geom->cluster_size), err);

	if (!r)
		r = qd_cv_index_write(w, &autoclear, err);
	if (!r && img)
		r = qd_bitmaps_copy(img, w->build, c->io, err);
	if (!r)
		r = qd_build_finish(w->build, size, autoclear, &stats, err);
	if (r)
		return r;
	c->result.virtual_size = size;
	c->result.cluster_size = w->geom->cluster_size;
	c->result.guest_clusters = stats.references;
	c->result.data_clusters = stats.data_clusters;
	c->result.shared_clusters = stats.shared_clusters;
	c->result.file_size = stats.file_size;
	answer_hint(w, &stats);
	return c->data_io ? qd_io_truncate(c->data_io, size, err) : 0;
}

int qd_convert_to_qcow2(struct qd_convert *c, struct qd_err *err)
{
	struct qd_cv_writer w = { .c = c };
	int r;

	pthread_mutex_init(&w.lock, NULL);
	r = init_build(&w, err);
	if (!r)
		r = init_dedup(&w, err);
	if (!r)
		r = run(&w, err);
	if (!r)
		r = complete(&w, err);
	for (unsigned i = 0; i < w.njobs && w.jobs; i++)
		free_job(&w.jobs[i]);
	free(w.jobs);
	qd_index_free(w.index);
	qd_records_free(w.digests);
	qd_table_maker_free(w.table);
	qd_hint_free(&w.hint);
	qd_build_free(w.build);
	pthread_mutex_destroy(&w.lock);
	return r;
}
