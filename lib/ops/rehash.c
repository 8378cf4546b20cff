/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One walk over the clusters (survey.h): what is not known is read, what is known is looked up
 * again where the records are gathered, each in its own stage with its own view of the old
 * index.  The table is made in host order, so it needs no sorting.
 *
 * An index that would say what the old one says is not written again.
 */
#include "ops/rehash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "dedup/log.h"
#include "dedup/records.h"
#include "format/entry.h"
#include "image/build.h"
#include "image/change.h"
#include "ops/install.h"
#include "ops/known.h"
#include "ops/soundness.h"
#include "ops/survey.h"

struct slot {			/* of the pin, to be filled */
	uint64_t entry;
	uint64_t bitmap;
};

struct rehash {
	const struct qd_rehash_opts *opts;
	struct qd_rehash_result *result;
	struct qd_progress *progress;
	uint64_t memory;
	struct qd_image *img;
	struct qd_container *old;
	const struct qd_digest *digest;
	bool keeps;			/* something of the old index may be kept */
	struct qd_known *ahead;		/* asked before reading; NULL: nothing is known */
	struct qd_known *behind;	/* asked when the record is made */
	struct qd_table_maker *maker;
	uint64_t cap;			/* references from which on a cluster is full */
	uint64_t matched;		/* records that the old index has, too */
	struct qd_records *add;		/* struct slot */
	uint64_t nadd, added;
	uint64_t *strays;		/* entries, in host order: only the pin references them */
	uint64_t nstrays, capacity;
};

/* ---- what is known ---- */

static bool want(void *ctx, const struct qd_surveyed *c, uint64_t number)
{
	struct rehash *r = ctx;
	struct qd_record record;

	(void)number;
	if (!r->keeps)
		return true;
	/* An error here comes up again when the record is made. */
	return qd_known_find(r->ahead, c->entry, &record, NULL) != 1 ||
	       !qd_known_holds(r->old, r->img, c, &record);
}

/* ---- records ---- */

static bool is_partial(const struct rehash *r, const struct qd_surveyed *c)
{
	return r->img->geom.extended_l2 && !qd_l2_is_compressed(c->entry) && !c->mixed &&
	       (uint32_t)c->bitmap != UINT32_MAX;
}

static bool is_same(const struct qd_record *a, const struct qd_record *b, uint32_t digest_nbytes)
{
	return a->guest == b->guest && a->flags == b->flags && !memcmp(a->hash, b->hash, digest_nbytes);
}

static int refuse_broken(const struct rehash *r, const struct qd_surveyed *c, struct qd_err *err)
{
	return qd_err_set(err, QD_E_CORRUPT,
			  "the compressed cluster at guest offset %" PRIu64 " (%s) cannot be "
			  "unpacked: its content is damaged", c->guest << r->img->geom.cluster_bits,
			  c->in_active ? "active layer" : "a snapshot");
}

static int make_record(struct rehash *r, const struct qd_survey_content *v, struct qd_err *err)
{
	struct qd_record new = { .entry = v->c.entry, .guest = v->c.guest }, old;
	int known = r->behind ? qd_known_find(r->behind, v->c.entry, &old, err) : 0;
	uint32_t nbytes = r->digest->nbytes;

	if (known < 0)
		return known;
	if (v->data)
		memcpy(new.hash, v->digest, nbytes);
	else if (known)
		memcpy(new.hash, old.hash, nbytes);
	else
		return qd_err_set(err, QD_E_IO, "the index changed while it was read");
	new.flags = (uint8_t)((v->c.references >= r->cap ? QD_RECORD_FULL : 0) |
			      (is_partial(r, &v->c) ? QD_RECORD_PARTIAL : 0) |
			      (v->c.in_active ? 0 : QD_RECORD_SNAPSHOT));
	if (known) {
		r->matched++;
		r->result->changed += !is_same(&new, &old, nbytes) ||
				      qd_known_digest(r->behind) != r->digest;
	} else {
		r->result->changed++;
	}
	r->result->clusters++;
	return qd_table_maker_add(r->maker, &new, err);
}

/* ---- the pin ---- */

static int add_stray(struct rehash *r, uint64_t entry, struct qd_err *err)
{
	if (qd_table_ext_holds(&r->old->ext, entry))
		return 0;
	if (r->nstrays == r->capacity) {
		uint64_t capacity = r->capacity ? r->capacity * 2 : 1024;
		uint64_t *strays = realloc(r->strays, capacity * sizeof(*strays));

		if (!strays)
			return qd_err_nomem(err, "the pin");
		r->strays = strays;
		r->capacity = capacity;
	}
	r->strays[r->nstrays++] = entry;
	return 0;
}

static int add_slot(struct rehash *r, const struct qd_surveyed *c, struct qd_err *err)
{
	struct slot s = { .entry = c->entry, .bitmap = qd_l2_is_compressed(c->entry) ? 0 : c->bitmap };

	return qd_records_put(r->add, r->nadd++, &s, err);
}

