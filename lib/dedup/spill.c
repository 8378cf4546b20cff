/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records lie in chunks of equal size; a partition is a list of chunks, full but for the
 * last.  A chunk is in memory or in a slot of the file:
 *
 *	partition 00  [slot 3] [slot 9] [memory, filling]
 *	partition 01  [slot 4] [memory, full] [memory, filling]
 *	...
 *
 * While records are added, memory holds as many chunks as the budget allows; then the
 * oldest full one moves to the file for each new one.  After seal either everything is in
 * memory or everything is in the file.
 *
 * Dividing a partition makes a level of 256 below it.  The levels form a stack, of which
 * only the topmost gives leaves:
 *
 *	level 0   00 01 [02] 03 ...		divided by byte 0
 *	level 1         00 01 02 [03] ...	partition 02, divided by the next byte that differs
 *
 * Slots of partitions that were read are used again, so the file is never larger than all
 * records and the chunks that are not full.
 */
#include "dedup/spill.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "base/io.h"
#include "base/size.h"
#include "base/tmpfile.h"
#include "dedup/sort.h"

#define NPARTS 256u
#define CHUNK_MAX (256u << 10)	/* bytes */
#define IN_FILE 1u		/* a chunk's place: slot * 2 + IN_FILE, or an address (which is even) */

struct qd_spill_part {
	uintptr_t *chunks;
	size_t nchunks;
	size_t capacity;
	size_t last_n;		/* records in the last chunk */
	size_t equal;		/* leading bytes equal in all */
	bool tied;
};

struct level {
	struct qd_spill_part parts[NPARTS];
	unsigned next;		/* everything before has been handed out */
	struct level *above;
};

struct full_chunk {		/* in memory and full: may move to the file */
	struct qd_spill_part *part;
	size_t index;
};

struct qd_spill {
	struct qd_spill_opts opts;
	size_t record;		/* bytes */
	size_t per_chunk;	/* records */
	size_t chunk_nbytes;
	uint64_t count;
	struct level *level;	/* the topmost */
	bool sealed;
	size_t max_leaf;	/* records */

	struct qd_bigarray memory;	/* of all chunks that are not in the file */
	size_t nheld;		/* chunks in memory, and how many may be */
	size_t max_held;
	struct full_chunk *full;	/* a ring of max_held */
	size_t first_full, nfull;

	struct qd_io *file;
	pthread_mutex_t lock;	/* guards the slots: leaves are loaded by several threads */
	uint64_t nslots;
	uint64_t *free_slots;
	size_t nfree, free_capacity;
};

static size_t part_count(const struct qd_spill *s, const struct qd_spill_part *p)
{
	return p->nchunks ? (p->nchunks - 1) * s->per_chunk + p->last_n : 0;
}

int qd_spill_new(const struct qd_spill_opts *opts, struct qd_spill **ret_spill, struct qd_err *err)
{
	uint64_t memory = qd_max_u64(opts->memory, QD_SPILL_MEMORY_MIN);
	struct qd_spill *s = calloc(1, sizeof(*s));

	if (!s)
		return qd_err_nomem(err, "records");
	s->opts = *opts;
	s->record = opts->record_nbytes;
	/* A third of the memory is enough for a chunk that fills in every partition. */
	s->per_chunk = (size_t)qd_min_u64(memory / 3 / NPARTS, CHUNK_MAX) / s->record;
	s->chunk_nbytes = s->per_chunk * s->record;
	s->max_held = (size_t)(memory / (s->chunk_nbytes + 32));
	s->full = calloc(s->max_held, sizeof(*s->full));
	s->level = calloc(1, sizeof(*s->level));
	pthread_mutex_init(&s->lock, NULL);
	if (!s->full || !s->level) {
		qd_spill_free(s);
		return qd_err_nomem(err, "records");
	}
	*ret_spill = s;
	return 0;
}

static void clear_part(struct qd_spill_part *p)
{
	free(p->chunks);
	*p = (struct qd_spill_part){ .chunks = NULL };
}

static void pop_level(struct qd_spill *s)
{
	struct level *l = s->level;

	for (unsigned i = 0; i < NPARTS; i++)
		clear_part(&l->parts[i]);
	s->level = l->above;
	free(l);
}

void qd_spill_free(struct qd_spill *s)
{
	if (!s)
		return;
	while (s->level)
		pop_level(s);
	qd_io_close(s->file);
	qd_bigarray_free(&s->memory);
	pthread_mutex_destroy(&s->lock);
	free(s->free_slots);
	free(s->full);
	free(s);
}

/* ---- slots of the file ---- */

