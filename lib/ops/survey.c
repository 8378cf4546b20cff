/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the clusters of a list: batches of neighbours, whose plain clusters leave the file
 * in as few reads as their places allow.
 */
#include "ops/survey.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/pipeline.h"
#include "format/entry.h"
#include "image/codec.h"
#include "ops/survey_int.h"

#define BATCH_BYTES (1u << 20)
#define MAX_UNREAD 4096u		/* clusters of a batch, whether they are read or not */

struct walk {
	const struct qd_image *img;
	const struct qd_survey_opts *opts;
	const struct qd_survey_ops *ops;
	void *ctx;
	struct survey_list list;
	uint64_t next;			/* index in the list */
	uint64_t first_number;		/* of the list's first cluster */
	uint64_t passed;		/* bytes of the file told as progress */
	unsigned per_batch;		/* clusters that a batch reads at most */
};

struct job {
	struct qd_survey_content *v;
	unsigned n;
	unsigned capacity;
	unsigned nread;			/* of v, those with data */
	uint8_t *buf;			/* per_batch clusters */
	uint8_t *stream;
	uint8_t *scratch;
	struct qd_codec *codec;
	struct qd_digester *digester;
};

/* ---- next ---- */

static bool is_to_be_read(const struct walk *w, struct qd_survey_content *x)
{
	if (!x->c.references || (w->ops->want && !w->ops->want(w->ctx, &x->c, x->number)))
		return false;
	x->known = w->ops->know && w->ops->know(w->ctx, x);
	return !x->known;
}

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct job *j = job;
	size_t size = (size_t)w->img->geom.cluster_size;

	(void)err;
	j->n = j->nread = 0;
	while (w->next < w->list.n && j->n < j->capacity && j->nread < w->per_batch) {
		struct qd_survey_content *x = &j->v[j->n++];

		x->c = w->list.v[w->next];
		x->number = w->first_number + w->next++;
		x->known = x->zero = x->broken = x->verified = false;
		x->candidate = UINT64_MAX;
		x->data = is_to_be_read(w, x) ? j->buf + j->nread++ * size : NULL;
	}
	return j->n > 0;
}

/* ---- prepare ---- */

/* Clusters from index i on that lie one behind the other in the file and in the buffer. */
static unsigned run_length(const struct job *j, unsigned i, uint64_t size)
{
	unsigned n = 1;

	while (i + n < j->n && j->v[i + n].data && !qd_l2_is_compressed(j->v[i + n].c.entry) &&
	       j->v[i + n].c.entry == j->v[i].c.entry + n * size)
		n++;
	return n;
}

static int read_stream(const struct walk *w, struct job *j, struct qd_survey_content *x, struct qd_err *err)
{
	struct qd_compressed s = qd_l2_compressed(&w->img->geom, x->c.entry);
	size_t nread;
	int rc = qd_io_read_upto(w->img->io, j->stream, (size_t)s.nbytes, s.host_off, &nread, err);

	if (rc)
		return rc;
	rc = qd_codec_decompress(j->codec, j->stream, nread, x->data, err);
	if (rc != QD_E_CORRUPT)
		return rc;
	qd_err_clear(err);
	x->broken = true;
	return 0;
}

static int read_batch(const struct walk *w, struct job *j, struct qd_err *err)
{
	uint64_t size = w->img->geom.cluster_size;
	unsigned n = 1;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < j->n; i += n) {
		n = 1;
		if (!j->v[i].data)
			continue;
		if (qd_l2_is_compressed(j->v[i].c.entry)) {
			rc = read_stream(w, j, &j->v[i], err);
			continue;
		}
		n = run_length(j, i, size);
		rc = qd_io_read_padded(w->img->io, j->v[i].data, n * size, j->v[i].c.entry, err);
	}
	return rc;
}

/* What no subcluster holds is zeros. */
static void clear_unallocated(const struct qd_geom *g, struct qd_survey_content *x)
{
	size_t nbytes = (size_t)1 << g->subcluster_bits;

	if (!g->extended_l2 || qd_l2_is_compressed(x->c.entry) || x->c.mixed)
		return;
	for (unsigned i = 0; i < 32; i++)
		if (!(x->c.bitmap >> i & 1))
			memset(x->data + i * nbytes, 0, nbytes);
}

