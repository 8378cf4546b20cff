/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log, and files made from it.  Reads go straight below.  One lock makes an operation
 * and its place in the log one step, so that writers in several threads are recorded in
 * an order that could have been.
 *
 * The file as of some flush is kept between crashes, so that those which come in order do
 * not write everything again.
 */
#include "recorder.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"

#define SECTOR 512u

enum kind { OP_WRITE, OP_FLUSH, OP_TRUNCATE, OP_ZERO };

struct op {
	enum kind kind;
	uint64_t off;		/* OP_TRUNCATE: the size */
	uint64_t nbytes;
	uint8_t *data;		/* OP_WRITE */
};

struct recorder {
	struct qd_io *below;
	struct qd_io *io;
	uint8_t *base;
	size_t base_size;
	struct op *ops;
	size_t nops;
	size_t capacity;
	size_t nflushes;
	pthread_mutex_t lock;	/* of the log: an operation and its place in it are one step */
	struct durable *durable;
};

struct durable {
	struct qd_io *io;	/* base with the first nops operations; NULL: none yet */
	size_t nops;
};

struct recorder_io {
	struct qd_io io;
	struct recorder *r;
};

static struct recorder *recorder_of(struct qd_io *io)
{
	return ((struct recorder_io *)(void *)io)->r;
}

static int log_op(struct recorder *r, enum kind kind, uint64_t off, uint64_t nbytes, uint8_t *data)
{
	if (r->nops == r->capacity) {
		size_t capacity = r->capacity ? r->capacity * 2 : 64;
		struct op *ops = realloc(r->ops, capacity * sizeof(*ops));

		if (!ops)
			return -ENOMEM;
		r->ops = ops;
		r->capacity = capacity;
	}
	r->ops[r->nops++] = (struct op){ kind, off, nbytes, data };
	r->nflushes += kind == OP_FLUSH;
	return 0;
}

/* ---- the io ---- */

static ssize_t rec_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct qd_io *below = recorder_of(io)->below;

	return below->ops->pread(below, buf, nbytes, off);
}

static ssize_t write_and_log(struct recorder *r, const struct iovec *iov, int niov, uint64_t off)
{
	ssize_t n = r->below->ops->pwritev(r->below, iov, niov, off);
	uint8_t *data, *p;
	size_t left;

	if (n <= 0)
		return n;
	data = p = malloc((size_t)n);
	if (!data)
		return -ENOMEM;
	left = (size_t)n;
	for (int i = 0; i < niov && left; i++) {
		size_t part = (size_t)qd_min_u64(left, iov[i].iov_len);

		memcpy(p, iov[i].iov_base, part);
		p += part;
		left -= part;
	}
	if (log_op(r, OP_WRITE, off, (uint64_t)n, data)) {
		free(data);
		return -ENOMEM;
	}
	return n;
}

static ssize_t rec_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct recorder *r = recorder_of(io);
	ssize_t n;

	pthread_mutex_lock(&r->lock);
	n = write_and_log(r, iov, niov, off);
	pthread_mutex_unlock(&r->lock);
	return n;
}

static int rec_flush(struct qd_io *io)
{
	struct recorder *r = recorder_of(io);
	int rc;

	pthread_mutex_lock(&r->lock);
	rc = r->below->ops->flush(r->below);
	if (rc == 0)
		rc = log_op(r, OP_FLUSH, 0, 0, NULL);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

static int rec_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct qd_io *below = recorder_of(io)->below;

	return below->ops->size(below, ret_nbytes);
}

