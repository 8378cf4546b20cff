/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records of earlier runs, read back.
 *
 *	1. the views that stand at the head of every file make up the images
 *	2. the records go where those of a scan go, and are counted as they are
 *
 * A view or a record that stands in several files, because several machines read the same
 * backing file, is one: what has the same name and offset is the same cluster.  Files
 * that contradict each other are refused.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_file.h"
#include "ops/scan_int.h"
#include "ops/scan_names.h"
#include "ops/scan_record.h"

#define BUFFER (64u << 10)	/* the longest line, too */
#define BATCH 512u		/* records added at a time */
#define STDIN_FD 0

struct input {
	struct qd_io *io;
	uint64_t pos;			/* in the file, of what is not in buf yet */
	char *buf;
	size_t begin, end;		/* of what is not used in buf */
	uint64_t line;			/* number of the one handed out last */
	bool eof;
	uint8_t last[QD_DIGEST_MAX];	/* digest of the record before */
};

struct merge {
	struct scan s;
	struct input *inputs;
	unsigned ninputs;
	struct scan_names images;	/* name -> index, while views are collected */
	struct scan_names views;	/* label -> index */
	const char *hash;		/* owned by digest.c; NULL: not known yet */
	uint64_t sizes[QD_SCAN_NSIZES_MAX];	/* that all files have */
	unsigned nsizes;
	unsigned column[QD_SCAN_NSIZES_MAX];	/* index among those wanted; UINT32_MAX: not wanted */
	uint8_t *batch;
	size_t nbatch;
};

/* ---- lines ---- */

static int open_input(struct input *in, const char *path, struct qd_err *err)
{
	if (!strcmp(path, "-"))
		return qd_io_stream_open(STDIN_FD, "standard input", &in->io, err);
	return qd_io_stream_open_path(path, &in->io, err);
}

static int refill(struct merge *m, struct input *in, struct qd_err *err)
{
	size_t n;
	int r;

	if (!in->buf)
		in->buf = malloc(BUFFER);
	if (!in->buf)
		return qd_err_nomem(err, "a buffer");
	memmove(in->buf, in->buf + in->begin, in->end - in->begin);
	in->end -= in->begin;
	in->begin = 0;
	if (in->end == BUFFER)
		return qd_err_set(err, QD_E_CORRUPT, "line %" PRIu64 " is longer than records are",
				  in->line + 1);
	r = qd_io_read_upto(in->io, in->buf + in->end, BUFFER - in->end, in->pos, &n, err);
	if (r)
		return r;
	in->eof = n < BUFFER - in->end;
	in->pos += n;
	in->end += n;
	return qd_progress_add(m->s.opts->progress, n, err);
}

/* The next line, which is the caller's to cut: 1, or 0 at the end. */
static int next_line(struct merge *m, struct input *in, char **ret_line, struct qd_err *err)
{
	char *newline;

	for (;;) {
		int r;

		newline = in->end > in->begin ? memchr(in->buf + in->begin, '\n', in->end - in->begin) : NULL;
		if (newline)
			break;
		if (in->eof && in->begin == in->end)
			return 0;
		if (in->eof)
			return qd_err_set(err, QD_E_CORRUPT,
					  "line %" PRIu64 " is cut off: the file is not complete",
					  in->line + 1);
		r = refill(m, in, err);
		if (r)
			return r;
	}
	if (memchr(in->buf + in->begin, '\0', (size_t)(newline - (in->buf + in->begin))))
		return qd_err_set(err, QD_E_CORRUPT, "line %" PRIu64 ": not a file of records", in->line + 1);
	*newline = '\0';
	*ret_line = in->buf + in->begin;
	in->begin = (size_t)(newline + 1 - in->buf);
	in->line++;
	return 1;
}

/* ---- views ---- */