/* The first number in the message is enough, whatever came in between. */
static int no_space(const struct qd_spill *s, int sys_errno, struct qd_err *err)
{
	char need[QD_SIZE_TEXT], have[QD_SIZE_TEXT];
	uint64_t written = s->nslots * s->chunk_nbytes;
	uint64_t expected = s->opts.expect ? s->opts.expect(s->opts.ctx) : 0;
	uint64_t all = qd_max_u64(expected, written) + 2ull * NPARTS * s->chunk_nbytes;

	qd_size_format(written, have, sizeof(have));
	qd_size_format(all + all / 64, need, sizeof(need));
	return qd_err_sys(err, sys_errno,
			  "temporary files in %s need up to %s, there is room for %s (TMPDIR names another"
			  " directory; with more --memory less of it is used)",
			  s->opts.tmpdir ? s->opts.tmpdir : "/tmp", need, have);
}

static int take_slot(struct qd_spill *s, uint64_t *ret_slot, struct qd_err *err)
{
	int r = 0;

	if (!s->file)
		r = qd_tmpfile_open(s->opts.tmpdir, &s->file, err);
	if (r)
		return r;
	pthread_mutex_lock(&s->lock);
	*ret_slot = s->nfree ? s->free_slots[--s->nfree] : s->nslots++;
	pthread_mutex_unlock(&s->lock);
	return 0;
}

