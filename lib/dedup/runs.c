/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Collecting records:
 *
 *	add     --> the batch in memory --full: sort--> runs in a temporary file
 *	settle  --> one run: the batch, or what merging the runs gives, in a second file
 *
 * Records lie in batch and runs as on disk.  A batch whose records came in order is not
 * sorted, and a sorted batch that begins behind the end of the last run extends it: what
 * is added in order is one run, whatever its length.
 *
 * Of records with equal entries the last one added counts: within a batch by the number
 * that breaks ties, between runs by the run's number.
 *
 * Left to others: merging the runs (runs_merge.c), what a table is (table_make.c).
 */
#include "dedup/runs_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/tmpfile.h"

#define MIN_BATCH 1024u			/* records */

struct sort_key {
	struct qd_table_key key;
	uint64_t number;		/* in the batch */
};

int qd_runs_new(const struct qd_geom *geom, uint32_t digest_nbytes, uint64_t memory, const char *tmpdir,
		struct qd_runs **ret_runs, struct qd_err *err)
{
	struct qd_runs *s = calloc(1, sizeof(*s));

	if (!s)
		return qd_err_nomem(err, "a hash table");
	s->geom = geom;
	s->digest_nbytes = digest_nbytes;
	s->tmpdir = tmpdir;
	s->size = qd_record_nbytes(digest_nbytes);
	s->memory = memory;
	s->capacity = qd_max_u64(memory / (s->size + sizeof(struct sort_key)), MIN_BATCH);
	*ret_runs = s;
	return 0;
}

void qd_runs_free(struct qd_runs *s)
{
	if (!s)
		return;
	qd_bigarray_free(&s->batch);
	qd_io_close(s->file);
	free(s->runs);
	free(s);
}

static uint8_t *batch_record(const struct qd_runs *s, uint64_t i)
{
	return (uint8_t *)s->batch.p + i * s->size;
}

/* --- a batch in order --- */

static int compare_sort_keys(const void *pa, const void *pb)
{
	const struct sort_key *a = pa, *b = pb;
	int c = qd_table_key_compare(a->key, b->key);

	return c ? c : a->number < b->number ? -1 : a->number > b->number;
}

/* Moves records to where keys say, along the cycles of the permutation. */
static void permute(struct qd_runs *s, struct sort_key *keys)
{
	uint8_t first[QD_TABLE_RECORD_HEAD + QD_DIGEST_MAX];

	for (uint64_t i = 0; i < s->nbatch; i++) {
		uint64_t to = i;

		if (keys[i].number == i)
			continue;
		memcpy(first, batch_record(s, i), s->size);
		while (keys[to].number != i) {
			uint64_t from = keys[to].number;

			memcpy(batch_record(s, to), batch_record(s, from), s->size);
			keys[to].number = to;
			to = from;
		}
		memcpy(batch_record(s, to), first, s->size);
		keys[to].number = to;
	}
}

/* Of neighbours with equal entries the last stays. */
static void drop_replaced(struct qd_runs *s)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < s->nbatch; i++) {
		if (i + 1 < s->nbatch && !memcmp(batch_record(s, i), batch_record(s, i + 1), 8))
			continue;
		if (n != i)
			memcpy(batch_record(s, n), batch_record(s, i), s->size);
		n++;
	}
	s->nbatch = n;
}

static int sort_batch(struct qd_runs *s, struct qd_err *err)
{
	struct sort_key *keys;

	if (!s->unordered)
		return 0;
	keys = malloc((size_t)s->nbatch * sizeof(*keys));
	if (!keys)
		return qd_err_nomem(err, "a hash table");
	for (uint64_t i = 0; i < s->nbatch; i++)
		keys[i] = (struct sort_key){ qd_runs_key(s, batch_record(s, i)), i };
	qsort(keys, (size_t)s->nbatch, sizeof(*keys), compare_sort_keys);
	permute(s, keys);
	free(keys);
	drop_replaced(s);
	s->unordered = false;
	s->last = qd_runs_key(s, batch_record(s, s->nbatch - 1));
	return 0;
}

/* --- runs --- */

/* The run that the batch extends, or a new one. */
static int open_run(struct qd_runs *s, struct qd_run **ret_run, struct qd_err *err)
{
	struct qd_run *last = s->nruns ? &s->runs[s->nruns - 1] : NULL, *runs;
	uint64_t end = last ? last->off + last->nrecords * s->size : 0;

	if (last && qd_table_key_compare(last->last, qd_runs_key(s, batch_record(s, 0))) < 0) {
		*ret_run = last;
		return 0;
	}
	runs = realloc(s->runs, (size_t)(s->nruns + 1) * sizeof(*runs));
	if (!runs)
		return qd_err_nomem(err, "a hash table");
	s->runs = runs;
	runs[s->nruns] = (struct qd_run){ .off = end };
	*ret_run = &runs[s->nruns++];
	return 0;
}

static int spill_batch(struct qd_runs *s, struct qd_err *err)
{
	struct qd_run *run = NULL;
	int r = s->file ? 0 : qd_tmpfile_open(s->tmpdir, &s->file, err);

	if (!r)
		r = sort_batch(s, err);
	if (!r)
		r = open_run(s, &run, err);
	if (!r)
		r = qd_io_write(s->file, s->batch.p, (size_t)(s->nbatch * s->size),
				run->off + run->nrecords * s->size, err);
	if (r)
		return r;
	run->nrecords += s->nbatch;
	run->last = s->last;
	s->nbatch = 0;
	return 0;
}

int qd_runs_add(struct qd_runs *s, const struct qd_record *record, struct qd_err *err)
{
	struct qd_table_key key = qd_table_key_of(s->geom, record->entry);
	int c = s->nbatch ? qd_table_key_compare(s->last, key) : -1;
	int r = 0;

	if (c == 0 && !s->unordered) {		/* the one just added: replaced at once */
		qd_record_encode(record, s->digest_nbytes, batch_record(s, s->nbatch - 1));
		return 0;
	}
	if (s->nbatch == s->capacity)
		r = spill_batch(s, err);
	if (!r)
		r = qd_bigarray_need(&s->batch, (s->nbatch + 1) * s->size, "a hash table", err);
	if (r)
		return r;
	s->unordered = s->nbatch && (s->unordered || c > 0);
	s->last = key;
	qd_record_encode(record, s->digest_nbytes, batch_record(s, s->nbatch++));
	return 0;
}

/* --- the one run that is left --- */

/* The batch, or the file. */
int qd_runs_settle(struct qd_runs *s, struct qd_err *err)
{
	int r = 0;

	if (!s->file) {
		r = s->nbatch ? sort_batch(s, err) : 0;
		s->nrecords = s->nbatch;
		return r;
	}
	if (s->nbatch)
		r = spill_batch(s, err);
	if (!r && s->nruns > 1)
		r = qd_runs_merge(s, err);
	s->nrecords = s->runs ? s->runs[0].nrecords : 0;
	return r;
}

uint64_t qd_runs_count(const struct qd_runs *s)
{
	return s->nrecords;
}

int qd_runs_get(const struct qd_runs *s, uint64_t first, uint64_t n, uint8_t *buf, const uint8_t **ret_p,
		struct qd_err *err)
{
	*ret_p = buf;
	if (s->file)
		return qd_io_read(s->file, buf, (size_t)(n * s->size), first * s->size, err);
	*ret_p = batch_record(s, first);
	return 0;
}
