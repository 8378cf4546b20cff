/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Walking the L2 tables: in host order, in large reads, on all threads.
 *
 *	next      takes tables from the set until a job's buffer is full
 *	prepare   reads them (neighbours in one read) and looks at every entry
 *	commit    tells the findings, in order, and adds up
 *
 * Mode COUNT adds every reference to the counts and, the first time, reports what an
 * entry says by itself (reserved bits, alignment, past the end).  Mode REPORT runs only
 * when the comparison has shown that it will find something: the counts' bytes are
 * verdicts by then, and each entry is held against the verdict of its cluster.
 *
 * An entry that is plain, aligned and within the file takes the short way through
 * count_plain; nearly all do.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "base/pipeline.h"

#define BUFFER (512u << 10)
#define PREFETCH 24u		/* entries ahead */

struct job {
	uint8_t *buf;
	size_t first;		/* records of the set: [first, end) */
	size_t end;
	uint64_t ntables;
	uint64_t allocated;
	uint64_t fragmented;
	uint64_t compressed;
	struct chk_list found;
	struct walk *walk;
};

struct walk {
	struct chk *c;
	enum chk_walk mode;
	bool local;		/* report what entries say by themselves */
	size_t at;		/* next record */
	size_t per_job;		/* tables */
	uint64_t plain_mask;	/* bits that may be set in a plain entry */
};

/* One table and whom it belongs to. */
struct table {
	struct job *job;
	struct chk *c;
	const uint8_t *bytes;
	const struct qd_l2ref *ref;	/* the first */
	uint64_t nrefs;
	uint64_t nactive;
	unsigned flags;			/* for the counts, without COPIED and CLEAR */
	uint64_t contiguous;		/* host offset that would continue the run; 0: none yet */
	uint64_t allocated;
	uint64_t fragmented;
	uint64_t compressed;
};

static void found(const struct table *t, enum qd_finding_type type, uint64_t i, uint64_t entry, uint64_t v1,
		  uint64_t v2)
{
	const struct qd_geom *g = &t->c->geom;
	uint64_t guest_cluster = ((uint64_t)t->ref->l1_index << g->l2_bits) + i;
	struct qd_finding f = {
		.type = type,
		.nitems = 1,
		.value = { entry, v1, v2 },
		.label = chk_label(t->c, t->ref->layer),
		.place = { QD_AT_GUEST, t->ref->layer, i, guest_cluster << g->cluster_bits,
			   qd_entry_host_off(entry) },
	};

	chk_list_add(&t->job->found, &f);
}

static unsigned flags_of(const struct table *t, uint64_t entry)
{
	if (t->nactive == 0)
		return t->flags;
	return t->flags | ((entry & QD_COPIED) ? QD_COUNT_COPIED : QD_COUNT_CLEAR);
}

static inline void note_run(struct table *t, uint64_t off)
{
	t->allocated++;
	t->fragmented += t->contiguous != 0 && off != t->contiguous;
	t->contiguous = off + t->c->geom.cluster_size;
}

static uint64_t bitmap_of(const struct table *t, uint64_t i)
{
	return t->c->geom.extended_l2 ? qd_get_be64(t->bytes + i * 16 + 8) : 0;
}

static void look_at_bitmap(const struct table *t, uint64_t i, uint64_t entry, bool allocated)
{
	uint64_t bitmap = bitmap_of(t, i);
	uint64_t bad = allocated ? (bitmap >> 32) & bitmap : bitmap & UINT32_MAX;

	if (bad)
		found(t, QD_F_SUBCLUSTERS, i, entry, bitmap, 0);
}

static void look_at_compressed(const struct table *t, uint64_t i, uint64_t entry)
{
	struct qd_compressed z = qd_l2_compressed(&t->c->geom, entry);

	if (entry & QD_COPIED)
		found(t, QD_F_COMPRESSED_COPIED, i, entry, 0, 0);
	if (t->c->data_file)
		found(t, QD_F_COMPRESSED_DATA_FILE, i, entry, 0, 0);
	else if (bitmap_of(t, i))
		found(t, QD_F_COMPRESSED_SUBCLUSTERS, i, entry, bitmap_of(t, i), 0);
	else if (!chk_in_file(t->c, z.host_off, z.nbytes))
		found(t, QD_F_COMPRESSED_PAST_END, i, entry, 0, 0);
}

/* Has the entry a cluster of its own?  With a data file, offset 0 is one when COPIED says so. */
static bool is_allocated(const struct chk *c, uint64_t entry)
{
	return qd_entry_host_off(entry) != 0 || (c->data_file && (entry & QD_COPIED));
}

