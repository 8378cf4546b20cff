/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One walk over the clusters (survey.h) finds those with another hash; only if there are any,
 * the L2 tables are read once more to tell which guest clusters show them.
 *
 * An image with snapshots of its own never has an index in state valid (ops/install.h, N2), for a
 * reason that is not this image's.  So all of its records are compared; those that are
 * not proven count only if the tables refer to exactly the clusters of the index, from the
 * same places: then nothing was allocated or freed since, and what differs has rotted or was
 * written in place by another program (certain is false).
 */
#include "ops/verify.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/io_file.h"
#include "format/entry.h"
#include "image/image.h"
#include "ops/known.h"
#include "ops/survey.h"

struct entries {		/* sorted by number after the walk */
	uint64_t *v;
	uint64_t n, capacity;
};

struct verify {
	const struct qd_verify_opts *opts;
	struct qd_verify_result *result;
	struct qd_progress *progress;
	struct qd_image *img;
	struct qd_container *index;
	struct qd_known *ahead;		/* asked before reading */
	struct qd_known *behind;	/* asked when the content is there */
	struct entries bad;		/* proven to be so */
	bool compares_all;		/* unproven records, too */
	struct entries doubtful;	/* of those */
	uint64_t nunproven;		/* clusters compared with an unproven record */
	uint64_t nsame;			/* records that the tables agree with */
	bool moved;			/* the tables refer to something that the index does not know */
};

/* ---- comparing ---- */

static bool want(void *ctx, const struct qd_surveyed *c, uint64_t number)
{
	struct verify *v = ctx;
	struct qd_record record;

	(void)number;
	return qd_known_find(v->ahead, c->entry, &record, NULL) == 1 &&
	       (v->compares_all || qd_known_holds(v->index, v->img, c, &record));
}

static int add_entry(struct entries *e, uint64_t entry, struct qd_err *err)
{
	if (e->n == e->capacity) {
		uint64_t capacity = e->capacity ? e->capacity * 2 : 256;
		uint64_t *bigger = realloc(e->v, capacity * sizeof(*bigger));

		if (!bigger)
			return qd_err_nomem(err, "the list of damaged clusters");
		e->v = bigger;
		e->capacity = capacity;
	}
	e->v[e->n++] = entry;
	return 0;
}

static int compare(struct verify *v, const struct qd_survey_content *x, struct qd_err *err)
{
	const struct qd_geom *g = &v->img->geom;
	bool compressed = qd_l2_is_compressed(x->c.entry), proven;
	struct qd_record record;
	int rc = qd_known_find(v->behind, x->c.entry, &record, err);

	if (rc != 1)
		return rc < 0 ? rc : qd_err_set(err, QD_E_IO, "the index changed while it was read");
	proven = qd_known_holds(v->index, v->img, &x->c, &record);
	v->nsame += qd_known_same_place(v->img, &x->c, &record);
	v->nunproven += !proven;
	v->result->checked++;
	v->result->bytes_read += compressed ? qd_l2_compressed(g, x->c.entry).nbytes : g->cluster_size;
	if (!x->broken && !memcmp(record.hash, x->digest, qd_known_digest(v->behind)->nbytes))
		return 0;
	return add_entry(proven ? &v->bad : &v->doubtful, x->c.entry, err);
}

static int commit(void *ctx, struct qd_survey_content *x, unsigned n, struct qd_err *err)
{
	struct verify *v = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		if (x[i].data) {
			rc = compare(v, &x[i], err);
		} else if (x[i].c.references) {
			v->result->unknown++;
			v->moved = true;
		}
	}
	return rc;
}

/* What was compared with unproven records counts, or it does not. */
static void judge_unproven(struct verify *v)
{
	if (v->moved || v->nsame != qd_known_count(v->behind)) {
		v->result->checked -= v->nunproven;
		v->result->unknown += v->nunproven;
		v->doubtful.n = 0;
	}
	v->result->bad_clusters = v->bad.n + v->doubtful.n;
}

