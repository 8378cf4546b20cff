/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Preloaded, kills the process at its KILL_AT-th change to a file: a moment that a seed can name, which a
 * timer is not.  With KILL_HALF=1 the first half of a write is made before, in whole sectors.  Only the calls
 * that qdedup makes to change an image are counted; what it calls to say something is not.
 */
#include <dlfcn.h>
#include <fcntl.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/uio.h>
#include <unistd.h>

static atomic_long calls;

/* Is this the last call of this process? */
static int last(void)
{
	const char *at = getenv("KILL_AT");

	return at && atomic_fetch_add(&calls, 1) + 1 == atol(at);
}

static void *next(const char *name)
{
	return dlsym(RTLD_NEXT, name);
}

static _Noreturn void die(void)
{
	raise(SIGKILL);
	_exit(137);
}

static void half(int fd, const struct iovec *iov, off_t off)
{
	const char *wanted = getenv("KILL_HALF");
	off_t end = (off + (off_t)iov->iov_len / 2) & ~(off_t)511;

	if (wanted && atoi(wanted) && end > off && pwrite(fd, iov->iov_base, (size_t)(end - off), off) < 0)
		_exit(1);
}

ssize_t pwritev2(int fd, const struct iovec *iov, int niov, off_t off, int flags)
{
	ssize_t (*real)(int, const struct iovec *, int, off_t, int);

	if (last()) {
		half(fd, iov, off);
		die();
	}
	*(void **)&real = next("pwritev2");
	return real(fd, iov, niov, off, flags);
}

ssize_t pwritev64v2(int fd, const struct iovec *iov, int niov, off_t off, int flags)
{
	return pwritev2(fd, iov, niov, off, flags);
}

int fallocate(int fd, int mode, off_t off, off_t len)
{
	int (*real)(int, int, off_t, off_t);

	if (last())
		die();
	*(void **)&real = next("fallocate");
	return real(fd, mode, off, len);
}

int fallocate64(int fd, int mode, off_t off, off_t len)
{
	return fallocate(fd, mode, off, len);
}

int ftruncate(int fd, off_t len)
{
	int (*real)(int, off_t);

	if (last())
		die();
	*(void **)&real = next("ftruncate");
	return real(fd, len);
}

int ftruncate64(int fd, off_t len)
{
	return ftruncate(fd, len);
}
