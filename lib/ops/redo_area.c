/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/redo_area.h"

#include <errno.h>

#include "base/bytes.h"
#include "dedup/log.h"
#include "dedup/table.h"
#include "image/ext_edit.h"

#define MEMORY_SHARE 16u	/* of the memory: a batch of records takes several times its size while it is made */
#define LEAST (3 * QD_JOURNAL_CLUSTER)
#define CLUSTER_ROOM (QD_JOURNAL_CLUSTER - QD_JOURNAL_HEADER - 256u)	/* bytes of records, surely */

void qd_redo_area_plan(uint64_t nbytes, uint64_t memory, uint64_t *log_nbytes, uint64_t *redo_nbytes)
{
	uint64_t most = qd_min_u64(QD_JOURNAL_MAX_AREA, qd_align_down(memory / MEMORY_SHARE, QD_JOURNAL_CLUSTER));
	/* One more for what a cluster has no room for, one for the mark. */
	uint64_t need = (qd_div_up(nbytes, CLUSTER_ROOM) + 2) * QD_JOURNAL_CLUSTER;

	need = qd_max_u64(qd_min_u64(need, most), LEAST);
	if (!*log_nbytes)
		*log_nbytes = QD_JOURNAL_CLUSTER;
	*redo_nbytes = qd_max_u64(*redo_nbytes, need);
}

/* Its extension, if it is embedded and has a journal. */
static bool find(const struct qd_image *img, struct qd_table_ext *ret_ext)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_QDEDUP);

	return copy && qd_table_ext_decode(copy->data, copy->nbytes, ret_ext, NULL) == 0 &&
	       ret_ext->journal_off && !(ret_ext->flags & QD_TABLE_EXTERNAL);
}

/* So that no batch fails for want of room; *ret_full: there is none. */
static int reserve(const struct qd_image *img, const struct qd_table_ext *ext, bool *ret_full, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	uint64_t off = ext->container_off + ext->journal_off + 2ull * ext->log_nbytes;
	int rc = qd_io_reserve(img->io, off, ext->redo_nbytes, &why);

	*ret_full = rc == QD_E_IO && (why.sys_errno == ENOSPC || why.sys_errno == EDQUOT);
	if (rc && !*ret_full)
		qd_err_copy(err, &why);
	return *ret_full ? 0 : rc;
}

int qd_redo_area_open(const struct qd_image *img, struct qd_journal **ret_journal, struct qd_err *err)
{
	struct qd_table_ext ext;
	bool full = false;
	int rc;

	*ret_journal = NULL;
	if (!(img->header.autoclear & QD_AUTOCLEAR_INDEX) || !find(img, &ext))
		return 0;
	rc = reserve(img, &ext, &full, err);
	return rc || full ? rc : qd_log_open(img->io, ext.container_off, &ext, ret_journal, err);
}

/* ---- giving back ---- */

/* The extension afterwards. */
static struct qd_table_ext shorten(const struct qd_image *img, const struct qd_table_ext *ext, uint64_t nrecords)
{
	struct qd_table_ext new = *ext;
	uint64_t log, redo, end;

	qd_log_own_sizes(ext, &log, &redo);
	new.log_nbytes = (uint32_t)log;
	new.redo_nbytes = (uint32_t)redo;
	end = ext->journal_off + 2 * log + redo;
	if (!log) {
		new.journal_off = 0;
		new.journal_id = 0;
		end = qd_table_end(nrecords, ext->digest_nbytes);
	}
	new.container_nbytes = qd_align_up(end, img->geom.cluster_size);
	return new;
}

static int write_extension(struct qd_change *c, const struct qd_image *img, const struct qd_table_ext *ext,
			   struct qd_err *err)
{
	uint8_t data[QD_TABLE_EXT_SIZE];
	struct qd_ext_edit *e = NULL;
	int rc = qd_ext_edit_open(img, c->queue, &e, err);

	qd_table_ext_encode(ext, data);
	if (rc == 0)
		rc = qd_ext_edit_set(e, QD_EXT_QDEDUP, data, sizeof(data), err);
	qd_ext_edit_free(e);
	return rc ? rc : qd_queue_flush(c->queue, err);
}

/* What the last cluster holds of the areas would stay there for ever. */
static int clear_rest(struct qd_change *c, const struct qd_table_ext *ext, uint64_t nrecords, struct qd_err *err)
{
	uint64_t end = qd_table_end(nrecords, ext->digest_nbytes);

	if (ext->journal_off || end >= ext->container_nbytes)
		return 0;
	qd_queue_wrote_data(c->queue);
	return qd_io_zero(c->img->io, ext->container_off + end, ext->container_nbytes - end, err);
}

int qd_redo_area_give_back(struct qd_remap *r, const struct qd_image *img, uint64_t nrecords,
			   struct qd_err *err)
{
	struct qd_change *c = qd_remap_change(r);
	struct qd_table_ext ext, new;
	uint64_t first, n;
	int rc;

	if (!find(img, &ext) || !qd_log_is_lent(&ext))
		return 0;
	new = shorten(img, &ext, nrecords);
	first = (new.container_off + new.container_nbytes) >> img->geom.cluster_bits;
	n = (ext.container_nbytes - new.container_nbytes) >> img->geom.cluster_bits;
	rc = qd_change_begin(c, err);
	if (rc == 0)
		rc = write_extension(c, img, &new, err);
	if (rc == 0)
		rc = clear_rest(c, &new, nrecords, err);
	return rc || !n ? rc : qd_remap_unpin(r, first, n, err);
}
