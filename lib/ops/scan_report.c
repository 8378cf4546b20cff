/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the tally counted, put in the order and the words of the report.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ops/scan_int.h"

struct maker {
	struct scan *s;
	const struct scan_tally *t;
	struct qd_scan_report *rep;
	unsigned *order;		/* images of the report -> of the scan */
	unsigned *place;		/* images of the scan -> of the report */
	unsigned *views;		/* those of image i are views[first[i]] to views[first[i + 1] - 1] */
	unsigned *first;
};

double qd_scan_ratio(const struct qd_scan_size *s)
{
	return s->unique ? (double)s->clusters / (double)s->unique : 1;
}

/* ---- images ---- */

static int compare_images(const void *a, const void *b, void *ctx)
{
	const struct scan_image *images = ctx;
	const unsigned *ia = a, *ib = b;
	int order = strcmp(images[*ia].name, images[*ib].name);

	return order ? order : (*ia > *ib) - (*ia < *ib);
}

static int order_images(struct maker *m, struct qd_err *err)
{
	struct scan *s = m->s;
	unsigned n = 0;

	m->order = calloc(s->nimages + 1ul, sizeof(*m->order));
	m->place = calloc(s->nimages + 1ul, sizeof(*m->place));
	m->rep->images = calloc(s->nimages + 1ul, sizeof(*m->rep->images));
	if (!m->order || !m->place || !m->rep->images)
		return qd_err_nomem(err, "the report");
	for (unsigned i = 0; i < s->nimages; i++)
		if (!s->images[i].bad)
			m->order[n++] = i;
	m->rep->nimages = n;
	m->rep->nunreadable = s->nimages - n;
	qsort_r(m->order, n, sizeof(*m->order), compare_images, s->images);
	for (unsigned i = 0; i < n; i++)
		m->place[m->order[i]] = i;
	return 0;
}

static int order_views(struct maker *m, struct qd_err *err)
{
	struct scan *s = m->s;

	m->views = calloc(s->nviews + 1ul, sizeof(*m->views));
	m->first = calloc(s->nimages + 2ul, sizeof(*m->first));
	if (!m->views || !m->first)
		return qd_err_nomem(err, "the report");
	/* first[i + 1] is where the next view of image i goes; when all are there it is its end. */
	for (unsigned i = 0; i < s->nviews; i++)
		m->first[s->views[i].image + 2]++;
	for (unsigned i = 2; i < s->nimages + 2; i++)
		m->first[i] += m->first[i - 1];
	for (unsigned i = 0; i < s->nviews; i++)
		m->views[m->first[s->views[i].image + 1]++] = i;
	return 0;
}

static void add_view(const struct scan *s, const struct scan_view *v, struct qd_scan_image *im)
{
	for (unsigned k = 0; k < s->nsizes; k++) {
		im->count[k].zero += qd_div_up(v->zero_nbytes[k], s->sizes[k]);
		im->count[k].inherited += qd_div_up(v->inherited_nbytes[k], s->sizes[k]);
	}
	im->zero_nbytes += v->zero_nbytes[0];
	im->inherited_nbytes += v->inherited_nbytes[0];
	im->nsnapshots += v->snapshot != NULL;
}

/* The records of an image must be as many as the clusters which its views describe as data. */
static int check_merged(const struct maker *m, unsigned from, struct qd_scan_image *im, struct qd_err *err)
{
	const struct scan *s = m->s;

	for (unsigned k = 0; k < s->nsizes; k++) {
		uint64_t expected = 0, counted = im->count[k].clusters;

		for (unsigned i = m->first[from]; i < m->first[from + 1]; i++)
			expected += qd_div_up(s->views[m->views[i]].size, s->sizes[k]);
		expected -= qd_min_u64(expected, im->count[k].zero + im->count[k].inherited);
		if (counted > expected)
			return qd_err_file(err,
					   qd_err_set(err, QD_E_INVALID,
						      "%" PRIu64 " records of clusters of %" PRIu64
						      " bytes, expected %" PRIu64 ": two images of one name?",
						      counted, s->sizes[k], expected),
					   im->name);
		im->missing += expected - counted;
	}
	return 0;
}

static int set_strip(const struct maker *m, unsigned from, struct qd_scan_image *im, struct qd_err *err)
{
	unsigned nsizes = m->s->nsizes;

	if (!m->s->strips)
		return 0;
	im->strip = calloc((size_t)nsizes * QD_SCAN_STRIP, sizeof(*im->strip));
	if (!im->strip)
		return qd_err_nomem(err, "the report");
	for (unsigned k = 0; k < nsizes; k++) {
		struct qd_scan_part *to = im->strip + (size_t)k * QD_SCAN_STRIP;

		memcpy(to, qd_scan_tally_strip(m->t, k, from), QD_SCAN_STRIP * sizeof(*to));
	}
	return 0;
}