static int rec_truncate(struct qd_io *io, uint64_t nbytes)
{
	struct recorder *r = recorder_of(io);
	int rc;

	pthread_mutex_lock(&r->lock);
	rc = r->below->ops->truncate(r->below, nbytes);
	if (rc == 0)
		rc = log_op(r, OP_TRUNCATE, nbytes, 0, NULL);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

/* A hole and a range of zeros are the same to a reader; like a file's, they do not grow it. */
static int rec_zero(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	struct recorder *r = recorder_of(io);
	int rc;

	pthread_mutex_lock(&r->lock);
	rc = r->below->ops->punch(r->below, off, nbytes);
	if (rc == 0)
		rc = log_op(r, OP_ZERO, off, nbytes, NULL);
	pthread_mutex_unlock(&r->lock);
	return rc;
}

static void rec_close(struct qd_io *io)
{
	(void)io;
}

static const struct qd_io_ops rec_ops = {
	.pread = rec_pread,
	.pwritev = rec_pwritev,
	.flush = rec_flush,
	.size = rec_size,
	.truncate = rec_truncate,
	.punch = rec_zero,
	.close = rec_close,
};

/* ---- life ---- */

static int read_base(struct recorder *r, struct qd_err *err)
{
	uint64_t size;
	int rc = qd_io_size(r->below, &size, err);

	if (rc)
		return rc;
	r->base_size = (size_t)size;
	r->base = malloc(r->base_size ? r->base_size : 1);
	if (!r->base)
		return qd_err_nomem(err, "the recorder");
	return qd_io_read(r->below, r->base, r->base_size, 0, err);
}

int recorder_new(struct qd_io *below, struct recorder **ret_recorder, struct qd_err *err)
{
	struct recorder *r = calloc(1, sizeof(*r));
	struct recorder_io *io = calloc(1, sizeof(*io));
	int rc;

	if (r)
		r->durable = calloc(1, sizeof(*r->durable));
	if (!r || !io || !r->durable) {
		free(r ? r->durable : NULL);
		free(r);
		free(io);
		return qd_err_nomem(err, "the recorder");
	}
	pthread_mutex_init(&r->lock, NULL);
	r->below = below;
	r->io = &io->io;
	io->r = r;
	io->io.ops = &rec_ops;
	io->io.name = strdup(below->name ? below->name : "recorder");
	io->io.writable = true;
	io->io.align = 1;
	rc = io->io.name ? read_base(r, err) : qd_err_nomem(err, "the recorder");
	if (rc) {
		r->below = NULL;
		recorder_free(r);
		return rc;
	}
	*ret_recorder = r;
	return 0;
}

void recorder_free(struct recorder *r)
{
	if (!r)
		return;
	for (size_t i = 0; i < r->nops; i++)
		free(r->ops[i].data);
	free(r->ops);
	free(r->base);
	qd_io_close(r->below);
	qd_io_close(r->durable->io);
	free(r->durable);
	pthread_mutex_destroy(&r->lock);
	free(r->io->name);
	free(r->io);
	free(r);
}

struct qd_io *recorder_io(struct recorder *r)
{
	return r->io;
}

size_t recorder_nops(const struct recorder *r)
{
	return r->nops;
}

size_t recorder_nflushes(const struct recorder *r)
{
	return r->nflushes;
}

/* ---- crashes ---- */

static uint64_t next_random(uint64_t *state)
{
	uint64_t z = *state += 0x9e3779b97f4a7c15u;

	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* Operations before this one are durable. */
static size_t last_flush(const struct recorder *r, size_t nops)
{
	while (nops > 0 && r->ops[nops - 1].kind != OP_FLUSH)
		nops--;
	return nops;
}

/* Each sector of the write is done or not; a write that does not begin at a sector has parts of them. */
static int write_torn(const struct op *op, struct qd_io *io, uint64_t *state, struct qd_err *err)
{
	uint64_t at = op->off, end = op->off + op->nbytes;
	int rc = 0;

	while (rc == 0 && at < end) {
		uint64_t to = qd_min_u64(end, qd_align_down(at, SECTOR) + SECTOR);

		if (next_random(state) & 1)
			rc = qd_io_write(io, op->data + (at - op->off), (size_t)(to - at), at, err);
		at = to;
	}
	return rc;
}

static int apply(const struct op *op, struct qd_io *io, struct qd_err *err)
{
	switch (op->kind) {
	case OP_WRITE:
		return qd_io_write(io, op->data, (size_t)op->nbytes, op->off, err);
	case OP_TRUNCATE:
		return qd_io_truncate(io, op->off, err);
	case OP_ZERO:
		return qd_io_punch(io, op->off, op->nbytes, err);
	case OP_FLUSH:
		break;
	}
	return 0;
}

static int apply_unflushed(const struct op *op, const struct crash *crash, struct qd_io *io, uint64_t *state,
			   struct qd_err *err)
{
	switch (crash->kind) {
	case CRASH_ALL:
		return apply(op, io, err);
	case CRASH_NONE:
		return 0;
	case CRASH_SUBSET:
		return next_random(state) & 1 ? apply(op, io, err) : 0;
	case CRASH_TORN:
		if (op->kind == OP_WRITE)
			return write_torn(op, io, state, err);
		return next_random(state) & 1 ? apply(op, io, err) : 0;
	}
	return 0;
}

/* r->durable becomes the file after the first nops operations. */
static int make_durable(const struct recorder *r, size_t nops, struct qd_err *err)
{
	struct durable *d = r->durable;
	int rc = 0;

	if (d->io && d->nops > nops) {
		qd_io_close(d->io);
		d->io = NULL;
	}
	if (!d->io) {
		d->nops = 0;
		rc = qd_io_mem_new(r->base, r->base_size, true, &d->io, err);
	}
	while (rc == 0 && d->nops < nops)
		rc = apply(&r->ops[d->nops++], d->io, err);
	return rc;
}

int recorder_crash(const struct recorder *r, const struct crash *crash, struct qd_io **ret_io,
		   struct qd_err *err)
{
	size_t durable = last_flush(r, crash->nops), nbytes;
	uint64_t state = crash->seed;
	struct qd_io *io = NULL;
	const uint8_t *data;
	int rc = make_durable(r, durable, err);

	if (rc)
		return rc;
	data = qd_io_mem_data(r->durable->io, &nbytes);
	rc = qd_io_mem_new(data, nbytes, true, &io, err);
	for (size_t i = durable; rc == 0 && i < crash->nops; i++)
		rc = apply_unflushed(&r->ops[i], crash, io, &state, err);
	if (rc) {
		qd_io_close(io);
		return rc;
	}
	*ret_io = io;
	return 0;
}

bool recorder_plan(const struct recorder *r, unsigned subsets, uint64_t seed, size_t i,
		   struct crash *ret_crash)
{
	size_t per_prefix = 2 + 2 * (size_t)subsets, k = i % per_prefix;

	if (i / per_prefix > r->nops)
		return false;
	ret_crash->nops = i / per_prefix;
	ret_crash->seed = seed + i * 0x9e3779b97f4a7c15u;
	if (k < 2)
		ret_crash->kind = k == 0 ? CRASH_ALL : CRASH_NONE;
	else
		ret_crash->kind = k % 2 ? CRASH_TORN : CRASH_SUBSET;
	return true;
}
