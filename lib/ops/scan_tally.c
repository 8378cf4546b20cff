/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Counts over groups of clusters with equal content.
 *
 * While a group lasts, only what it touches is kept: how many of its clusters lie in which
 * image (and in which part of an image).  When it ends it is known whether it is alone,
 * within one image or across several, and is added to the counts.
 *
 * Everything is a sum, but for the best contents, which are ordered by (references, place):
 * so tallies of parts add up to the tally of the whole, in any order.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ops/scan_int.h"

struct touched {		/* counters that the group at hand has changed */
	uint32_t *list;
	size_t n, capacity;
	uint64_t *count;	/* by image, or by part */
	size_t ncount;
};

struct scan_tally {
	const struct scan *s;
	unsigned nimages;		/* that there is room for */
	struct scan_size_count sizes[QD_SCAN_NSIZES_MAX];
	struct scan_count *counts;	/* [image][size] */
	struct qd_scan_part *strips;	/* [image][size][part] */
	/* the group at hand */
	bool open;
	uint8_t key[QD_DIGEST_MAX];
	unsigned size;
	uint64_t references;
	unsigned view;			/* the first in order */
	uint64_t offset;
	uint64_t stretches;		/* of a sample, that it occurs in */
	uint64_t last_stretch;
	struct touched images;
	struct touched parts;
};

/* ---- memory ---- */

static void *grow(void *p, size_t from, size_t to, size_t each)
{
	uint8_t *grown = realloc(p, to * each);

	if (grown)
		memset(grown + from * each, 0, (to - from) * each);
	return grown;
}

static bool grow_touched(struct touched *t, size_t n)
{
	uint64_t *count = grow(t->count, t->ncount, n, sizeof(*count));

	if (!count)
		return false;
	t->count = count;
	t->ncount = n;
	return true;
}

static bool grow_matrices(struct scan_tally *t, unsigned to)
{
	for (unsigned k = 0; t->s->matrix && k < t->s->nsizes; k++) {
		uint64_t *m = calloc((size_t)to * to, sizeof(*m));

		if (!m)
			return false;
		for (unsigned i = 0; i < t->nimages; i++)
			memcpy(m + (size_t)i * to, t->sizes[k].matrix + (size_t)i * t->nimages,
			       t->nimages * sizeof(*m));
		free(t->sizes[k].matrix);
		t->sizes[k].matrix = m;
	}
	return true;
}

int qd_scan_tally_grow(struct scan_tally *t, struct qd_err *err)
{
	unsigned nsizes = t->s->nsizes, to = t->nimages ? t->nimages : 1;
	struct scan_count *counts;
	struct qd_scan_part *strips = NULL;

	if (t->s->nimages <= t->nimages)
		return 0;
	while (to < t->s->nimages)
		to *= 2;
	if (!t->nimages)
		to = t->s->nimages;
	counts = grow(t->counts, (size_t)t->nimages * nsizes, (size_t)to * nsizes, sizeof(*counts));
	if (counts)
		t->counts = counts;
	if (t->s->strips) {
		size_t each = (size_t)nsizes * QD_SCAN_STRIP;

		strips = grow(t->strips, t->nimages * each, to * each, sizeof(*strips));
		if (strips)
			t->strips = strips;
		if (!strips || !grow_touched(&t->parts, (size_t)to * QD_SCAN_STRIP))
			return qd_err_nomem(err, "counts of images");
	}
	if (!counts || !grow_touched(&t->images, to) || !grow_matrices(t, to))
		return qd_err_nomem(err, "counts of images");
	t->nimages = to;
	return 0;
}

int qd_scan_tally_new(const struct scan *s, struct scan_tally **ret_tally, struct qd_err *err)
{
	struct scan_tally *t = calloc(1, sizeof(*t));
	int r = 0;

	if (!t)
		return qd_err_nomem(err, "counts");
	t->s = s;
	for (unsigned k = 0; !r && s->opts->top && k < s->nsizes; k++) {
		t->sizes[k].best = calloc(s->opts->top, sizeof(*t->sizes[k].best));
		r = t->sizes[k].best ? 0 : qd_err_nomem(err, "counts");
	}
	if (!r)
		r = qd_scan_tally_grow(t, err);
	if (r)
		qd_scan_tally_free(t);
	else
		*ret_tally = t;
	return r;
}

