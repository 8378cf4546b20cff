/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Files and block devices.
 *
 *	fd          buffered; holds the image lock, flushes, truncates, finds holes
 *	direct_fd   the same file opened again with O_DIRECT (modes none, directsync);
 *	            takes the requests whose offset, lengths and buffers are aligned
 *
 * Synchronous modes ask for it write by write (RWF_DSYNC), so that a descriptor need
 * not have been opened for it.
 *
 * A range operation that the host does not have returns -EOPNOTSUPP, and io.c does
 * without.  The size grows only through writes and fallocate, never through a
 * truncate of our own making: that could cut off what another thread just appended.
 */
#include "base/io_file.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/lock.h"

#define DIRECT_ALIGN 4096

/*
 * Writes this large are bulk data that a flush will wait for: the disk may as well begin
 * while the next batch is being worked on.
 */
#define EARLY_WRITEBACK (128 << 10)	/* bytes */

struct file {
	struct qd_io io;
	int fd;
	int direct_fd;		/* -1 when buffered */
	bool sync_writes;
	bool flushes;
};

static const struct cache_mode {
	const char *name;
	bool direct, sync_writes, flushes;
} cache_modes[] = {
	[QD_CACHE_WRITEBACK] = { "writeback", false, false, true },
	[QD_CACHE_NONE] = { "none", true, false, true },
	[QD_CACHE_WRITETHROUGH] = { "writethrough", false, true, true },
	[QD_CACHE_DIRECTSYNC] = { "directsync", true, true, true },
	[QD_CACHE_UNSAFE] = { "unsafe", false, false, false },
};

int qd_cache_mode_parse(const char *name, enum qd_cache_mode *ret_mode, struct qd_err *err)
{
	for (unsigned i = 0; i < sizeof(cache_modes) / sizeof(cache_modes[0]); i++) {
		if (strcmp(name, cache_modes[i].name) == 0) {
			*ret_mode = (enum qd_cache_mode)i;
			return 0;
		}
	}
	return qd_err_set(err, QD_E_INVALID, "cache mode '%s', expected writeback, none, writethrough, "
			  "directsync or unsafe", name);
}

static struct file *file_of(struct qd_io *io)
{
	return (struct file *)(void *)io;
}

static ssize_t file_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct file *f = file_of(io);
	ssize_t n;

	if (f->direct_fd >= 0 && qd_is_aligned(off | nbytes | (uintptr_t)buf, DIRECT_ALIGN)) {
		n = pread(f->direct_fd, buf, nbytes, (off_t)off);
		/* EINVAL: this device wants a coarser alignment than ours. */
		if (n >= 0 || errno != EINVAL)
			return n < 0 ? -errno : n;
	}
	n = pread(f->fd, buf, nbytes, (off_t)off);
	return n < 0 ? -errno : n;
}

static bool iov_is_aligned(const struct iovec *iov, int niov)
{
	uint64_t bits = 0;

	for (int i = 0; i < niov; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return qd_is_aligned(bits, DIRECT_ALIGN);
}

static ssize_t file_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct file *f = file_of(io);
	int flags = f->sync_writes ? RWF_DSYNC : 0;
	ssize_t n;

	if (f->direct_fd >= 0 && qd_is_aligned(off, DIRECT_ALIGN) && iov_is_aligned(iov, niov)) {
		n = pwritev2(f->direct_fd, iov, niov, (off_t)off, flags);
		if (n >= 0 || errno != EINVAL)
			return n < 0 ? -errno : n;
	}
	n = pwritev2(f->fd, iov, niov, (off_t)off, flags);
	if (n < 0)
		return -errno;
	/* Only starts the transfer to the disk; what fails then shows in flush. */
	if (n >= EARLY_WRITEBACK && f->flushes && !f->sync_writes)
		sync_file_range(f->fd, (off_t)off, n, SYNC_FILE_RANGE_WRITE);
	return n;
}

static int file_flush(struct qd_io *io)
{
	struct file *f = file_of(io);

	if (!f->flushes || !io->writable)
		return 0;
	return fdatasync(f->fd) == 0 ? 0 : -errno;
}

static int file_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct file *f = file_of(io);
	struct stat st;
	off_t end;

	if (!io->is_device) {
		if (fstat(f->fd, &st) != 0)
			return -errno;
		*ret_nbytes = (uint64_t)st.st_size;
		return 0;
	}
	if (ioctl(f->fd, BLKGETSIZE64, ret_nbytes) == 0)
		return 0;
	end = lseek(f->fd, 0, SEEK_END);
	if (end < 0)
		return -errno;
	*ret_nbytes = (uint64_t)end;
	return 0;
}

