/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/pending.h"

#include "txn/journal.h"

int qd_pending_cross_out(const struct qd_image *img, struct qd_err *err)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_QDEDUP);
	struct qd_journal_place place;
	struct qd_journal *j = NULL;
	struct qd_table_ext ext;
	int rc;

	/* Without the feature bit nothing is replayed; only embedded journals hold such writes. */
	if (!copy || !(img->header.autoclear & QD_AUTOCLEAR_INDEX) ||
	    qd_table_ext_decode(copy->data, copy->nbytes, &ext, NULL) || !ext.journal_off ||
	    (ext.flags & QD_TABLE_EXTERNAL) || qd_journal_place_of(&ext, ext.container_off, &place, NULL))
		return 0;
	rc = qd_journal_open(img->io, &place, ext.digest_nbytes, &j, err);
	if (rc == 0)
		rc = qd_journal_redo_applied(j, err);
	qd_journal_close(j);
	if (rc != QD_E_CORRUPT)
		return rc;
	qd_err_clear(err);
	return 0;
}