void qd_scan_tally_free(struct scan_tally *t)
{
	if (!t)
		return;
	for (unsigned k = 0; k < QD_SCAN_NSIZES_MAX; k++) {
		free(t->sizes[k].best);
		free(t->sizes[k].matrix);
	}
	free(t->images.list);
	free(t->images.count);
	free(t->parts.list);
	free(t->parts.count);
	free(t->counts);
	free(t->strips);
	free(t);
}

/* ---- the best contents ---- */

static bool is_better(const struct scan *s, const struct scan_best *a, const struct scan_best *b)
{
	if (a->references != b->references)
		return a->references > b->references;
	return qd_scan_compare_places(s, a->view, a->offset, b->view, b->offset) < 0;
}

static void add_best(const struct scan *s, struct scan_size_count *size, const struct scan_best *new)
{
	unsigned at = size->nbest;

	if (at == s->opts->top) {
		if (!at || !is_better(s, new, &size->best[at - 1]))
			return;
		at--;
	} else {
		size->nbest++;
	}
	for (; at && is_better(s, new, &size->best[at - 1]); at--)
		size->best[at] = size->best[at - 1];
	size->best[at] = *new;
}

/* ---- groups ---- */

static int touch(struct touched *t, size_t i, struct qd_err *err)
{
	if (!t->count[i]++) {
		if (t->n == t->capacity) {
			size_t want = t->capacity ? 2 * t->capacity : 64;
			uint32_t *grown = realloc(t->list, want * sizeof(*grown));

			if (!grown)
				return qd_err_nomem(err, "counts");
			t->list = grown;
			t->capacity = want;
		}
		t->list[t->n++] = (uint32_t)i;
	}
	return 0;
}

static void forget(struct touched *t)
{
	for (size_t i = 0; i < t->n; i++)
		t->count[t->list[i]] = 0;
	t->n = 0;
}

static void add_to_images(struct scan_tally *t)
{
	bool across = t->images.n > 1;

	for (size_t i = 0; i < t->images.n; i++) {
		unsigned image = t->images.list[i];
		struct scan_count *c = &t->counts[(size_t)image * t->s->nsizes + t->size];
		uint64_t n = t->images.count[image];

		c->clusters += n;
		c->distinct++;
		c->shared += across ? n : 0;
	}
	for (size_t i = 0; i < t->parts.n; i++) {
		size_t at = t->parts.list[i], image = at / QD_SCAN_STRIP;
		struct qd_scan_part *p =
			&t->strips[(image * t->s->nsizes + t->size) * QD_SCAN_STRIP + at % QD_SCAN_STRIP];

		if (across)
			p->across += t->parts.count[at];
		else if (t->references > 1)
			p->within += t->parts.count[at];
		else
			p->alone += t->parts.count[at];
	}
}

static void add_to_matrix(struct scan_tally *t)
{
	uint64_t *m = t->sizes[t->size].matrix;

	for (size_t i = 0; m && i < t->images.n; i++) {
		uint64_t *row = m + (size_t)t->images.list[i] * t->nimages;
		uint64_t n = t->images.count[t->images.list[i]];

		for (size_t k = 0; k < t->images.n; k++)
			row[t->images.list[k]] += n;
	}
}

static void end_group(struct scan_tally *t)
{
	struct scan_size_count *size = &t->sizes[t->size];
	uint64_t n = t->references;

	t->open = false;
	size->clusters += n;
	size->unique++;
	size->shared_contents += n > 1;
	size->max_references = qd_max_u64(size->max_references, n);
	size->histogram[63 - __builtin_clzll(n)]++;
	size->in_one += t->stretches == 1;
	size->in_two += t->stretches == 2;
	add_to_images(t);
	add_to_matrix(t);
	forget(&t->images);
	forget(&t->parts);
	if (n > 1 && t->s->opts->top) {
		struct scan_best best = { .references = n, .view = t->view, .offset = t->offset };

		memcpy(best.key, t->key, t->s->key_nbytes);
		add_best(t->s, size, &best);
	}
}

