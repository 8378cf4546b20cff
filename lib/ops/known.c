/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log's entries, the last one of each cluster, are sorted in memory and looked at before
 * the table.  A log has at most a few ten thousand.
 *
 * Of a damaged journal, or one with a record that no table could hold, it cannot be told what it took
 * back: then nothing is known.
 */
#include "ops/known.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dedup/log.h"
#include "format/entry.h"

struct change {
	struct qd_record record;
	uint64_t number;		/* in the log */
	bool revoked;
};

struct key {			/* what records are sorted by */
	uint64_t host_off;
	uint64_t entry;
};

struct qd_known {
	struct qd_geom geom;
	struct qd_table *table;
	uint64_t next;			/* number of the record after `at`; 0: there is none yet */
	bool ended;
	struct qd_record at;		/* the first one that is not before last_key */
	struct key at_key;
	struct key last_key;		/* asked for in order */
	struct change *changes;		/* sorted by entry */
	uint64_t nchanges;
	uint64_t capacity;
	uint64_t logged;
	uint64_t count;
	bool damaged;
	bool distrusted;		/* the journal is damaged */
};

/* ---- the table ---- */

static struct key key_of(const struct qd_known *k, uint64_t entry)
{
	return (struct key){ qd_record_host_off(&k->geom, entry), entry };
}

static bool is_before(struct key a, struct key b)
{
	return a.host_off != b.host_off ? a.host_off < b.host_off : a.entry < b.entry;
}

/* The next record after the one at hand that can be read: 1, or 0 at the end. */
static int advance(struct qd_known *k, struct qd_err *err)
{
	uint32_t per_block = qd_table_block_records(qd_table_digest(k->table)->nbytes);
	struct qd_err local = { .code = 0 };

	while (k->next < qd_table_nrecords(k->table)) {
		int rc = qd_table_get(k->table, k->next, &k->at, &local);

		if (rc == 0) {
			k->next++;
			k->at_key = key_of(k, k->at.entry);
			return 1;
		}
		if (rc != QD_E_CORRUPT) {
			qd_err_copy(err, &local);
			return rc;
		}
		k->damaged = true;
		k->next = (k->next / per_block + 1) * per_block;
	}
	k->ended = true;
	return 0;
}

/* Asked in the order of the records, it reads each of them once. */
static int find_in_order(struct qd_known *k, struct key key, struct qd_record *ret_record, struct qd_err *err)
{
	k->last_key = key;
	while (!k->ended && (k->next == 0 || is_before(k->at_key, key))) {
		int rc = advance(k, err);

		if (rc < 0)
			return rc;
	}
	if (k->ended || k->at.entry != key.entry)
		return 0;
	*ret_record = k->at;
	return 1;
}

static int find_in_table(struct qd_known *k, uint64_t entry, struct qd_record *ret_record, struct qd_err *err)
{
	struct qd_err local = { .code = 0 };
	struct key key = key_of(k, entry);
	int rc;

	if (!is_before(key, k->last_key))
		return find_in_order(k, key, ret_record, err);
	rc = qd_table_find(k->table, entry, ret_record, &local);
	if (rc == QD_E_CORRUPT) {
		k->damaged = true;
		return 0;
	}
	if (rc < 0)
		qd_err_copy(err, &local);
	return rc;
}

/* Asking begins anew. */
static void rewind_table(struct qd_known *k)
{
	k->next = 0;
	k->ended = false;
	k->last_key = (struct key){ 0, 0 };
}

/* ---- the log ---- */

static int add_change(void *ctx, enum qd_journal_type type, const struct qd_record *record,
		      struct qd_err *err)
{
	struct qd_known *k = ctx;

	if (k->nchanges == k->capacity) {
		uint64_t capacity = k->capacity ? k->capacity * 2 : 256;
		struct change *changes = realloc(k->changes, capacity * sizeof(*changes));

		if (!changes)
			return qd_err_nomem(err, "the journal");
		k->changes = changes;
		k->capacity = capacity;
	}
	k->changes[k->nchanges] = (struct change){
		.record = *record, .number = k->nchanges, .revoked = type == QD_JOURNAL_REVOKE,
	};
	k->nchanges++;
	return 0;
}