static int give_slot(struct qd_spill *s, uint64_t slot, struct qd_err *err)
{
	int r = 0;

	pthread_mutex_lock(&s->lock);
	if (s->nfree == s->free_capacity) {
		size_t want = s->free_capacity ? 2 * s->free_capacity : 1024;
		uint64_t *grown = realloc(s->free_slots, want * sizeof(*grown));

		if (grown) {
			s->free_slots = grown;
			s->free_capacity = want;
		} else {
			r = qd_err_nomem(err, "records");
		}
	}
	if (!r)
		s->free_slots[s->nfree++] = slot;
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* Moves a chunk to the file; its memory is the caller's then. */
static int write_chunk(struct qd_spill *s, uintptr_t *place, size_t n, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	uint64_t slot;
	int r = take_slot(s, &slot, err);

	if (r)
		return r;
	r = qd_io_write(s->file, (void *)*place, n * s->record, slot * s->chunk_nbytes, &why);
	if (r && (why.sys_errno == ENOSPC || why.sys_errno == EDQUOT || why.sys_errno == EFBIG))
		return no_space(s, why.sys_errno, err);
	if (r) {
		qd_err_copy(err, &why);
		return r;
	}
	*place = (uintptr_t)(slot * 2 + IN_FILE);
	return 0;
}

/* ---- adding ---- */

static int push_chunk(struct qd_spill_part *p, void *memory, struct qd_err *err)
{
	if (p->nchunks == p->capacity) {
		size_t want = p->capacity ? 2 * p->capacity : 4;
		uintptr_t *grown = realloc(p->chunks, want * sizeof(*grown));

		if (!grown)
			return qd_err_nomem(err, "records");
		p->chunks = grown;
		p->capacity = want;
	}
	p->chunks[p->nchunks++] = (uintptr_t)memory;
	p->last_n = 0;
	return 0;
}

/* Memory for one more chunk: new, or of the oldest full one. */
static int get_memory(struct qd_spill *s, void **ret_memory, struct qd_err *err)
{
	struct full_chunk *oldest = &s->full[s->first_full];
	uintptr_t *place;
	void *memory;
	int r;

	if (s->nheld < s->max_held) {
		r = qd_bigarray_need(&s->memory, (uint64_t)s->max_held * s->chunk_nbytes, "records", err);
		*ret_memory = (uint8_t *)s->memory.p + s->nheld * s->chunk_nbytes;
		s->nheld += !r;
		return r;
	}
	place = &oldest->part->chunks[oldest->index];
	memory = (void *)*place;
	r = write_chunk(s, place, s->per_chunk, err);
	if (r)
		return r;
	s->first_full = (s->first_full + 1) % s->max_held;
	s->nfull--;
	*ret_memory = memory;
	return 0;
}

static void note_full(struct qd_spill *s, struct qd_spill_part *p)
{
	s->full[(s->first_full + s->nfull++) % s->max_held] = (struct full_chunk){ p, p->nchunks - 1 };
}

/* The last chunk is full, or there is none. */
static int next_chunk(struct qd_spill *s, struct qd_spill_part *p, struct qd_err *err)
{
	void *memory;
	int r;

	if (p->nchunks && s->sealed) {	/* dividing: what is full goes to the file at once */
		uintptr_t *place = &p->chunks[p->nchunks - 1];

		memory = (void *)*place;
		r = write_chunk(s, place, p->last_n, err);
	} else {
		if (p->nchunks)
			note_full(s, p);
		r = get_memory(s, &memory, err);
	}
	if (r)
		return r;
	return push_chunk(p, memory, err);
}

static int add_to(struct qd_spill *s, struct qd_spill_part *p, const uint8_t *record, struct qd_err *err)
{
	if (!p->nchunks || p->last_n == s->per_chunk) {
		int r = next_chunk(s, p, err);

		if (r)
			return r;
	}
	memcpy((uint8_t *)p->chunks[p->nchunks - 1] + p->last_n * s->record, record, s->record);
	p->last_n++;
	return 0;
}

int qd_spill_add(struct qd_spill *s, const void *records, size_t n, struct qd_err *err)
{
	const uint8_t *r = records;

	for (size_t i = 0; i < n; i++, r += s->record) {
		int rc = add_to(s, &s->level->parts[r[0]], r, err);

		if (rc)
			return rc;
	}
	s->count += n;
	return 0;
}

/* Everything goes to the file, and the memory is free. */
static int write_all(struct qd_spill *s, struct level *l, struct qd_err *err)
{
	for (unsigned k = 0; k < NPARTS; k++) {
		struct qd_spill_part *p = &l->parts[k];

		for (size_t i = 0; i < p->nchunks; i++) {
			size_t n = i + 1 == p->nchunks ? p->last_n : s->per_chunk;
			int r = p->chunks[i] & IN_FILE ? 0 : write_chunk(s, &p->chunks[i], n, err);

			if (r)
				return r;
		}
	}
	qd_bigarray_free(&s->memory);
	s->nheld = 0;
	return 0;
}

int qd_spill_seal(struct qd_spill *s, uint64_t max_nbytes, struct qd_err *err)
{
	bool too_large = false;

	s->max_leaf = (size_t)qd_max_u64(max_nbytes / s->record, 1);
	for (unsigned k = 0; k < NPARTS; k++) {
		struct qd_spill_part *p = &s->level->parts[k];

		p->equal = 1;
		too_large |= part_count(s, p) > s->max_leaf;
	}
	s->sealed = true;
	s->nfull = 0;
	return s->file || too_large ? write_all(s, s->level, err) : 0;
}

/* ---- leaves ---- */

static int read_chunk(struct qd_spill *s, const struct qd_spill_part *p, size_t i, void *buf, size_t *ret_n,
		      struct qd_err *err)
{
	size_t n = i + 1 == p->nchunks ? p->last_n : s->per_chunk;

	*ret_n = n;
	if (p->chunks[i] & IN_FILE)
		return qd_io_read(s->file, buf, n * s->record,
				  (uint64_t)(p->chunks[i] >> 1) * s->chunk_nbytes, err);
	memcpy(buf, (const void *)p->chunks[i], n * s->record);
	return 0;
}

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
		int r = read_chunk(s, p, i, buf, &n, err);

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
		uintptr_t place = p->chunks[i];
		size_t n;
		int r = read_chunk(s, p, i, buf, &n, err);

		if (!r)
			r = give_slot(s, place >> 1, err);
		for (size_t k = 0; !r && k < n; k++)
			r = add_to(s, &l->parts[buf[k * s->record + p->equal]], buf + k * s->record, err);
		if (r)
			return r;
	}
	return write_all(s, l, err);
}

static int divide(struct qd_spill *s, struct qd_spill_part *p, struct qd_err *err)
{
	struct level *l = calloc(1, sizeof(*l));
	uint8_t *buf = malloc(s->chunk_nbytes);
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
		l->parts[k].tied = p->equal >= s->opts.key_nbytes;
	}
	l->above = s->level;
	s->level = l;
	r = move_down(s, p, l, buf, err);
	free(buf);
	clear_part(p);
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
	leaf->n = part_count(s, mine);
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
		if (part_count(s, p) > s->max_leaf)
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
		r = read_chunk(s, p, i, leaf->records + at * s->record, &n, err);
		if (!r && (p->chunks[i] & IN_FILE))
			r = give_slot(s, p->chunks[i] >> 1, err);
	}
	clear_part(p);
	free(p);
	leaf->part = NULL;
	if (!r)
		qd_sort_records(leaf->records, leaf->n, s->record, leaf->equal);
	return r;
}

void qd_spill_leaf_clear(struct qd_spill_leaf *leaf)
{
	if (leaf->part) {
		clear_part(leaf->part);
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
	return s->file != NULL;
}
