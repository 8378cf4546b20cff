/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "faulty.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

struct faulty {
	struct qd_io io;	/* first */
	struct qd_io *below;
	struct fault fault;
	pthread_mutex_t lock;
	uint64_t calls;
	bool struck;
};

enum verdict { PASS, SHORTEN, FAIL };

static enum verdict judge(struct faulty *f, bool writes)
{
	enum verdict v = PASS;

	pthread_mutex_lock(&f->lock);
	if (f->fault.n && (writes || !f->fault.writes_only)) {
		f->calls++;
		if (f->calls == f->fault.n || (f->fault.kind == FAULT_FOR_GOOD && f->calls > f->fault.n)) {
			f->struck = true;
			v = f->fault.kind == FAULT_SHORT ? SHORTEN : FAIL;
		}
	}
	pthread_mutex_unlock(&f->lock);
	return v;
}

static ssize_t faulty_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct faulty *f = (struct faulty *)io;
	enum verdict v = judge(f, false);

	if (v == FAIL)
		return -f->fault.error;
	return f->below->ops->pread(f->below, buf, v == SHORTEN && nbytes > 1 ? nbytes / 2 : nbytes, off);
}

static ssize_t faulty_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct faulty *f = (struct faulty *)io;
	enum verdict v = judge(f, true);
	struct iovec part;

	if (v == FAIL)
		return -f->fault.error;
	if (v == PASS)
		return f->below->ops->pwritev(f->below, iov, niov, off);
	part = iov[0];
	part.iov_len = part.iov_len > 1 ? part.iov_len / 2 : part.iov_len;
	return f->below->ops->pwritev(f->below, &part, 1, off);
}

static int faulty_flush(struct qd_io *io)
{
	struct faulty *f = (struct faulty *)io;

	return judge(f, true) == FAIL ? -f->fault.error : f->below->ops->flush(f->below);
}

static int faulty_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct faulty *f = (struct faulty *)io;

	return judge(f, false) == FAIL ? -f->fault.error : f->below->ops->size(f->below, ret_nbytes);
}

static int faulty_truncate(struct qd_io *io, uint64_t nbytes)
{
	struct faulty *f = (struct faulty *)io;

	return judge(f, true) == FAIL ? -f->fault.error : f->below->ops->truncate(f->below, nbytes);
}

static int faulty_punch(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	struct faulty *f = (struct faulty *)io;

	if (judge(f, true) == FAIL)
		return -f->fault.error;
	return f->below->ops->punch ? f->below->ops->punch(f->below, off, nbytes) : -EOPNOTSUPP;
}

static void faulty_close(struct qd_io *io)
{
	struct faulty *f = (struct faulty *)io;

	pthread_mutex_destroy(&f->lock);
	free(f->io.name);
	free(f);
}

static const struct qd_io_ops ops = {
	.pread = faulty_pread, .pwritev = faulty_pwritev, .flush = faulty_flush, .size = faulty_size,
	.truncate = faulty_truncate, .punch = faulty_punch, .close = faulty_close,
};

int faulty_new(struct qd_io *below, const struct fault *fault, struct qd_io **ret_io, struct qd_err *err)
{
	struct faulty *f = calloc(1, sizeof(*f));
	char *name = strdup(below->name);

	if (!f || !name) {
		free(f);
		free(name);
		return qd_err_nomem(err, "a faulty io");
	}
	f->io = (struct qd_io){ .ops = &ops, .name = name, .writable = true, .align = 1 };
	f->below = below;
	f->fault = *fault;
	pthread_mutex_init(&f->lock, NULL);
	*ret_io = &f->io;
	return 0;
}

bool faulty_struck(const struct qd_io *io)
{
	return ((const struct faulty *)io)->struck;
}