/* How many clusters of size c begin in part `part` of a view. */
static uint64_t clusters_in_part(uint64_t size, uint64_t c, unsigned part)
{
	unsigned __int128 from = ((unsigned __int128)size * part + QD_SCAN_STRIP - 1) / QD_SCAN_STRIP;
	unsigned __int128 to = ((unsigned __int128)size * (part + 1) + QD_SCAN_STRIP - 1) / QD_SCAN_STRIP;

	return qd_div_up((uint64_t)to, c) - qd_div_up((uint64_t)from, c);
}

static void add_strip_sizes(const struct scan *s, const struct scan_view *v, struct qd_scan_image *im)
{
	for (unsigned k = 0; im->strip && k < s->nsizes; k++)
		for (unsigned p = 0; p < QD_SCAN_STRIP; p++)
			im->strip[(size_t)k * QD_SCAN_STRIP + p].clusters +=
				clusters_in_part(v->size, s->sizes[k], p);
}

/* Of an image, too: what was read stands for the rest. */
static void estimate_image(const struct maker *m, struct qd_scan_image *im)
{
	double part = qd_scan_sampled_part(m->s);

	for (unsigned k = 0; part > 0 && k < m->s->nsizes; k++) {
		struct qd_scan_image_count *c = &im->count[k];

		c->clusters = (uint64_t)((double)c->clusters / part);
		c->distinct = (uint64_t)((double)c->distinct / part);
		c->shared = (uint64_t)((double)c->shared / part);
		c->unique_to_image = c->clusters - c->shared;
	}
	im->data_nbytes = (uint64_t)((double)im->data_nbytes / (part > 0 ? part : 1));
}

static int make_image(struct maker *m, unsigned at, struct qd_err *err)
{
	struct scan *s = m->s;
	unsigned from = m->order[at];
	struct scan_image *src = &s->images[from];
	struct qd_scan_image *im = &m->rep->images[at];
	int r;

	im->name = src->name;
	src->name = NULL;
	im->backing = src->backing;
	im->virtual_size = src->virtual_size;
	im->read_nbytes = src->read_nbytes;
	im->reused_nbytes = src->reused_nbytes;
	m->rep->read_nbytes += src->read_nbytes;
	r = set_strip(m, from, im, err);
	for (unsigned i = m->first[from]; i < m->first[from + 1]; i++) {
		add_view(s, &s->views[m->views[i]], im);
		add_strip_sizes(s, &s->views[m->views[i]], im);
	}
	for (unsigned k = 0; k < s->nsizes; k++) {
		const struct scan_count *c = qd_scan_tally_image(m->t, k, from);

		im->count[k].clusters = c->clusters;
		im->count[k].distinct = c->distinct;
		im->count[k].shared = c->shared;
		im->count[k].unique_to_image = c->clusters - c->shared;
		m->rep->sizes[k].zero += im->count[k].zero;
		m->rep->sizes[k].inherited += im->count[k].inherited;
	}
	im->data_nbytes = im->count[0].clusters * s->unit - qd_scan_tally_image(m->t, 0, from)->padding;
	if (s->opts->sample_n > 1)
		estimate_image(m, im);
	if (!r && s->merging)
		r = check_merged(m, from, im, err);
	return r;
}

/* ---- cluster sizes ---- */

/*
 * What a qcow2 image of that cluster size holds besides the data, for each image: header,
 * L1 table, L2 tables, refcounts of 16 bits with their table, and the pin's L2 tables with an
 * entry for each shared content.  L2 tables are counted as if data lay together: of a disk
 * whose data is scattered thinly there are more.
 */
static uint64_t metadata_of(const struct maker *m, unsigned k)
{
	uint64_t c = m->s->sizes[k], entries = c / 8, clusters = 0;

	for (unsigned i = 0; i < m->rep->nimages; i++) {
		const struct qd_scan_image *im = &m->rep->images[i];
		uint64_t l2 = qd_div_up(im->count[k].clusters, entries);
		uint64_t l1 = qd_div_up(qd_div_up(qd_div_up(im->virtual_size, c), entries), entries);
		uint64_t pin = qd_div_up(im->count[k].clusters - im->count[k].distinct, entries);
		uint64_t used = 1 + l1 + l2 + pin + im->count[k].distinct;
		uint64_t blocks = qd_div_up(used, c / 2);

		clusters += 1 + l1 + l2 + pin + blocks + qd_div_up(blocks, entries);
	}
	return clusters * c;
}

static int set_matrix(const struct maker *m, const struct scan_size_count *c, struct qd_scan_size *size,
		      struct qd_err *err)
{
	unsigned n = m->rep->nimages, columns = qd_scan_tally_nimages(m->t);

	if (!m->s->matrix)
		return 0;
	size->matrix = calloc((size_t)n * n + 1, sizeof(*size->matrix));
	if (!size->matrix)
		return qd_err_nomem(err, "the report");
	for (unsigned row = 0; row < n; row++)
		for (unsigned col = 0; col < n; col++)
			size->matrix[(size_t)row * n + col] =
				c->matrix[(size_t)m->order[row] * columns + m->order[col]];
	return 0;
}

