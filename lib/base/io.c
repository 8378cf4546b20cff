/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Complete transfers on top of raw operations that may move less than asked, and the
 * fallbacks for operations that an implementation or its host does not have.
 *
 * Every error names the file, and for transfers the offset and length in hex: that is
 * what a person needs to find a bad sector.  Files end at INT64_MAX at the latest,
 * which the kernel wants; a read beyond is a read past the end, a write is EFBIG.
 */
#include "base/io.h"

#include <errno.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define MAX_OFFSET ((uint64_t)INT64_MAX)
#define IOV_WINDOW 256
#define ZERO_PAGE 4096

/* Aligned, so that direct I/O takes it as it is. */
static const uint8_t zero_page[ZERO_PAGE] __attribute__((aligned(ZERO_PAGE)));

static int sys_failed(struct qd_io *io, int sys_errno, const char *what, struct qd_err *err)
{
	return qd_err_file(err, qd_err_sys(err, sys_errno, "%s", what), io->name);
}

static int range_failed(struct qd_io *io, int sys_errno, const char *what, uint64_t off, uint64_t nbytes,
			struct qd_err *err)
{
	int rc = qd_err_sys(err, sys_errno, "%s 0x%" PRIx64 " bytes at 0x%" PRIx64, what, nbytes, off);

	return qd_err_file(err, rc, io->name);
}

/* What every operation that changes [off, off + nbytes) asks first. */
static int check_change(struct qd_io *io, const char *what, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	if (!io->writable)
		return qd_err_file(err, qd_err_set(err, QD_E_INVALID, "opened for reading only"), io->name);
	if (!qd_range_within(off, nbytes, MAX_OFFSET))
		return range_failed(io, EFBIG, what, off, nbytes, err);
	return 0;
}

int qd_io_read_upto(struct qd_io *io, void *buf, size_t nbytes, uint64_t off,
		    size_t *ret_nread, struct qd_err *err)
{
	uint8_t *p = buf;
	size_t done = 0, limit = nbytes;

	if (off >= MAX_OFFSET)
		limit = 0;
	else if (limit > MAX_OFFSET - off)
		limit = (size_t)(MAX_OFFSET - off);
	while (done < limit) {
		ssize_t n = io->ops->pread(io, p + done, limit - done, off + done);

		if (n == -EINTR)
			continue;
		if (n < 0)
			return range_failed(io, (int)-n, "cannot read", off + done, nbytes - done, err);
		if (n == 0)
			break;
		done += (size_t)n;
	}
	*ret_nread = done;
	return 0;
}

int qd_io_read(struct qd_io *io, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	size_t nread;
	int rc;

	rc = qd_io_read_upto(io, buf, nbytes, off, &nread, err);
	if (rc < 0 || nread == nbytes)
		return rc;
	rc = qd_err_set(err, QD_E_IO, "cannot read 0x%zx bytes at 0x%" PRIx64 ": the file ends at 0x%" PRIx64,
			nbytes, off, off + nread);
	return qd_err_file(err, rc, io->name);
}

int qd_io_read_padded(struct qd_io *io, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	size_t nread;
	int rc;

	rc = qd_io_read_upto(io, buf, nbytes, off, &nread, err);
	if (rc < 0)
		return rc;
	memset((uint8_t *)buf + nread, 0, nbytes - nread);
	return 0;
}

/*
 * Copies into win what is left of iov after the first *skip bytes of its first entry,
 * as far as win has room.  Empty entries are dropped.
 */
static int fill_window(struct iovec *win, const struct iovec *iov, int niov, size_t skip)
{
	int n = 0;

	for (int i = 0; i < niov && n < IOV_WINDOW; i++) {
		if (iov[i].iov_len > skip) {
			win[n].iov_base = (uint8_t *)iov[i].iov_base + skip;
			win[n].iov_len = iov[i].iov_len - skip;
			n++;
		}
		skip = 0;
	}
	return n;
}

static int iov_total(const struct iovec *iov, int niov, uint64_t *ret_nbytes)
{
	uint64_t total = 0;

	for (int i = 0; i < niov; i++)
		if (!qd_add_u64(total, iov[i].iov_len, &total))
			return -EFBIG;
	*ret_nbytes = total;
	return 0;
}

int qd_io_writev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off, struct qd_err *err)
{
	struct iovec win[IOV_WINDOW];
	uint64_t left = UINT64_MAX;
	size_t skip = 0;
	int rc;

	(void)iov_total(iov, niov, &left);
	rc = check_change(io, "cannot write", off, left, err);
	if (rc < 0)
		return rc;
	while (left > 0) {
		ssize_t n = io->ops->pwritev(io, win, fill_window(win, iov, niov, skip), off);

		if (n == -EINTR)
			continue;
		if (n <= 0)
			return range_failed(io, n < 0 ? (int)-n : EIO, "cannot write", off, left, err);
		off += (size_t)n;
		left -= (size_t)n;
		for (skip += (size_t)n; niov > 0 && skip >= iov->iov_len; niov--, iov++)
			skip -= iov->iov_len;
	}
	return 0;
}

