/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hash table of an image whose clusters move.  Its records name clusters by where they
 * lie, so before the first one moves the container is taken out, its records, those of
 * the journal's log included, kept in a temporary file; each move is remembered (of compressed
 * clusters: compact_names.h); and at the end a new container is made of the records of the
 * clusters that are still there, by their new names.  Of a table in state partial only the records
 * of pinned clusters are kept: nobody knows of the others.  But where the image has snapshots of
 * its own, which is why the state is no better, all are kept if they tell of exactly what the
 * tables refer to (ops/verify.c says what that is worth).
 *
 *	was    now -> was          record of `was`
 *	5      5                   kept as it is
 *	9      2 -> 9              found by 9, written as 2
 *
 * A crash in between leaves an image without a hash table: `rehash` makes a new one.
 */
#include "ops/compact_int.h"

#include <stdlib.h>

#include "dedup/container.h"
#include "dedup/log.h"
#include "dedup/records.h"
#include "format/entry.h"
#include "ops/compact_names.h"
#include "ops/known.h"
#include "ops/merge.h"

struct compact_index {
	struct qd_geom geom;
	struct compact_stored records;	/* as they were */
	struct qd_records *was;		/* by host cluster: what it was, 0: the same */
	struct compact_names *streams;	/* compressed ones likewise */
	uint64_t log_nbytes, redo_nbytes;
	uint64_t generation;		/* of the container that was taken out */
	bool valid;			/* every record held */
	const char *path;		/* external: its file */
};

void compact_index_free(struct compact *c)
{
	struct compact_index *ix = c->index;

	if (!ix)
		return;
	compact_stored_close(&ix->records);
	qd_records_free(ix->was);
	compact_names_free(ix->streams);
	free(ix);
	c->index = NULL;
}

/* ---- taking it out ---- */

/* All that a container that can be believed tells, as a table in a temporary file. */
static int keep_records(struct compact *c, struct compact_index *ix, const struct qd_image *img,
			const struct qd_container *old, struct qd_err *err)
{
	struct qd_known *known = NULL;
	struct qd_table_maker *maker = NULL;
	int rc = qd_known_open(old, img, &known, err);

	if (rc == 0)
		rc = qd_merge_gather(known, &ix->geom, c->memory / 8, c->opts->tmpdir, &maker, err);
	if (rc == 0)
		rc = compact_stored_make(maker, &ix->geom, c->opts->tmpdir, &ix->records, err);
	if (rc == 0)
		rc = qd_records_new(8, c->memory / 8, c->opts->tmpdir, &ix->was, err);
	if (rc == 0)
		rc = compact_names_new(&ix->geom, c->memory / 16, c->opts->tmpdir, &ix->streams, err);
	qd_known_free(known);
	return rc;
}

static int take(struct compact *c, struct qd_image *img, struct qd_container *old, struct qd_err *err)
{
	struct qd_install_result r;
	int rc = 0;

	if (old->opened && (old->state == QD_CONTAINER_VALID || old->state == QD_CONTAINER_PARTIAL)) {
		c->index = calloc(1, sizeof(*c->index));
		if (!c->index)
			return qd_err_nomem(err, "the hash table");
		c->index->geom = img->geom;
		c->index->valid = old->state == QD_CONTAINER_VALID;
		qd_log_own_sizes(&old->ext, &c->index->log_nbytes, &c->index->redo_nbytes);
		c->index->generation = old->ext.generation;
		c->index->path = old->external ? c->opts->index_path : NULL;
		rc = keep_records(c, c->index, img, old, err);
	}
	if (rc == 0 && old->state != QD_CONTAINER_ABSENT) {
		rc = qd_install_drop(img, old, &r, err);
		c->res->flushes += rc ? 0 : r.flushes;
	}
	return rc;
}

int compact_index_take(struct compact *c, struct qd_err *err)
{
	struct qd_image *img = NULL;
	struct qd_container *old = NULL;
	int rc = compact_open(c, &img, err);

	if (rc == 0)
		rc = qd_container_open(img, c->opts->index_path, false, &old, err);
	if (rc == 0)
		rc = take(c, img, old, err);
	qd_container_close(old);
	compact_close(img);
	return rc;
}

/* ---- following moves ---- */

/* What a cluster was before the first move. */
static int original(const struct compact_index *ix, uint64_t entry, uint64_t *ret_was, struct qd_err *err)
{
	uint8_t bytes[8];
	int rc;

	if (qd_l2_is_compressed(entry))
		return compact_names_find(ix->streams, entry, ret_was, err);
	*ret_was = entry;
	rc = qd_records_get(ix->was, entry >> ix->geom.cluster_bits, bytes, err);
	if (rc == 0 && qd_get_be64(bytes))
		*ret_was = qd_get_be64(bytes);
	return rc;
}

