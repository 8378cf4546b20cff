/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The log of hashes: adding, committing, packing.
 *
 *	add ... add --commit--> | clusters of the area in use | COMMIT |
 *	log in A, mostly dead --pack--> what lives, COMPLETE, COMMIT in B; A crossed out
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "txn/journal_int.h"

/* ---- reading ---- */

struct log_walk {
	uint32_t digest_nbytes;
	int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record, struct qd_err *err);
	void *ctx;
};

static int give_record(void *ctx, const struct qd_journal_entry *e, struct qd_err *err)
{
	const struct log_walk *w = ctx;
	struct qd_record r = { .entry = 0 };

	if (e->type == QD_JOURNAL_HASH)
		qd_record_decode(e->payload, w->digest_nbytes, &r);
	else if (e->type == QD_JOURNAL_REVOKE)
		r.entry = qd_get_be64(e->payload);
	else
		return 0;
	return w->fn(w->ctx, (enum qd_journal_type)e->type, &r, err);
}

int qd_journal_log_walk(struct qd_journal *j,
			int (*fn)(void *ctx, enum qd_journal_type type, const struct qd_record *record,
				  struct qd_err *err), void *ctx, struct qd_err *err)
{
	struct log_walk w = { .digest_nbytes = j->digest_nbytes, .fn = fn, .ctx = ctx };
	int rc = journal_refuse_damaged(j, err);

	if (rc || !j->log)
		return rc;
	return journal_each(j, j->log, give_record, &w, err);
}

/* ---- what lives ---- */

struct collect {
	struct qd_journal *j;
	struct journal_last *all;
	size_t n, capacity;
};

static int collect_entry(void *ctx, const struct qd_journal_entry *e, struct qd_err *err)
{
	struct collect *c = ctx;
	struct journal_last *l;

	if (e->type != QD_JOURNAL_HASH && e->type != QD_JOURNAL_REVOKE)
		return 0;
	if (c->n == c->capacity) {
		size_t capacity = c->capacity ? c->capacity * 2 : 256;
		struct journal_last *all = realloc(c->all, capacity * sizeof(*all));

		if (!all)
			return qd_err_nomem(err, "the journal's entries");
		c->all = all;
		c->capacity = capacity;
	}
	l = &c->all[c->n];
	l->entry = qd_get_be64(e->payload);
	l->order = c->n++;
	l->revoked = e->type == QD_JOURNAL_REVOKE;
	if (!l->revoked)
		memcpy(l->record, e->payload, e->nbytes);
	return 0;
}