static int digest_batch(const struct walk *w, struct job *j, struct qd_err *err)
{
	size_t size = (size_t)w->img->geom.cluster_size;
	const void *data[QD_DIGEST_BATCH];
	uint8_t *ret[QD_DIGEST_BATCH];
	unsigned n = 0;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < j->n; i++) {
		if (!j->v[i].data || j->v[i].broken)
			continue;
		data[n] = j->v[i].data;
		ret[n++] = j->v[i].digest;
		if (n < QD_DIGEST_BATCH)
			continue;
		rc = qd_digester_compute_many(j->digester, data, n, size, ret, err);
		n = 0;
	}
	return rc ? rc : qd_digester_compute_many(j->digester, data, n, size, ret, err);
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct job *j = job;
	size_t size = (size_t)w->img->geom.cluster_size;
	int rc = read_batch(w, j, err);

	for (unsigned i = 0; rc == 0 && i < j->n; i++) {
		struct qd_survey_content *x = &j->v[i];

		if (!x->data || x->broken)
			continue;
		clear_unallocated(&w->img->geom, x);
		x->zero = qd_is_zero(x->data, size);
	}
	if (rc == 0 && j->digester)
		rc = digest_batch(w, j, err);
	if (rc == 0 && w->ops->prepare)
		rc = w->ops->prepare(w->ctx, j->v, j->n, j->scratch, err);
	return rc;
}

/* ---- commit ---- */

static int commit(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct job *j = job;
	uint64_t pos = survey_host_off(&w->img->geom, &j->v[j->n - 1].c);
	int rc = w->ops->commit(w->ctx, j->v, j->n, err);

	if (rc || pos <= w->passed)
		return rc;
	rc = qd_progress_add(w->opts->progress, pos - w->passed, err);
	w->passed = pos;
	return rc;
}

/* ---- the walk ---- */

static int init_job(const struct walk *w, struct job *j, struct qd_err *err)
{
	size_t size = (size_t)w->img->geom.cluster_size;
	int rc = 0;

	j->capacity = w->per_batch > MAX_UNREAD ? w->per_batch : MAX_UNREAD;
	j->v = calloc(j->capacity, sizeof(*j->v));
	j->buf = aligned_alloc(4096, qd_align_up(w->per_batch * size, 4096));
	j->stream = malloc(2 * size);
	j->scratch = malloc(qd_max_u64(size, QD_SURVEY_SCRATCH));
	if (!j->v || !j->buf || !j->stream || !j->scratch)
		return qd_err_nomem(err, "a batch");
	rc = qd_codec_new(w->img->header.compression_type, size, 0, &j->codec, err);
	if (rc == 0 && w->opts->digest)
		rc = qd_digester_new(w->opts->digest, &j->digester, err);
	return rc;
}

static void free_job(struct job *j)
{
	free(j->v);
	free(j->buf);
	free(j->stream);
	free(j->scratch);
	qd_codec_free(j->codec);
	qd_digester_free(j->digester);
}

static int walk_windows(struct walk *w, struct job *jobs, unsigned njobs, unsigned threads, uint64_t *ret_bad,
			struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit };
	uint64_t lo = 0;
	int rc = 0;

	while (rc == 0 && lo != UINT64_MAX) {
		rc = survey_list_fill(&w->list, lo, err);
		if (rc)
			return rc;
		if (ret_bad)
			*ret_bad = w->list.bad;
		w->next = 0;
		rc = qd_pipeline_run(&ops, w, jobs, sizeof(*jobs), njobs, threads, err);
		w->first_number += w->list.n;
		lo = w->list.hi;
	}
	if (rc == 0 && w->passed < w->img->file_size)
		rc = qd_progress_add(w->opts->progress, w->img->file_size - w->passed, err);
	return rc;
}

bool qd_survey_want_nothing(void *ctx, const struct qd_surveyed *c, uint64_t number)
{
	(void)ctx;
	(void)c;
	(void)number;
	return false;
}

int qd_survey_walk(const struct qd_image *img, const struct qd_survey_opts *opts,
		   const struct qd_survey_ops *ops, void *ctx, uint64_t *ret_bad, struct qd_err *err)
{
	unsigned threads = opts->threads ? opts->threads : qd_cpu_count(), njobs = threads * 2 + 1;
	uint64_t size = img->geom.cluster_size, memory = qd_max_u64(opts->memory, 8 * size);
	struct walk w = { .img = img, .opts = opts, .ops = ops, .ctx = ctx };
	uint64_t batch = qd_max_u64(BATCH_BYTES, size);
	struct job *jobs = NULL;
	int rc = 0;

	while (batch > size && njobs * batch > memory / 2)
		batch /= 2;
	while (njobs > 1 && njobs * batch > memory / 2)
		njobs--;
	threads = threads < njobs ? threads : njobs;
	w.per_batch = (unsigned)(batch / size);
	survey_list_init(&w.list, img, memory / 2);
	jobs = calloc(njobs, sizeof(*jobs));
	if (!jobs)
		rc = qd_err_nomem(err, "batches");
	for (unsigned i = 0; rc == 0 && i < njobs; i++)
		rc = init_job(&w, &jobs[i], err);
	qd_progress_set_total(opts->progress, img->file_size);
	if (rc == 0)
		rc = walk_windows(&w, jobs, njobs, threads, ret_bad, err);
	for (unsigned i = 0; jobs && i < njobs; i++)
		free_job(&jobs[i]);
	free(jobs);
	survey_list_free(&w.list);
	return rc;
}
