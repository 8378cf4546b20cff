/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dedup/log.h"

#include <inttypes.h>

#include "base/bytes.h"
#include "image/ext_edit.h"

int qd_log_open(struct qd_io *io, uint64_t container_off, const struct qd_table_ext *ext,
		struct qd_journal **ret_journal, struct qd_err *err)
{
	struct qd_journal_place place;
	int rc;

	*ret_journal = NULL;
	if (!ext->journal_off)
		return 0;
	rc = qd_journal_place_of(ext, container_off, &place, err);
	return rc ? rc : qd_journal_open(io, &place, ext->digest_nbytes, ret_journal, err);
}

struct walk {
	const struct qd_geom *geom;
	int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record, struct qd_err *err);
	void *ctx;
};

static int check_record(void *ctx, enum qd_journal_type type, const struct qd_record *record,
			struct qd_err *err)
{
	const struct walk *w = ctx;

	if (!qd_record_is_valid(w->geom, record))
		return qd_err_set(err, QD_E_CORRUPT, "journal: a record names no cluster: 0x%" PRIx64,
				  record->entry);
	return w->fn(w->ctx, type, record, err);
}

int qd_log_walk(struct qd_journal *j, const struct qd_geom *g,
		int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record,
			  struct qd_err *err), void *ctx, struct qd_err *err)
{
	struct walk w = { .geom = g, .fn = fn, .ctx = ctx };

	return qd_journal_log_walk(j, check_record, &w, err);
}

static int set_extension(const struct qd_image *img, const struct qd_table_ext *ext, struct qd_queue *queue,
			 struct qd_err *err)
{
	uint8_t data[QD_TABLE_EXT_SIZE];
	struct qd_ext_edit *e = NULL;
	int rc = qd_ext_edit_open(img, queue, &e, err);

	qd_table_ext_encode(ext, data);
	if (rc == 0)
		rc = qd_ext_edit_set(e, QD_EXT_QDEDUP, data, sizeof(data), err);
	qd_ext_edit_free(e);
	return rc;
}

int qd_log_record_closed(const struct qd_image *img, bool external, const struct qd_table_ext *ext,
			 const struct qd_journal *journal, struct qd_queue *queue, struct qd_err *err)
{
	struct qd_table_ext new = *ext;
	struct qd_queue *own = NULL;
	struct qd_journal_state s;
	int rc = 0;

	qd_journal_state(journal, &s);
	new.log_generation = s.log_generation;
	new.log_clusters = s.log_clusters;
	new.log_crc = s.log_crc;
	if (external || (new.log_generation == ext->log_generation && new.log_clusters == ext->log_clusters))
		return 0;
	if (!queue)
		rc = qd_queue_new(img->io, 1u << 16, &own, err);
	if (rc == 0)
		rc = set_extension(img, &new, queue ? queue : own, err);
	if (rc == 0 && own)
		rc = qd_queue_flush(own, err);
	qd_queue_free(own);
	return rc;
}

uint64_t qd_log_redo_for(uint64_t log_nbytes)
{
	return qd_min_u64(4 * log_nbytes, QD_JOURNAL_MAX_AREA);
}

bool qd_log_is_lent(const struct qd_table_ext *ext)
{
	return ext->journal_off &&
	       (ext->log_nbytes == QD_JOURNAL_CLUSTER || ext->redo_nbytes > qd_log_redo_for(ext->log_nbytes));
}

void qd_log_own_sizes(const struct qd_table_ext *ext, uint64_t *ret_log_nbytes, uint64_t *ret_redo_nbytes)
{
	bool none = !ext->journal_off || ext->log_nbytes == QD_JOURNAL_CLUSTER;

	*ret_log_nbytes = none ? 0 : ext->log_nbytes;
	*ret_redo_nbytes = none ? 0 : qd_min_u64(ext->redo_nbytes, qd_log_redo_for(ext->log_nbytes));
}
