/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walking the L2 tables: in host order, in large reads, on all threads.
 *
 *	next      takes tables from the set until a job's buffer is full
 *	prepare   reads them (neighbours in one read) and looks at every entry, until the
 *	          list of findings is full
 *	commit    tells the findings, in order, looks at what is left, and adds up
 *
 * Mode COUNT adds every reference to the counts and, the first time, reports what an
 * entry says by itself (reserved bits, alignment, past the end).  Mode REPORT runs only
 * when the comparison has shown that it will find something: the counts' bytes are
 * verdicts by then, and each entry is held against the verdict of its cluster.
 *
 * What happens to one table is in check_table.c.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "base/pipeline.h"

struct job {
	uint8_t *buf;
	size_t first;		/* records of the set: [first, end) */
	size_t end;
	size_t at;		/* next record to look at, */
	uint64_t at_entry;	/* from this entry on, */
	const uint8_t *at_bytes;	/* in a table that is here */
	uint64_t ntables;
	uint64_t allocated;
	uint64_t fragmented;
	uint64_t compressed;
	bool found_garbage;
	struct qd_chk_list found;
	struct walk *walk;
};

struct walk {
	struct chk *c;
	enum qd_chk_walk mode;
	bool local;		/* report what entries say by themselves */
	size_t at;		/* next record */
	size_t per_job;		/* tables */
	uint64_t plain_mask;
};

/* One finding instead of those about entries, from number nfound on in the job's list. */
static void call_it_garbage(struct job *j, size_t first, size_t end, size_t nfound,
			    const struct qd_chk_l2_look *l)
{
	struct chk *c = j->walk->c;
	const struct qd_geom *g = &c->geom;
	struct qd_l2ref *r = &c->l2.v[first];
	struct qd_finding f = {
		.type = QD_F_L2_GARBAGE,
		.nitems = 1,
		.label = qd_chk_label(c, r->layer),
		.value = { l->impossible, l->used, r->cluster << g->cluster_bits },
		.place = { QD_AT_L1_ENTRY, r->layer, r->l1_index,
			   (uint64_t)r->l1_index << (g->l2_bits + g->cluster_bits),
			   r->cluster << g->cluster_bits },
	};

	j->found.n = nfound;
	qd_chk_list_add(&j->found, &f);
	j->found_garbage = true;
	for (size_t i = first; i < end; i++)
		c->l2.v[i].bad = true;
}

/* Looks at the table at j->at, or reports on the entries that are left of it. */
static void look_at(struct job *j, size_t end)
{
	struct chk *c = j->walk->c;
	struct qd_chk_table t = {
		.c = c, .found = &j->found, .local = j->walk->local, .plain_mask = j->walk->plain_mask,
		.bytes = j->at_bytes, .ref = &c->l2.v[j->at],
	};
	size_t nfound = j->found.n;

	j->found.floor = nfound;
	for (size_t i = j->at; i < end; i++) {
		const struct qd_l2ref *r = &c->l2.v[i];

		t.nrefs += r->nrefs;
		if (r->class == QD_L2_ACTIVE)
			t.nactive += r->nrefs;
		else if (r->class == QD_L2_PIN)
			t.flags |= QD_COUNT_PINNED;
	}
	if (t.nactive > 1)
		t.flags |= QD_COUNT_TWICE;
	if (j->walk->mode == CHK_WALK_REPORT) {
		j->at_entry = qd_chk_report_table(&t, j->at_entry);
		return;
	}
	qd_chk_count_table(&t);
	if (t.impossible && j->walk->local) {
		struct qd_chk_l2_look l = qd_chk_look_at_l2(c, t.bytes);

		if (qd_chk_is_garbage(&l)) {
			call_it_garbage(j, j->at, end, nfound, &l);
			return;
		}
	}
	j->allocated += t.allocated * t.nactive;
	j->fragmented += t.fragmented * t.nactive;
	j->compressed += t.compressed * t.nactive;
}

/* The tables of a job, one after the other, neighbours at once; 1 when some cannot be read. */
static int read_tables(struct job *j, struct qd_err *err)
{
	struct chk *c = j->walk->c;
	const struct qd_l2ref *v = c->l2.v;
	size_t size = (size_t)c->geom.cluster_size, nbytes, i = j->first;
	uint8_t *p = j->buf;
	bool ok;

	while (i < j->end) {
		uint64_t first = v[i].cluster, n = 0;
		int rc;

		while (i < j->end && v[i].cluster == first + n) {
			i = qd_l2set_group(&c->l2, i);
			n++;
		}
		nbytes = (size_t)n * size;
		rc = qd_chk_try_read(c, p, nbytes, first << c->geom.cluster_bits, &ok, err);
		if (rc)
			return rc;
		if (!ok)
			return 1;
		p += nbytes;
	}
	return 0;
}