/* ---- who shows what is damaged ---- */

struct layer {
	const char *name;		/* NULL: active */
	const char *id;
	uint64_t size;			/* bytes of its disk */
};

static int compare_entries(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static void sort_entries(struct entries *e)
{
	if (e->n)
		qsort(e->v, (size_t)e->n, sizeof(*e->v), compare_entries);
}

static bool is_among(const struct entries *e, uint64_t entry)
{
	return e->n && bsearch(&entry, e->v, (size_t)e->n, sizeof(entry), compare_entries) != NULL;
}

/* What of a table's entry names data; 0: nothing. */
static uint64_t data_entry(const struct verify *v, const uint8_t *p)
{
	uint64_t entry = qd_get_be64(p);

	if (qd_l2_is_compressed(entry))
		return entry & ~QD_COPIED;
	if (v->img->geom.extended_l2 ? (uint32_t)qd_get_be64(p + 8) == 0 : (entry & QD_L2_ZERO) != 0)
		return 0;
	return qd_entry_host_off(entry);
}

static void tell(struct verify *v, const struct layer *l, uint64_t guest_off, uint64_t entry, bool certain)
{
	const struct qd_geom *g = &v->img->geom;
	bool compressed = qd_l2_is_compressed(entry);
	struct qd_verify_bad bad = {
		.layer = l->name, .snapshot_id = l->id, .offset = guest_off, .compressed = compressed,
		.certain = certain,
		.host_off = compressed ? qd_l2_compressed(g, entry).host_off : entry,
	};

	bad.nbytes = guest_off < l->size ? qd_min_u64(g->cluster_size, l->size - guest_off) : g->cluster_size;
	v->result->bad_ranges++;
	if (v->opts->bad)
		v->opts->bad(v->opts->ctx, &bad);
}

static int tell_table(struct verify *v, const struct layer *l, uint64_t l2_off, uint64_t first_guest,
		      uint8_t *table, struct qd_err *err)
{
	const struct qd_geom *g = &v->img->geom;
	int rc = qd_io_read_padded(v->img->io, table, (size_t)g->cluster_size, l2_off, err);

	for (uint64_t i = 0; rc == 0 && i < g->l2_entries; i++) {
		uint64_t entry = data_entry(v, table + i * g->l2_entry_size);

		if (entry && is_among(&v->bad, entry))
			tell(v, l, (first_guest + i) << g->cluster_bits, entry, true);
		else if (entry && is_among(&v->doubtful, entry))
			tell(v, l, (first_guest + i) << g->cluster_bits, entry, false);
	}
	return rc;
}

static int tell_layer(struct verify *v, const struct layer *l, const uint64_t *l1, uint32_t l1_entries,
		      uint8_t *table, struct qd_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l1_entries; i++)
		if (qd_entry_host_off(l1[i]))
			rc = tell_table(v, l, qd_entry_host_off(l1[i]), i * v->img->geom.l2_entries, table,
					err);
	return rc;
}

static int tell_snapshot(struct verify *v, const struct qd_snapshot *s, uint8_t *table, struct qd_err *err)
{
	struct layer l = { .name = s->name, .id = s->id, .size = s->disk_size };
	uint64_t *l1 = NULL;
	int rc;

	if (s == qd_image_find_pin(v->img))
		return 0;
	rc = qd_image_load_l1(v->img, s->l1_off, s->l1_entries, &l1, err);
	if (rc == 0)
		rc = tell_layer(v, &l, l1, s->l1_entries, table, err);
	free(l1);
	return rc;
}

static int tell_all(struct verify *v, struct qd_err *err)
{
	struct layer active = { .size = v->img->header.virtual_size };
	uint8_t *table;
	int rc;

	if (!v->result->bad_clusters)
		return 0;
	sort_entries(&v->bad);
	sort_entries(&v->doubtful);
	table = malloc((size_t)v->img->geom.cluster_size);
	if (!table)
		return qd_err_nomem(err, "an L2 table");
	rc = tell_layer(v, &active, v->img->l1, v->img->header.l1_entries, table, err);
	for (uint32_t i = 0; rc == 0 && i < v->img->nsnapshots; i++)
		rc = tell_snapshot(v, &v->img->snapshots[i], table, err);
	free(table);
	return rc;
}