static int file_truncate(struct qd_io *io, uint64_t nbytes)
{
	uint64_t size;
	int rc;

	if (!io->is_device)
		return ftruncate(file_of(io)->fd, (off_t)nbytes) == 0 ? 0 : -errno;
	/* A device keeps its size: what fits is fine. */
	rc = file_size(io, &size);
	if (rc == 0 && nbytes > size)
		rc = -ENOSPC;
	return rc;
}

static int do_fallocate(int fd, int mode, uint64_t off, uint64_t nbytes)
{
	if (fallocate(fd, mode, (off_t)off, (off_t)nbytes) == 0)
		return 0;
	switch (errno) {
	case ENOSYS:
	case EINVAL:		/* a device: the range is no multiple of its sector */
	case ENODEV:
	case ENOTTY:
		return -EOPNOTSUPP;
	default:
		return -errno;
	}
}

static int file_punch(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	return do_fallocate(file_of(io)->fd, FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE, off, nbytes);
}

static int file_zero(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	struct file *f = file_of(io);
	uint64_t size = 0;
	int rc;

	rc = file_punch(io, off, nbytes);
	if (rc == -EOPNOTSUPP)
		rc = do_fallocate(f->fd, FALLOC_FL_ZERO_RANGE | FALLOC_FL_KEEP_SIZE, off, nbytes);
	if (rc < 0 || io->is_device)
		return rc;
	rc = file_size(io, &size);
	/* The last byte of our own range brings the file to its length. */
	if (rc == 0 && size < off + nbytes && pwrite(f->fd, "", 1, (off_t)(off + nbytes - 1)) < 0)
		rc = -errno;
	return rc;
}

static int file_reserve(struct qd_io *io, uint64_t off, uint64_t nbytes)
{
	uint64_t size;
	int rc;

	if (!io->is_device)
		return do_fallocate(file_of(io)->fd, 0, off, nbytes);
	rc = file_size(io, &size);
	if (rc == 0 && !qd_range_within(off, nbytes, size))
		rc = -ENOSPC;
	return rc;
}

static int seek_failed(int sys_errno)
{
	return sys_errno == ENXIO ? -ENXIO : sys_errno == EINVAL ? -EOPNOTSUPP : -sys_errno;
}

static int file_next_data(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole)
{
	struct file *f = file_of(io);
	off_t data, hole;

	if (io->is_device)
		return -EOPNOTSUPP;
	data = lseek(f->fd, (off_t)off, SEEK_DATA);
	if (data < 0)
		return seek_failed(errno);
	hole = lseek(f->fd, data, SEEK_HOLE);
	if (hole < 0)
		return seek_failed(errno);
	*ret_data = (uint64_t)data;
	*ret_hole = (uint64_t)hole;
	return 0;
}

static int file_allocated(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct stat st;

	if (io->is_device)
		return -EOPNOTSUPP;
	if (fstat(file_of(io)->fd, &st) != 0)
		return -errno;
	*ret_nbytes = (uint64_t)st.st_blocks * 512;
	return 0;
}

static void file_close(struct qd_io *io)
{
	struct file *f = file_of(io);

	if (f->direct_fd >= 0)
		close(f->direct_fd);
	if (f->fd >= 0)
		close(f->fd);
	free(f->io.name);
	free(f);
}

static const struct qd_io_ops file_ops = {
	.pread = file_pread,
	.pwritev = file_pwritev,
	.flush = file_flush,
	.size = file_size,
	.truncate = file_truncate,
	.punch = file_punch,
	.zero = file_zero,
	.reserve = file_reserve,
	.next_data = file_next_data,
	.allocated = file_allocated,
	.close = file_close,
};

static const char *kind_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "a directory";
	case S_IFIFO: return "a pipe";
	case S_IFCHR: return "a character device";
	case S_IFSOCK: return "a socket";
	default: return "of unknown kind";
	}
}

static int check_kind(const struct stat *st, struct qd_err *err)
{
	if (S_ISREG(st->st_mode) || S_ISBLK(st->st_mode))
		return 0;
	return qd_err_set(err, QD_E_INVALID, "is %s, expected a regular file or a block device",
			  kind_name(st->st_mode));
}

