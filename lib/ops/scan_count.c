/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * From records to counts.
 *
 *	next     the next leaf of the spill
 *	prepare  load and sort it, count its groups	(many at a time)
 *	commit   in order: write its records
 *
 * A group lies in one leaf, except when a content is so frequent that its records had to
 * be divided: such leaves are counted in commit, one after the other, by a tally whose
 * group stays open from one to the next.
 *
 * Whoever prepares borrows a tally; sums do not care which.
 */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/pipeline.h"
#include "ops/scan_int.h"

struct job {
	struct qd_spill_leaf leaf;
};

struct counting {
	struct scan *s;
	struct scan_tally *ordered;	/* the result, and what counts divided groups */
	pthread_mutex_t lock;		/* guards the tallies to borrow */
	struct scan_tally **idle;
	unsigned nidle;
};

static struct scan_tally *borrow(struct counting *c)
{
	struct scan_tally *t;

	pthread_mutex_lock(&c->lock);
	t = c->idle[--c->nidle];	/* as many as threads: there is one */
	pthread_mutex_unlock(&c->lock);
	return t;
}

static void give_back(struct counting *c, struct scan_tally *t)
{
	pthread_mutex_lock(&c->lock);
	c->idle[c->nidle++] = t;
	pthread_mutex_unlock(&c->lock);
}

/* A record taken apart; false when its image was left out. */
static bool decode(const struct scan *s, const uint8_t *record, unsigned *ret_size, unsigned *ret_view,
		   uint64_t *ret_offset)
{
	uint64_t place = qd_get_be64(record + s->key_nbytes), unit = scan_place_unit(place);
	unsigned view = qd_scan_view_of(s, unit);

	*ret_size = scan_place_size(place);
	*ret_view = view;
	*ret_offset = (unit - s->views[view].first_unit) * s->unit;
	return !s->images[s->views[view].image].bad;
}

static int count_leaf(const struct scan *s, const struct qd_spill_leaf *leaf, struct scan_tally *t,
		      struct qd_err *err)
{
	const uint8_t *record = leaf->records;
	int r = 0;

	for (size_t i = 0; !r && i < leaf->n; i++, record += s->record_nbytes) {
		unsigned size, view;
		uint64_t offset;

		/* A copy of a record would lie beside it, in the same leaf. */
		if (s->merging && i && !memcmp(record, record - s->record_nbytes, s->record_nbytes))
			continue;
		if (decode(s, record, &size, &view, &offset))
			r = qd_scan_tally_add(t, record, size, view, offset, err);
	}
	return r;
}

static int next_leaf(void *ctx, void *job, struct qd_err *err)
{
	struct counting *c = ctx;
	struct job *j = job;

	return qd_spill_next(c->s->spill, &j->leaf, err);
}

static int prepare_leaf(void *ctx, void *job, struct qd_err *err)
{
	struct counting *c = ctx;
	struct job *j = job;
	struct scan_tally *t;
	int r = qd_spill_load(c->s->spill, &j->leaf, err);

	if (r || j->leaf.tied)
		return r;
	t = borrow(c);
	r = count_leaf(c->s, &j->leaf, t, err);
	qd_scan_tally_end(t);
	give_back(c, t);
	return r;
}

static int write_records(const struct scan *s, const struct qd_spill_leaf *leaf, struct qd_err *err)
{
	const uint8_t *p = leaf->records;
	int r = 0;

	for (size_t i = 0; !r && i < leaf->n; i++, p += s->record_nbytes) {
		struct qd_scan_record record = { .digest = p };
		unsigned size, view;

		if (!decode(s, p, &size, &view, &record.offset))
			continue;
		record.cluster_size = s->sizes[size];
		record.name = s->images[s->views[view].image].name;
		record.snapshot = s->views[view].snapshot;
		record.label = s->views[view].label;
		r = s->opts->record(s->opts->ctx, &record, err);
	}
	return r;
}

static int commit_leaf(void *ctx, void *job, struct qd_err *err)
{
	struct counting *c = ctx;
	struct job *j = job;
	int r = 0;

	if (j->leaf.tied)
		r = count_leaf(c->s, &j->leaf, c->ordered, err);
	if (!r && c->s->opts->record)
		r = write_records(c->s, &j->leaf, err);
	/* The disks are what progress counts; but somebody may have pressed ^C. */
	return r ? r : qd_progress_add(c->s->opts->progress, 0, err);
}

static int write_views(const struct scan *s, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->nviews; i++) {
		const struct scan_view *v = &s->views[i];
		const struct scan_image *im = &s->images[v->image];
		struct qd_scan_view view = {
			.name = im->name, .snapshot = v->snapshot, .size = v->size, .backing = im->backing,
		};

		if (im->bad || !s->opts->record_view)
			continue;
		for (unsigned k = 0; k < s->nsizes; k++) {
			view.zero_nbytes[k] = v->zero_nbytes[k];
			view.inherited_nbytes[k] = v->inherited_nbytes[k];
		}
		r = s->opts->record_view(s->opts->ctx, &view, err);
	}
	return r;
}

static int run(struct counting *c, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = {
		.next = next_leaf, .prepare = prepare_leaf, .commit = commit_leaf,
	};
	unsigned njobs = c->s->threads + 1;
	struct job *jobs = calloc(njobs, sizeof(*jobs));
	uint64_t share = qd_spill_spilled(c->s->spill) ? c->s->memory / 16 * 9 : c->s->memory / 8;
	int r = jobs ? qd_spill_seal(c->s->spill, share / njobs, err) : qd_err_nomem(err, "counts");

	if (!r)
		r = qd_pipeline_run(&ops, c, jobs, sizeof(*jobs), njobs, c->s->threads, err);
	for (unsigned i = 0; jobs && i < njobs; i++)
		qd_spill_leaf_clear(&jobs[i].leaf);
	free(jobs);
	return r;
}

int qd_scan_count(struct scan *s, struct scan_tally *t, struct qd_err *err)
{
	struct counting c = { .s = s, .ordered = t };
	int r = write_views(s, err);

	pthread_mutex_init(&c.lock, NULL);
	c.idle = calloc(s->threads, sizeof(void *));
	if (!r && !c.idle)
		r = qd_err_nomem(err, "counts");
	while (!r && c.nidle < s->threads) {
		r = qd_scan_tally_new(s, &c.idle[c.nidle], err);
		c.nidle += !r;
	}
	if (!r)
		r = run(&c, err);
	qd_scan_tally_end(t);
	for (unsigned i = 0; c.idle && i < c.nidle; i++) {
		qd_scan_tally_merge(t, c.idle[i]);
		qd_scan_tally_free(c.idle[i]);
	}
	free(c.idle);
	pthread_mutex_destroy(&c.lock);
	return r;
}
