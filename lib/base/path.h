/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Names of files.
 */
#ifndef QD_BASE_PATH_H
#define QD_BASE_PATH_H

#include "base/err.h"

/*
 * The same file without detours: no empty parts, no ".", and no directory that a ".." behind
 * it leaves again, unless that "directory" is a symbolic link, whose parent is elsewhere.
 * *ret_path is the caller's to free.
 */
int qd_path_tidy(const char *path, char **ret_path, struct qd_err *err);

#endif
