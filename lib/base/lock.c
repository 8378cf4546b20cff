/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Taking QEMU's image locks.  The order closes the race between two newcomers: each
 * first shows what it uses and refuses, then looks at the others.  Both may see each
 * other and both give up, but never do both go on.
 *
 * All locks are read locks, so taking them does not fail on account of another QEMU;
 * the conflict shows only in the test.  After a failure the descriptor holds none.
 */
#include "base/lock.h"

#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <unistd.h>

#define USES_BASE 100
#define REFUSES_BASE 200
#define NPERMS 5

#define READ (1u << 0)
#define WRITE (1u << 1)
#define WRITE_UNCHANGED (1u << 2)
#define RESIZE (1u << 3)

struct perms {
	unsigned uses;
	unsigned refuses;
};

static const struct perms perms_of[] = {
	[QD_LOCK_SHARED] = { READ, WRITE | RESIZE },
	[QD_LOCK_EXCLUSIVE] = { READ | WRITE | RESIZE, READ | WRITE | WRITE_UNCHANGED | RESIZE },
};

static int lock_op(int fd, int cmd, int type, off_t start, off_t nbytes, struct flock *ret_fl)
{
	*ret_fl = (struct flock){
		.l_type = (short)type, .l_whence = SEEK_SET, .l_start = start, .l_len = nbytes,
	};
	return fcntl(fd, cmd, ret_fl) == 0 ? 0 : -errno;
}

/* Takes the bytes base + bit of mask. */
static int take(int fd, off_t base, unsigned mask)
{
	struct flock fl;

	for (int bit = 0; bit < NPERMS; bit++) {
		int rc = 0;

		if (mask & 1u << bit)
			rc = lock_op(fd, F_OFD_SETLK, F_RDLCK, base + bit, 1, &fl);
		if (rc < 0)
			return rc;
	}
	return 0;
}

/* -EAGAIN when somebody else holds one of the bytes base + bit of mask. */
static int test(int fd, off_t base, unsigned mask)
{
	struct flock fl;

	for (int bit = 0; bit < NPERMS; bit++) {
		int rc;

		if (!(mask & 1u << bit))
			continue;
		rc = lock_op(fd, F_OFD_GETLK, F_WRLCK, base + bit, 1, &fl);
		if (rc < 0)
			return rc;
		if (fl.l_type != F_UNLCK)
			return -EAGAIN;
	}
	return 0;
}

static bool is_unsupported(int rc)
{
	return rc == -EINVAL || rc == -ENOLCK || rc == -EOPNOTSUPP || rc == -ENOSYS;
}

int qd_lock_fd(int fd, enum qd_lock_mode mode, struct qd_err *err)
{
	const struct perms *p = &perms_of[mode];
	struct flock fl;
	int rc;

	rc = take(fd, USES_BASE, p->uses);
	if (rc == 0)
		rc = take(fd, REFUSES_BASE, p->refuses);
	if (rc == 0)
		rc = test(fd, REFUSES_BASE, p->uses);
	if (rc == 0)
		rc = test(fd, USES_BASE, p->refuses);
	if (rc == 0)
		return 0;
	(void)lock_op(fd, F_OFD_SETLK, F_UNLCK, USES_BASE, REFUSES_BASE - USES_BASE + NPERMS, &fl);
	if (is_unsupported(rc))
		return 0;
	if (rc != -EAGAIN && rc != -EACCES)
		return qd_err_sys(err, -rc, "cannot lock the image");
	if (mode == QD_LOCK_SHARED)
		return qd_err_set(err, QD_E_BUSY, "the image is in use: another process may write to it "
				  "(--force-share reads it all the same)");
	return qd_err_set(err, QD_E_BUSY, "the image is in use by another process");
}