/* Every file counts at the same sizes, with the same hash. */
static int match(struct merge *m, const struct qd_scan_line *line, struct qd_err *err)
{
	const struct qd_digest *d = qd_digest_find(line->hash);

	if (!d)
		return qd_err_set(err, QD_E_CORRUPT, "unknown hash \"%s\"", line->hash);
	if (m->s.opts->hash && strcmp(m->s.opts->hash, d->name))
		return qd_err_set(err, QD_E_INVALID, "records with the hash %s, not %s", d->name,
				  m->s.opts->hash);
	if (!m->hash) {
		m->hash = d->name;
		m->nsizes = line->nsizes;
		memcpy(m->sizes, line->sizes, sizeof(m->sizes));
	}
	if (strcmp(m->hash, d->name))
		return qd_err_set(err, QD_E_INVALID,
				  "records with the hash %s cannot be merged with those with %s", d->name,
				  m->hash);
	if (line->nsizes != m->nsizes || memcmp(line->sizes, m->sizes, m->nsizes * sizeof(*m->sizes)))
		return qd_err_set(err, QD_E_INVALID,
				  "the records are of other cluster sizes than those before");
	return 0;
}

static int same_view(const struct scan_view *v, const struct qd_scan_line *line, struct qd_err *err)
{
	if (v->size != line->offset || memcmp(v->zero_nbytes, line->zero_nbytes, sizeof(v->zero_nbytes)) ||
	    memcmp(v->inherited_nbytes, line->inherited_nbytes, sizeof(v->inherited_nbytes)))
		return qd_err_set(err, QD_E_INVALID,
				  "%s is described otherwise than before: two disks of one name, or one that"
				  " has changed",
				  line->label);
	return 0;
}

/* The image of that name, new if need be. */
static int take_image(struct merge *m, const char *name, bool backing, unsigned *ret_image, struct qd_err *err)
{
	struct scan_image *image;
	int r;

	if (qd_scan_names_find(&m->images, name, ret_image))
		return 0;
	*ret_image = m->s.nimages;
	r = qd_scan_add_image(&m->s, name, &image, err);
	if (r)
		return r;
	image->backing = backing;
	return qd_scan_names_add(&m->images, image->name, *ret_image, err);
}

static int new_view(struct merge *m, const struct qd_scan_line *line, struct qd_err *err)
{
	struct scan *s = &m->s;
	char *name = NULL, *snapshot = NULL;
	unsigned image = 0;
	int r = qd_scan_record_parse_label(line->label, &name, &snapshot, err);

	if (!r)
		r = take_image(m, name, line->backing, &image, err);
	if (!r)
		r = qd_scan_add_view(s, image, snapshot, line->offset, err);
	if (!r) {
		struct scan_view *v = &s->views[s->nviews - 1];

		if (strcmp(v->label, line->label) != 0)		/* one name, one label */
			r = qd_err_set(err, QD_E_CORRUPT, "'%s' is not a name as records have it",
				       line->label);
		memcpy(v->zero_nbytes, line->zero_nbytes, sizeof(v->zero_nbytes));
		memcpy(v->inherited_nbytes, line->inherited_nbytes, sizeof(v->inherited_nbytes));
		if (!snapshot)
			s->images[image].virtual_size = v->size;
	}
	if (!r)
		r = qd_scan_names_add(&m->views, s->views[s->nviews - 1].label, s->nviews - 1, err);
	free(name);
	free(snapshot);
	return r;
}

static int add_view(struct merge *m, const struct qd_scan_line *line, struct qd_err *err)
{
	unsigned view = m->s.nviews;
	int r = match(m, line, err);

	if (!r && qd_scan_names_find(&m->views, line->label, &view))
		r = same_view(&m->s.views[view], line, err);
	else if (!r)
		r = new_view(m, line, err);
	if (!r && !line->backing)	/* somebody named it */
		m->s.images[m->s.views[view].image].backing = false;
	return r;
}

static int at_line(const struct input *in, int rc, struct qd_err *err)
{
	return rc ? qd_err_prefix(err, rc, "line %" PRIu64, in->line) : 0;
}