static int open_direct(struct file *f, const struct cache_mode *mode, struct qd_err *err)
{
	int flags = (f->io.writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_DIRECT;
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", f->fd);
	f->direct_fd = open(proc, flags);
	if (f->direct_fd >= 0)
		return 0;
	if (errno == EINVAL)
		return qd_err_sys(err, errno, "cache mode %s: the file system has no direct I/O, "
				  "use writeback or writethrough", mode->name);
	return qd_err_sys(err, errno, "cache mode %s: cannot open again for direct I/O", mode->name);
}

int qd_io_file_wrap(int fd, const char *name, enum qd_cache_mode cache, bool writable,
		    struct qd_io **ret_io, struct qd_err *err)
{
	const struct cache_mode *mode = &cache_modes[cache];
	struct file *f = NULL;
	struct stat st;
	int rc;

	if (fstat(fd, &st) != 0) {
		rc = qd_err_sys(err, errno, "cannot stat");
		goto out;
	}
	rc = check_kind(&st, err);
	if (rc < 0)
		goto out;
	f = calloc(1, sizeof(*f));
	if (f)
		f->io.name = strdup(name);
	if (!f || !f->io.name) {
		rc = qd_err_nomem(err, "an open file");
		goto out;
	}
	f->io.ops = &file_ops;
	f->io.writable = writable;
	f->io.is_device = S_ISBLK(st.st_mode);
	f->io.align = mode->direct ? DIRECT_ALIGN : 1;
	f->fd = fd;
	f->direct_fd = -1;
	f->sync_writes = mode->sync_writes;
	f->flushes = mode->flushes;
	if (mode->direct)
		rc = open_direct(f, mode, err);
out:
	if (rc < 0) {
		if (f)
			free(f->io.name);
		free(f);
		return qd_err_file(err, rc, name);
	}
	*ret_io = &f->io;
	return 0;
}

/*
 * Opening must not wait for a pipe's other end nor disturb a device that we refuse
 * anyway, so the kind is looked at first and, because the name may have changed
 * hands, once more on what was opened.
 */
static int open_image(const char *path, bool writable, int *ret_fd, struct qd_err *err)
{
	int flags = (writable ? O_RDWR : O_RDONLY) | O_CLOEXEC | O_NOCTTY;
	struct stat st;
	int fd, rc;

	if (stat(path, &st) != 0)
		return qd_err_sys(err, errno, "cannot open");
	rc = check_kind(&st, err);
	if (rc < 0)
		return rc;
	if (S_ISREG(st.st_mode))
		flags |= O_NONBLOCK;
	else if (writable)
		flags |= O_EXCL;	/* on a device: fails when it is mounted */
	fd = open(path, flags);
	if (fd < 0 && errno == EBUSY)
		return qd_err_set(err, QD_E_BUSY,
				  "the device is in use (mounted, or part of another device)");
	if (fd < 0)
		return qd_err_sys(err, errno, writable ? "cannot open for writing" : "cannot open");
	rc = fstat(fd, &st) == 0 ? check_kind(&st, err) : qd_err_sys(err, errno, "cannot stat");
	if (rc == 0 && fcntl(fd, F_SETFL, 0) != 0)
		rc = qd_err_sys(err, errno, "cannot make blocking");
	if (rc < 0) {
		close(fd);
		return rc;
	}
	*ret_fd = fd;
	return 0;
}

int qd_io_file_open(const char *path, const struct qd_file_opts *opts, struct qd_io **ret_io,
		    struct qd_err *err)
{
	int fd = -1, rc;

	rc = open_image(path, opts->writable, &fd, err);
	if (rc == 0 && !opts->no_lock)
		rc = qd_lock_fd(fd, opts->writable ? QD_LOCK_EXCLUSIVE : QD_LOCK_SHARED, err);
	if (rc == 0)
		rc = qd_io_file_wrap(fd, path, opts->cache, opts->writable, ret_io, err);
	if (rc < 0 && fd >= 0)
		close(fd);
	return rc < 0 ? qd_err_file(err, rc, path) : 0;
}

/* A device is its number, whatever node names it. */
static bool same_inode(const struct stat *a, const struct stat *b)
{
	if (S_ISBLK(a->st_mode) && S_ISBLK(b->st_mode))
		return a->st_rdev == b->st_rdev;
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino;
}

static bool stat_io(struct qd_io *io, struct stat *ret_st)
{
	return io->ops == &file_ops && fstat(file_of(io)->fd, ret_st) == 0;
}

bool qd_io_same_file(struct qd_io *a, struct qd_io *b)
{
	struct stat sa, sb;

	return stat_io(a, &sa) && stat_io(b, &sb) && same_inode(&sa, &sb);
}

bool qd_io_is_path(struct qd_io *io, const char *path)
{
	struct stat si, sp;

	return stat_io(io, &si) && stat(path, &sp) == 0 && same_inode(&si, &sp);
}

bool qd_path_exists(const char *path)
{
	struct stat st;

	return stat(path, &st) == 0;
}

bool qd_path_identity(const char *path, uint64_t ret_id[2])
{
	struct stat st;

	if (stat(path, &st) != 0)
		return false;
	ret_id[0] = st.st_dev;
	ret_id[1] = st.st_ino;
	return true;
}

bool qd_path_same(const char *a, const char *b)
{
	struct stat sa, sb;

	return stat(a, &sa) == 0 && stat(b, &sb) == 0 && sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}
