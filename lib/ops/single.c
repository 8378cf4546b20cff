/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening one file, the content deciding the format where the caller does not.
 */
#include "ops/single.h"

#include <string.h>

#include "base/bytes.h"
#include "base/io_file.h"

static int decide_format(struct qd_io *io, const char *format, bool *ret_qcow2, struct qd_err *err)
{
	uint8_t magic[8];
	size_t nread;
	int r;

	if (format) {
		*ret_qcow2 = !strcmp(format, "qcow2");
		return 0;
	}
	r = qd_io_read_upto(io, magic, sizeof(magic), 0, &nread, err);
	if (!r)
		*ret_qcow2 = qd_header_is_qcow2(magic, nread);
	return r;
}

int qd_single_open(const char *path, const char *format, bool no_lock, unsigned image_flags,
		   struct qd_single *ret_single, struct qd_err *err)
{
	struct qd_file_opts opts = { .no_lock = no_lock };
	struct qd_single s = { 0 };
	bool is_qcow2 = false;
	int r = qd_io_file_open(path, &opts, &s.io, err);

	if (r)
		return r;
	r = decide_format(s.io, format, &is_qcow2, err);
	if (!r && is_qcow2) {
		r = qd_image_open(s.io, image_flags, &s.img, err);
		if (!r)
			s.virtual_size = s.img->header.virtual_size;
	} else if (!r) {
		r = qd_io_size(s.io, &s.virtual_size, err);
		s.virtual_size = qd_align_up(s.virtual_size, 512);
	}
	if (r) {
		qd_single_close(&s);
		return qd_err_file(err, r, path);
	}
	*ret_single = s;
	return 0;
}

void qd_single_close(struct qd_single *single)
{
	if (single->img)
		qd_image_close(single->img);
	else
		qd_io_close(single->io);
	single->img = NULL;
	single->io = NULL;
}
