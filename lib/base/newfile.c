/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New files that appear complete or not at all.
 *
 *	         unnamed (O_TMPFILE)              named (no O_TMPFILE, or no /proc)
 *	open     no name                          .NAME.XXXXXX
 *	commit   link as NAME, or where NAME      rename to NAME
 *	         exists: link as .NAME.XXXXXX,
 *	         rename to NAME
 *	abort    close                            unlink, close
 *
 * All names are relative to a descriptor of the directory, so that a directory renamed
 * meanwhile does not matter.  A file that is to be replaced is held open under an
 * exclusive image lock from open to commit: no VM can start on it in between.
 */
#include "base/newfile.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lock.h"

#define MAX_LINKS 40
#define MAX_TRIES 100
#define RANDOM_LEN 6

struct qd_newfile {
	struct qd_io *io;	/* owns fd once it is set */
	int fd;
	int dir_fd;
	int old_fd;		/* the file that is replaced, locked; -1: none */
	bool durable;
	char *path;		/* as the caller named it, for messages */
	char *name;		/* the last component, links followed */
	char *temp_name;	/* NULL while there is none */
};

static int set_path(char **path, char *new_path, struct qd_err *err)
{
	if (!new_path)
		return qd_err_nomem(err, "a file name");
	free(*path);
	*path = new_path;
	return 0;
}

/* What the link `text` found at `path` stands for. */
static char *link_target(const char *path, const char *text)
{
	const char *slash = strrchr(path, '/');
	int dir_len = slash && text[0] != '/' ? (int)(slash - path) + 1 : 0;
	char *joined;

	return asprintf(&joined, "%.*s%s", dir_len, path, text) < 0 ? NULL : joined;
}

/*
 * Follows symbolic links by hand, because the file at their end need not exist.
 * Anything readlink refuses is no link, or an error that opening will report.
 */
static int follow_links(const char *path, char **ret_path, struct qd_err *err)
{
	char text[PATH_MAX], *now = NULL;
	int rc, nlinks;

	rc = set_path(&now, strdup(path), err);
	for (nlinks = 0; rc == 0 && nlinks < MAX_LINKS; nlinks++) {
		ssize_t n = readlink(now, text, sizeof(text) - 1);

		if (n < 0)
			break;
		text[n] = '\0';
		rc = set_path(&now, link_target(now, text), err);
	}
	if (rc == 0 && nlinks == MAX_LINKS)
		rc = qd_err_sys(err, ELOOP, "cannot follow the symbolic links");
	if (rc < 0) {
		free(now);
		return rc;
	}
	*ret_path = now;
	return 0;
}

/* Splits the path into an open directory and a name in it. */
static int open_dir(struct qd_newfile *nf, const char *path, struct qd_err *err)
{
	const char *slash = strrchr(path, '/');
	const char *name = slash ? slash + 1 : path;
	size_t dir_len = slash ? (size_t)(slash - path) + 1 : 0;
	char *dir;
	int rc = 0;

	if (name[0] == '\0' || strcmp(name, ".") == 0 || strcmp(name, "..") == 0)
		return qd_err_set(err, QD_E_INVALID, "expected the name of a file");
	nf->name = strdup(name);
	dir = dir_len ? strndup(path, dir_len) : strdup(".");
	if (!nf->name || !dir) {
		free(dir);
		return qd_err_nomem(err, "a file name");
	}
	nf->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	if (nf->dir_fd < 0)
		rc = qd_err_sys(err, errno, "cannot open the directory '%s'", dir);
	free(dir);
	return rc;
}

static const char *kind_name(mode_t mode)
{
	switch (mode & S_IFMT) {
	case S_IFDIR: return "a directory";
	case S_IFIFO: return "a pipe";
	case S_IFCHR: return "a character device";
	case S_IFBLK: return "a block device";
	case S_IFSOCK: return "a socket";
	case S_IFLNK: return "a symbolic link";
	default: return "of unknown kind";
	}
}

/*
 * Looks at what has our name now and locks it, unless it is the file that we hold
 * already.  Afterwards old_fd says whether something is to be replaced.
 */
static int claim_old(struct qd_newfile *nf, struct qd_err *err)
{
	struct stat now, held;
	int rc;

	if (fstatat(nf->dir_fd, nf->name, &now, AT_SYMLINK_NOFOLLOW) != 0) {
		if (errno != ENOENT)
			return qd_err_sys(err, errno, "cannot look at the file to be replaced");
		if (nf->old_fd >= 0)
			close(nf->old_fd);
		nf->old_fd = -1;
		return 0;
	}
	if (!S_ISREG(now.st_mode))
		return qd_err_set(err, QD_E_INVALID, "is %s, expected a regular file to replace",
				  kind_name(now.st_mode));
	if (nf->old_fd >= 0) {
		if (fstat(nf->old_fd, &held) == 0 && held.st_dev == now.st_dev && held.st_ino == now.st_ino)
			return 0;
		close(nf->old_fd);
	}
	nf->old_fd = openat(nf->dir_fd, nf->name, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK | O_NOCTTY);
	if (nf->old_fd < 0)
		return qd_err_sys(err, errno, "cannot open the file to be replaced");
	rc = qd_lock_fd(nf->old_fd, QD_LOCK_EXCLUSIVE, err);
	return rc < 0 ? qd_err_prefix(err, rc, "cannot replace the file") : 0;
}