static void look_at_standard(const struct table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry);
	uint64_t reserved = QD_L2_RESERVED | (c->geom.extended_l2 ? QD_L2_ZERO : 0);

	if (entry & reserved)
		found(t, QD_F_L2_ENTRY_RESERVED, i, entry, 0, 0);
	if (c->header.version < 3 && (entry & QD_L2_ZERO))
		found(t, QD_F_L2_ENTRY_ZERO, i, entry, 0, 0);
	look_at_bitmap(t, i, entry, is_allocated(c, entry));
	if (!is_allocated(c, entry))
		return;
	if (!qd_is_aligned(off, c->geom.cluster_size))
		found(t, QD_F_L2_ENTRY_UNALIGNED, i, entry, 0, 0);
	else if (!c->data_file && off >> c->geom.cluster_bits >= c->nclusters)
		found(t, QD_F_L2_ENTRY_PAST_END, i, entry, 0, 0);
	else if (c->data_file && t->nactive && !(entry & QD_COPIED))
		found(t, QD_F_COPIED_CLEAR, i, entry, 0, 0);
}

static void count_compressed(struct table *t, uint64_t i, uint64_t entry)
{
	struct chk *c = t->c;
	struct qd_compressed z = qd_l2_compressed(&c->geom, entry);
	uint64_t first, last;

	if (c->data_file || bitmap_of(t, i))
		return;
	t->allocated++;
	t->compressed++;
	t->fragmented++;
	if (!chk_in_file(c, z.host_off, z.nbytes))
		return;
	qd_compressed_clusters(&c->geom, z, &first, &last);
	for (uint64_t k = first; k <= last; k++)
		qd_counts_add(c->counts, k, 0, t->nrefs);
}

static void count_standard(struct table *t, uint64_t entry)
{
	struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry);

	if (!is_allocated(c, entry))
		return;
	note_run(t, off);
	if (!c->data_file && qd_is_aligned(off, c->geom.cluster_size) &&
	    off >> c->geom.cluster_bits < c->nclusters)
		qd_counts_add(c->counts, off >> c->geom.cluster_bits, flags_of(t, entry), t->nrefs);
}

/* Everything that is not plain. */
static void count_odd(struct table *t, uint64_t i, uint64_t entry)
{
	const struct walk *w = t->job->walk;

	if (qd_l2_is_compressed(entry)) {
		if (w->local)
			look_at_compressed(t, i, entry);
		count_compressed(t, i, entry);
	} else {
		if (w->local)
			look_at_standard(t, i, entry);
		count_standard(t, entry);
	}
}

static void count_table(struct table *t)
{
	struct chk *c = t->c;
	const uint64_t n = c->geom.l2_entries, bits = c->geom.cluster_bits, nclusters = c->nclusters;
	const uint64_t allowed = t->job->walk->plain_mask;
	const size_t step = c->geom.l2_entry_size;
	const uint8_t *p = t->bytes;

	for (uint64_t i = 0; i < n; i++, p += step) {
		uint64_t entry = qd_get_be64(p), off = entry & QD_OFFSET_MASK;

		if (i + PREFETCH < n)
			qd_counts_prefetch(c->counts,
					   (qd_get_be64(p + PREFETCH * step) & QD_OFFSET_MASK) >> bits);
		if ((entry & ~allowed) == 0 && off != 0 && off >> bits < nclusters) {
			if (step == 16)
				look_at_bitmap(t, i, entry, true);
			note_run(t, off);
			qd_counts_add(c->counts, off >> bits, flags_of(t, entry), t->nrefs);
		} else if (entry || (step == 16 && qd_get_be64(p + 8))) {
			count_odd(t, i, entry);
		}
	}
}

/* The verdict on a cluster; 0 outside the window. */
static unsigned verdict(const struct chk *c, uint64_t cluster)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c->counts, cluster >> QD_COUNTS_CHUNK_BITS);

	return chunk ? chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)] : CHK_VERDICT_UNKNOWN;
}

static void report_overlap(const struct table *t, enum qd_finding_type type, uint64_t i, uint64_t entry,
			   uint64_t cluster)
{
	const struct qd_extent *e = qd_extents_find(&t->c->extents, cluster);

	if (e)
		found(t, type, i, entry, e->kind, e->id);
	else
		found(t, type, i, entry, QD_STRUCT_L2,
		      t->c->l2.v[qd_l2set_lower_bound(&t->c->l2, cluster)].l1_index);
}

static void report_compressed(const struct table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	struct qd_compressed z = qd_l2_compressed(&c->geom, entry);
	uint64_t first, last;

	if (c->data_file || bitmap_of(t, i) || !chk_in_file(c, z.host_off, z.nbytes))
		return;
	qd_compressed_clusters(&c->geom, z, &first, &last);
	for (uint64_t k = first; k <= last; k++) {
		if (verdict(c, k) & CHK_VERDICT_META) {
			report_overlap(t, QD_F_COMPRESSED_OVERLAP, i, entry, k);
			return;
		}
	}
}

