/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One record for each cluster, in the order of the image; saved.h describes them.
 */
#include "ops/saved.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>

#define SECTOR 512u

struct save {
	struct rep *r;
	struct qd_io *to;
	uint8_t *buf;		/* a record and a cluster */
	uint64_t at;		/* bytes written so far */
};

static int put_end(struct save *s, uint64_t file_size, struct qd_err *err)
{
	memset(s->buf, 0, SECTOR);
	snprintf((char *)s->buf, SECTOR,
		 "qdedup-metadata 1\noffset %" PRIu64 "\nlength 0\ncrc32 00000000\n"
		 "restore truncate -s %" PRIu64 " IMAGE\n", file_size, file_size);
	return qd_io_write(s->to, s->buf, SECTOR, s->at, err);
}

static int put_cluster(void *ctx, uint64_t off, struct qd_err *err)
{
	struct save *s = ctx;
	size_t nbytes = (size_t)s->r->geom.cluster_size;
	uint8_t *data = s->buf + SECTOR;
	int rc = qd_plan_read_base(s->r->plan, data, nbytes, off, err);

	if (rc)
		return rc;
	memset(s->buf, 0, SECTOR);
	snprintf((char *)s->buf, SECTOR,
		 "qdedup-metadata 1\noffset %" PRIu64 "\nlength %zu\ncrc32 %08lx\n"
		 "restore dd if=SAVED of=IMAGE bs=512 skip=%" PRIu64 " seek=%" PRIu64
		 " count=%zu conv=notrunc\n", off, nbytes, crc32(0, data, (uInt)nbytes),
		 (s->at + SECTOR) / SECTOR, off / SECTOR, nbytes / SECTOR);
	rc = qd_io_write(s->to, s->buf, SECTOR + nbytes, s->at, err);
	s->at += SECTOR + nbytes;
	return rc;
}

int qd_rep_save_metadata(struct rep *r, struct qd_io *to, struct qd_err *err)
{
	struct save s = { .r = r, .to = to };
	uint64_t header = 0;
	int rc;

	s.buf = malloc(SECTOR + r->geom.cluster_size);
	if (!s.buf)
		return qd_err_nomem(err, "saved metadata");
	/* The header always: its bits change in the end. */
	rc = put_cluster(&s, header, err);
	if (rc == 0)
		rc = qd_plan_each_cluster(r->plan, r->geom.cluster_size, put_cluster, &s, err);
	if (rc == 0)
		rc = put_end(&s, qd_plan_base_size(r->plan), err);
	if (rc == 0)
		rc = qd_io_flush(to, err);
	free(s.buf);
	return rc;
}