/*
 * ".NAME.XXXXXX", where a NAME that would make it too long is cut, between characters
 * because some file systems insist on whole ones.
 */
static int make_temp_name(struct qd_newfile *nf, struct qd_err *err)
{
	static const char letters[] = "abcdefghijklmnopqrstuvwxyz012345";	/* 32 */
	long name_max = fpathconf(nf->dir_fd, _PC_NAME_MAX);
	size_t room = (size_t)(name_max > 0 ? name_max : NAME_MAX) - RANDOM_LEN - 2;
	size_t len = strlen(nf->name);
	unsigned char noise[RANDOM_LEN];
	char suffix[RANDOM_LEN + 1] = "";

	if (len > room)
		for (len = room; len > 0 && ((unsigned char)nf->name[len] & 0xc0) == 0x80;)
			len--;
	if (getrandom(noise, sizeof(noise), 0) != (ssize_t)sizeof(noise))
		return qd_err_sys(err, errno, "cannot make a temporary name");
	for (int i = 0; i < RANDOM_LEN; i++)
		suffix[i] = letters[noise[i] % 32];
	free(nf->temp_name);
	if (asprintf(&nf->temp_name, ".%.*s.%s", (int)len, nf->name, suffix) < 0) {
		nf->temp_name = NULL;
		return qd_err_nomem(err, "a file name");
	}
	return 0;
}

static void drop_temp_name(struct qd_newfile *nf)
{
	free(nf->temp_name);
	nf->temp_name = NULL;
}

static mode_t new_mode(const struct qd_newfile *nf)
{
	/* What replaces a private file is private from the start. */
	return nf->old_fd >= 0 ? 0600 : 0666;
}

static int create_named(struct qd_newfile *nf, struct qd_err *err)
{
	int rc = 0, sys_errno = EEXIST;

	for (int i = 0; i < MAX_TRIES && sys_errno == EEXIST; i++) {
		rc = make_temp_name(nf, err);
		if (rc < 0)
			break;
		nf->fd = openat(nf->dir_fd, nf->temp_name, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC,
				new_mode(nf));
		if (nf->fd >= 0)
			return 0;
		sys_errno = errno;
		rc = qd_err_sys(err, sys_errno, "cannot create a file in the directory");
	}
	drop_temp_name(nf);
	return rc;
}

/* Without /proc an unnamed file could never get a name. */
static bool can_be_linked(int fd)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", fd);
	return access(proc, F_OK) == 0;
}

static int create(struct qd_newfile *nf, bool want_named, struct qd_err *err)
{
	if (!want_named) {
		nf->fd = openat(nf->dir_fd, ".", O_TMPFILE | O_RDWR | O_CLOEXEC, new_mode(nf));
		if (nf->fd >= 0 && can_be_linked(nf->fd))
			return 0;
		if (nf->fd >= 0)
			close(nf->fd);
		nf->fd = -1;
	}
	/* Whatever O_TMPFILE failed with, the named file works or says it better. */
	return create_named(nf, err);
}

static void free_newfile(struct qd_newfile *nf)
{
	if (nf->io)
		qd_io_close(nf->io);
	else if (nf->fd >= 0)
		close(nf->fd);
	if (nf->temp_name)
		unlinkat(nf->dir_fd, nf->temp_name, 0);
	if (nf->old_fd >= 0)
		close(nf->old_fd);
	if (nf->dir_fd >= 0)
		close(nf->dir_fd);
	free(nf->temp_name);
	free(nf->name);
	free(nf->path);
	free(nf);
}

static int open_any(const char *path, enum qd_cache_mode cache, bool want_named,
		    struct qd_newfile **ret_nf, struct qd_err *err)
{
	struct qd_newfile *nf;
	char *target = NULL;
	int rc;