/* ---- all of it ---- */

static int open_index(struct verify *v, struct qd_err *err)
{
	const char *why = NULL;
	int rc = qd_container_open(v->img, v->opts->index_path, false, &v->index, err);

	if (rc)
		return rc;
	v->result->state = qd_container_state_name(v->index->state);
	if (v->index->state == QD_CONTAINER_ABSENT && qd_container_is_impossible(&v->img->header, &why))
		return qd_err_set(err, QD_E_INVALID, "there is no index to compare with, and there cannot be one: %s", why);
	if (v->index->state == QD_CONTAINER_ABSENT)
		return qd_err_set(err, QD_E_INVALID,
				  "there is no index to compare with: qdedup rehash makes one");
	if (v->index->state == QD_CONTAINER_STALE)
		return qd_err_set(err, QD_E_INVALID, "the index is stale (%s): qdedup rehash makes a new one",
				  v->index->why);
	if (!v->index->opened)
		return qd_err_set(err, QD_E_INVALID, "the index cannot be read: %s", v->index->why);
	rc = qd_known_open(v->index, v->img, &v->ahead, err);
	if (rc == 0)
		rc = qd_known_open(v->index, v->img, &v->behind, err);
	if (rc == 0)
		v->result->hash = qd_known_digest(v->behind)->name;
	v->compares_all = v->index->state == QD_CONTAINER_PARTIAL && qd_image_has_own_snapshots(v->img);
	return rc;
}

static int run(struct verify *v, struct qd_io *io, struct qd_err *err)
{
	uint64_t memory = v->opts->memory ? v->opts->memory : qd_default_memory(), unusable = 0;
	struct qd_survey_opts so = { .threads = v->opts->threads, .memory = memory, .progress = v->progress };
	struct qd_survey_ops ops = { .want = want, .commit = commit };
	int rc = qd_image_open(io, 0, &v->img, err);

	if (rc == 0)
		rc = qd_image_require_plain(v->img, err);
	if (rc == 0)
		rc = open_index(v, err);
	if (rc)
		return rc;
	so.digest = qd_known_digest(v->behind);
	rc = qd_survey_walk(v->img, &so, &ops, v, &unusable, err);
	if (rc == 0 && unusable)
		rc = qd_err_set(err, QD_E_CORRUPT,
				"%" PRIu64 " table entries cannot be true: run qdedup check "
				"first", unusable);
	judge_unproven(v);
	v->result->index_damaged = qd_known_is_damaged(v->ahead) || qd_known_is_damaged(v->behind);
	return rc ? rc : tell_all(v, err);
}

int qd_verify_io(struct qd_io *io, const struct qd_verify_opts *opts, struct qd_progress *progress,
		 struct qd_verify_result *ret_result, struct qd_err *err)
{
	struct verify v = { .opts = opts, .result = ret_result, .progress = progress };
	int rc;

	*ret_result = (struct qd_verify_result){ .state = "absent" };
	rc = run(&v, io, err);
	free(v.bad.v);
	free(v.doubtful.v);
	qd_known_free(v.ahead);
	qd_known_free(v.behind);
	qd_container_close(v.index);
	qd_image_detach(v.img);
	return rc ? qd_err_file(err, rc, io->name) : 0;
}

int qd_verify(const char *path, const struct qd_verify_opts *opts, struct qd_progress *progress,
	      struct qd_verify_result *ret_result, struct qd_err *err)
{
	struct qd_file_opts file = { .no_lock = opts->no_lock };
	struct qd_io *io = NULL;
	int rc = qd_io_file_open(path, &file, &io, err);

	if (rc == 0)
		rc = qd_verify_io(io, opts, progress, ret_result, err);
	qd_io_close(io);
	return rc;
}
