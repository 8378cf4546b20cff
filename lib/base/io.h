/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The I/O interface: everything above it reads and writes bytes through a
 * struct qd_io and never calls the system itself.
 *
 * Implementations: io_file.c (files and block devices), io_mem.c (memory: unit
 * tests, fuzzers), and test-only ones that transfer short, fail the n-th call, or
 * record writes and flushes.  An implementation may transfer less than asked; the
 * loops that complete a transfer exist once, in io.c, and are what callers use.
 *
 * Offsets and lengths are in bytes.  All calls are safe from several threads at once
 * as long as their ranges do not overlap.
 */
#ifndef QD_BASE_IO_H
#define QD_BASE_IO_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "base/err.h"

struct qd_io;

/*
 * Raw operations: each returns a negative errno on failure, and pread/pwritev the
 * number of bytes moved (at least 1, or 0 for a read at or past the end).
 * Optional members (NULL): punch, zero, reserve, next_data, allocated; where the host
 * does not have one of these it returns -EOPNOTSUPP, and io.c does without.
 */
struct qd_io_ops {
	ssize_t (*pread)(struct qd_io *io, void *buf, size_t nbytes, uint64_t off);
	ssize_t (*pwritev)(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off);
	int (*flush)(struct qd_io *io);
	int (*size)(struct qd_io *io, uint64_t *ret_nbytes);
	int (*truncate)(struct qd_io *io, uint64_t nbytes);
	/* Gives the range back to the host; it reads as zeros afterwards. */
	int (*punch)(struct qd_io *io, uint64_t off, uint64_t nbytes);
	/* Makes the range read as zeros, allocated or not; the file grows to its end. */
	int (*zero)(struct qd_io *io, uint64_t off, uint64_t nbytes);
	/* Reserves host space for the range without changing its content. */
	int (*reserve)(struct qd_io *io, uint64_t off, uint64_t nbytes);
	/*
	 * The first byte range at or after off that may hold data: [*ret_data,
	 * *ret_hole).  -ENXIO when there is none up to the end.
	 */
	int (*next_data)(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole);
	/* Bytes the host has allocated for the file. */
	int (*allocated)(struct qd_io *io, uint64_t *ret_nbytes);
	void (*close)(struct qd_io *io);	/* frees io */
};

/* The head of every implementation's own struct. */
struct qd_io {
	const struct qd_io_ops *ops;
	char *name;		/* for messages: the file's path; owned */
	bool writable;
	bool is_device;		/* a block device: fixed size, holes unknown */
	bool is_stream;		/* a pipe: one pass from offset 0, size unknown */
	uint32_t align;		/* what direct I/O wants of offset, length and buffer; 1 if nothing */
};

/* Reads exactly nbytes; an end of file before that is QD_E_IO. */
int qd_io_read(struct qd_io *io, void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

/* Reads up to nbytes, fewer only at the end of the file: *ret_nread tells. */
int qd_io_read_upto(struct qd_io *io, void *buf, size_t nbytes, uint64_t off,
		    size_t *ret_nread, struct qd_err *err);

/* Reads nbytes; what lies past the end of the file reads as zeros. */
int qd_io_read_padded(struct qd_io *io, void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

int qd_io_write(struct qd_io *io, const void *buf, size_t nbytes, uint64_t off, struct qd_err *err);

/* Writes the vector at off in order; iov is left unchanged. */
int qd_io_writev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off, struct qd_err *err);

/* What was written before is on stable storage when this returns. */
int qd_io_flush(struct qd_io *io, struct qd_err *err);

int qd_io_size(struct qd_io *io, uint64_t *ret_nbytes, struct qd_err *err);
int qd_io_truncate(struct qd_io *io, uint64_t nbytes, struct qd_err *err);

/*
 * Gives the range back to the host where it can; where it cannot, the range keeps
 * its content and that is no error.
 */
int qd_io_punch(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err);

/* The range reads as zeros afterwards; falls back to writing zeros. */
int qd_io_zero(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err);

/* Writes zeros, so that the range is allocated and holds them. */
int qd_io_fill_zeros(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err);

/* Reserves host space, falls back to writing zeros when the range lies past the end. */
int qd_io_reserve(struct qd_io *io, uint64_t off, uint64_t nbytes, struct qd_err *err);

/*
 * The next range at or after off that may hold data.  *ret_data == *ret_hole == size
 * when there is none.  Where the host cannot tell, everything is data; on a stream up
 * to INT64_MAX.
 */
int qd_io_next_data(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole,
		    struct qd_err *err);

/* Bytes allocated on the host (st_blocks * 512); the size where the host cannot tell. */
int qd_io_allocated(struct qd_io *io, uint64_t *ret_nbytes, struct qd_err *err);

/* NULL is allowed.  Errors of the last writes show in qd_io_flush, not here. */
void qd_io_close(struct qd_io *io);

#endif
