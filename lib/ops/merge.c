/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	table    a b c d e      in host order
 *	log      c' !d f        c anew, d revoked, f new
 *	maker    a b c' e | f   what the log has besides comes last and is sorted in
 */
#include "ops/merge.h"

#include "base/host.h"
#include "dedup/log.h"
#include "ops/known.h"

struct merge {
	struct qd_known *known;
	struct qd_table_maker *maker;
};

static int add_known(struct merge *m, uint64_t entry, struct qd_err *err)
{
	struct qd_record record;
	int rc = qd_known_find(m->known, entry, &record, err);

	return rc == 1 ? qd_table_maker_add(m->maker, &record, err) : rc;
}

static int take_record(void *ctx, uint64_t n, const struct qd_record *record, struct qd_err *err)
{
	(void)n;
	return add_known(ctx, record->entry, err);
}

static int take_logged(void *ctx, enum qd_journal_type type, const struct qd_record *record,
		       struct qd_err *err)
{
	return type == QD_JOURNAL_HASH ? add_known(ctx, record->entry, err) : 0;
}

static int gather(struct merge *m, struct qd_container *old, struct qd_err *err)
{
	struct qd_journal *j = NULL;
	int rc = qd_table_walk(old->table, take_record, m, err);

	if (rc == 0)
		rc = qd_log_open(old->io, old->off, &old->ext, &j, err);
	if (rc == 0 && j)
		rc = qd_journal_log_walk(j, take_logged, m, err);
	qd_journal_close(j);
	return rc;
}

int qd_merge(struct qd_image *img, struct qd_container *old, const struct qd_merge *opts,
	     struct qd_install_result *ret_result, struct qd_err *err)
{
	uint64_t memory = opts->memory ? opts->memory : qd_default_memory();
	struct qd_install in = {
		.log_nbytes = opts->log_nbytes, .redo_nbytes = opts->redo_nbytes,
		.index_path = opts->index_path, .valid = old->state == QD_CONTAINER_VALID,
	};
	struct merge m = { .known = NULL };
	int rc = qd_known_open(old, img, &m.known, err);

	if (rc == 0)
		rc = qd_table_maker_new(&img->geom, qd_known_digest(m.known), memory / 2, opts->tmpdir,
					&m.maker,
					err);
	if (rc == 0)
		rc = gather(&m, old, err);
	in.maker = m.maker;
	if (rc == 0)
		rc = qd_install_container(img, old, &in, ret_result, err);
	qd_table_maker_free(m.maker);
	qd_known_free(m.known);
	return rc;
}
