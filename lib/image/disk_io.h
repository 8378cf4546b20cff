/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest disk as a struct qd_io to read from: for operations that take raw content.
 */
#ifndef QD_IMAGE_DISK_IO_H
#define QD_IMAGE_DISK_IO_H

#include "image/disk.h"

/*
 * Reads guest bytes, from any number of threads; what reads as zeros by metadata is a hole.
 * disk stays the caller's and outlives it.
 */
int qd_disk_io_new(const struct qd_disk *disk, struct qd_io **ret_io, struct qd_err *err);

#endif
