/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files and block devices as a struct qd_io.
 *
 * Cache modes are two independent choices under QEMU's names: whether the host's page
 * cache is bypassed (O_DIRECT) and when data must be on stable storage.
 *
 *	mode          direct  every write synchronous  flush does something
 *	writeback     no      no                       yes
 *	none          yes     no                       yes
 *	writethrough  no      yes                      yes
 *	directsync    yes     yes                      yes
 *	unsafe        no      no                       no
 *
 * Under a direct mode, requests that are not aligned go through a second, buffered
 * descriptor of the same file; the kernel keeps the two coherent.
 */
#ifndef QD_BASE_IO_FILE_H
#define QD_BASE_IO_FILE_H

#include "base/io.h"

enum qd_cache_mode {
	QD_CACHE_WRITEBACK,
	QD_CACHE_NONE,
	QD_CACHE_WRITETHROUGH,
	QD_CACHE_DIRECTSYNC,
	QD_CACHE_UNSAFE,
};

/* QEMU's name -> mode; QD_E_INVALID for another word. */
int qd_cache_mode_parse(const char *name, enum qd_cache_mode *ret_mode, struct qd_err *err);

struct qd_file_opts {
	enum qd_cache_mode cache;
	bool writable;
	bool no_lock;		/* -U: do not take the image lock */
};

/*
 * Opens an existing regular file or block device and takes QEMU's image lock on it
 * (shared when reading, exclusive when writable; lock.h).  The name is a plain path:
 * "a:b" is the file of that name.  A directory, a missing file, a socket and so on are
 * clear errors; a block device that is mounted is not opened for writing (QD_E_BUSY).
 * On success the caller owns *ret_io.
 */
int qd_io_file_open(const char *path, const struct qd_file_opts *opts, struct qd_io **ret_io,
		    struct qd_err *err);

/*
 * Standard input (or any readable pipe) as a stream: sequential reads from offset 0.
 * If fd is a regular file or block device it is an ordinary io, without image lock.
 * fd stays open after close.
 */
int qd_io_stream_open(int fd, const char *name, struct qd_io **ret_io, struct qd_err *err);

/* The same of whatever path names, named pipes too: no image lock is taken. */
int qd_io_stream_open_path(const char *path, struct qd_io **ret_io, struct qd_err *err);

/* Standard output (whatever it is) as a stream: sequential writes from offset 0.  fd stays open. */
int qd_io_stream_out(int fd, const char *name, struct qd_io **ret_io, struct qd_err *err);

/*
 * Wraps the open descriptor of a regular file or block device, which on success the io
 * owns.  The name is copied.
 */
int qd_io_file_wrap(int fd, const char *name, enum qd_cache_mode cache, bool writable,
		    struct qd_io **ret_io, struct qd_err *err);

/* True when both are files on this machine and are the same file (device and inode). */
bool qd_io_same_file(struct qd_io *a, struct qd_io *b);

/* True when there is something of that name (following links). */
bool qd_path_exists(const char *path);

/* True when both names lead to the same thing. */
bool qd_path_same(const char *a, const char *b);

/* What tells a file from all others on this machine; false when there is none of that name. */
bool qd_path_identity(const char *path, uint64_t ret_id[2]);

/* True when io is the file that path names (following links); false also when there is none. */
bool qd_io_is_path(struct qd_io *io, const char *path);

#endif
