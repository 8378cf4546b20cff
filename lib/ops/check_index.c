/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The container says itself whether it is sound as a whole; then its blocks are read, and in
 * state valid each record of a plain one must tell of a cluster that some layer refers to.  In state
 * partial others may have freed or used such clusters again, which is no damage.
 */
#include "ops/check_index.h"

#include "base/host.h"
#include "dedup/log.h"
#include "format/entry.h"
#include "ops/known.h"
#include "ops/rehash.h"
#include "ops/survey.h"

struct index_check {
	const struct qd_check_opts *opts;
	struct qd_check_result *result;
	struct qd_index_check *index;
	struct qd_image *img;
	struct qd_container *c;
	struct qd_known *known;		/* NULL: records are not held against the tables */
	uint64_t matched;		/* records of plain clusters that something refers to */
	uint64_t nplain;		/* records of plain clusters */
};

static void found(struct index_check *x, enum qd_finding_type type, uint64_t host_off, uint64_t nitems,
		  uint64_t value, const char *label)
{
	struct qd_finding f = {
		.type = type, .nitems = 1, .value = { value }, .label = label,
		.place = { host_off == QD_NOWHERE ? QD_AT_HEADER : QD_AT_HOST, 0, 0, QD_NOWHERE, host_off },
	};

	x->result->count[type] += nitems;
	x->index->errors += nitems;
	if (x->opts->found)
		x->opts->found(x->opts->ctx, &f, x->result->cluster_size);
}

static void bad_block(void *ctx, uint32_t block, const char *why)
{
	struct index_check *x = ctx;

	found(x, QD_F_INDEX_BLOCK, x->c->off + qd_table_block_off(x->c->ext.dir_nbytes, block), 1, block,
	      why);
}

static int check_journal(struct index_check *x, struct qd_err *err)
{
	struct qd_journal_state state;
	struct qd_journal *j = NULL;
	struct qd_err local = { .code = 0 };
	uint64_t at = x->c->off + x->c->ext.journal_off;
	int rc = qd_log_open(x->c->io, x->c->off, &x->c->ext, &j, &local);

	if (rc == QD_E_CORRUPT) {
		found(x, QD_F_INDEX_JOURNAL, at, 1, 0, local.msg);
		return 0;
	}
	if (rc) {
		qd_err_copy(err, &local);
		return rc;
	}
	if (!j)
		return 0;
	qd_journal_state(j, &state);
	if (state.health == QD_JOURNAL_DAMAGED)
		found(x, QD_F_INDEX_JOURNAL, at, 1, 0, state.why);
	qd_journal_close(j);
	return 0;
}

/* ---- records and pin against the tables ---- */

static uint64_t host_off_of(const struct index_check *x, uint64_t entry)
{
	return qd_l2_is_compressed(entry) ? qd_l2_compressed(&x->img->geom, entry).host_off : entry;
}

static int compare(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct index_check *x = ctx;

	for (unsigned i = 0; i < n; i++) {
		const struct qd_surveyed *c = &v[i].c;
		struct qd_record record;
		int rc = 0;

		if (c->pins > 1)
			found(x, QD_F_PINNED_TWICE,
			      host_off_of(x, c->entry), 1, c->pins, NULL);
		/* What only the pin refers to any more keeps its record. */
		if (x->known && (c->references || c->places || c->pins))
			rc = qd_known_find(x->known, c->entry, &record, err);
		if (rc < 0)
			return rc;
		x->matched += rc == 1 && !qd_l2_is_compressed(c->entry);
	}
	return 0;
}

/*
 * Those of compressed clusters are not held against the tables: who overwrites one cannot see whether another
 * entry reads it, so its record stays until a host cluster of it is free.  Its bytes do, too.
 */
static int count_plain(void *ctx, const struct qd_record *record, struct qd_err *err)
{
	struct index_check *x = ctx;

	(void)err;
	x->nplain += !qd_l2_is_compressed(record->entry);
	return 0;
}

static int check_references(struct index_check *x, struct qd_err *err)
{
	uint64_t memory = x->opts->memory ? x->opts->memory : qd_default_memory();
	struct qd_survey_opts so = { .threads = 1, .memory = memory / 2 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = compare };
	int rc = 0;

	if (x->c->state == QD_CONTAINER_VALID && x->c->opened)
		rc = qd_known_open(x->c, x->img, &x->known, err);
	if (rc == 0)
		rc = qd_survey_walk(x->img, &so, &ops, x, NULL, err);
	if (rc == 0 && x->known)
		rc = qd_known_each(x->known, count_plain, x, err);
	if (rc || !x->known || qd_known_is_damaged(x->known))
		return rc;
	if (x->nplain > x->matched)
		found(x, QD_F_INDEX_RECORD, QD_NOWHERE, x->nplain - x->matched, x->nplain - x->matched, NULL);
	return 0;
}

static int check(struct index_check *x, struct qd_err *err)
{
	uint64_t nbad = 0;
	int rc = qd_container_open(x->img, NULL, false, &x->c, err);

	if (rc)
		return rc;
	x->index->state = qd_container_state_name(x->c->state);
	if (x->c->state == QD_CONTAINER_STALE)
		found(x, QD_F_INDEX_STALE, QD_NOWHERE, 1, 0, x->c->why);
	if (x->c->opened)
		rc = qd_table_check(x->c->table, bad_block, x, &nbad, err);
	if (rc == 0 && x->c->opened)
		rc = check_journal(x, err);
	if (rc == 0 && qd_image_find_pin(x->img))
		rc = check_references(x, err);
	return rc;
}

int qd_check_index(struct qd_io *io, const struct qd_check_opts *opts, struct qd_check_result *result,
		   struct qd_index_check *ret_index, struct qd_err *err)
{
	struct index_check x = { .opts = opts, .result = result, .index = ret_index };
	struct qd_err local = { .code = 0 };
	int rc;

	*ret_index = (struct qd_index_check){ .errors = 0 };
	if (!result->is_qcow2 || result->corruptions || result->check_errors)
		return 0;
	rc = qd_image_open(io, 0, &x.img, &local);
	if (rc == 0)
		rc = check(&x, &local);
	qd_known_free(x.known);
	qd_container_close(x.c);
	qd_image_detach(x.img);
	if (rc == QD_E_CORRUPT || rc == QD_E_UNSUPPORTED) {
		ret_index->state = NULL;
		return 0;
	}
	if (rc)
		qd_err_copy(err, &local);
	return rc;
}

int qd_check_index_rebuild(struct qd_io *io, uint64_t memory, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .memory = memory };
	struct qd_rehash_result result;

	return qd_rehash_io(io, &opts, NULL, &result, err);
}

int qd_check_index_drop(struct qd_io *io, uint64_t memory, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .drop = true, .memory = memory };
	struct qd_rehash_result result;

	return qd_rehash_io(io, &opts, NULL, &result, err);
}
