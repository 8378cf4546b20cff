/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Dividing a partition makes a level of 256 below it.  The levels form a stack, of which
 * only the topmost gives leaves:
 *
 *	level 0   00 01 [02] 03 ...		divided by byte 0
 *	level 1         00 01 02 [03] ...	partition 02, divided by the next byte that differs
 *
 * After seal either everything is in memory, and then no partition is divided, or
 * everything is in the file.
 *
 * Left to others: memory and file (spill_store.h), the order within a leaf (sort.h).
 */
#include "dedup/spill.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dedup/sort.h"
#include "dedup/spill_store.h"

#define NPARTS 256u

struct level {
	struct qd_spill_part parts[NPARTS];
	unsigned next;		/* everything before has been handed out */
	struct level *above;
};

struct qd_spill {
	struct qd_spill_store *store;
	size_t record;		/* bytes */
	size_t key_nbytes;
	uint64_t count;
	struct level *level;	/* the topmost */
	size_t max_leaf;	/* records */
};

int qd_spill_new(const struct qd_spill_opts *opts, struct qd_spill **ret_spill, struct qd_err *err)
{
	struct qd_spill *s = calloc(1, sizeof(*s));
	int r;

	if (!s)
		return qd_err_nomem(err, "records");
	s->record = opts->record_nbytes;
	s->key_nbytes = opts->key_nbytes;
	s->level = calloc(1, sizeof(*s->level));
	r = s->level ? qd_spill_store_new(opts, NPARTS, &s->store, err) : qd_err_nomem(err, "records");
	if (r) {
		qd_spill_free(s);
		return r;
	}
	*ret_spill = s;
	return 0;
}

static void pop_level(struct qd_spill *s)
{
	struct level *l = s->level;

	for (unsigned i = 0; i < NPARTS; i++)
		qd_spill_store_clear(&l->parts[i]);
	s->level = l->above;
	free(l);
}

void qd_spill_free(struct qd_spill *s)
{
	if (!s)
		return;
	while (s->level)
		pop_level(s);
	qd_spill_store_free(s->store);
	free(s);
}

int qd_spill_add(struct qd_spill *s, const void *records, size_t n, struct qd_err *err)
{
	const uint8_t *r = records;

	for (size_t i = 0; i < n; i++, r += s->record) {
		int rc = qd_spill_store_add(s->store, &s->level->parts[r[0]], r, err);

		if (rc)
			return rc;
	}
	s->count += n;
	return 0;
}

int qd_spill_seal(struct qd_spill *s, uint64_t max_nbytes, struct qd_err *err)
{
	bool too_large = false;

	s->max_leaf = (size_t)qd_max_u64(max_nbytes / s->record, 1);
	for (unsigned k = 0; k < NPARTS; k++) {
		struct qd_spill_part *p = &s->level->parts[k];

		p->equal = 1;
		too_large |= qd_spill_store_count(s->store, p) > s->max_leaf;
	}
	qd_spill_store_seal(s->store);
	if (!too_large && !qd_spill_store_spilled(s->store))
		return 0;
	return qd_spill_store_flush(s->store, s->level->parts, NPARTS, err);
}

/* ---- leaves ---- */

static size_t equal_bytes(const uint8_t *a, const uint8_t *b, size_t max)
{
	size_t i = 0;

	while (i < max && a[i] == b[i])
		i++;
	return i;
}

/* How many leading bytes all records of the partition have in common. */
static int find_equal(struct qd_spill *s, struct qd_spill_part *p, uint8_t *buf, struct qd_err *err)
{
	uint8_t first[QD_SORT_RECORD_MAX];
	size_t equal = s->record;

	for (size_t i = 0; i < p->nchunks && equal > p->equal; i++) {
		size_t n;
		int r = qd_spill_store_read(s->store, p, i, buf, &n, err);

		if (r)
			return r;
		if (!i)
			memcpy(first, buf, s->record);
		for (size_t k = 0; k < n && equal > p->equal; k++)
			equal = equal_bytes(first, buf + k * s->record, equal);
	}
	p->equal = equal;
	return 0;
}

