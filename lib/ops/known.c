/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log's entries, the last one of each cluster, are sorted in memory and looked at before
 * the table.  A log has at most a few ten thousand.
 */
#include "ops/known.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

struct change {
	struct qd_record record;
	uint64_t number;		/* in the log */
	bool revoked;
};

struct qd_known {
	struct qd_table *table;
	struct change *changes;		/* sorted by entry */
	uint64_t nchanges;
	uint64_t capacity;
	uint64_t logged;
	uint64_t count;
	bool damaged;
};

/* ---- the table ---- */

static int find_in_table(struct qd_known *k, uint64_t entry, struct qd_record *ret_record, struct qd_err *err)
{
	struct qd_err local = { .code = 0 };
	int rc = qd_table_find(k->table, entry, ret_record, &local);

	if (rc == QD_E_CORRUPT) {
		k->damaged = true;
		return 0;
	}
	if (rc < 0)
		qd_err_copy(err, &local);
	return rc;
}

/* ---- opening ---- */

int qd_known_open(const struct qd_container *c, const struct qd_image *img, struct qd_known **ret_known,
		  struct qd_err *err)
{
	struct qd_known *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return qd_err_nomem(err, "the index");
	rc = qd_table_open(c->io, c->off, &c->ext, &img->geom, &k->table, err);
	if (rc) {
		qd_known_free(k);
		return rc;
	}
	k->count = qd_table_nrecords(k->table);
	*ret_known = k;
	return 0;
}

void qd_known_free(struct qd_known *k)
{
	if (!k)
		return;
	qd_table_close(k->table);
	free(k->changes);
	free(k);
}

/* ---- asking ---- */

static const struct change *find_change(const struct qd_known *k, uint64_t entry)
{
	uint64_t lo = 0, hi = k->nchanges;

	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (k->changes[mid].record.entry < entry)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < k->nchanges && k->changes[lo].record.entry == entry ? &k->changes[lo] : NULL;
}

int qd_known_find(struct qd_known *k, uint64_t entry, struct qd_record *ret_record, struct qd_err *err)
{
	const struct change *c = find_change(k, entry);

	if (!c)
		return find_in_table(k, entry, ret_record, err);
	if (c->revoked)
		return 0;
	*ret_record = c->record;
	return 1;
}

uint64_t qd_known_count(const struct qd_known *k)
{
	return k->count;
}

uint64_t qd_known_logged(const struct qd_known *k)
{
	return k->logged;
}

const struct qd_digest *qd_known_digest(const struct qd_known *k)
{
	return qd_table_digest(k->table);
}

bool qd_known_is_damaged(const struct qd_known *k)
{
	return k->damaged;
}
