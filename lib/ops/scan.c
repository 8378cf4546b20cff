/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The scan from end to end; the parts are listed in scan_int.h.
 *
 * Memory, in sixteenths of the ceiling: 9 for records, while images are read or to sort what
 * was spilled; 3 for buffers; 2 for L2 tables, of a disk and of a view whose tables are walked
 * beside it; 2 for clusters that are shared.  All but the first are free when sorting begins.
 */
#include "ops/scan.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "ops/scan_int.h"

#define PROGRAM_NBYTES (6u << 20)	/* the program itself, its libraries and stacks */
#define THREAD_NBYTES (192u << 10)	/* stack, buffers of a digest, what malloc keeps */
#define STRETCH (1u << 20)
#define MEMORY_LEAST (4u << 20)

bool qd_scan_hash_name(const char *name, const char **ret_name, unsigned *ret_digest_nbytes)
{
	const struct qd_digest *d = qd_digest_find(name ? name : QD_DIGEST_DEFAULT);

	if (!d)
		return false;
	*ret_name = d->name;
	*ret_digest_nbytes = d->nbytes;
	return true;
}

int qd_scan_take_sizes(struct scan *s, const uint64_t *sizes, unsigned nsizes, struct qd_err *err)
{
	if (nsizes < 1 || nsizes > QD_SCAN_NSIZES_MAX)
		return qd_err_set(err, QD_E_INVALID, "%u cluster sizes, expected 1 to %u", nsizes,
				  QD_SCAN_NSIZES_MAX);
	for (unsigned k = 0; k < nsizes; k++) {
		uint64_t c = sizes[k];

		if (c < QD_SCAN_SIZE_MIN || c > QD_SCAN_SIZE_MAX || (c & (c - 1)))
			return qd_err_set(err, QD_E_INVALID,
					  "cluster size %" PRIu64 ", expected a power of two from %u to %u",
					  c, QD_SCAN_SIZE_MIN, QD_SCAN_SIZE_MAX);
		if (k && c <= sizes[k - 1])
			return qd_err_set(err, QD_E_INVALID, "cluster sizes must ascend");
		s->sizes[k] = c;
	}
	s->nsizes = nsizes;
	s->unit = s->sizes[0];
	s->stretch = qd_max_u64(STRETCH, s->sizes[nsizes - 1]);
	return 0;
}

void qd_scan_take_digest(struct scan *s, const struct qd_digest *digest, bool named)
{
	s->digest = digest;
	s->named = named;
	s->key_nbytes = named ? digest->nbytes : 16;
	s->record_nbytes = s->key_nbytes + 8;
}

int qd_scan_take_opts(struct scan *s, const struct qd_scan_opts *opts, struct qd_err *err)
{
	uint64_t memory = opts->memory ? opts->memory : qd_default_memory();

	s->opts = opts;
	if (opts->nshards && (opts->shard < 1 || opts->shard > opts->nshards))
		return qd_err_set(err, QD_E_INVALID, "shard %u of %u does not exist", opts->shard,
				  opts->nshards);
	s->threads = opts->threads ? opts->threads : qd_cpu_count();
	s->memory = qd_max_u64(memory > PROGRAM_NBYTES ? memory - PROGRAM_NBYTES : 0, MEMORY_LEAST);
	return 0;
}

/*
 * Bytes of records, when it comes to telling how much room they need: as if nothing that
 * the metadata calls data were zeros.  What cannot be read now is left out.
 */
static uint64_t expect_of_view(struct scan *s, const struct scan_view *v)
{
	struct qd_disk *disk = NULL;
	uint64_t pos = 0, end = v->size, data, nbytes, clusters = 0;

	if (qd_scan_open_view(s, v, &disk, NULL))
		return 0;
	while (pos < end && !qd_disk_next_data(disk, pos, s->stretch, &data, &nbytes, NULL) && nbytes) {
		for (unsigned k = 0; k < s->nsizes; k++)
			clusters += qd_div_up(data + nbytes, s->sizes[k]) - data / s->sizes[k];
		pos = qd_align_up(data + nbytes, s->sizes[s->nsizes - 1]);
	}
	if (disk != v->disk)
		qd_disk_close(disk);
	return clusters * s->record_nbytes;
}

static uint64_t expect_records(void *ctx)
{
	struct scan *s = ctx;
	uint64_t sum = 0;

	for (unsigned i = 0; i < s->nviews; i++) {
		const struct scan_view *v = &s->views[i];

		if (!s->merging && !s->images[v->image].bad)
			sum += expect_of_view(s, v);
		for (unsigned k = 0; s->merging && k < s->nsizes; k++)	/* every view says how many it has */
			sum += (v->size - qd_min_u64(v->size, v->zero_nbytes[k] + v->inherited_nbytes[k])) /
			       s->sizes[k] * s->record_nbytes;
	}
	return sum;
}

/* What the counts of one thread take. */
static uint64_t tally_nbytes(const struct scan *s)
{
	uint64_t each = sizeof(struct scan_count) + (s->matrix ? s->nimages * 8ull : 0) +
			(s->strips ? QD_SCAN_STRIP * sizeof(struct qd_scan_part) : 0);
	uint64_t all;

	return qd_mul_u64(each * s->nsizes, s->nimages, &all) ? qd_min_u64(all, UINT64_MAX / 16) :
								UINT64_MAX / 16;
}

/* With one thread there are two tallies: its own, and the sum. */
static bool tables_fit(const struct scan *s, uint64_t *ret_need)
{
	*ret_need = 2 * tally_nbytes(s);
	return *ret_need <= s->memory / 4;
}

