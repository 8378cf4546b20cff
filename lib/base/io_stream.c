/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A pipe as a struct qd_io: one pass, each read or write where the last one ended.  Once the
 * end was seen every read at or past it gives nothing, so that callers may pad their
 * last cluster.  Reads come from one thread at a time.
 */
#include "base/io_file.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

struct stream {
	struct qd_io io;
	int fd;
	bool owns_fd;			/* the caller's */
	uint64_t pos;
	bool ended;
};

static struct stream *stream_of(struct qd_io *io)
{
	return (struct stream *)(void *)io;
}

/* The other end may share its O_NONBLOCK with us. */
static ssize_t read_waiting(int fd, void *buf, size_t nbytes)
{
	struct pollfd pfd = { .fd = fd, .events = POLLIN };
	ssize_t n;

	for (;;) {
		n = read(fd, buf, nbytes);
		if (n >= 0)
			return n;
		if (errno != EAGAIN)
			return -errno;
		if (poll(&pfd, 1, -1) < 0)
			return -errno;
	}
}

static ssize_t write_waiting(int fd, const struct iovec *iov, int niov)
{
	struct pollfd pfd = { .fd = fd, .events = POLLOUT };
	ssize_t n;

	for (;;) {
		n = writev(fd, iov, niov);
		if (n >= 0)
			return n;
		if (errno != EAGAIN)
			return -errno;
		if (poll(&pfd, 1, -1) < 0)
			return -errno;
	}
}

static ssize_t stream_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct stream *s = stream_of(io);
	ssize_t n;

	if (s->ended && off >= s->pos)
		return 0;
	if (off != s->pos)
		return -ESPIPE;
	n = read_waiting(s->fd, buf, nbytes);
	if (n > 0)
		s->pos += (size_t)n;
	s->ended = n == 0;
	return n;
}

static ssize_t stream_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct stream *s = stream_of(io);
	ssize_t n;

	if (off != s->pos || !io->writable)
		return -ESPIPE;
	n = write_waiting(s->fd, iov, niov);
	if (n > 0)
		s->pos += (size_t)n;
	return n;
}

static int stream_flush(struct qd_io *io)
{
	(void)io;
	return 0;
}

static int stream_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	(void)io, (void)ret_nbytes;
	return -ESPIPE;
}

static int stream_truncate(struct qd_io *io, uint64_t nbytes)
{
	(void)io, (void)nbytes;
	return -ESPIPE;
}

static void stream_close(struct qd_io *io)
{
	if (stream_of(io)->owns_fd)
		close(stream_of(io)->fd);
	free(io->name);
	free(stream_of(io));
}

static const struct qd_io_ops stream_ops = {
	.pread = stream_pread,
	.pwritev = stream_pwritev,
	.flush = stream_flush,
	.size = stream_size,
	.truncate = stream_truncate,
	.close = stream_close,
};

/* A file behind the descriptor: wrap a copy of it, so that the original stays open. */
static int open_plain(int fd, const char *name, struct qd_io **ret_io, struct qd_err *err)
{
	int copy = fcntl(fd, F_DUPFD_CLOEXEC, 0), rc;

	if (copy < 0)
		return qd_err_file(err, qd_err_sys(err, errno, "cannot duplicate the descriptor"), name);
	rc = qd_io_file_wrap(copy, name, QD_CACHE_WRITEBACK, false, ret_io, err);
	if (rc < 0)
		close(copy);
	return rc;
}

static int new_stream(int fd, const char *name, bool writable, struct qd_io **ret_io, struct qd_err *err)
{
	struct stream *s = calloc(1, sizeof(*s));

	if (s)
		s->io.name = strdup(name);
	if (!s || !s->io.name) {
		free(s);
		return qd_err_nomem(err, "an open stream");
	}
	s->io.ops = &stream_ops;
	s->io.is_stream = true;
	s->io.writable = writable;
	s->io.align = 1;
	s->fd = fd;
	*ret_io = &s->io;
	return 0;
}

int qd_io_stream_open(int fd, const char *name, struct qd_io **ret_io, struct qd_err *err)
{
	struct stat st;

	if (fstat(fd, &st) != 0)
		return qd_err_file(err, qd_err_sys(err, errno, "cannot open"), name);
	if (S_ISREG(st.st_mode) || S_ISBLK(st.st_mode))
		return open_plain(fd, name, ret_io, err);
	if (S_ISDIR(st.st_mode))
		return qd_err_file(err, qd_err_set(err, QD_E_INVALID, "is a directory, expected data"), name);
	return new_stream(fd, name, false, ret_io, err);
}

int qd_io_stream_open_path(const char *path, struct qd_io **ret_io, struct qd_err *err)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC), rc;

	if (fd < 0)
		return qd_err_file(err, qd_err_sys(err, errno, "cannot open"), path);
	rc = qd_io_stream_open(fd, path, ret_io, err);
	if (rc == 0 && (*ret_io)->is_stream)
		((struct stream *)(void *)*ret_io)->owns_fd = true;
	else
		close(fd);
	return rc;
}

int qd_io_stream_out(int fd, const char *name, struct qd_io **ret_io, struct qd_err *err)
{
	return new_stream(fd, name, true, ret_io, err);
}
