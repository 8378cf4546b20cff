/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One image file on its own: for operations that look at an image and open nothing it
 * names.
 */
#ifndef QD_OPS_SINGLE_H
#define QD_OPS_SINGLE_H

#include "image/image.h"

struct qd_single {
	struct qd_io *io;
	struct qd_image *img;		/* NULL: raw; owns io otherwise */
	uint64_t virtual_size;		/* bytes; a raw file's size rounded up to 512 */
};

/* format: "raw", "qcow2", or NULL: the content decides.  image_flags: enum qd_image_open_flags. */
int qd_single_open(const char *path, const char *format, bool no_lock, unsigned image_flags,
		   struct qd_single *ret_single, struct qd_err *err);

/* All zero is allowed. */
void qd_single_close(struct qd_single *single);

#endif