static void report_standard(const struct table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry), cluster = off >> c->geom.cluster_bits;
	bool sole, copied = (entry & QD_COPIED) != 0;
	unsigned v;

	if (off == 0 || c->data_file || !qd_is_aligned(off, c->geom.cluster_size) || cluster >= c->nclusters)
		return;
	v = verdict(c, cluster);
	sole = v & CHK_VERDICT_SOLE;
	if (v & CHK_VERDICT_META)
		report_overlap(t, QD_F_L2_ENTRY_OVERLAP, i, entry, cluster);
	else if (!(v & CHK_VERDICT_UNKNOWN) && t->nactive && sole != copied)
		found(t, copied ? QD_F_COPIED_SET : QD_F_COPIED_CLEAR, i, entry, 0, 0);
}

static void report_table(const struct table *t)
{
	const size_t step = t->c->geom.l2_entry_size;

	for (uint64_t i = 0; i < t->c->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(t->bytes + i * step);

		if (entry == 0)
			continue;
		if (qd_l2_is_compressed(entry))
			report_compressed(t, i, entry);
		else
			report_standard(t, i, entry);
	}
}

static void look_at(struct job *j, size_t first, size_t end, const uint8_t *bytes)
{
	struct chk *c = j->walk->c;
	struct table t = { .job = j, .c = c, .bytes = bytes, .ref = &c->l2.v[first] };

	for (size_t i = first; i < end; i++) {
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
		report_table(&t);
		return;
	}
	count_table(&t);
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
		rc = chk_try_read(c, p, nbytes, first << c->geom.cluster_bits, &ok, err);
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
		int rc = chk_try_read(c, p, size, off, &ok, err);

		if (rc)
			return rc;
		if (!ok && j->walk->local) {
			struct qd_finding f = {
				.type = QD_F_UNREADABLE, .nitems = 1, .value = { off, size },
				.place = { QD_AT_HOST, 0, 0, QD_NOWHERE, off },
			};

			chk_list_add(&j->found, &f);
		}
	}
	return 0;
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct walk *w = ctx;
	struct chk *c = w->c;
	struct job *j = job;
	const uint8_t *p = j->buf;
	int rc;

	rc = read_tables(j, err);
	if (rc > 0)
		rc = read_one_by_one(j, err);
	if (rc)
		return rc;
	for (size_t i = j->first, end; i < j->end; i = end, p += c->geom.cluster_size) {
		end = qd_l2set_group(&c->l2, i);
		look_at(j, i, end, p);
	}
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
	int rc;

	if (w->mode == CHK_WALK_COUNT && w->local) {
		c->result->allocated_clusters += j->allocated;
		c->result->fragmented_clusters += j->fragmented;
		c->result->compressed_clusters += j->compressed;
	}
	rc = chk_list_emit(c, &j->found, err);
	return rc ? rc : qd_progress_add(c->progress, j->ntables << c->geom.cluster_bits, err);
}

int chk_walk_l2(struct chk *c, enum chk_walk mode, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit };
	size_t size = (size_t)qd_max_u64(BUFFER, c->geom.cluster_size);
	struct walk w = {
		.c = c, .mode = mode, .local = mode == CHK_WALK_COUNT && !c->local_done,
		.per_job = size >> c->geom.cluster_bits,
		.plain_mask = c->data_file ? 0 : QD_COPIED | (QD_OFFSET_MASK & ~(c->geom.cluster_size - 1)),
	};
	unsigned njobs = c->threads * 2;
	struct job *jobs = calloc(njobs, sizeof(*jobs));
	void **slots = calloc(njobs, sizeof(*slots));
	uint8_t *bufs = malloc(size * njobs);
	int rc = jobs && slots && bufs ? 0 : qd_err_nomem(err, "L2 tables");

	for (unsigned i = 0; rc == 0 && i < njobs; i++) {
		jobs[i] = (struct job){ .buf = bufs + i * size, .walk = &w };
		jobs[i].found.cluster_size = c->geom.cluster_size;
		slots[i] = &jobs[i];
	}
	if (rc == 0)
		rc = qd_pipeline_run(&ops, &w, slots, njobs, c->threads, err);
	if (rc == 0 && mode == CHK_WALK_COUNT)
		c->local_done = true;
	for (unsigned i = 0; jobs && i < njobs; i++)
		free(jobs[i].found.v);
	free(jobs);
	free(slots);
	free(bufs);
	return rc;
}
