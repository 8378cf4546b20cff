/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	table    a b c d e      in host order
 *	log      c' !d f        c anew, d revoked, f new
 *	maker    a b e | c' f   what the log has comes last and is sorted in
 */
#include "ops/merge.h"

#include "base/host.h"

static int take_record(void *ctx, const struct qd_record *record, struct qd_err *err)
{
	return qd_table_maker_add(ctx, record, err);
}

int qd_merge_gather(struct qd_known *known, const struct qd_geom *geom, uint64_t memory, const char *tmpdir,
		    struct qd_table_maker **ret_maker, struct qd_err *err)
{
	struct qd_table_maker *maker = NULL;
	int rc = qd_table_maker_new(geom, qd_known_digest(known), memory, tmpdir, &maker, err);

	if (rc == 0)
		rc = qd_known_each(known, take_record, maker, err);
	if (rc) {
		qd_table_maker_free(maker);
		return rc;
	}
	*ret_maker = maker;
	return 0;
}

int qd_merge(struct qd_image *img, struct qd_container *old, const struct qd_merge *opts,
	     struct qd_install_result *ret_result, struct qd_err *err)
{
	uint64_t memory = opts->memory ? opts->memory : qd_default_memory();
	struct qd_install in = {
		.log_nbytes = opts->log_nbytes, .redo_nbytes = opts->redo_nbytes,
		.journal_id = opts->journal_id,
		.index_path = opts->index_path, .valid = old->state == QD_CONTAINER_VALID,
	};
	struct qd_known *known = NULL;
	int rc = qd_known_open(old, img, &known, err);

	if (rc == 0)
		rc = qd_merge_gather(known, &img->geom, memory / 2, opts->tmpdir, &in.maker, err);
	if (rc == 0 && qd_known_is_damaged(known))
		rc = qd_err_set(err, QD_E_CORRUPT, "the index is damaged: qdedup rehash makes a new one");
	if (rc == 0)
		rc = qd_install_container(img, old, &in, ret_result, err);
	qd_table_maker_free(in.maker);
	qd_known_free(known);
	return rc;
}