static int compare_changes(const void *pa, const void *pb)
{
	const struct change *a = pa, *b = pb;

	if (a->record.entry != b->record.entry)
		return a->record.entry < b->record.entry ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

/* Only the last change of each cluster counts; the number of records that then are. */
static int apply_changes(struct qd_known *k, struct qd_err *err)
{
	uint64_t n = 0;
	int rc = 0;

	k->logged = k->nchanges;
	if (k->nchanges)
		qsort(k->changes, (size_t)k->nchanges, sizeof(*k->changes), compare_changes);
	for (uint64_t i = 0; i < k->nchanges; i++) {
		if (n && k->changes[n - 1].record.entry == k->changes[i].record.entry)
			n--;
		k->changes[n++] = k->changes[i];
	}
	k->nchanges = n;
	for (uint64_t i = 0; rc >= 0 && i < n; i++) {
		struct qd_record old;

		rc = find_in_table(k, k->changes[i].record.entry, &old, err);
		k->count += !k->changes[i].revoked;
		k->count -= rc == 1;
	}
	rewind_table(k);
	return rc < 0 ? rc : 0;
}

static int load_log(struct qd_known *k, const struct qd_container *c, struct qd_err *err)
{
	struct qd_journal *j = NULL;
	struct qd_err local = { .code = 0 };
	int rc = qd_log_open(c->io, c->off, &c->ext, &j, &local);

	if (rc == 0 && !j)
		return 0;
	if (rc == 0)
		rc = qd_log_walk(j, &k->geom, add_change, k, &local);
	qd_journal_close(j);
	if (rc && rc != QD_E_CORRUPT) {
		qd_err_copy(err, &local);
		return rc;
	}
	if (rc) {
		k->distrusted = k->damaged = true;
		k->nchanges = 0;
	}
	return apply_changes(k, err);
}

/* ---- opening ---- */

int qd_known_open(const struct qd_container *c, const struct qd_image *img, struct qd_known **ret_known,
		  struct qd_err *err)
{
	struct qd_known *k = calloc(1, sizeof(*k));
	int rc;

	if (!k)
		return qd_err_nomem(err, "the index");
	k->geom = img->geom;
	rc = qd_table_open(c->io, c->off, &c->ext, &img->geom, &k->table, err);
	if (rc == 0) {
		k->count = qd_table_nrecords(k->table);
		rc = load_log(k, c, err);
	}
	if (rc) {
		qd_known_free(k);
		return rc;
	}
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

	if (k->distrusted)
		return 0;
	if (!c)
		return find_in_table(k, entry, ret_record, err);
	if (c->revoked)
		return 0;
	*ret_record = c->record;
	return 1;
}

int qd_known_each(struct qd_known *k, int (*fn)(void *ctx, const struct qd_record *record, struct qd_err *err),
		  void *ctx, struct qd_err *err)
{
	int rc = 0;

	if (k->distrusted)
		return 0;
	rewind_table(k);
	while ((rc = advance(k, err)) == 1) {
		rc = find_change(k, k->at.entry) ? 0 : fn(ctx, &k->at, err);
		if (rc)
			return rc;
	}
	rewind_table(k);
	for (uint64_t i = 0; rc == 0 && i < k->nchanges; i++)
		if (!k->changes[i].revoked)
			rc = fn(ctx, &k->changes[i].record, err);
	return rc;
}

uint64_t qd_known_count(const struct qd_known *k)
{
	return k->count;
}

uint64_t qd_known_logged(const struct qd_known *k)
{
	return k->logged;
}

bool qd_known_holds(const struct qd_container *c, const struct qd_image *img, const struct qd_surveyed *s,
		    const struct qd_record *record)
{
	if (c->state == QD_CONTAINER_VALID)
		return true;
	if (c->state != QD_CONTAINER_PARTIAL || !s->pins || (record->flags & QD_RECORD_PARTIAL))
		return false;
	return !img->geom.extended_l2 || qd_l2_is_compressed(s->entry) || (uint32_t)s->bitmap == UINT32_MAX;
}

bool qd_known_same_place(const struct qd_image *img, const struct qd_surveyed *s, const struct qd_record *record)
{
	bool partial = img->geom.extended_l2 && !qd_l2_is_compressed(s->entry) && !s->mixed &&
		       (uint32_t)s->bitmap != UINT32_MAX;
	uint8_t flags = (uint8_t)((s->in_active ? 0 : QD_RECORD_SNAPSHOT) | (partial ? QD_RECORD_PARTIAL : 0));

	return record->guest == s->guest && (record->flags & ~QD_RECORD_FULL) == flags;
}

const struct qd_digest *qd_known_digest(const struct qd_known *k)
{
	return qd_table_digest(k->table);
}

bool qd_known_is_damaged(const struct qd_known *k)
{
	return k->damaged;
}