/* Up to the first record, which stays where it is. */
static int read_head(struct merge *m, struct input *in, struct qd_err *err)
{
	struct qd_scan_line line;
	char *text = NULL;

	for (;;) {
		int r;

		if (in->end == in->begin && !in->eof) {
			r = refill(m, in, err);
			if (r)
				return r;
		}
		if (in->end == in->begin || in->buf[in->begin] != '#')
			return 0;
		r = next_line(m, in, &text, err);
		if (r <= 0)
			return r;
		r = qd_scan_record_parse(text, &line, err);
		if (!r)
			r = add_view(m, &line, err);
		if (r)
			return at_line(in, r, err);
	}
}

/* ---- which sizes ---- */

/* Views were read with the columns of the files; now they get those that are wanted. */
static int choose_sizes(struct merge *m, struct qd_err *err)
{
	const struct qd_scan_opts *o = m->s.opts;
	const uint64_t *wanted = o->nsizes ? o->cluster_sizes : m->sizes;
	unsigned n = o->nsizes ? o->nsizes : m->nsizes, found = 0;
	int r = qd_scan_take_sizes(&m->s, wanted, n, err);

	for (unsigned c = 0; c < QD_SCAN_NSIZES_MAX; c++)
		m->column[c] = UINT32_MAX;
	for (unsigned c = 0; !r && c < m->nsizes; c++)
		if (found < n && m->sizes[c] == wanted[found])
			m->column[c] = found++;
	if (!r && found < n)
		r = qd_err_set(err, QD_E_INVALID, "the records are not of cluster size %" PRIu64,
			       wanted[found]);
	for (unsigned i = 0; !r && i < m->s.nviews; i++)
		for (unsigned c = 0; c < m->nsizes; c++)
			if (m->column[c] != UINT32_MAX) {
				m->s.views[i].zero_nbytes[m->column[c]] = m->s.views[i].zero_nbytes[c];
				m->s.views[i].inherited_nbytes[m->column[c]] =
					m->s.views[i].inherited_nbytes[c];
			}
	return r;
}

/* ---- records ---- */

static const struct scan_view *find_view(const struct scan *s, const char *label)
{
	unsigned low = 0, high = s->nviews;

	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		int order = strcmp(label, s->views[middle].label);

		if (!order)
			return &s->views[middle];
		if (order < 0)
			high = middle;
		else
			low = middle + 1;
	}
	return NULL;
}

static int flush(struct merge *m, struct qd_err *err)
{
	size_t n = m->nbatch;

	m->nbatch = 0;
	return qd_spill_add(m->s.spill, m->batch, n, err);
}

static int add_record(struct merge *m, struct input *in, const struct qd_scan_line *line, struct qd_err *err)
{
	const struct scan_view *v = find_view(&m->s, line->label);
	uint8_t *to = m->batch + m->nbatch * m->s.record_nbytes;
	unsigned c = 0;

	while (c < m->nsizes && m->sizes[c] != line->cluster_size)
		c++;
	if (line->is_view)
		return qd_err_set(err, QD_E_INVALID,
				  "images are described before all records: is the file sorted?");
	if (line->digest_nbytes != m->s.digest->nbytes)
		return qd_err_set(err, QD_E_CORRUPT, "a hash of %u digits, %s has %u",
				  2 * line->digest_nbytes, m->s.digest->name, 2 * m->s.digest->nbytes);
	if (!v)
		return qd_err_set(err, QD_E_CORRUPT, "no line #image describes '%s'", line->label);
	if (c == m->nsizes || !qd_is_aligned(line->offset, line->cluster_size) || line->offset >= v->size)
		return qd_err_set(err, QD_E_CORRUPT,
				  "there is no cluster of %" PRIu64 " bytes at %" PRIu64 " in '%s'",
				  line->cluster_size, line->offset, line->label);
	if (memcmp(line->digest, in->last, line->digest_nbytes) < 0)
		return qd_err_set(err, QD_E_INVALID,
				  "the records are not sorted by hash: 'LC_ALL=C sort' does that");
	memcpy(in->last, line->digest, line->digest_nbytes);
	if (m->column[c] == UINT32_MAX || !scan_in_shard(m->s.opts, line->digest))
		return 0;
	memcpy(to, line->digest, m->s.key_nbytes);
	qd_put_be64(to + m->s.key_nbytes, scan_place(m->column[c], v->first_unit + line->offset / m->s.unit));
	return ++m->nbatch == BATCH ? flush(m, err) : 0;
}