int compact_index_moved(struct compact *c, uint64_t from, uint64_t to, struct qd_err *err)
{
	struct compact_index *ix = c->index;
	uint64_t was;
	uint8_t bytes[8];
	int rc;

	if (!ix)
		return 0;
	if (qd_l2_is_compressed(to))
		return compact_names_add(ix->streams, from, to, err);
	rc = original(ix, from, &was, err);
	if (rc)
		return rc;
	qd_put_be64(bytes, was);
	return qd_records_put(ix->was, to >> ix->geom.cluster_bits, bytes, err);
}

/* ---- putting it back ---- */

struct putting {
	struct compact_index *ix;
	struct qd_table_maker *maker;
	struct qd_pinned *pinned;
	const struct qd_image *img;
	uint64_t nsame;			/* records that the tables agree with */
	bool differs;			/* the tables refer to something that has no record */
	bool all;			/* records of clusters that are not pinned, too */
};

/* 1: *ret_record is what was known of a cluster before it moved; 0: there is none. */
static int find_record(struct compact_index *ix, uint64_t entry, struct qd_record *ret_record,
		       struct qd_err *err)
{
	uint64_t was;
	int rc = original(ix, entry, &was, err);

	return rc ? rc : qd_table_find(ix->records.table, was, ret_record, err);
}

static int hold_against_tables(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct putting *p = ctx;
	struct qd_record record;

	for (unsigned i = 0; i < n; i++) {
		int rc = find_record(p->ix, v[i].c.entry, &record, err);

		if (rc < 0)
			return rc;
		p->nsame += rc == 1 && qd_known_same_place(p->img, &v[i].c, &record);
		p->differs = p->differs || (rc == 0 && v[i].c.references);
	}
	return 0;
}

/* Which records are kept? */
static int choose(struct putting *p, const struct qd_survey_opts *opts, struct qd_err *err)
{
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = hold_against_tables };
	int rc;

	p->all = p->ix->valid;
	if (p->all || !qd_image_has_own_snapshots(p->img))
		return 0;
	rc = qd_survey_walk(p->img, opts, &ops, p, NULL, err);
	p->all = !p->differs && p->nsame == qd_table_nrecords(p->ix->records.table);
	return rc;
}

static int put_records(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct putting *p = ctx;
	struct qd_record record;

	for (unsigned i = 0; i < n; i++) {
		int rc;

		if (!p->all && !qd_pinned_has(p->pinned, v[i].c.entry))
			continue;
		rc = find_record(p->ix, v[i].c.entry, &record, err);
		if (rc < 0)
			return rc;
		if (rc == 0)
			continue;
		record.entry = v[i].c.entry;
		rc = qd_table_maker_add(p->maker, &record, err);
		if (rc)
			return rc;
	}
	return 0;
}

static int install(struct compact *c, struct qd_image *img, struct qd_table_maker *maker, struct qd_err *err)
{
	struct qd_install in = {
		.maker = maker, .log_nbytes = c->index->log_nbytes, .redo_nbytes = c->index->redo_nbytes,
		.index_path = c->index->path, .valid = c->index->valid,
	};
	struct qd_container *none = NULL;
	struct qd_install_result r;
	int rc = qd_container_open(img, NULL, false, &none, err);

	if (rc == 0) {
		none->ext.generation = c->index->generation;
		rc = qd_install_container(img, none, &in, &r, err);
	}
	if (rc == 0)
		c->res->flushes += r.flushes;
	c->res->indexed = rc == 0;
	qd_container_close(none);
	return rc;
}

int compact_index_put(struct compact *c, struct qd_err *err)
{
	struct qd_survey_opts opts = { .threads = 1, .memory = c->memory / 4 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = put_records };
	struct putting p = { .ix = c->index };
	struct qd_table_ext none = { .version = 0 };
	struct qd_image *img = NULL;
	int rc;

	if (!c->index)
		return 0;
	rc = compact_open(c, &img, err);
	p.img = img;
	if (rc == 0)
		rc = choose(&p, &opts, err);
	if (rc == 0)
		rc = qd_pinned_load(img, &none, c->memory / 8, &p.pinned, err);
	if (rc == 0)
		rc = qd_table_maker_new(&c->index->geom, qd_table_digest(c->index->records.table),
					c->memory / 8, c->opts->tmpdir, &p.maker, err);
	if (rc == 0)
		rc = qd_survey_walk(img, &opts, &ops, &p, NULL, err);
	if (rc == 0)
		rc = install(c, img, p.maker, err);
	qd_table_maker_free(p.maker);
	qd_pinned_free(p.pinned);
	compact_close(img);
	return rc;
}
