/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A file that appears under its name only when it is complete.
 *
 *	open     unnamed temporary file in the target's directory (O_TMPFILE); where the
 *	         file system has none, a named one, removed on failure
 *	commit   flush the file, give it its name in one atomic step (link when the name
 *	         is free, else link to a temporary name and rename over), flush the directory
 *	abort    nothing is left; an older file of that name is untouched
 *
 * The new file's mode is 0666 less the umask, or the mode of the file it replaces.
 * With QD_CACHE_UNSAFE nothing is flushed.  An existing target must be a regular file
 * (or a symbolic link to one, which is followed: the file it names is replaced) that no
 * other process holds locked: QD_E_BUSY otherwise, found at open and again at commit.
 */
#ifndef QD_BASE_NEWFILE_H
#define QD_BASE_NEWFILE_H

#include "base/io_file.h"

struct qd_newfile;

/* On success the caller owns *ret_nf and ends it with commit or abort. */
int qd_newfile_open(const char *path, enum qd_cache_mode cache, struct qd_newfile **ret_nf,
		    struct qd_err *err);

/* The same by way of a named temporary file on any file system, so that tests can walk that path. */
int qd_newfile_open_named(const char *path, enum qd_cache_mode cache, struct qd_newfile **ret_nf,
			  struct qd_err *err);

/* The file's io, owned by the newfile. */
struct qd_io *qd_newfile_io(struct qd_newfile *nf);

/* True when both would get the same name in the same directory, however their paths are written. */
bool qd_newfile_same(const struct qd_newfile *a, const struct qd_newfile *b);

/*
 * Frees nf in every case; on failure nothing has appeared under the name, unless the
 * very last step failed, the flush of the directory: the message says so.
 */
int qd_newfile_commit(struct qd_newfile *nf, struct qd_err *err);

/* Frees nf; NULL is allowed. */
void qd_newfile_abort(struct qd_newfile *nf);

#endif