int qd_io_write(struct qd_io *io, const void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	/* The vector is only read from; struct iovec has no const. */
	struct iovec iov = { .iov_base = (void *)(uintptr_t)buf, .iov_len = nbytes };

	return qd_io_writev(io, &iov, 1, off, err);
}

int qd_io_fill_zeros(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	struct iovec iov[IOV_WINDOW];

	while (nbytes > 0) {
		uint64_t now = 0;
		int niov = 0, rc;

		/* A short first entry brings the rest to an aligned offset. */
		for (; niov < IOV_WINDOW && now < nbytes; niov++) {
			uint64_t room = ZERO_PAGE - (off + now) % ZERO_PAGE;

			iov[niov].iov_base = (void *)(uintptr_t)zero_page;
			iov[niov].iov_len = (size_t)qd_min_u64(room, nbytes - now);
			now += iov[niov].iov_len;
		}
		rc = qd_io_writev(io, iov, niov, off, err);
		if (rc < 0)
			return rc;
		off += now;
		nbytes -= now;
	}
	return 0;
}

int qd_io_flush(struct qd_io *io, struct qd_err *err)
{
	int rc;

	do
		rc = io->ops->flush(io);
	while (rc == -EINTR);
	return rc < 0 ? sys_failed(io, -rc, "cannot flush", err) : 0;
}

int qd_io_size(struct qd_io *io, uint64_t *ret_nbytes, struct qd_err *err)
{
	int rc = io->ops->size(io, ret_nbytes);

	return rc < 0 ? sys_failed(io, -rc, "cannot tell the size", err) : 0;
}

int qd_io_truncate(struct qd_io *io, uint64_t nbytes, struct qd_err *err)
{
	int rc;

	rc = check_change(io, "cannot set the size to", 0, nbytes, err);
	if (rc < 0)
		return rc;
	do
		rc = io->ops->truncate(io, nbytes);
	while (rc == -EINTR);
	if (rc == 0)
		return 0;
	rc = qd_err_sys(err, -rc, "cannot set the size to 0x%" PRIx64, nbytes);
	return qd_err_file(err, rc, io->name);
}

typedef int range_op(struct qd_io *io, uint64_t off, uint64_t nbytes);

/* -EOPNOTSUPP, without setting err, when there is no such operation. */
static int run_range_op(struct qd_io *io, range_op *op, const char *what, uint64_t off, uint64_t nbytes,
			struct qd_err *err, bool *ret_done)
{
	int rc;

	*ret_done = true;
	rc = check_change(io, what, off, nbytes, err);
	if (rc < 0 || nbytes == 0)
		return rc;
	do
		rc = op ? op(io, off, nbytes) : -EOPNOTSUPP;
	while (rc == -EINTR);
	if (rc == -EOPNOTSUPP) {
		*ret_done = false;
		return 0;
	}
	return rc < 0 ? range_failed(io, -rc, what, off, nbytes, err) : 0;
}

int qd_io_punch(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	bool done;

	return run_range_op(io, io->ops->punch, "cannot give back", off, nbytes, err, &done);
}

int qd_io_zero(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	bool done;
	int rc;

	rc = run_range_op(io, io->ops->zero, "cannot zero", off, nbytes, err, &done);
	if (rc < 0 || done)
		return rc;
	return qd_io_fill_zeros(io, off, nbytes, err);
}

int qd_io_reserve(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	uint64_t size, end = off + nbytes;
	bool done;
	int rc;

	rc = run_range_op(io, io->ops->reserve, "cannot reserve", off, nbytes, err, &done);
	if (rc < 0 || done)
		return rc;
	rc = qd_io_size(io, &size, err);
	if (rc < 0 || size >= end)
		return rc;
	off = qd_max_u64(off, size);
	return qd_io_fill_zeros(io, off, end - off, err);
}

int qd_io_next_data(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole,
		    struct qd_err *err)
{
	uint64_t data = 0, hole = 0, size;
	int rc = -EOPNOTSUPP;

	if (io->is_stream)
		size = MAX_OFFSET;
	else if ((rc = qd_io_size(io, &size, err)) < 0)
		return rc;
	else if (off < size)
		rc = io->ops->next_data ? io->ops->next_data(io, off, &data, &hole) : -EOPNOTSUPP;
	else
		rc = -ENXIO;
	if (rc == -EOPNOTSUPP) {
		data = off;
		hole = size;
	} else if (rc == -ENXIO) {
		data = hole = size;
	} else if (rc < 0) {
		return sys_failed(io, -rc, "cannot look for holes", err);
	}
	*ret_data = data;
	*ret_hole = hole;
	return 0;
}

int qd_io_allocated(struct qd_io *io, uint64_t *ret_nbytes, struct qd_err *err)
{
	int rc = io->ops->allocated ? io->ops->allocated(io, ret_nbytes) : -EOPNOTSUPP;

	if (rc == -EOPNOTSUPP)
		return qd_io_size(io, ret_nbytes, err);
	return rc < 0 ? sys_failed(io, -rc, "cannot tell the allocated size", err) : 0;
}

void qd_io_close(struct qd_io *io)
{
	if (io)
		io->ops->close(io);
}