static int move_down(struct qd_spill *s, struct qd_spill_part *p, struct level *l, uint8_t *buf,
		     struct qd_err *err)
{
	for (size_t i = 0; i < p->nchunks; i++) {
		size_t n;
		int r = qd_spill_store_read(s->store, p, i, buf, &n, err);

		if (!r)
			r = qd_spill_store_discard(s->store, p, i, err);
		for (size_t k = 0; !r && k < n; k++) {
			const uint8_t *record = buf + k * s->record;

			r = qd_spill_store_add(s->store, &l->parts[record[p->equal]], record, err);
		}
		if (r)
			return r;
	}
	return qd_spill_store_flush(s->store, l->parts, NPARTS, err);
}

static int divide(struct qd_spill *s, struct qd_spill_part *p, struct qd_err *err)
{
	struct level *l = calloc(1, sizeof(*l));
	uint8_t *buf = malloc(qd_spill_store_chunk_nbytes(s->store));
	int r = l && buf ? find_equal(s, p, buf, err) : qd_err_nomem(err, "records");

	if (!r && p->equal == s->record)
		r = qd_err_set(err, QD_E_INVALID, "a record was added more often than fits into memory");
	if (r) {
		free(l);
		free(buf);
		return r;
	}
	for (unsigned k = 0; k < NPARTS; k++) {
		l->parts[k].equal = p->equal + 1;
		l->parts[k].tied = p->equal >= s->key_nbytes;
	}
	l->above = s->level;
	s->level = l;
	r = move_down(s, p, l, buf, err);
	free(buf);
	qd_spill_store_clear(p);
	return r;
}

static int hand_out(struct qd_spill *s, struct qd_spill_part *p, struct qd_spill_leaf *leaf,
		    struct qd_err *err)
{
	struct qd_spill_part *mine = malloc(sizeof(*mine));

	if (!mine)
		return qd_err_nomem(err, "records");
	*mine = *p;
	*p = (struct qd_spill_part){ .chunks = NULL };
	leaf->part = mine;
	leaf->n = qd_spill_store_count(s->store, mine);
	leaf->tied = mine->tied;
	leaf->equal = mine->equal;
	return 1;
}

int qd_spill_next(struct qd_spill *s, struct qd_spill_leaf *leaf, struct qd_err *err)
{
	while (s->level) {
		struct level *l = s->level;
		struct qd_spill_part *p;
		int r = 0;

		if (l->next == NPARTS) {
			pop_level(s);
			continue;
		}
		p = &l->parts[l->next++];
		if (qd_spill_store_count(s->store, p) > s->max_leaf)
			r = divide(s, p, err);
		else if (p->nchunks)
			return hand_out(s, p, leaf, err);
		if (r)
			return r;
	}
	return 0;
}

static int need_capacity(struct qd_spill_leaf *leaf, size_t nbytes, struct qd_err *err)
{
	if (nbytes <= leaf->capacity)
		return 0;
	free(leaf->records);
	leaf->records = malloc(nbytes);
	leaf->capacity = leaf->records ? nbytes : 0;
	return leaf->records ? 0 : qd_err_nomem(err, "records");
}

int qd_spill_load(struct qd_spill *s, struct qd_spill_leaf *leaf, struct qd_err *err)
{
	struct qd_spill_part *p = leaf->part;
	int r = need_capacity(leaf, leaf->n * s->record, err);
	size_t n, at = 0;

	for (size_t i = 0; !r && i < p->nchunks; i++, at += n) {
		r = qd_spill_store_read(s->store, p, i, leaf->records + at * s->record, &n, err);
		if (!r)
			r = qd_spill_store_discard(s->store, p, i, err);
	}
	qd_spill_store_clear(p);
	free(p);
	leaf->part = NULL;
	if (!r)
		qd_sort_records(leaf->records, leaf->n, s->record, leaf->equal);
	return r;
}

void qd_spill_leaf_clear(struct qd_spill_leaf *leaf)
{
	if (leaf->part) {
		qd_spill_store_clear(leaf->part);
		free(leaf->part);
	}
	free(leaf->records);
	*leaf = (struct qd_spill_leaf){ .records = NULL };
}

uint64_t qd_spill_count(const struct qd_spill *s)
{
	return s->count;
}

bool qd_spill_spilled(const struct qd_spill *s)
{
	return qd_spill_store_spilled(s->store);
}
