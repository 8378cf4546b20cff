/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Two ways in one struct: a reader over a disk, or a writer over an image whose backing
 * file, a disk too, is opened for reading.
 */
#include "ops/session.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "image/disk.h"
#include "image/image.h"
#include "ops/dedup_write.h"

struct qd_session {
	struct qd_disk *disk;		/* read-only: the disk; else the backing file or NULL */
	struct qd_reader *reader;	/* read-only */
	struct qd_io *io;		/* writable */
	struct qd_dedup_write *writer;	/* writable */
	uint64_t size;
};

static int open_read_only(struct qd_session *s, const struct qd_session_opts *opts, struct qd_err *err)
{
	struct qd_disk_opts disk_opts = {
		.format = opts->format, .cache = opts->cache, .no_lock = opts->no_lock,
		.untrusted = opts->untrusted,
	};
	int rc = qd_disk_open(opts->path, &disk_opts, &s->disk, err);

	if (rc)
		return rc;
	s->size = s->disk->virtual_size;
	return qd_reader_new(s->disk, &s->reader, err);
}

static int open_backing(struct qd_session *s, const struct qd_session_opts *opts, struct qd_err *err)
{
	struct qd_disk_opts disk_opts = { .cache = opts->cache, .untrusted = opts->untrusted };
	struct qd_image *img = NULL;
	char *path = NULL;
	int rc = qd_image_open(s->io, 0, &img, err);
	const char *name = rc ? NULL : img->backing_name;

	if (!name)
		goto out;
	if (opts->untrusted) {
		rc = qd_err_set(err, QD_E_UNSUPPORTED,
				"backing file \"%s\" is named by the image and --untrusted forbids to open it", name);
		goto out;
	}
	rc = qd_disk_resolve_name(opts->path, name, "backing file", &path, err);
	if (rc == 0)
		rc = qd_disk_backing_format(img->backing_format, &disk_opts.format, err);
	if (rc == 0)
		rc = qd_disk_open(path, &disk_opts, &s->disk, err);
out:
	free(path);
	qd_image_detach(img);
	return rc;
}

static int refuse_raw(struct qd_io *io, const char *format, struct qd_err *err)
{
	uint8_t magic[8];
	size_t nread = 0;
	int rc = qd_io_read_upto(io, magic, sizeof(magic), 0, &nread, err);

	if (rc)
		return rc;
	if ((format && strcmp(format, "qcow2")) || (!format && !qd_header_is_qcow2(magic, nread)))
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "only qcow2 images are written to; -r reads a raw one");
	return 0;
}

static int open_writable(struct qd_session *s, const struct qd_session_opts *opts, struct qd_err *err)
{
	struct qd_file_opts file_opts = { .cache = opts->cache, .writable = true };
	int rc = qd_io_file_open(opts->path, &file_opts, &s->io, err);

	if (rc == 0)
		rc = refuse_raw(s->io, opts->format, err);
	if (rc == 0)
		rc = open_backing(s, opts, err);
	if (rc == 0)
		rc = qd_dedup_write_open(s->io, s->disk, &s->writer, err);
	if (rc == 0)
		s->size = qd_dedup_write_size(s->writer);
	return rc;
}

int qd_session_open(const struct qd_session_opts *opts, struct qd_session **ret_session, struct qd_err *err)
{
	struct qd_session *s = calloc(1, sizeof(*s));
	int rc;

	if (!s)
		return qd_err_nomem(err, "a session");
	rc = opts->read_only ? open_read_only(s, opts, err) : open_writable(s, opts, err);
	if (rc) {
		qd_session_close(s, NULL);
		return qd_err_file(err, rc, opts->path);
	}
	*ret_session = s;
	return 0;
}

uint64_t qd_session_size(const struct qd_session *s)
{
	return s->size;
}

int qd_session_check(const struct qd_session *s, bool for_writing, uint64_t off, uint64_t nbytes,
		     struct qd_err *err)
{
	if (!qd_range_within(off, nbytes, s->size))
		return qd_err_set(err, QD_E_INVALID, "%" PRIu64 " bytes at offset %" PRIu64
				  " do not lie within the disk, which has %" PRIu64 " bytes", nbytes, off,
				  s->size);
	if (for_writing && !s->writer)
		return qd_err_set(err, QD_E_INVALID, "the image is opened for reading only (-r)");
	return 0;
}

int qd_session_read(struct qd_session *s, uint64_t off, size_t nbytes, void *buf, struct qd_err *err)
{
	int rc = qd_session_check(s, false, off, nbytes, err);

	if (rc)
		return rc;
	return s->writer ? qd_dedup_write_read(s->writer, off, nbytes, buf, err) :
			   qd_reader_read(s->reader, off, nbytes, buf, err);
}

int qd_session_write(struct qd_session *s, uint64_t off, size_t nbytes, const void *buf, struct qd_err *err)
{
	int rc = qd_session_check(s, true, off, nbytes, err);

	return rc ? rc : qd_dedup_write_write(s->writer, off, nbytes, buf, err);
}

int qd_session_zero(struct qd_session *s, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	int rc = qd_session_check(s, true, off, nbytes, err);

	return rc ? rc : qd_dedup_write_zero(s->writer, off, nbytes, err);
}

int qd_session_discard(struct qd_session *s, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	int rc = qd_session_check(s, true, off, nbytes, err);

	return rc ? rc : qd_dedup_write_discard(s->writer, off, nbytes, err);
}

int qd_session_flush(struct qd_session *s, struct qd_err *err)
{
	return s->writer ? qd_dedup_write_flush(s->writer, err) : 0;
}

int qd_session_crash(struct qd_session *s, struct qd_err *err)
{
	return s->writer ? qd_dedup_write_crash(s->writer, err) : 0;
}

int qd_session_close(struct qd_session *s, struct qd_err *err)
{
	int rc;

	if (!s)
		return 0;
	rc = qd_dedup_write_close(s->writer, err);
	qd_reader_free(s->reader);
	qd_disk_close(s->disk);
	qd_io_close(s->io);
	free(s);
	return rc;
}