	nf = calloc(1, sizeof(*nf));
	if (!nf)
		return qd_err_nomem(err, "a new file");
	nf->fd = nf->dir_fd = nf->old_fd = -1;
	nf->durable = cache != QD_CACHE_UNSAFE;
	rc = set_path(&nf->path, strdup(path), err);
	if (rc == 0)
		rc = follow_links(path, &target, err);
	if (rc == 0)
		rc = open_dir(nf, target, err);
	if (rc == 0)
		rc = claim_old(nf, err);
	if (rc == 0)
		rc = create(nf, want_named, err);
	if (rc == 0)
		rc = qd_io_file_wrap(nf->fd, path, cache, true, &nf->io, err);
	free(target);
	if (rc < 0) {
		free_newfile(nf);
		return qd_err_file(err, rc, path);
	}
	*ret_nf = nf;
	return 0;
}

int qd_newfile_open(const char *path, enum qd_cache_mode cache, struct qd_newfile **ret_nf,
		    struct qd_err *err)
{
	return open_any(path, cache, false, ret_nf, err);
}

int qd_newfile_open_named(const char *path, enum qd_cache_mode cache, struct qd_newfile **ret_nf,
			  struct qd_err *err)
{
	return open_any(path, cache, true, ret_nf, err);
}

struct qd_io *qd_newfile_io(struct qd_newfile *nf)
{
	return nf->io;
}

bool qd_newfile_same(const struct qd_newfile *a, const struct qd_newfile *b)
{
	struct stat sa, sb;

	return strcmp(a->name, b->name) == 0 && fstat(a->dir_fd, &sa) == 0 && fstat(b->dir_fd, &sb) == 0 &&
	       sa.st_dev == sb.st_dev && sa.st_ino == sb.st_ino;
}

/* Mode and, as far as we may, owner and group of the file that is replaced. */
static int copy_attributes(struct qd_newfile *nf, struct qd_err *err)
{
	struct stat st;

	if (nf->old_fd < 0)
		return 0;
	if (fstat(nf->old_fd, &st) != 0)
		return qd_err_sys(err, errno, "cannot stat the file to be replaced");
	if (fchown(nf->fd, st.st_uid, st.st_gid) != 0 && fchown(nf->fd, (uid_t)-1, st.st_gid) != 0)
		st.st_mode &= 0777;	/* no set-id bits under another owner */
	if (fchmod(nf->fd, st.st_mode & 07777) != 0)
		return qd_err_sys(err, errno, "cannot set the mode of the new file");
	return 0;
}

static int link_as(struct qd_newfile *nf, const char *name)
{
	char proc[64];

	snprintf(proc, sizeof(proc), "/proc/self/fd/%d", nf->fd);
	return linkat(AT_FDCWD, proc, nf->dir_fd, name, AT_SYMLINK_FOLLOW) == 0 ? 0 : -errno;
}

static int link_temp(struct qd_newfile *nf, struct qd_err *err)
{
	int rc = 0, linked = -EEXIST;

	for (int i = 0; i < MAX_TRIES && linked == -EEXIST; i++) {
		rc = make_temp_name(nf, err);
		if (rc < 0)
			break;
		linked = link_as(nf, nf->temp_name);
		if (linked == 0)
			return 0;
		rc = qd_err_sys(err, -linked, "cannot link the new file");
	}
	drop_temp_name(nf);
	return rc;
}

/* One atomic step from "not there, or the old file" to "the new file". */
static int give_name(struct qd_newfile *nf, struct qd_err *err)
{
	int rc;

	if (!nf->temp_name) {
		rc = nf->old_fd < 0 ? link_as(nf, nf->name) : -EEXIST;
		if (rc == 0)
			return 0;
		if (rc != -EEXIST)
			return qd_err_sys(err, -rc, "cannot link the new file");
		/* Something has the name: make sure that it may be replaced. */
		rc = claim_old(nf, err);
		if (rc == 0)
			rc = link_temp(nf, err);
		if (rc < 0)
			return rc;
	}
	if (renameat(nf->dir_fd, nf->temp_name, nf->dir_fd, nf->name) != 0)
		return qd_err_sys(err, errno, "cannot rename the new file");
	drop_temp_name(nf);
	return 0;
}

int qd_newfile_commit(struct qd_newfile *nf, struct qd_err *err)
{
	int rc;

	rc = claim_old(nf, err);
	if (rc == 0)
		rc = copy_attributes(nf, err);
	/* Not fdatasync: the mode belongs to it. */
	if (rc == 0 && nf->durable && fsync(nf->fd) != 0)
		rc = qd_err_sys(err, errno, "cannot flush");
	if (rc == 0)
		rc = give_name(nf, err);
	if (rc == 0 && nf->durable && fsync(nf->dir_fd) != 0)
		rc = qd_err_sys(err, errno, "written, but its directory cannot be flushed");
	if (rc < 0)
		qd_err_file(err, rc, nf->path);
	free_newfile(nf);
	return rc;
}

void qd_newfile_abort(struct qd_newfile *nf)
{
	if (nf)
		free_newfile(nf);
}
