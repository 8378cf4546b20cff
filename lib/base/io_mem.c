/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A byte array that grows as it is written.  One lock covers everything, because a
 * write may move the array.  The size is bounded: a fuzzer that writes at 2^60 gets
 * ENOSPC as it would from a disk.
 */
#include "base/io_mem.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define SIZE_LIMIT (UINT64_C(1) << 30)

struct mem {
	struct qd_io io;
	pthread_mutex_t lock;
	uint8_t *data;
	size_t nbytes;
	size_t capacity;
};

static struct mem *mem_of(struct qd_io *io)
{
	return (struct mem *)(void *)io;
}

/* Bytes past nbytes stay zero up to the capacity, so growing within it is free. */
static int resize(struct mem *m, uint64_t nbytes)
{
	size_t capacity;
	uint8_t *data;

	if (nbytes > SIZE_LIMIT)
		return -ENOSPC;
	if (nbytes < m->nbytes)
		memset(m->data + nbytes, 0, m->nbytes - (size_t)nbytes);
	if (nbytes > m->capacity) {
		capacity = (size_t)qd_max_u64(nbytes, qd_min_u64(m->capacity * 2, SIZE_LIMIT));
		data = realloc(m->data, capacity);
		if (!data)
			return -ENOMEM;
		memset(data + m->capacity, 0, capacity - m->capacity);
		m->data = data;
		m->capacity = capacity;
	}
	m->nbytes = (size_t)nbytes;
	return 0;
}

static ssize_t mem_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct mem *m = mem_of(io);

	pthread_mutex_lock(&m->lock);
	if (off >= m->nbytes)
		nbytes = 0;
	else if (nbytes > m->nbytes - off)
		nbytes = m->nbytes - (size_t)off;
	if (nbytes > 0)
		memcpy(buf, m->data + off, nbytes);
	pthread_mutex_unlock(&m->lock);
	return (ssize_t)nbytes;
}

static ssize_t mem_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct mem *m = mem_of(io);
	uint64_t nbytes = 0;
	int rc = 0;

	pthread_mutex_lock(&m->lock);
	for (int i = 0; i < niov && rc == 0; i++) {
		uint64_t at = off + nbytes;

		if (iov[i].iov_len == 0)
			continue;
		if (!qd_range_within(at, iov[i].iov_len, m->nbytes))
			rc = qd_range_within(at, iov[i].iov_len, SIZE_LIMIT) ?
			     resize(m, at + iov[i].iov_len) : -ENOSPC;
		if (rc == 0) {
			memcpy(m->data + at, iov[i].iov_base, iov[i].iov_len);
			nbytes += iov[i].iov_len;
		}
	}
	pthread_mutex_unlock(&m->lock);
	/* Like a file: what has been moved counts, the error shows at the next call. */
	return nbytes > 0 ? (ssize_t)nbytes : rc;
}

static int mem_flush(struct qd_io *io)
{
	(void)io;
	return 0;
}

static int mem_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct mem *m = mem_of(io);

	pthread_mutex_lock(&m->lock);
	*ret_nbytes = m->nbytes;
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static int mem_truncate(struct qd_io *io, uint64_t nbytes)
{
	struct mem *m = mem_of(io);
	int rc;

	pthread_mutex_lock(&m->lock);
	rc = resize(m, nbytes);
	pthread_mutex_unlock(&m->lock);
	return rc;
}

static int mem_punch(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	struct mem *m = mem_of(io);

	pthread_mutex_lock(&m->lock);
	if (off < m->nbytes)
		memset(m->data + off, 0, (size_t)qd_min_u64(nbytes, m->nbytes - off));
	pthread_mutex_unlock(&m->lock);
	return 0;
}

static void mem_close(struct qd_io *io)
{
	struct mem *m = mem_of(io);

	pthread_mutex_destroy(&m->lock);
	free(m->data);
	free(m->io.name);
	free(m);
}

static const struct qd_io_ops mem_ops = {
	.pread = mem_pread,
	.pwritev = mem_pwritev,
	.flush = mem_flush,
	.size = mem_size,
	.truncate = mem_truncate,
	.punch = mem_punch,
	.close = mem_close,
};

int qd_io_mem_new(const void *data, size_t nbytes, bool writable, struct qd_io **ret_io,
		  struct qd_err *err)
{
	struct mem *m;

	m = calloc(1, sizeof(*m));
	if (!m)
		return qd_err_nomem(err, "a memory file");
	pthread_mutex_init(&m->lock, NULL);
	m->io.ops = &mem_ops;
	m->io.writable = writable;
	m->io.align = 1;
	m->io.name = strdup("(memory)");
	m->data = calloc(1, nbytes ? nbytes : 1);
	if (!m->io.name || !m->data) {
		mem_close(&m->io);
		return qd_err_nomem(err, "a memory file");
	}
	m->capacity = nbytes ? nbytes : 1;
	m->nbytes = nbytes;
	if (data && nbytes > 0)
		memcpy(m->data, data, nbytes);
	*ret_io = &m->io;
	return 0;
}

const uint8_t *qd_io_mem_data(struct qd_io *io, size_t *ret_nbytes)
{
	struct mem *m = mem_of(io);

	*ret_nbytes = m->nbytes;
	return m->data;
}
