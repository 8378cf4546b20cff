/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Scratch directories below TMPDIR.
 */
#include "scratch.h"

#include <dirent.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static void die(const char *what)
{
	perror(what);
	exit(EXIT_FAILURE);
}

void scratch_open(struct scratch *s)
{
	const char *tmp = getenv("TMPDIR");

	if (!tmp || !*tmp || strlen(tmp) > sizeof(s->dir) - sizeof("/qdedup-unit.XXXXXX"))
		tmp = "/tmp";
	snprintf(s->dir, sizeof(s->dir), "%s/qdedup-unit.XXXXXX", tmp);
	if (!mkdtemp(s->dir))
		die(s->dir);
}

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
	(void)st, (void)type, (void)ftw;
	return remove(path);
}

void scratch_close(struct scratch *s)
{
	if (nftw(s->dir, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0)
		die(s->dir);
}

const char *scratch_path(struct scratch *s, const char *name)
{
	snprintf(s->path, sizeof(s->path), "%s/%s", s->dir, name);
	return s->path;
}

const char *scratch_file(struct scratch *s, const char *name, const void *data, size_t nbytes)
{
	int fd = open(scratch_path(s, name), O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);

	if (fd < 0 || write(fd, data, nbytes) != (ssize_t)nbytes)
		die(s->path);
	close(fd);
	return s->path;
}

bool scratch_holds(struct scratch *s, const char *name, const void *data, size_t nbytes)
{
	int fd = open(scratch_path(s, name), O_RDONLY | O_CLOEXEC);
	bool same = false;
	struct stat st;
	char *buf;

	if (fd < 0)
		return false;
	buf = malloc(nbytes + 1);
	if (!buf)
		die("malloc");
	if (fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && st.st_size == (off_t)nbytes)
		same = read(fd, buf, nbytes) == (ssize_t)nbytes && memcmp(buf, data, nbytes) == 0;
	free(buf);
	close(fd);
	return same;
}

const char *scratch_hidden(struct scratch *s)
{
	DIR *dir = opendir(s->dir);
	struct dirent *e;

	if (!dir)
		die(s->dir);
	s->path[0] = '\0';
	while ((e = readdir(dir)))
		if (e->d_name[0] == '.' && strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0)
			snprintf(s->path, sizeof(s->path), "%s", e->d_name);
	closedir(dir);
	return s->path;
}

int scratch_count(struct scratch *s)
{
	DIR *dir = opendir(s->dir);
	struct dirent *e;
	int n = 0;

	if (!dir)
		die(s->dir);
	while ((e = readdir(dir)))
		n += strcmp(e->d_name, ".") != 0 && strcmp(e->d_name, "..") != 0;
	closedir(dir);
	return n;
}
