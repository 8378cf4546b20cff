/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The ways by which stock QEMU brings an image back.  Each puts what io holds into a file
 * in the current directory, lets a program loose on it, lets qemu-img check have a look,
 * and reads it back.  0, or what went wrong.
 */
#ifndef QD_TESTS_WAYS_H
#define QD_TESTS_WAYS_H

#include "base/io.h"

/* qemu-img check -r all */
int way_qemu_check(struct qd_io *io, struct qd_err *err);

/* A read-write open by qemu-io.  It leaves leaks, unless the dirty bit is set. */
int way_qemu_open(struct qd_io *io, struct qd_err *err);

/* A file in memory with the content of the one at path. */
int way_load(const char *path, struct qd_io **ret_io, struct qd_err *err);

#endif
