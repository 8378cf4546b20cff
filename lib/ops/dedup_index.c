/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table: what it knows saves reading, and the plan makes a new one.
 *
 * Known is what a table in state valid has a record of, of a partial one what is pinned
 * as well.  A record nominates only: before anything is shared the bytes are compared.
 *
 * A table on an image with snapshots of the user's own is never more than partial
 * (ops/install.h); whether it is complete shows when the new records are compared with it.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "dedup/log.h"
#include "image/ext_edit.h"
#include "ops/dedup_int.h"
#include "ops/install.h"
#include "ops/known.h"
#include "ops/redo_area.h"

int dedup_index_open(struct dedup *d, struct qd_err *err)
{
	const char *path = d->opts->index_path;
	struct qd_container *c;
	int rc = qd_container_open(d->img, path, false, &d->container, err);

	if (rc)
		return rc;
	c = d->container;
	/* An extension that cannot be read may stand for clusters of the pin that nothing else names. */
	d->container_unknown = c->state == QD_CONTAINER_STALE && !c->ext.container_nbytes;
	if (!d->opts->hash && c->opened)
		d->digest = qd_table_digest(c->table);
	return 0;
}

/* Its records are believed as far as they go: twice, for two threads. */
static int open_known(struct dedup *d, struct qd_err *err)
{
	const struct qd_container *c = d->container;
	int rc;

	if (!c->opened || (c->state != QD_CONTAINER_VALID && c->state != QD_CONTAINER_PARTIAL) ||
	    qd_table_digest(c->table) != d->digest)
		return 0;
	rc = qd_known_open(c, d->img, &d->known, err);
	return rc ? rc : qd_known_open(c, d->img, &d->compared, err);
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

/* Has the header's cluster room for the extension?  In small clusters there may be none. */
static int fits_header(const struct dedup *d, bool *ret_fits, struct qd_err *err)
{
	uint8_t ext[QD_TABLE_EXT_SIZE] = { 0 };
	struct qd_ext_edit *edit = NULL;
	int rc = qd_ext_edit_open(d->img, NULL, &edit, err);

	if (rc == 0)
		rc = qd_ext_edit_set(edit, QD_EXT_QDEDUP, ext, sizeof(ext), err);
	qd_ext_edit_free(edit);
	*ret_fits = rc == 0;
	if (rc != QD_E_UNSUPPORTED)
		return rc;
	qd_err_clear(err);
	return 0;
}

/* After it became version 3. */
int dedup_index_check_room(struct dedup *d, struct qd_err *err)
{
	bool fits;
	int rc = d->maker ? fits_header(d, &fits, err) : 0;

	if (rc || !d->maker || fits)
		return rc;
	d->result->no_room = true;
	qd_table_maker_free(d->maker);
	d->maker = NULL;
	return 0;
}

int dedup_index_begin(struct dedup *d, struct qd_err *err)
{
	int rc = digest_zeros(d, err);
	bool fits = true;

	if (rc == 0)
		rc = open_known(d, err);
	if (d->opts->no_index || (d->opts->no_pin && !d->opts->index_path))
		return rc;
	if (rc == 0 && d->img->header.version >= 3)
		rc = fits_header(d, &fits, err);
	d->result->no_room = !fits;
	if (!fits)
		return rc;
	if (rc)
		return rc;
	return qd_table_maker_new(d->geom, d->digest, d->memory / 8, d->opts->tmpdir, &d->maker, err);
}

bool dedup_index_knows(void *ctx, struct qd_survey_content *x)
{
	struct dedup *d = ctx;
	struct qd_record r;

	if (!d->known || qd_known_find(d->known, x->c.entry, &r, NULL) != 1 ||
	    !qd_known_holds(d->container, d->img, &x->c, &r) ||
	    memcmp(r.hash, d->zeros, d->digest->nbytes) == 0)
		return false;
	memcpy(x->digest, r.hash, d->digest->nbytes);
	return true;
}

int dedup_record_again(struct dedup *d, const struct dedup_keeper *k, const uint8_t *digest, bool full,
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

int dedup_record(struct dedup *d, const struct dedup_keeper *k, const uint8_t *digest, struct qd_err *err)
{
	struct qd_record old;

	d->nrecords += d->maker != NULL;
	d->nsame += d->maker && d->compared && qd_known_find(d->compared, k->entry, &old, NULL) == 1 &&
		    memcmp(old.hash, digest, d->digest->nbytes) == 0;
	return dedup_record_again(d, k, digest, false, err);
}

bool dedup_index_needed(const struct dedup *d)
{
	const struct qd_container *c = d->container;

	if (d->opts->no_index || !d->maker)
		return d->nmoves && c->state != QD_CONTAINER_ABSENT;	/* to be dropped */
	if (d->nmoves || !d->compared || c->external != (d->opts->index_path != NULL))
		return true;
	if (c->state != QD_CONTAINER_VALID && !qd_image_has_own_snapshots(d->img))
		return true;
	if (d->nsame != d->nrecords || qd_known_is_damaged(d->compared) || qd_log_is_lent(&c->ext))
		return true;
	return !qd_known_logged(d->compared) && d->nrecords != qd_known_count(d->compared);
}

/* Nothing has happened but that clusters at the end of the file were written to. */
static bool is_untouched(const struct dedup *d)
{
	uint8_t bits[8];

	return qd_io_read(d->io, bits, sizeof(bits), QD_HEADER_OFF_INCOMPATIBLE, NULL) == 0 &&
	       !(qd_get_be64(bits) & QD_INCOMPAT_DIRTY);
}

/* With a redo area, if there is use and room for one. */
static int install(struct dedup *d, struct qd_install_result *result, struct qd_err *err)
{
	struct qd_install in = { .maker = d->maker, .index_path = d->opts->index_path, .valid = true };
	bool logs = d->nmoves && !d->opts->late_counts && !d->opts->index_path && !qd_image_has_own_snapshots(d->img);
	struct qd_err why = { .code = 0 };
	uint64_t log, redo;
	int rc;

	qd_log_own_sizes(&d->container->ext, &log, &redo);
	in.log_nbytes = log;
	in.redo_nbytes = redo;
	if (logs)
		qd_redo_area_plan(d->record_nbytes, d->memory / 2, &in.log_nbytes, &in.redo_nbytes);
	rc = qd_install_container(d->img, d->container, &in, result, &why);
	if (rc == QD_E_IO && logs && is_untouched(d)) {
		in.log_nbytes = log;
		in.redo_nbytes = redo;
		rc = qd_install_container(d->img, d->container, &in, result, &why);
	}
	if (rc)
		qd_err_copy(err, &why);
	return rc;
}

int dedup_index_write(struct dedup *d, struct qd_err *err)
{
	struct qd_install_result result = { .flushes = 0 };
	int rc;

	if (d->maker)
		rc = install(d, &result, err);
	else
		rc = qd_install_drop(d->img, d->container, &result, err);
	d->result->flushes += result.flushes;
	d->result->indexed = rc == 0 && d->maker;
	d->nstored = result.nrecords;
	dedup_index_close(d);
	return rc;
}

void dedup_index_close(struct dedup *d)
{
	qd_known_free(d->known);
	qd_known_free(d->compared);
	d->known = d->compared = NULL;
	qd_container_close(d->container);
	d->container = NULL;
	qd_table_maker_free(d->maker);
	d->maker = NULL;
}