static int commit(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct rehash *r = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		const struct qd_surveyed *c = &v[i].c;

		if (v[i].broken)
			return refuse_broken(r, c, err);
		if (v[i].data) {
			r->result->clusters_read++;
			r->result->bytes_read += qd_l2_is_compressed(c->entry) ?
							 qd_l2_compressed(&r->img->geom, c->entry).nbytes :
							 r->img->geom.cluster_size;
		}
		if (c->references)
			rc = make_record(r, &v[i], err);
		if (rc == 0 && c->references && c->several && !c->pins)
			rc = add_slot(r, c, err);
		if (rc == 0 && !c->references && !c->places && c->pins)
			rc = add_stray(r, c->entry, err);
	}
	return rc;
}

static int next_slot(void *ctx, uint64_t *ret_entry, uint64_t *ret_bitmap, struct qd_err *err)
{
	struct rehash *r = ctx;
	struct slot s;
	int rc;

	if (r->added == r->nadd)
		return 0;
	rc = qd_records_get(r->add, r->added++, &s, err);
	if (rc)
		return rc;
	*ret_entry = s.entry;
	*ret_bitmap = s.bitmap;
	return 1;
}

static int compare_entries(const void *pa, const void *pb)
{
	const uint64_t *a = pa, *b = pb;

	return *a < *b ? -1 : *a > *b;
}

static void sort_strays(struct rehash *r)
{
	if (r->nstrays)
		qsort(r->strays, (size_t)r->nstrays, sizeof(*r->strays), compare_entries);
}

static bool is_stray(void *ctx, uint64_t entry)
{
	const struct rehash *r = ctx;

	return r->nstrays &&
	       bsearch(&entry, r->strays, (size_t)r->nstrays, sizeof(entry), compare_entries) != NULL;
}

/* ---- the walk ---- */

static int choose_digest(struct rehash *r, struct qd_err *err)
{
	const char *name = r->opts->hash;
	int rc;

	if (!name && r->old->opened)
		name = qd_table_digest(r->old->table)->name;
	rc = qd_digest_choose(name, &r->digest, err);
	if (rc == 0)
		r->result->hash = r->digest->name;
	return rc;
}

static int open_old(struct rehash *r, struct qd_err *err)
{
	int rc;

	if (!r->old->opened)
		return 0;
	rc = qd_known_open(r->old, r->img, &r->ahead, err);
	if (rc == 0)
		rc = qd_known_open(r->old, r->img, &r->behind, err);
	if (rc == 0)
		r->keeps = qd_known_digest(r->ahead) == r->digest;
	return rc;
}

static int gather(struct rehash *r, struct qd_err *err)
{
	struct qd_survey_opts so = { .digest = r->digest, .threads = r->opts->threads,
				    .memory = r->memory / 2,
				     .progress = r->progress };
	struct qd_survey_ops ops = { .want = want, .commit = commit };
	uint64_t bad = 0;
	int rc = qd_table_maker_new(&r->img->geom, r->digest, r->memory / 4, r->opts->tmpdir, &r->maker, err);

	if (rc == 0)
		rc = qd_records_new(sizeof(struct slot), r->memory / 8, r->opts->tmpdir, &r->add, err);
	if (rc == 0)
		rc = qd_survey_walk(r->img, &so, &ops, r, &bad, err);
	if (rc == 0 && bad)
		rc = qd_err_set(err, QD_E_CORRUPT,
				"%" PRIu64 " table entries cannot be true: run qdedup check "
				"--repair first", bad);
	if (rc)
		return rc;
	if (r->behind)
		r->result->changed += qd_known_count(r->behind) - r->matched;
	sort_strays(r);
	return 0;
}

/* ---- the new index ---- */

/* The old one says all this already, from the place that is asked for. */
static bool is_current(const struct rehash *r)
{
	bool same_place = r->old->external == (r->opts->index_path != NULL);

	/* With snapshots of its own it is never more than partial (install.h, N2). */
	return (r->old->state == QD_CONTAINER_VALID) == !qd_image_has_own_snapshots(r->img) &&
	       r->old->opened && same_place && !r->result->changed &&
	       r->digest == qd_known_digest(r->behind) && !qd_known_logged(r->behind) &&
	       !qd_known_is_damaged(r->behind) && !r->nadd && !r->nstrays && !qd_log_is_lent(&r->old->ext);
}

static int put_in_place(struct rehash *r, struct qd_err *err)
{
	struct qd_install in = {
		.maker = r->maker, .index_path = r->opts->index_path, .valid = true,
		.add = next_slot, .remove = r->nstrays ? is_stray : NULL, .ctx = r,
	};
	struct qd_install_result res;
	int rc;

	qd_log_own_sizes(&r->old->ext, &in.log_nbytes, &in.redo_nbytes);
	rc = qd_install_container(r->img, r->old, &in, &res, err);
	if (rc)
		return rc;
	r->result->entries = res.nrecords;
	r->result->nbytes = res.nbytes;
	r->result->generation = res.ext.generation;
	r->result->pinned = res.pinned;
	r->result->unpinned = res.unpinned;
	return 0;
}

