/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A growable byte array as a struct qd_io, for unit tests and fuzzers.
 */
#ifndef QD_BASE_IO_MEM_H
#define QD_BASE_IO_MEM_H

#include "base/io.h"

/* Starts with a copy of nbytes at data (NULL: zeros).  The caller owns *ret_io. */
int qd_io_mem_new(const void *data, size_t nbytes, bool writable, struct qd_io **ret_io,
		  struct qd_err *err);

/* The bytes as they are now; valid until the next write or truncate. */
const uint8_t *qd_io_mem_data(struct qd_io *io, size_t *ret_nbytes);

#endif