/* Places ascend within a group of a sample. */
static void note_stretch(struct scan_tally *t, unsigned view, uint64_t offset)
{
	uint64_t stretch =
		(t->s->views[view].first_unit + offset / t->s->unit) / (t->s->stretch / t->s->unit);

	if (!t->stretches || stretch != t->last_stretch)
		t->stretches++;
	t->last_stretch = stretch;
}

int qd_scan_tally_add(struct scan_tally *t, const uint8_t *key, unsigned size, unsigned view, uint64_t offset,
		      struct qd_err *err)
{
	unsigned image = t->s->views[view].image;
	int r;

	if (t->open && (t->size != size || memcmp(t->key, key, t->s->key_nbytes) != 0))
		end_group(t);
	if (!t->open) {
		t->open = true;
		t->size = size;
		memcpy(t->key, key, t->s->key_nbytes);
		t->references = t->stretches = 0;
		t->view = view;
		t->offset = offset;
	} else if (t->s->opts->top && qd_scan_compare_places(t->s, view, offset, t->view, t->offset) < 0) {
		t->view = view;
		t->offset = offset;
	}
	t->references++;
	if (t->s->opts->sample_n > 1)
		note_stretch(t, view, offset);
	if (offset + t->s->sizes[size] > t->s->views[view].size)
		t->counts[(size_t)image * t->s->nsizes + size].padding +=
			offset + t->s->sizes[size] - t->s->views[view].size;
	r = touch(&t->images, image, err);
	if (!r && t->strips) {
		uint64_t end = qd_max_u64(t->s->views[view].size, 1);
		uint64_t part = (uint64_t)((unsigned __int128)offset * QD_SCAN_STRIP / end);

		r = touch(&t->parts, (size_t)image * QD_SCAN_STRIP + qd_min_u64(part, QD_SCAN_STRIP - 1),
			  err);
	}
	return r;
}

void qd_scan_tally_end(struct scan_tally *t)
{
	if (t->open)
		end_group(t);
}

/* ---- adding up ---- */

static void merge_size(struct scan_tally *a, const struct scan_tally *b, unsigned k)
{
	struct scan_size_count *to = &a->sizes[k];
	const struct scan_size_count *from = &b->sizes[k];

	to->clusters += from->clusters;
	to->unique += from->unique;
	to->shared_contents += from->shared_contents;
	to->max_references = qd_max_u64(to->max_references, from->max_references);
	for (unsigned i = 0; i < QD_SCAN_BUCKETS; i++)
		to->histogram[i] += from->histogram[i];
	to->in_one += from->in_one;
	to->in_two += from->in_two;
	for (unsigned i = 0; i < from->nbest; i++)
		add_best(a->s, to, &from->best[i]);
	for (size_t i = 0; from->matrix && i < (size_t)a->nimages * a->nimages; i++)
		to->matrix[i] += from->matrix[i];
}

void qd_scan_tally_merge(struct scan_tally *a, const struct scan_tally *b)
{
	size_t n = (size_t)a->nimages * a->s->nsizes;

	for (unsigned k = 0; k < a->s->nsizes; k++)
		merge_size(a, b, k);
	for (size_t i = 0; i < n; i++) {
		a->counts[i].clusters += b->counts[i].clusters;
		a->counts[i].distinct += b->counts[i].distinct;
		a->counts[i].shared += b->counts[i].shared;
		a->counts[i].padding += b->counts[i].padding;
	}
	for (size_t i = 0; a->strips && i < n * QD_SCAN_STRIP; i++) {
		a->strips[i].alone += b->strips[i].alone;
		a->strips[i].within += b->strips[i].within;
		a->strips[i].across += b->strips[i].across;
	}
}

const struct scan_count *qd_scan_tally_image(const struct scan_tally *t, unsigned size, unsigned image)
{
	return &t->counts[(size_t)image * t->s->nsizes + size];
}

const struct scan_size_count *qd_scan_tally_size(const struct scan_tally *t, unsigned size)
{
	return &t->sizes[size];
}

const struct qd_scan_part *qd_scan_tally_strip(const struct scan_tally *t, unsigned size, unsigned image)
{
	return t->strips ? &t->strips[((size_t)image * t->s->nsizes + size) * QD_SCAN_STRIP] : NULL;
}

unsigned qd_scan_tally_nimages(const struct scan_tally *t)
{
	return t->nimages;
}