static int by_entry(const void *pa, const void *pb)
{
	const struct journal_last *a = pa, *b = pb;

	if (a->entry != b->entry)
		return a->entry < b->entry ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

int journal_last_entries(struct qd_journal *j, struct journal_last **ret_last, size_t *ret_n,
			 struct qd_err *err)
{
	struct collect c = { .j = j };
	int rc = j->log ? journal_each(j, j->log, collect_entry, &c, err) : 0;
	size_t n = 0;

	if (rc) {
		free(c.all);
		return rc;
	}
	if (c.n)
		qsort(c.all, c.n, sizeof(*c.all), by_entry);
	for (size_t i = 0; i < c.n; i++)
		if (i + 1 == c.n || c.all[i + 1].entry != c.all[i].entry)
			c.all[n++] = c.all[i];
	j->entries = c.n;
	*ret_last = c.all;
	*ret_n = n;
	return 0;
}

/* ---- adding and committing ---- */

int qd_journal_log_add(struct qd_journal *j, enum qd_journal_type type, const struct qd_record *record,
		       struct qd_err *err)
{
	uint8_t payload[QD_TABLE_RECORD_HEAD + 32];

	if (type == QD_JOURNAL_HASH) {
		qd_record_encode(record, j->digest_nbytes, payload);
		return journal_batch_add(&j->adds, type, payload, qd_record_nbytes(j->digest_nbytes), err);
	}
	qd_put_be64(payload, record->entry);
	return journal_batch_add(&j->adds, QD_JOURNAL_REVOKE, payload, 8, err);
}

/* Bytes that a commit adds: a log that begins says that it is complete. */
static size_t commit_bytes(const struct qd_journal *j)
{
	return j->log ? JOURNAL_COMMIT_BYTES : JOURNAL_COMMIT_BYTES + JOURNAL_COMPLETE_BYTES;
}

uint32_t qd_journal_log_need(const struct qd_journal *j)
{
	return j->adds.entries ? journal_batch_need(&j->adds, commit_bytes(j)) : 0;
}

uint32_t qd_journal_log_room(const struct qd_journal *j)
{
	return j->log ? j->log->nclusters - j->log->committed : j->areas[0].nclusters;
}

static uint64_t next_generation(const struct qd_journal *j)
{
	uint64_t newest = qd_max_u64(j->areas[0].newest, j->areas[1].newest);

	return qd_max_u64(newest, j->place.closed_generation) + 1;
}

static int begin_log(struct qd_journal *j, struct journal_batch *b, struct journal_area *a,
		     struct qd_err *err)
{
	int rc = journal_batch_add(b, QD_JOURNAL_COMPLETE, NULL, 0, err);

	if (rc == 0)
		rc = journal_batch_write(j, b, a, next_generation(j), 0, 1, err);
	if (rc)
		return rc;
	a->complete = true;
	j->log = a;
	return 0;
}

int qd_journal_log_commit(struct qd_journal *j, struct qd_err *err)
{
	uint32_t need = qd_journal_log_need(j);
	int rc = journal_refuse_damaged(j, err);

	if (rc || need == 0)
		return rc;
	if (j->place.no_log)
		return qd_err_set(err, QD_E_INVALID, "an index in a file of its own has no log");
	if (need > qd_journal_log_room(j))
		return qd_err_set(err, QD_E_INVALID,
				  "the journal is full: %" PRIu32 " clusters are needed and %"
				  PRIu32 " are free", need, qd_journal_log_room(j));
	if (!j->log)
		rc = begin_log(j, &j->adds, &j->areas[0], err);
	else
		rc = journal_batch_write(j, &j->adds, j->log, j->log->generation, j->log->committed,
					 j->log->batches + 1, err);
	if (rc)
		return rc;
	journal_batch_free(&j->adds);
	return journal_count(j, err);
}

/* ---- packing ---- */

static int add_live(struct qd_journal *j, const struct qd_journal_live *live, const struct journal_last *l,
		    struct journal_batch *b, struct qd_err *err)
{
	uint8_t payload[8];
	int keep;

	if (!l->revoked)
		return journal_batch_add(b, QD_JOURNAL_HASH, l->record, qd_record_nbytes(j->digest_nbytes),
					 err);
	keep = live->in_table(live->ctx, l->entry, err);
	if (keep <= 0)
		return keep;
	qd_put_be64(payload, l->entry);
	return journal_batch_add(b, QD_JOURNAL_REVOKE, payload, sizeof(payload), err);
}

static int build_live(struct qd_journal *j, const struct qd_journal_live *live, struct journal_batch *b,
		      struct qd_err *err)
{
	struct journal_last *last = NULL;
	size_t n = 0;
	int rc = journal_refuse_damaged(j, err);

	if (rc == 0)
		rc = journal_last_entries(j, &last, &n, err);
	for (size_t i = 0; rc == 0 && i < n; i++)
		rc = add_live(j, live, &last[i], b, err);
	free(last);
	return rc;
}

int qd_journal_log_measure(struct qd_journal *j, const struct qd_journal_live *live, uint32_t *ret_nclusters,
			   struct qd_err *err)
{
	struct journal_batch b = { .clusters = NULL };
	int rc = build_live(j, live, &b, err);

	if (rc == 0)
		*ret_nclusters = journal_batch_need(&b, JOURNAL_COMMIT_BYTES + JOURNAL_COMPLETE_BYTES);
	journal_batch_free(&b);
	return rc;
}

/* J5.  Not flushed: until it is on disk the newer log is all the same the one that counts. */
static int cross_out(struct qd_journal *j, struct journal_area *old, struct qd_err *err)
{
	int rc = qd_io_fill_zeros(j->io, old->off, QD_JOURNAL_CLUSTER, err);

	if (rc)
		return rc;
	old->generation = 0;
	old->committed = old->residue_end = 0;
	old->batches = 0;
	old->complete = false;
	return 0;
}

int qd_journal_log_pack(struct qd_journal *j, const struct qd_journal_live *live, struct qd_err *err)
{
	struct journal_batch b = { .clusters = NULL };
	struct journal_area *old = j->log;
	int rc;

	if (!old)
		return journal_refuse_damaged(j, err);
	rc = build_live(j, live, &b, err);
	if (rc == 0)
		rc = begin_log(j, &b, &j->areas[!old->index], err);
	if (rc == 0)
		rc = cross_out(j, old, err);
	journal_batch_free(&b);
	return rc ? rc : journal_count(j, err);
}
