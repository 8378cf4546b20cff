/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The raw writer: a sparse file, an existing file or device, or a stream.
 *
 *	new file   truncated to its size, then data is written; what is zero stays a hole
 *	in place   what is not written is made zero explicitly: the target may hold anything
 *	stream     everything in order, zeros included
 *
 * Batches of a file are written as they come, in any order; those of a stream, and the
 * gaps of an existing target, in the commit stage.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "base/pipeline.h"
#include "ops/convert_int.h"

#define UNIT 65536u			/* what the source is cut into */
#define DEFAULT_SPARSE 4096u
#define ZEROS (1u << 20)

struct job {
	struct qd_batch batch;		/* first: the source fills it */
};

struct writer {
	struct qd_convert *c;
	struct job *jobs;
	unsigned njobs;
	bool stream;
	bool in_place;
	uint64_t sparse;		/* zeros of this size are not written; 0: everything is */
	uint64_t done;			/* stream and in place: bytes dealt with so far */
	uint8_t *zeros;			/* stream: a block of them */
};

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;

	return qd_source_next(w->c->src, &((struct job *)job)->batch, err);
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;

	return qd_batch_read(&((struct job *)job)->batch, w->c->src, err);
}

/* Zeros of [done, upto) of a target that is not a fresh file. */
static int pass_gap(struct writer *w, uint64_t upto, struct qd_err *err)
{
	int r = 0;

	if (w->in_place && upto > w->done) {
		r = qd_io_zero(w->c->io, w->done, upto - w->done, err);
		w->done = upto;
	}
	while (w->stream && !r && w->done < upto) {
		size_t n = (size_t)qd_min_u64(upto - w->done, ZEROS);

		r = qd_io_write(w->c->io, w->zeros, n, w->done, err);
		w->done += n;
	}
	return r;
}

/* Bytes of a segment that belong to the disk (the last unit may reach past its end). */
static size_t inside(const struct qd_batch *b, const struct qd_segment *s)
{
	return (size_t)qd_min_u64(s->nbytes, b->disk_size - s->guest_off);
}

static int commit(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	const struct qd_batch *b = &((struct job *)job)->batch;
	int r = 0;

	for (unsigned i = 0; !r && i < b->nsegments; i++) {
		const struct qd_segment *s = &b->segments[i];

		r = pass_gap(w, s->guest_off, err);
		if (!r && w->stream)
			r = qd_io_write(w->c->io, b->buf + s->buf_off, inside(b, s), s->guest_off, err);
		w->done = s->guest_off + inside(b, s);
	}
	return r;
}

/* Length of the run of pieces at `data` that are all zero, or all not. */
static size_t run_length(const struct writer *w, const uint8_t *data, size_t nbytes, bool *ret_zero)
{
	size_t step = (size_t)w->sparse, len = (size_t)qd_min_u64(step, nbytes);

	*ret_zero = qd_is_zero(data, len);
	while (len < nbytes && qd_is_zero(data + len, (size_t)qd_min_u64(step, nbytes - len)) == *ret_zero)
		len += (size_t)qd_min_u64(step, nbytes - len);
	return len;
}

static int write_segment(const struct writer *w, const uint8_t *data, size_t nbytes, uint64_t off,
			 struct qd_err *err)
{
	int r = 0;

	if (!w->sparse)
		return qd_io_write(w->c->io, data, nbytes, off, err);
	for (size_t pos = 0; !r && pos < nbytes;) {
		bool zero;
		size_t len = run_length(w, data + pos, nbytes - pos, &zero);

		if (!zero)
			r = qd_io_write(w->c->io, data + pos, len, off + pos, err);
		else if (w->in_place)
			r = qd_io_zero(w->c->io, off + pos, len, err);
		pos += len;
	}
	return r;
}

static int finish(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	const struct qd_batch *b = &((struct job *)job)->batch;
	int r = 0;

	for (unsigned i = 0; !r && !w->stream && i < b->nsegments; i++) {
		const struct qd_segment *s = &b->segments[i];

		r = write_segment(w, b->buf + s->buf_off, inside(b, s), s->guest_off, err);
	}
	return r ? r : qd_progress_add(w->c->progress, b->progress, err);
}

/* A new file gets its size first, so that holes need no write; -S 0 reserves them. */
static int size_target(struct writer *w, struct qd_err *err)
{
	uint64_t size = w->c->src->virtual_size;
	int r;

	if (w->stream || w->in_place || !w->c->src->disk)
		return 0;
	r = qd_io_truncate(w->c->io, size, err);
	if (!r && !w->sparse && size)
		r = qd_io_reserve(w->c->io, 0, size, err);
	return r;
}

static int run(struct writer *w, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit, .finish = finish };
	struct qd_batch_plan plan;
	int r = 0;

	w->c->src->unit = UNIT;
	qd_batch_plan(w->c->memory, w->c->nthreads, UNIT, 1, &plan);
	w->c->src->batch_nbytes = plan.batch_nbytes;
	w->njobs = plan.njobs;
	w->jobs = calloc(plan.njobs, sizeof(*w->jobs));
	if (!w->jobs)
		r = qd_err_nomem(err, "batches");
	for (unsigned i = 0; !r && i < plan.njobs; i++)
		r = qd_batch_init(&w->jobs[i].batch, w->c->src, err);
	if (!r)
		r = qd_pipeline_run(&ops, w, w->jobs, sizeof(*w->jobs), plan.njobs, plan.nthreads, err);
	return r;
}

static int complete(struct writer *w, struct qd_err *err)
{
	uint64_t size = w->c->src->virtual_size;
	int r = pass_gap(w, size, err);

	if (!r && !w->stream && !w->in_place)
		r = qd_io_truncate(w->c->io, size, err);
	w->c->result.virtual_size = size;
	w->c->result.file_size = size;
	return r;
}

int qd_convert_to_raw(struct qd_convert *c, struct qd_err *err)
{
	const struct qd_convert_opts *o = c->opts;
	struct writer w = {
		.c = c,
		.stream = c->io->is_stream,
		.in_place = o->no_create || c->io->is_device,
		.sparse = o->sparse_given ? qd_min_u64(o->sparse_size, UNIT) : DEFAULT_SPARSE,
	};
	int r = size_target(&w, err);

	if (!r && w.stream) {
		w.zeros = calloc(1, ZEROS);
		if (!w.zeros)
			r = qd_err_nomem(err, "a batch");
	}
	if (!r)
		r = run(&w, err);
	if (!r)
		r = complete(&w, err);
	for (unsigned i = 0; i < w.njobs && w.jobs; i++)
		qd_batch_free(&w.jobs[i].batch);
	free(w.jobs);
	free(w.zeros);
	return r;
}