/* What put_in_place would say. */
static int foresee(struct rehash *r, struct qd_err *err)
{
	struct qd_table_ext ext;
	uint64_t nbytes = 0, log, redo;
	int rc = qd_table_maker_finish(r->maker, r->old->ext.generation + 1, &ext, &nbytes, err);

	qd_log_own_sizes(&r->old->ext, &log, &redo);
	r->result->entries = qd_table_maker_records(r->maker);
	r->result->nbytes = qd_align_up(nbytes + 2 * log + redo, r->img->geom.cluster_size);
	r->result->generation = r->old->ext.generation + r->result->written;
	r->result->pinned = r->nadd;
	r->result->unpinned = r->nstrays;
	return rc;
}

static int rehash(struct rehash *r, struct qd_err *err)
{
	int rc = choose_digest(r, err);

	r->cap = qd_build_share_default(r->img->geom.refcount_order);
	if (rc == 0)
		rc = open_old(r, err);
	if (rc == 0)
		rc = gather(r, err);
	if (rc)
		return rc;
	r->result->written = !is_current(r);
	return r->result->written && !r->opts->dry_run ? put_in_place(r, err) : foresee(r, err);
}

static int gather_strays(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++)
		if (!v[i].c.references && !v[i].c.places && v[i].c.pins)
			rc = add_stray(ctx, v[i].c.entry, err);
	return rc;
}

/*
 * An extension that cannot be read does not say where its clusters are: they are those that
 * only the pin references.
 */
static int find_lost_container(struct rehash *r, struct qd_err *err)
{
	struct qd_survey_opts so = { .threads = 1, .memory = r->memory / 2 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = gather_strays };
	int rc;

	if (r->old->state != QD_CONTAINER_STALE || r->old->ext.container_nbytes || !qd_image_find_pin(r->img))
		return 0;
	rc = qd_survey_walk(r->img, &so, &ops, r, NULL, err);
	if (rc == 0)
		sort_strays(r);
	return rc;
}

static int drop(struct rehash *r, struct qd_err *err)
{
	struct qd_install_result res;
	int rc;

	r->result->written = qd_image_find_ext(r->img, QD_EXT_QDEDUP) ||
			     (r->img->header.autoclear & QD_AUTOCLEAR_INDEX);
	if (r->old->opened)
		r->result->changed = qd_table_nrecords(r->old->table);
	if (!r->result->written || r->opts->dry_run)
		return 0;
	rc = find_lost_container(r, err);
	if (rc == 0)
		rc = qd_install_drop_more(r->img, r->old, r->nstrays ? is_stray : NULL, r, &res, err);
	if (rc == 0)
		r->result->unpinned = res.unpinned;
	return rc;
}

/* ---- opening ---- */

static int refuse(const struct rehash *r, struct qd_err *err)
{
	const char *why = NULL;
	int rc = qd_change_refuse(r->img, err);

	if (rc == 0 && !r->opts->drop && qd_container_is_impossible(&r->img->header, &why))
		return qd_err_set(err, QD_E_UNSUPPORTED, "the image cannot have an index: %s", why);
	return rc ? rc : qd_soundness_require(r->img->io, QD_SOUND_COUNTS, r->opts->threads, r->memory,
					      r->progress, err);
}

static int run(struct rehash *r, struct qd_io *io, struct qd_err *err)
{
	int rc = qd_image_open(io, 0, &r->img, err);

	if (rc == 0)
		rc = refuse(r, err);
	if (rc == 0)
		rc = qd_container_open(r->img, r->opts->index_path, false, &r->old, err);
	if (rc)
		return rc;
	r->result->previous_state = qd_container_state_name(r->old->state);
	snprintf(r->result->previous_why, sizeof(r->result->previous_why), "%s", r->old->why);
	return r->opts->drop ? drop(r, err) : rehash(r, err);
}

int qd_rehash_io(struct qd_io *io, const struct qd_rehash_opts *opts, struct qd_progress *progress,
		 struct qd_rehash_result *ret_result, struct qd_err *err)
{
	struct rehash r = { .opts = opts, .result = ret_result, .progress = progress };
	int rc;

	*ret_result = (struct qd_rehash_result){ .previous_state = "absent" };
	r.memory = opts->memory ? opts->memory : qd_default_memory();
	rc = run(&r, io, err);
	qd_table_maker_free(r.maker);
	qd_records_free(r.add);
	free(r.strays);
	qd_known_free(r.ahead);
	qd_known_free(r.behind);
	qd_container_close(r.old);
	qd_image_detach(r.img);
	return rc ? qd_err_file(err, rc, io->name) : 0;
}

int qd_rehash(const char *path, const struct qd_rehash_opts *opts, struct qd_progress *progress,
	      struct qd_rehash_result *ret_result, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = opts->cache, .writable = !opts->dry_run };
	struct qd_io *io = NULL;
	int rc = qd_io_file_open(path, &file, &io, err);

	if (rc == 0)
		rc = qd_rehash_io(io, opts, progress, ret_result, err);
	qd_io_close(io);
	return rc;
}
