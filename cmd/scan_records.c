/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Where the records of a scan go: standard output, or a file that gets its name when it
 * is complete.  Lines are collected, and written many at a time.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "ops/scan_record.h"
#include "scan.h"

#define BUFFER (1u << 20)

struct scan_records {
	struct qd_newfile *file;	/* NULL: standard output */
	uint64_t written;
	const char *hash;
	unsigned digest_nbytes;
	unsigned nsizes;
	const uint64_t *sizes;
	size_t n;			/* bytes in buf */
	char buf[BUFFER];
};

static int flush(struct scan_records *out, struct qd_err *err)
{
	int r = 0;

	if (out->file)
		r = qd_io_write(qd_newfile_io(out->file), out->buf, out->n, out->written, err);
	else if (fwrite(out->buf, 1, out->n, stdout) != out->n)
		r = qd_err_sys(err, errno, "cannot write to standard output");
	out->written += out->n;
	out->n = 0;
	return r;
}

static int put(struct scan_records *out, const char *text, size_t n, struct qd_err *err)
{
	while (n) {
		size_t some = n < BUFFER - out->n ? n : BUFFER - out->n;
		int r = 0;

		memcpy(out->buf + out->n, text, some);
		out->n += some;
		text += some;
		n -= some;
		if (out->n == BUFFER)
			r = flush(out, err);
		if (r)
			return r;
	}
	return 0;
}

static int refuse_target(const char *path, struct qd_err *err)
{
	return qd_err_file(
		err, qd_err_set(err, QD_E_INVALID, "is one of the images, records are not written over it"),
		path);
}

static int put_view(void *ctx, const struct qd_scan_view *view, struct qd_err *err)
{
	struct scan_args *args = ctx;
	char *line;
	int r;

	if (args->records_file && qd_path_same(view->name, args->records_file))
		return refuse_target(args->records_file, err);
	line = qd_scan_record_view_line(view, args->out->hash, args->out->sizes, args->out->nsizes);
	r = line ? put(args->out, line, strlen(line), err) : qd_err_nomem(err, "a record");
	free(line);
	return r;
}

/* A label may be longer than any buffer: a path of 4096 bytes, each escaped. */
static int put_long(struct scan_records *out, const struct qd_scan_record *record, size_t n,
		    struct qd_err *err)
{
	char *line = malloc(n);
	int r;

	if (!line)
		return qd_err_nomem(err, "a record");
	qd_scan_record_line(line, n, record, out->digest_nbytes, record->label);
	r = put(out, line, n, err);
	free(line);
	return r;
}

static int put_record(void *ctx, const struct qd_scan_record *record, struct qd_err *err)
{
	struct scan_args *args = ctx;
	struct scan_records *out = args->out;
	size_t room = BUFFER - out->n;
	size_t n = qd_scan_record_line(out->buf + out->n, room, record, out->digest_nbytes, record->label);

	if (n > room)
		return put_long(out, record, n, err);
	out->n += n;
	return out->n == BUFFER ? flush(out, err) : 0;
}

int scan_records_open(struct scan_args *args, struct qd_err *err)
{
	struct scan_records *out = calloc(1, sizeof(*out));
	int r = 0;

	if (!out)
		return qd_err_nomem(err, "records");
	args->out = out;
	qd_scan_hash_name(args->opts.hash, &out->hash, &out->digest_nbytes);
	out->sizes = args->opts.cluster_sizes;
	out->nsizes = args->opts.nsizes;
	args->opts.record_view = put_view;
	args->opts.record = put_record;
	for (unsigned i = 0; args->records_file && i < args->opts.nsources; i++)
		if (qd_path_same(args->sources[i].path, args->records_file))
			return refuse_target(args->records_file, err);
	if (args->records_file)
		r = qd_newfile_open(args->records_file, QD_CACHE_WRITEBACK, &out->file, err);
	return r;
}

bool scan_records_same(const struct scan_args *args, const struct qd_newfile *nf)
{
	return args->out && args->out->file && qd_newfile_same(args->out->file, nf);
}

int scan_records_close(struct scan_args *args, bool keep, struct qd_err *err)
{
	struct scan_records *out = args->out;
	int r = 0;

	args->out = NULL;
	if (!out)
		return 0;
	if (keep)
		r = flush(out, err);
	if (keep && !r && out->file)
		r = qd_newfile_commit(out->file, err);
	else
		qd_newfile_abort(out->file);
	free(out);
	return r;
}
