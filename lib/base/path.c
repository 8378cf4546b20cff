/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/path.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

/* Where the last part of the n bytes at text begins; behind the leading slash at least. */
static size_t last_part(const char *text, size_t n)
{
	while (n && text[n - 1] != '/')
		n--;
	return n;
}

/* Whether the last part of what stands in text can be taken back by "..". */
static bool can_leave(char *text, size_t n)
{
	size_t at = last_part(text, n);
	struct stat st;

	if (at == n || strcmp(text + at, "..") == 0)
		return false;
	return lstat(text, &st) == 0 && S_ISDIR(st.st_mode);
}

int qd_path_tidy(const char *path, char **ret_path, struct qd_err *err)
{
	char *to = calloc(1, strlen(path) + 3);
	size_t n = 0;

	if (!to)
		return qd_err_nomem(err, "a path");
	if (path[0] == '/')
		to[n++] = '/';
	while (*path) {
		size_t len = strcspn(path, "/");
		bool dot = len == 0 || (len == 1 && path[0] == '.');

		if (len == 2 && path[0] == '.' && path[1] == '.' && can_leave(to, n)) {
			n = last_part(to, n);
			n -= n > 1;	/* the slash before it */
		} else if (!dot) {
			if (n && to[n - 1] != '/')
				to[n++] = '/';
			memcpy(to + n, path, len);
			n += len;
		}
		to[n] = '\0';
		path += len;
		path += *path == '/';
	}
	if (!n)
		to[n] = '.';
	*ret_path = to;
	return 0;
}
