/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table: what it knows saves reading, and the plan makes a new one.
 *
 *	records of the old table, in host order   --+-- merged with the survey, in host order
 *	clusters of the survey                    --+   --> known, or to be read
 *
 * Known is what a table in state valid has a record of, of a partial one what is pinned
 * as well.  A record nominates only: before anything is shared the bytes are compared.
 * A journal's entries change what holds, so a table with a journal in use is not asked.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "ops/dedup_int.h"
#include "ops/install.h"

int dedup_index_open(struct dedup *d, struct qd_err *err)
{
	const char *path = d->opts->index_path;
	struct qd_container *c;
	int rc = qd_container_open(d->img, path, false, &d->container, err);

	if (rc)
		return rc;
	c = d->container;
	if (!c->external) {
		d->container_first = c->ext.container_off;
		d->container_end = c->ext.container_off + c->ext.container_nbytes;
	}
	/* An extension that cannot be read may stand for clusters of the pin that nothing else names. */
	d->container_unknown = c->state == QD_CONTAINER_STALE && !c->ext.container_nbytes;
	if (!d->opts->hash && c->opened)
		d->digest = qd_table_digest(c->table);
	return 0;
}

/* May its records be believed as far as they go? */
static bool is_usable(const struct dedup *d)
{
	const struct qd_container *c = d->container;

	return c->opened && (c->state == QD_CONTAINER_VALID || c->state == QD_CONTAINER_PARTIAL) &&
	       c->ext.log_generation == 0 && qd_table_digest(c->table) == d->digest;
}

static int digest_zeros(struct dedup *d, struct qd_err *err)
{
	struct qd_digester *digester = NULL;
	int rc = qd_digester_new(d->digest, &digester, err);

	memset(d->scratch, 0, (size_t)d->geom->cluster_size);
	if (rc == 0)
		rc = qd_digester_compute(digester, d->scratch, (size_t)d->geom->cluster_size, d->zeros, err);
	qd_digester_free(digester);
	return rc;
}

int dedup_index_begin(struct dedup *d, struct qd_err *err)
{
	const char *why;
	int rc = digest_zeros(d, err);

	d->use_table = is_usable(d);
	if (d->opts->no_index || (d->opts->no_pin && !d->opts->index_path))
		return rc;
	if (d->img->header.version >= 3 && qd_container_is_impossible(&d->img->header, &why))
		return rc;
	return rc ? rc : qd_table_maker_new(d->geom, d->digest, d->memory / 8, d->opts->tmpdir, &d->maker, err);
}

/* The record of the cluster; the cursor only moves on.  A block that cannot be read ends it all. */
static bool find_record(struct dedup *d, const struct qd_surveyed *c, struct qd_record *r)
{
	uint64_t off = qd_record_host_off(d->geom, c->entry), at;
	uint64_t n = qd_table_nrecords(d->container->table);

	for (; d->cursor < n; d->cursor++) {
		if (qd_table_get(d->container->table, d->cursor, r, NULL)) {
			d->use_table = false;
			return false;
		}
		at = qd_record_host_off(d->geom, r->entry);
		if (at > off || (at == off && r->entry >= c->entry))
			return at == off && r->entry == c->entry;
	}
	return false;
}

bool dedup_index_knows(void *ctx, struct qd_survey_content *x)
{
	struct dedup *d = ctx;
	struct qd_record r;

	if (!d->use_table || (d->container->state == QD_CONTAINER_PARTIAL && !x->c.pins) ||
	    !find_record(d, &x->c, &r) || memcmp(r.hash, d->zeros, d->digest->nbytes) == 0) {
		d->nunknown++;
		return false;
	}
	memcpy(x->digest, r.hash, d->digest->nbytes);
	return true;
}

int dedup_record(struct dedup *d, const struct dedup_keeper *k, const uint8_t *digest, bool full,
		 struct qd_err *err)
{
	struct qd_record r = { .entry = k->entry, .guest = k->guest };

	if (!d->maker)
		return 0;
	if (full)
		r.flags |= QD_RECORD_FULL;
	if (k->partial)
		r.flags |= QD_RECORD_PARTIAL;
	if (!k->in_active)
		r.flags |= QD_RECORD_SNAPSHOT;
	memcpy(r.hash, digest, d->digest->nbytes);
	return qd_table_maker_add(d->maker, &r, err);
}

bool dedup_index_needed(const struct dedup *d)
{
	const struct qd_container *c = d->container;

	if (d->opts->no_index || !d->maker)
		return d->nmoves && c->state != QD_CONTAINER_ABSENT;	/* to be dropped */
	return d->nmoves || d->nunknown || !d->use_table || c->state != QD_CONTAINER_VALID ||
	       c->external != (d->opts->index_path != NULL) ||
	       qd_table_nrecords(c->table) != d->nrecords;
}

int dedup_index_write(struct dedup *d, struct qd_err *err)
{
	struct qd_install in = {
		.maker = d->maker, .index_path = d->opts->index_path, .valid = true,
		.log_nbytes = d->container->ext.log_nbytes, .redo_nbytes = d->container->ext.redo_nbytes,
	};
	struct qd_install_result result = { .flushes = 0 };
	int rc;

	if (d->maker)
		rc = qd_install_container(d->img, d->container, &in, &result, err);
	else
		rc = qd_install_drop(d->img, d->container, &result, err);
	d->result->flushes += result.flushes;
	d->result->indexed = rc == 0 && d->maker;
	dedup_index_close(d);
	return rc;
}

void dedup_index_close(struct dedup *d)
{
	qd_container_close(d->container);
	d->container = NULL;
	qd_table_maker_free(d->maker);
	d->maker = NULL;
}
