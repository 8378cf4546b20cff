/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The source of a conversion as a sequence of batches.
 *
 * A batch gathers what holds data, in guest order, skipping what metadata says is zero,
 * so that scattered small extents share one batch and holes cost nothing.  Its segments
 * are widened to whole units (the target's clusters); since batches start where the one
 * before ended, no unit is handed out twice.
 */
#include "ops/convert_int.h"

#include <stdlib.h>
#include <unistd.h>

#include "base/bytes.h"

#define BUF_ALIGN 4096u
#define LOOK_AHEAD (64u << 20)		/* bytes of data asked for at once */
#define BATCH_TARGET (1u << 20)

static int open_stream(const struct qd_convert_opts *opts, struct qd_source *src, struct qd_err *err)
{
	/* A file must not be read otherwise than a pipe with the same bytes: raw unless -f says more. */
	struct qd_disk_opts dopts = { .format = opts->source_format ? opts->source_format : "raw",
				      .snapshot = opts->snapshot, .untrusted = opts->untrusted };
	struct qd_io *io = NULL;
	int r = qd_io_stream_open(STDIN_FILENO, "standard input", &io, err);

	if (r)
		return r;
	if (io->is_stream) {
		if (opts->snapshot || (opts->source_format && strcmp(opts->source_format, "raw"))) {
			qd_io_close(io);
			return qd_err_set(err, QD_E_UNSUPPORTED, "standard input is a pipe: only a raw image can be read from it");
		}
		src->stream = io;
		return 0;
	}
	r = qd_disk_open_io(io, &dopts, &src->disk, err);
	if (r) {
		qd_io_close(io);
		return r;
	}
	if (src->disk->img && src->disk->img->backing_name) {
		qd_err_set(err, QD_E_UNSUPPORTED, "the image has a backing file, %s: name the image instead of using -",
			   src->disk->img->backing_name);
		return qd_err_file(err, QD_E_UNSUPPORTED, "standard input");
	}
	return 0;
}

int qd_source_open(const struct qd_convert_opts *opts, uint64_t memory, struct qd_source *src, struct qd_err *err)
{
	struct qd_disk_opts dopts = {
		.format = opts->source_format,
		.snapshot = opts->snapshot,
		.cache = opts->source_cache,
		.no_lock = opts->force_share,
		.untrusted = opts->untrusted,
		.map_cache_nbytes = memory / 8,
	};
	int r;

	*src = (struct qd_source){ 0 };
	r = strcmp(opts->source, "-") ? qd_disk_open(opts->source, &dopts, &src->disk, err) :
					open_stream(opts, src, err);
	if (r)
		return r;
	if (src->disk)
		src->virtual_size = src->disk->virtual_size;
	return 0;
}

void qd_source_close(struct qd_source *src)
{
	qd_disk_close(src->disk);
	qd_disk_close(src->backing);
	qd_io_close(src->stream);
	*src = (struct qd_source){ 0 };
}

int qd_batch_init(struct qd_batch *b, const struct qd_source *src, struct qd_err *err)
{
	int r = 0;

	*b = (struct qd_batch){ 0 };
	b->buf = aligned_alloc(BUF_ALIGN, qd_align_up(src->batch_nbytes, BUF_ALIGN));
	if (!b->buf)
		return qd_err_nomem(err, "a batch");
	if (src->disk)
		r = qd_reader_new(src->disk, &b->reader, err);
	if (!r && src->backing)
		r = qd_reader_new(src->backing, &b->backing_reader, err);
	return r;
}

void qd_batch_free(struct qd_batch *b)
{
	free(b->buf);
	qd_reader_free(b->reader);
	qd_reader_free(b->backing_reader);
	*b = (struct qd_batch){ 0 };
}

/* Reads the stream until the buffer is full or the stream ends; the tail is padded to a unit. */
static int next_of_stream(struct qd_source *src, struct qd_batch *b, struct qd_err *err)
{
	size_t nread;
	int r = qd_io_read_upto(src->stream, b->buf, src->batch_nbytes, src->pos, &nread, err);

	if (r)
		return r;
	if (!nread)
		return 0;
	b->nbytes = (size_t)qd_align_up(nread, src->unit);
	memset(b->buf + nread, 0, b->nbytes - nread);
	b->segments[0] = (struct qd_segment){ .guest_off = src->pos, .nbytes = b->nbytes };
	b->nsegments = 1;
	b->progress = nread;
	src->virtual_size = qd_align_up(src->pos + nread, 512);
	src->pos += b->nbytes;
	return 1;
}

/* Asks the disk only once what was found before has been passed: others may have much more data in between. */
static int find_data(const struct qd_disk *disk, uint64_t pos, struct qd_found *f, struct qd_err *err)
{
	uint64_t off, nbytes = 0;
	int r = 0;

	if (pos < f->end)
		return 0;
	if (pos < disk->virtual_size)
		r = qd_disk_next_data(disk, pos, LOOK_AHEAD, &off, &nbytes, err);
	if (!r && nbytes)
		*f = (struct qd_found){ off, off + nbytes };
	else if (!r)
		*f = (struct qd_found){ UINT64_MAX, UINT64_MAX };
	return r;
}

/* The next data of source or backing file at or after pos; *ret_nbytes is 0 at the end. */
static int next_data(struct qd_source *src, uint64_t pos, uint64_t max, uint64_t *ret_off, uint64_t *ret_nbytes,
		     struct qd_err *err)
{
	const struct qd_found *f = &src->data;
	int r = find_data(src->disk, pos, &src->data, err);

	if (!r && src->backing) {
		r = find_data(src->backing, pos, &src->backing_data, err);
		if (qd_max_u64(pos, src->backing_data.off) < qd_max_u64(pos, f->off))
			f = &src->backing_data;
	}
	*ret_off = qd_max_u64(pos, f->off);
	*ret_nbytes = 0;
	if (*ret_off < src->virtual_size)
		*ret_nbytes = qd_min_u64(max, qd_min_u64(f->end, src->virtual_size) - *ret_off);
	return r;
}

static int next_of_disk(struct qd_source *src, struct qd_batch *b, struct qd_err *err)
{
	uint64_t start = src->pos;

	while (b->nsegments < QD_BATCH_SEGMENTS && b->nbytes < src->batch_nbytes && src->pos < src->virtual_size) {
		size_t room = src->batch_nbytes - b->nbytes;
		uint64_t off, nbytes, from;
		int r = next_data(src, src->pos, room, &off, &nbytes, err);

		if (r)
			return r;
		if (!nbytes) {
			src->pos = src->virtual_size;
			break;
		}
		from = qd_align_down(off, src->unit);
		nbytes = qd_min_u64(qd_align_up(off + nbytes, src->unit) - from, room);
		b->segments[b->nsegments++] = (struct qd_segment){ .guest_off = from, .nbytes = (size_t)nbytes,
								   .buf_off = b->nbytes };
		b->nbytes += (size_t)nbytes;
		src->pos = from + nbytes;
	}
	b->progress = qd_min_u64(src->pos, src->virtual_size) - qd_min_u64(start, src->virtual_size);
	return b->nsegments > 0 || b->progress > 0;
}

int qd_source_next(struct qd_source *src, struct qd_batch *b, struct qd_err *err)
{
	int r;

	b->nsegments = 0;
	b->nbytes = 0;
	b->progress = 0;
	r = src->stream ? next_of_stream(src, b, err) : next_of_disk(src, b, err);
	b->disk_size = src->virtual_size;
	return r;
}

int qd_batch_read(struct qd_batch *b, const struct qd_source *src, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && !src->stream && i < b->nsegments; i++)
		r = qd_reader_read(b->reader, b->segments[i].guest_off, b->segments[i].nbytes,
				   b->buf + b->segments[i].buf_off, err);
	return r;
}

void qd_batch_plan(uint64_t memory, unsigned nthreads, uint64_t unit, unsigned buffers_per_job,
		   struct qd_batch_plan *ret_plan)
{
	uint64_t budget = memory / 8, job;
	unsigned njobs = nthreads * 2 + 1;
	uint64_t batch = qd_max_u64(qd_align_down(BATCH_TARGET, unit), unit);

	while (batch > unit && batch > 65536 && njobs * batch * buffers_per_job > budget)
		batch = qd_max_u64(batch / 2, unit);
	job = batch * buffers_per_job;
	while (njobs > 1 && njobs * job > budget)
		njobs--;
	ret_plan->njobs = njobs;
	ret_plan->nthreads = nthreads < njobs ? nthreads : njobs;
	ret_plan->batch_nbytes = (size_t)batch;
}
