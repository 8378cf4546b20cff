/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Unnamed temporary files: gone when they are closed, however the process ends.
 */
#ifndef QD_BASE_TMPFILE_H
#define QD_BASE_TMPFILE_H

#include "base/io.h"

/* In directory `dir` (NULL: /tmp).  The caller owns *ret_io; its name is the directory. */
int qd_tmpfile_open(const char *dir, struct qd_io **ret_io, struct qd_err *err);

#endif