static int read_records(struct merge *m, struct input *in, struct qd_err *err)
{
	struct qd_scan_line line;
	char *text = NULL;
	int r;

	while ((r = next_line(m, in, &text, err)) > 0) {
		r = qd_scan_record_parse(text, &line, err);
		if (!r)
			r = add_record(m, in, &line, err);
		if (r)
			return at_line(in, r, err);
	}
	return r;
}

/* ---- the whole ---- */

/* A stream is read once, from where it is; a file can be opened again, and thousands need not be at once. */
static void leave_input(struct input *in)
{
	if (in->io->is_stream)
		return;
	qd_io_close(in->io);
	in->io = NULL;
	in->pos -= in->end - in->begin;
	in->begin = in->end = 0;
	in->eof = false;
	free(in->buf);
	in->buf = NULL;
}

static int for_inputs(struct merge *m, int (*read)(struct merge *m, struct input *in, struct qd_err *err),
		      struct qd_err *err)
{
	for (unsigned i = 0; i < m->ninputs; i++) {
		struct input *in = &m->inputs[i];
		int r = in->io ? 0 : open_input(in, m->s.opts->sources[i].path, err);

		if (r)
			return r;
		r = read(m, in, err);
		if (r)
			return qd_err_file(err, r, in->io->name);
		leave_input(in);
	}
	return 0;
}

/* Each once, to see that they are there and how long. */
static int open_all(struct merge *m, struct qd_err *err)
{
	const struct qd_scan_opts *o = m->s.opts;
	uint64_t total = 0;

	m->inputs = calloc(o->nsources, sizeof(*m->inputs));
	if (!m->inputs)
		return qd_err_nomem(err, "inputs");
	for (unsigned i = 0; i < o->nsources; i++) {
		struct input *in = &m->inputs[i];
		uint64_t nbytes = 0;
		int r = open_input(in, o->sources[i].path, err);

		if (r)
			return r;
		m->ninputs++;
		if (!in->io->is_stream)
			r = qd_io_size(in->io, &nbytes, err);
		if (r)
			return r;
		total += nbytes;
		leave_input(in);
	}
	if (o->progress)
		qd_progress_set_total(o->progress, total);
	return 0;
}

static int merge(struct merge *m, struct qd_scan_report *ret_report, struct qd_err *err)
{
	int r = open_all(m, err);

	if (!r)
		r = for_inputs(m, read_head, err);
	if (!r && !m->hash)
		r = qd_err_file(err, qd_err_set(err, QD_E_CORRUPT, "not a file of records: no line #image"),
				m->s.opts->sources[0].path);
	if (r)
		return r;
	qd_scan_take_digest(&m->s, qd_digest_find(m->hash), true);
	m->batch = malloc((size_t)BATCH * m->s.record_nbytes);
	r = m->batch ? choose_sizes(m, err) : qd_err_nomem(err, "a buffer");
	if (!r)
		r = qd_scan_number_units(&m->s, err);
	if (!r)
		r = qd_scan_start(&m->s, err);
	if (!r)
		r = for_inputs(m, read_records, err);
	if (!r)
		r = flush(m, err);
	return r ? r : qd_scan_finish(&m->s, ret_report, err);
}

int qd_scan_merge(const struct qd_scan_opts *opts, struct qd_scan_report *ret_report, struct qd_err *err)
{
	struct merge m = { .s = { .merging = true } };
	int r = qd_scan_take_opts(&m.s, opts, err);

	if (!r)
		r = merge(&m, ret_report, err);
	for (unsigned i = 0; i < m.ninputs; i++) {
		qd_io_close(m.inputs[i].io);
		free(m.inputs[i].buf);
	}
	qd_scan_names_free(&m.images);
	qd_scan_names_free(&m.views);
	free(m.inputs);
	free(m.batch);
	qd_scan_clear(&m.s);
	return r;
}
