/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check.  Phases, each a file:
 *
 *	1  header, extensions           check_header.c      may end the check
 *	2  refcount table               check_reftable.c  \
 *	3  snapshot table               check_snapshot.c   | which structures there are:
 *	4  bitmaps                      check_bitmap.c     | extents, and the set of L2 tables
 *	5  L1 tables                    check_l1.c        /
 *	6  overlaps among them          check_overlap.c
 *	for each window of host clusters that fits the memory (nearly always one):
 *	7    structures are marked and counted
 *	8    L2 tables are walked, references counted     check_l2.c
 *	9    counts are compared with refcount blocks     check_refcount.c
 *	10   when some COPIED flag is wrong or an L2 entry names metadata: counts become
 *	     verdicts and L2 tables are walked again, to say which
 *
 * Invariants
 *  K1  nothing from the file is believed before it was checked against the file's size
 *      and the limits; memory is bounded by chk.memory, work by the size of the file's
 *      data (holes are skipped where a table's size is only claimed).
 *  K2  the order of findings depends on the image alone: phases 1 to 6 run on one
 *      thread, the others tell what they find in the pipeline's commit stage.
 *  K3  an entry that cannot be true (past the end, not aligned, at metadata) is reported
 *      and not counted as a reference.  Nor are those of a "table" most of whose entries
 *      are impossible: that is one finding, and the window is counted again without it.
 *
 * Left to others: repairing; guest data; the files that the image names.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "base/host.h"

static void tell(struct chk *c, const struct qd_finding *f)
{
	if (c->opts->found)
		c->opts->found(c->opts->ctx, f, c->result->cluster_size);
}

static void flush_run(struct chk *c)
{
	if (c->have_run)
		tell(c, &c->run);
	c->have_run = false;
}

void qd_chk_emit(struct chk *c, const struct qd_finding *f)
{
	struct qd_check_result *r = c->result;

	r->count[f->type] += f->nitems;
	switch (qd_finding_kind(f->type)->severity) {
	case QD_SEV_NOTE:
		break;
	case QD_SEV_LEAK:
		r->leaks += f->nitems;
		break;
	case QD_SEV_CORRUPTION:
		r->corruptions += f->nitems;
		break;
	case QD_SEV_ERROR:
		r->check_errors += f->nitems;
		break;
	}
	if (c->have_run && qd_finding_merge(&c->run, f, r->cluster_size))
		return;
	flush_run(c);
	c->run = *f;
	c->have_run = true;
}

void qd_chk_found(struct chk *c, enum qd_finding_type type, enum qd_place_kind at, uint64_t index,
		  uint64_t v0, uint64_t v1, uint64_t v2)
{
	struct qd_finding f = {
		.type = type, .nitems = 1, .value = { v0, v1, v2 },
		.place = { at, 0, index, QD_NOWHERE, QD_NOWHERE },
	};

	if (at == QD_AT_SNAPSHOT && index < c->nsnapshots)
		f.label = c->snapshots[index].label;
	if (at == QD_AT_HOST)
		f.place.host_off = v0;
	qd_chk_emit(c, &f);
}

void qd_chk_list_init(struct qd_chk_list *list, const struct chk *c, unsigned njobs)
{
	*list = (struct qd_chk_list){
		.cluster_size = c->geom.cluster_size,
		.most = (size_t)qd_max_u64(64, c->memory / 16 / njobs / sizeof(*list->v)),
	};
}

void qd_chk_list_add(struct qd_chk_list *list, const struct qd_finding *f)
{
	struct qd_finding *v;
	size_t capacity;

	if (list->n > list->floor && qd_finding_merge(&list->v[list->n - 1], f, list->cluster_size))
		return;
	if (list->n == list->capacity) {
		capacity = list->capacity ? list->capacity * 2 : 32;
		v = realloc(list->v, capacity * sizeof(*v));
		if (!v) {
			list->failed = true;
			return;
		}
		list->v = v;
		list->capacity = capacity;
	}
	list->v[list->n++] = *f;
}

int qd_chk_list_emit(struct chk *c, struct qd_chk_list *list, struct qd_err *err)
{
	if (list->failed)
		return qd_err_nomem(err, "a list of findings");
	for (size_t i = 0; i < list->n; i++)
		qd_chk_emit(c, &list->v[i]);
	list->n = list->floor = 0;
	return 0;
}

const char *qd_chk_label(const struct chk *c, uint32_t layer)
{
	return layer && layer <= c->nsnapshots ? c->snapshots[layer - 1].label : NULL;
}

bool qd_chk_in_file(const struct chk *c, uint64_t off, uint64_t nbytes)
{
	uint64_t end;

	return off < c->file_size && qd_add_u64(off, nbytes, &end) &&
	       (end <= c->file_size || end - c->file_size < c->geom.cluster_size);
}

int qd_chk_add_struct(struct chk *c, uint64_t off, uint64_t nbytes, enum qd_struct_kind kind, uint32_t id,
		      struct qd_err *err)
{
	uint64_t first = off >> c->geom.cluster_bits, last = (off + nbytes - 1) >> c->geom.cluster_bits;

	return qd_extents_add(&c->extents, first, last - first + 1, kind, id, err);
}

#define BUFFER (512u << 10)	/* a large read; more is not faster */

/* All buffers together take an eighth of the memory, if the least does not take more. */
size_t qd_chk_buffer_size(const struct chk *c, uint64_t least)
{
	return (size_t)qd_max_u64(least, qd_min_u64(BUFFER, qd_align_down(c->memory / 16, 65536)));
}

unsigned qd_chk_njobs(const struct chk *c, size_t buffer_size)
{
	return (unsigned)qd_max_u64(1, qd_min_u64((uint64_t)c->threads * 2, c->memory / 8 / buffer_size));
}

int qd_chk_try_read(struct chk *c, void *buf, size_t nbytes, uint64_t off, bool *ret_ok, struct qd_err *err)
{
	int rc = qd_io_read_padded(c->io, buf, nbytes, off, err);

	*ret_ok = rc == 0;
	if (rc != QD_E_IO)
		return rc;
	memset(buf, 0, nbytes);
	return 0;
}

int qd_chk_read(struct chk *c, void *buf, size_t nbytes, uint64_t off, bool *ret_ok, struct qd_err *err)
{
	int rc = qd_chk_try_read(c, buf, nbytes, off, ret_ok, err);

	if (rc == 0 && !*ret_ok)
		qd_chk_found(c, QD_F_UNREADABLE, QD_AT_HOST, 0, off, nbytes, 0);
	return rc;
}

static uint64_t window_first(const struct chk *c)
{
	return c->counts->window_first << QD_COUNTS_CHUNK_BITS;
}

static uint64_t window_end(const struct chk *c)
{
	return qd_min_u64(c->counts->window_end << QD_COUNTS_CHUNK_BITS, c->counts->nclusters);
}

static void mark_run(void *ctx, uint64_t first, uint64_t end, uint64_t depth)
{
	struct chk *c = ctx;

	end = qd_min_u64(end, window_end(c));
	for (uint64_t k = qd_max_u64(first, window_first(c)); k < end; k++)
		qd_counts_add_metadata(c->counts, k, depth);
}

/* Counts what structures take of the window; the rest of the counts is for L2 entries. */
static int mark_structures(struct chk *c, struct qd_err *err)
{
	uint64_t first = window_first(c), end = window_end(c);
	int rc;

	rc = qd_extents_cover(&c->extents, mark_run, c, err);
	if (rc)
		return rc;
	for (size_t i = qd_l2set_lower_bound(&c->l2, first); i < c->l2.n && c->l2.v[i].cluster < end; i++)
		if (!c->l2.v[i].bad)
			qd_counts_add_metadata(c->counts, c->l2.v[i].cluster, c->l2.v[i].nrefs);
	return 0;
}

static int check_window(struct chk *c, uint64_t first, uint64_t end, struct qd_err *err)
{
	int rc;

	do {
		qd_counts_window(c->counts, first, end);
		c->need_report = c->found_garbage = false;
		rc = mark_structures(c, err);
		if (rc)
			return rc;
		rc = qd_chk_walk_l2(c, CHK_WALK_COUNT, err);
		if (rc || qd_counts_overfull(c->counts))
			return rc;
	} while (c->found_garbage);
	rc = qd_chk_refcounts(c, CHK_PASS_COMPARE, first, end, err);
	if (rc || !(c->need_report || atomic_load(&c->counts->hit_metadata)))
		return rc;
	rc = qd_chk_refcounts(c, CHK_PASS_VERDICT, first, end, err);
	return rc ? rc : qd_chk_walk_l2(c, CHK_WALK_REPORT, err);
}

/* What lists and buffers leave of the memory. */
static uint64_t counts_limit(const struct chk *c)
{
	uint64_t used = c->l2.capacity * sizeof(*c->l2.v) + c->extents.capacity * sizeof(*c->extents.v) +
			c->memory / 16 * 3;

	return used < c->memory - c->memory / 4 ? c->memory - used : c->memory / 4;
}

/* One window when everything fits, else as few as do. */
static int check_references(struct chk *c, struct qd_err *err)
{
	uint64_t n, size, at = 0;
	int rc;

	/* A structure or compressed cluster may reach into one cluster past the last. */
	rc = qd_counts_new(c->nclusters + 1, counts_limit(c), &c->counts, err);
	if (rc)
		return qd_err_file(err, rc, c->io->name);
	n = c->counts->nchunks;
	size = qd_min_u64(n, qd_counts_fit_bytes(c->counts));
	while (at < n) {
		rc = check_window(c, at, qd_min_u64(n, at + size), err);
		if (rc)
			return rc;
		if (!qd_counts_overfull(c->counts))
			at += size;
		else if (size > qd_counts_fit_surely(c->counts))
			size = qd_counts_fit_surely(c->counts);
		else
			return qd_err_nomem(err, "reference counts");
	}
	return 0;
}

static void set_total(struct chk *c)
{
	uint64_t blocks = 0;

	for (uint64_t i = 0; i < c->reftable_entries; i++)
		blocks += c->reftable[i] > CHK_UNKNOWN_BLOCK;
	if (c->progress)
		qd_progress_set_total(c->progress, (c->l2.n + blocks) << c->geom.cluster_bits);
}

static int run(struct chk *c, struct qd_err *err)
{
	int rc;

	rc = qd_chk_header(c, err);
	if (rc == 0)
		rc = qd_chk_reftable(c, err);
	if (rc == 0)
		rc = qd_chk_snapshots(c, err);
	if (rc == 0)
		rc = qd_chk_bitmaps(c, err);
	if (rc == 0)
		rc = qd_chk_l1_tables(c, err);
	if (rc == 0)
		rc = qd_chk_overlaps(c, err);
	if (rc == 0) {
		set_total(c);
		rc = check_references(c, err);
	}
	flush_run(c);
	c->result->image_end = c->past_last << c->geom.cluster_bits;
	return rc < 0 ? rc : 0;
}

static void release(struct chk *c)
{
	qd_counts_free(c->counts);
	qd_l2set_free(&c->l2);
	qd_extents_free(&c->extents);
	for (uint32_t i = 0; i < c->nsnapshots; i++)
		free(c->snapshots[i].label);
	free(c->snapshots);
	free(c->reftable);
}

int qd_check(struct qd_io *io, const struct qd_check_opts *opts, struct qd_progress *progress,
	     struct qd_check_result *ret_result, struct qd_err *err)
{
	struct qd_check_result result = { .is_qcow2 = false };
	struct chk c = { .io = io, .opts = opts, .progress = progress, .result = &result };
	uint64_t lists;
	int rc;

	c.threads = opts->threads ? opts->threads : qd_cpu_count();
	c.memory = opts->memory ? opts->memory : qd_default_memory();
	lists = opts->list_memory ? opts->list_memory : c.memory;
	qd_extents_init(&c.extents, lists / 4);
	qd_l2set_init(&c.l2, lists / 8 * 3);
	rc = run(&c, err);
	release(&c);
	if (rc == 0)
		*ret_result = result;
	return rc;
}

int qd_check_status(const struct qd_check_result *r)
{
	if (!r->is_qcow2)
		return 63;
	if (r->check_errors)
		return 1;
	if (r->corruptions)
		return 2;
	return r->leaks ? 3 : 0;
}