/* After a bad sector: table by table, so that only what is unreadable is lost. */
static int read_one_by_one(struct job *j, struct qd_err *err)
{
	struct chk *c = j->walk->c;
	size_t size = (size_t)c->geom.cluster_size;
	uint8_t *p = j->buf;
	bool ok;

	for (size_t i = j->first; i < j->end; i = qd_l2set_group(&c->l2, i), p += size) {
		uint64_t off = c->l2.v[i].cluster << c->geom.cluster_bits;
		int rc = qd_chk_try_read(c, p, size, off, &ok, err);

		if (rc)
			return rc;
		if (!ok && j->walk->local) {
			struct qd_finding f = {
				.type = QD_F_UNREADABLE, .nitems = 1, .value = { off, size },
				.place = { QD_AT_HOST, 0, 0, QD_NOWHERE, off },
			};

			qd_chk_list_add(&j->found, &f);
		}
	}
	return 0;
}

/* All that are left, or until the list is full. */
static void look_at_tables(struct job *j)
{
	const struct chk *c = j->walk->c;

	while (j->at < j->end && !qd_chk_list_is_full(&j->found)) {
		size_t end = qd_l2set_group(&c->l2, j->at);

		look_at(j, end);
		if (j->walk->mode == CHK_WALK_REPORT && j->at_entry < c->geom.l2_entries)
			return;
		j->at = end;
		j->at_entry = 0;
		j->at_bytes += c->geom.cluster_size;
	}
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct job *j = job;
	int rc;

	(void)ctx;
	rc = read_tables(j, err);
	if (rc > 0)
		rc = read_one_by_one(j, err);
	if (rc)
		return rc;
	j->at = j->first;
	j->at_entry = 0;
	j->at_bytes = j->buf;
	look_at_tables(j);
	return 0;
}

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct qd_l2set *set = &w->c->l2;
	struct job *j = job;

	(void)err;
	while (w->at < set->n && set->v[w->at].bad)
		w->at++;
	if (w->at == set->n || (qd_counts_overfull(w->c->counts) && !w->local))
		return 0;
	j->first = w->at;
	j->ntables = 0;
	j->allocated = j->fragmented = j->compressed = 0;
	j->found_garbage = false;
	while (w->at < set->n && !set->v[w->at].bad && j->ntables < w->per_job) {
		w->at = qd_l2set_group(set, w->at);
		j->ntables++;
	}
	j->end = w->at;
	return 1;
}

static int commit(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct chk *c = w->c;
	struct job *j = job;
	int rc = qd_chk_list_emit(c, &j->found, err);

	while (rc == 0 && j->at < j->end) {
		look_at_tables(j);
		rc = qd_chk_list_emit(c, &j->found, err);
	}
	if (w->mode == CHK_WALK_COUNT && w->local) {
		c->result->allocated_clusters += j->allocated;
		c->result->fragmented_clusters += j->fragmented;
		c->result->compressed_clusters += j->compressed;
	}
	c->found_garbage = c->found_garbage || j->found_garbage;
	return rc ? rc : qd_progress_add(c->progress, j->ntables << c->geom.cluster_bits, err);
}

int qd_chk_walk_l2(struct chk *c, enum qd_chk_walk mode, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit };
	size_t size = qd_chk_buffer_size(c, c->geom.cluster_size);
	struct walk w = {
		.c = c, .mode = mode, .local = mode == CHK_WALK_COUNT && !c->local_done,
		.per_job = size >> c->geom.cluster_bits,
		.plain_mask = c->data_file ? 0 : QD_COPIED | (QD_OFFSET_MASK & ~(c->geom.cluster_size - 1)),
	};
	unsigned njobs = qd_chk_njobs(c, size);
	struct job *jobs = calloc(njobs, sizeof(*jobs));
	uint8_t *bufs = malloc(size * njobs);
	int rc = jobs && bufs ? 0 : qd_err_nomem(err, "L2 tables");

	for (unsigned i = 0; rc == 0 && i < njobs; i++) {
		jobs[i] = (struct job){ .buf = bufs + i * size, .walk = &w };
		qd_chk_list_init(&jobs[i].found, c, njobs);
	}
	if (rc == 0)
		rc = qd_pipeline_run(&ops, &w, jobs, sizeof(*jobs), njobs, c->threads, err);
	if (rc == 0 && mode == CHK_WALK_COUNT)
		c->local_done = true;
	for (unsigned i = 0; jobs && i < njobs; i++)
		free(jobs[i].found.v);
	free(jobs);
	free(bufs);
	return rc;
}
