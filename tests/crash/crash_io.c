/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of `qdedup io`: random writes, zeros, discards and flushes of a sound image,
 * with lazy refcounts where the image has them; judge.h says the rest.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "image/write.h"
#include "judge.h"

#define NCOMMANDS 30u

static int write_some(struct judge *j, struct qd_writer *w, uint64_t off, uint64_t n, struct qd_err *err)
{
	uint8_t *data = malloc(n);
	int rc;

	if (!data)
		return qd_err_nomem(err, "data");
	memset(data, (int)(1 + judge_random(j, 255)), n);
	judge_will_change(j, off, n, data);
	rc = qd_writer_write(w, off, n, data, err);
	free(data);
	return rc;
}

/* Whole clusters read as zeros afterwards; what is left of others stays. */
static int discard_some(struct judge *j, struct qd_writer *w, const struct qd_geom *g, uint64_t off,
			uint64_t n, struct qd_err *err)
{
	uint64_t size = judge_disk_size(j), from = qd_align_up(off, g->cluster_size);
	uint64_t to = off + n == size ? size : qd_align_down(off + n, g->cluster_size);

	if (from < to)
		judge_will_change(j, from, to - from, NULL);
	return qd_writer_discard(w, off, n, err);
}

static int command(struct judge *j, struct qd_writer *w, const struct qd_geom *g, struct qd_err *err)
{
	uint64_t off = judge_random(j, judge_disk_size(j)), n = 1 + judge_random(j, 3 * g->cluster_size);
	uint64_t kind = judge_random(j, 8);
	int rc = 0;

	if (judge_random(j, 2))
		off = qd_align_down(off, g->cluster_size), n = qd_align_up(n, g->cluster_size);
	n = qd_min_u64(n, judge_disk_size(j) - off);
	if (kind < 4) {
		rc = write_some(j, w, off, n, err);
	} else if (kind == 4) {
		judge_will_change(j, off, n, NULL);
		rc = qd_writer_zero(w, off, n, err);
	} else if (kind == 5) {
		rc = discard_some(j, w, g, off, n, err);
	} else if (kind == 6) {
		rc = qd_writer_flush(w, err);
		if (rc == 0)
			judge_settled(j);
	}
	return rc;
}

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_writer *w = NULL;
	struct qd_image *img = NULL;
	int rc = qd_image_open(io, 0, &img, err);

	if (rc == 0)
		rc = qd_writer_open(img, NULL, &w, err);
	for (unsigned i = 0; rc == 0 && i < NCOMMANDS; i++)
		rc = command(j, w, &img->geom, err);
	if (w && rc == 0) {
		rc = qd_writer_close(w, err);
		judge_settled(j);
	}
	qd_image_close(img);
	return rc;
}

int main(int argc, char **argv)
{
	static const struct judge_task task = { .run = run };

	return judge_main(argc, argv, &task);
}
