/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/tmpfile.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#include "base/io_file.h"

/* For file systems without O_TMPFILE. */
static int open_named(const char *dir)
{
	char path[4096];
	int fd;

	if (snprintf(path, sizeof(path), "%s/qdedup-XXXXXX", dir) >= (int)sizeof(path)) {
		errno = ENAMETOOLONG;
		return -1;
	}
	fd = mkostemp(path, O_CLOEXEC);
	if (fd >= 0)
		unlink(path);
	return fd;
}

int qd_tmpfile_open(const char *dir, struct qd_io **ret_io, struct qd_err *err)
{
	int fd, r;

	if (!dir)
		dir = "/tmp";
	fd = open(dir, O_TMPFILE | O_RDWR | O_CLOEXEC, 0600);
	if (fd < 0)
		fd = open_named(dir);
	if (fd < 0)
		return qd_err_sys(err, errno, "cannot create a temporary file in %s (TMPDIR names another directory)", dir);
	r = qd_io_file_wrap(fd, dir, QD_CACHE_UNSAFE, true, ret_io, err);
	if (r)
		close(fd);
	return r;
}