/* No more threads than there is memory for. */
static void limit_threads(struct scan *s)
{
	uint64_t each = tally_nbytes(s) + (uint64_t)s->opts->top * sizeof(struct scan_best) * s->nsizes;
	uint64_t most = s->memory / 4 / (each + THREAD_NBYTES);

	s->threads = (unsigned)qd_max_u64(1, qd_min_u64(s->threads, most ? most - 1 : 0));
}

/* What grows with the images.  What was not asked for by name goes first, pairs before strips. */
static int choose_tables(struct scan *s, struct qd_err *err)
{
	uint64_t need;

	s->matrix = s->opts->matrix || s->opts->pictures;
	s->strips = s->opts->strips || s->opts->pictures;
	if (tables_fit(s, &need))
		return 0;
	s->matrix = s->opts->matrix;
	if (tables_fit(s, &need))
		return 0;
	s->strips = s->opts->strips;
	if (tables_fit(s, &need) || (!s->matrix && !s->strips))
		return 0;	/* a little for each image there must be */
	return qd_err_set(err, QD_E_NOMEM, "counts for %u images, pair by pair or part by part, need %" PRIu64
			  " bytes: more --memory", s->nimages, need * 4 + PROGRAM_NBYTES);
}

static int read_views(struct scan *s, struct qd_err *err)
{
	uint64_t total = 0;
	int r = 0;

	for (unsigned i = 0; i < s->nviews; i++)
		total += s->views[i].size;
	if (s->opts->progress)
		qd_progress_set_total(s->opts->progress, total);
	for (unsigned i = 0; !r && i < s->nviews; i++) {
		struct scan_image *image = &s->images[s->views[i].image];
		bool fatal = false;

		if (image->bad)
			continue;
		r = qd_scan_read_view(s, &s->views[i], &fatal, err);
		if (r && !fatal)
			r = qd_scan_leave_out(s, image, r, err);
	}
	return r;
}

/* ---- digests of the contents named in the report ---- */

/* Keys become digests: the cluster is read again where it was found. */
static int name_one(struct scan *s, struct qd_digester *d, const struct scan_size_count *c, unsigned k,
		    unsigned i, uint8_t *buf, struct qd_err *err)
{
	struct scan_best *best = &c->best[i];
	const struct scan_view *v = &s->views[best->view];
	struct qd_reader *reader = NULL;
	struct qd_disk *disk = NULL;
	int r = qd_scan_open_view(s, v, &disk, err);

	if (!r)
		r = qd_reader_new(disk, &reader, err);
	if (!r)
		r = qd_reader_read(reader, best->offset, (size_t)s->sizes[k], buf, err);
	if (!r)
		r = qd_digester_compute(d, buf, (size_t)s->sizes[k], best->key, err);
	qd_reader_free(reader);
	if (disk != v->disk)
		qd_disk_close(disk);
	return r;
}

static int name_best(struct scan *s, const struct scan_tally *t, struct qd_err *err)
{
	struct qd_digester *d = NULL;
	uint8_t *buf = NULL;
	int r;

	if (s->named || !s->opts->top)
		return 0;
	buf = malloc(QD_SCAN_SIZE_MAX);
	r = buf ? qd_digester_new(s->digest, &d, err) : qd_err_nomem(err, "a buffer");
	for (unsigned k = 0; !r && k < s->nsizes; k++) {
		const struct scan_size_count *c = qd_scan_tally_size(t, k);

		for (unsigned i = 0; !r && i < c->nbest && (k || s->digest->nbytes > s->key_nbytes); i++)
			r = name_one(s, d, c, k, i, buf, err);
	}
	qd_digester_free(d);
	free(buf);
	return r;
}

/* ---- the whole ---- */

int qd_scan_start(struct scan *s, struct qd_err *err)
{
	struct qd_spill_opts spill = {
		.key_nbytes = s->key_nbytes, .record_nbytes = s->record_nbytes, .memory = s->memory / 16 * 9,
		.tmpdir = s->opts->tmpdir, .expect = expect_records, .ctx = s,
	};
	int r = choose_tables(s, err);

	limit_threads(s);
	return r ? r : qd_spill_new(&spill, &s->spill, err);
}

int qd_scan_finish(struct scan *s, struct qd_scan_report *ret_report, struct qd_err *err)
{
	struct scan_tally *t = NULL;
	int r = qd_scan_tally_new(s, &t, err);

	if (s->opts->sample_n > 1)
		qd_scan_estimate_views(s);
	if (!r)
		r = qd_scan_count(s, t, err);
	if (!r)
		r = name_best(s, t, err);
	if (!r)
		r = qd_scan_make_report(s, t, ret_report, err);
	qd_scan_tally_free(t);
	return r;
}

int qd_scan(const struct qd_scan_opts *opts, struct qd_scan_report *ret_report, struct qd_err *err)
{
	const struct qd_digest *digest;
	struct scan s = { .opts = opts };
	int r = qd_digest_choose(opts->hash, &digest, err);

	if (r)
		return r;
	qd_scan_take_digest(&s, digest, opts->record || opts->nshards > 1);
	r = qd_scan_take_opts(&s, opts, err);
	if (!r)
		r = qd_scan_take_sizes(&s, opts->cluster_sizes, opts->nsizes, err);
	if (!r)
		r = qd_scan_plan(&s, err);
	if (!r)
		r = qd_scan_start(&s, err);
	if (!r)
		r = read_views(&s, err);
	if (!r)
		r = qd_scan_finish(&s, ret_report, err);
	qd_scan_clear(&s);
	return r;
}