static int keep_text(struct qd_scan_report *rep, char *text, struct qd_err *err)
{
	char **grown = realloc(rep->texts, (rep->ntexts + 1) * sizeof(*grown));

	if (!text || !grown) {
		if (grown)
			rep->texts = grown;
		free(text);
		return qd_err_nomem(err, "the report");
	}
	rep->texts = grown;
	grown[rep->ntexts++] = text;
	return 0;
}

static int set_top(struct maker *m, const struct scan_size_count *c, struct qd_scan_size *size,
		   struct qd_err *err)
{
	size->top = calloc(c->nbest + 1ul, sizeof(*size->top));
	if (!size->top)
		return qd_err_nomem(err, "the report");
	size->ntop = c->nbest;
	for (unsigned i = 0; i < c->nbest; i++) {
		const struct scan_best *b = &c->best[i];
		const struct scan_view *v = &m->s->views[b->view];
		struct qd_scan_top *top = &size->top[i];

		top->references = b->references;
		top->offset = b->offset;
		top->name = m->rep->images[m->place[v->image]].name;
		if (v->snapshot) {
			int r = keep_text(m->rep, strdup(v->snapshot), err);

			if (r)
				return r;
			top->snapshot = m->rep->texts[m->rep->ntexts - 1];
		}
		memcpy(top->digest, b->key, m->s->digest->nbytes);
	}
	return 0;
}

static uint64_t less(uint64_t a, uint64_t b)
{
	return a > b ? a - b : 0;
}

/* The numbers of a sample become those of the whole. */
static void estimate(struct maker *m, unsigned k, struct qd_scan_size *size, const struct scan_size_count *c)
{
	struct scan_estimate e = qd_scan_estimate(m->s, k, c);

	size->clusters = e.clusters;
	size->unique = e.unique;
	size->unique_low = e.unique_low;
	size->unique_high = e.unique_high;
	size->saved_low = less(e.clusters_low, e.unique_high) * size->cluster_size;
	size->saved_high = less(e.clusters_high, e.unique_low) * size->cluster_size;
}

static int make_size(struct maker *m, unsigned k, struct qd_err *err)
{
	const struct scan_size_count *c = qd_scan_tally_size(m->t, k);
	struct qd_scan_size *size = &m->rep->sizes[k];
	int r;

	size->cluster_size = m->s->sizes[k];
	size->clusters = c->clusters;
	size->unique = size->unique_low = size->unique_high = c->unique;
	size->shared_contents = c->shared_contents;
	size->max_references = c->max_references;
	memcpy(size->histogram, c->histogram, sizeof(size->histogram));
	size->saved_low = size->saved_high = (c->clusters - c->unique) * size->cluster_size;
	if (m->s->opts->sample_n > 1)
		estimate(m, k, size, c);
	size->duplicate = size->clusters - size->unique;
	size->saved_nbytes = size->duplicate * size->cluster_size;
	size->metadata_nbytes = metadata_of(m, k);
	size->total_nbytes = size->unique * size->cluster_size + size->metadata_nbytes;
	if (size->total_nbytes < m->rep->sizes[m->rep->best].total_nbytes)
		m->rep->best = k;
	r = set_matrix(m, c, size, err);
	return r ? r : set_top(m, c, size, err);
}

int qd_scan_make_report(struct scan *s, const struct scan_tally *t, struct qd_scan_report *ret_report,
			struct qd_err *err)
{
	struct qd_scan_report rep = {
		.hash = s->digest->name, .digest_nbytes = s->digest->nbytes, .sample_n = s->opts->sample_n,
		.shard = s->opts->shard, .nshards = s->opts->nshards, .nsizes = s->nsizes,
		.spilled = s->spill && qd_spill_spilled(s->spill),
	};
	struct maker m = { .s = s, .t = t, .rep = &rep };
	int r = order_images(&m, err);

	if (!r)
		r = order_views(&m, err);
	for (unsigned i = 0; !r && i < rep.nimages; i++)
		r = make_image(&m, i, err);
	for (unsigned k = 0; !r && k < s->nsizes; k++)
		r = make_size(&m, k, err);
	free(m.order);
	free(m.place);
	free(m.views);
	free(m.first);
	rep.sample_n = rep.sample_n ? rep.sample_n : 1;
	if (r)
		qd_scan_report_free(&rep);
	else
		*ret_report = rep;
	return r;
}

void qd_scan_report_free(struct qd_scan_report *rep)
{
	for (unsigned i = 0; rep->images && i < rep->nimages; i++) {
		free(rep->images[i].name);
		free(rep->images[i].strip);
	}
	for (unsigned k = 0; k < rep->nsizes; k++) {
		free(rep->sizes[k].top);
		free(rep->sizes[k].matrix);
	}
	for (size_t i = 0; i < rep->ntexts; i++)
		free(rep->texts[i]);
	free(rep->texts);
	free(rep->images);
	memset(rep, 0, sizeof(*rep));
}
