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
 * oldest full one moves to the file for each new one.  After seal a chunk that fills moves
 * at once, and the next one takes its memory.
 *
 * Slots that were discarded are used again, so the file is never larger than all records
 * and the chunks that are not full.
 */
#include "dedup/spill_store.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "base/io.h"
#include "base/size.h"
#include "base/tmpfile.h"

#define CHUNK_MAX (256u << 10)	/* bytes */
#define IN_FILE 1u		/* a chunk's place: slot * 2 + IN_FILE, or an address (which is even) */

struct full_chunk {		/* in memory and full: may move to the file */
	struct qd_spill_part *part;
	size_t index;
};

struct qd_spill_store {
	struct qd_spill_opts opts;
	unsigned nparts;
	size_t record;		/* bytes */
	size_t per_chunk;	/* records */
	size_t chunk_nbytes;
	bool sealed;

	struct qd_bigarray memory;	/* of all chunks that are not in the file */
	size_t nheld;		/* chunks in memory, and how many may be */
	size_t max_held;
	struct full_chunk *full;	/* a ring of max_held */
	size_t first_full, nfull;

	struct qd_io *file;
	pthread_mutex_t lock;	/* guards the slots: chunks are discarded by several threads */
	uint64_t nslots;
	uint64_t *free_slots;
	size_t nfree, free_capacity;
};

int qd_spill_store_new(const struct qd_spill_opts *opts, unsigned nparts, struct qd_spill_store **ret_store,
		       struct qd_err *err)
{
	uint64_t memory = qd_max_u64(opts->memory, QD_SPILL_MEMORY_MIN);
	struct qd_spill_store *st = calloc(1, sizeof(*st));

	if (!st)
		return qd_err_nomem(err, "records");
	st->opts = *opts;
	st->nparts = nparts;
	st->record = opts->record_nbytes;
	/* A third of the memory is enough for a chunk that fills in every partition. */
	st->per_chunk = (size_t)qd_min_u64(memory / 3 / nparts, CHUNK_MAX) / st->record;
	st->chunk_nbytes = st->per_chunk * st->record;
	st->max_held = (size_t)(memory / (st->chunk_nbytes + 32));
	st->full = calloc(st->max_held, sizeof(*st->full));
	pthread_mutex_init(&st->lock, NULL);
	if (!st->full) {
		qd_spill_store_free(st);
		return qd_err_nomem(err, "records");
	}
	*ret_store = st;
	return 0;
}

void qd_spill_store_free(struct qd_spill_store *st)
{
	if (!st)
		return;
	qd_io_close(st->file);
	qd_bigarray_free(&st->memory);
	pthread_mutex_destroy(&st->lock);
	free(st->free_slots);
	free(st->full);
	free(st);
}

size_t qd_spill_store_chunk_nbytes(const struct qd_spill_store *st)
{
	return st->chunk_nbytes;
}

bool qd_spill_store_spilled(const struct qd_spill_store *st)
{
	return st->file != NULL;
}

/* ---- slots of the file ---- */

/* The first number in the message is enough, whatever came in between. */
static int no_space(const struct qd_spill_store *st, int sys_errno, struct qd_err *err)
{
	char need[QD_SIZE_TEXT], have[QD_SIZE_TEXT];
	uint64_t written = st->nslots * st->chunk_nbytes;
	uint64_t expected = st->opts.expect ? st->opts.expect(st->opts.ctx) : 0;
	uint64_t all = qd_max_u64(expected, written) + 2ull * st->nparts * st->chunk_nbytes;

	qd_size_format(written, have, sizeof(have));
	qd_size_format(all + all / 64, need, sizeof(need));
	return qd_err_sys(err, sys_errno,
			  "temporary files in %s need up to %s, there is room for %s (TMPDIR names another"
			  " directory; with more --memory less of it is used)",
			  st->opts.tmpdir ? st->opts.tmpdir : "/tmp", need, have);
}

static int take_slot(struct qd_spill_store *st, uint64_t *ret_slot, struct qd_err *err)
{
	int r = 0;

	if (!st->file)
		r = qd_tmpfile_open(st->opts.tmpdir, &st->file, err);
	if (r)
		return r;
	pthread_mutex_lock(&st->lock);
	*ret_slot = st->nfree ? st->free_slots[--st->nfree] : st->nslots++;
	pthread_mutex_unlock(&st->lock);
	return 0;
}

static int give_slot(struct qd_spill_store *st, uint64_t slot, struct qd_err *err)
{
	int r = 0;

	pthread_mutex_lock(&st->lock);
	if (st->nfree == st->free_capacity) {
		size_t want = st->free_capacity ? 2 * st->free_capacity : 1024;
		uint64_t *grown = realloc(st->free_slots, want * sizeof(*grown));

		if (grown) {
			st->free_slots = grown;
			st->free_capacity = want;
		} else {
			r = qd_err_nomem(err, "records");
		}
	}
	if (!r)
		st->free_slots[st->nfree++] = slot;
	pthread_mutex_unlock(&st->lock);
	return r;
}

/* Moves a chunk to the file; its memory is the caller's then. */
static int write_chunk(struct qd_spill_store *st, uintptr_t *place, size_t n, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	uint64_t slot;
	int r = take_slot(st, &slot, err);

	if (r)
		return r;
	r = qd_io_write(st->file, (void *)*place, n * st->record, slot * st->chunk_nbytes, &why);
	if (r && (why.sys_errno == ENOSPC || why.sys_errno == EDQUOT || why.sys_errno == EFBIG))
		return no_space(st, why.sys_errno, err);
	if (r) {
		qd_err_copy(err, &why);
		return r;
	}
	*place = (uintptr_t)(slot * 2 + IN_FILE);
	return 0;
}

/* ---- partitions ---- */

static size_t count_in_chunk(const struct qd_spill_store *st, const struct qd_spill_part *p, size_t i)
{
	return i + 1 == p->nchunks ? p->last_n : st->per_chunk;
}

size_t qd_spill_store_count(const struct qd_spill_store *st, const struct qd_spill_part *p)
{
	return p->nchunks ? (p->nchunks - 1) * st->per_chunk + p->last_n : 0;
}

void qd_spill_store_clear(struct qd_spill_part *p)
{
	free(p->chunks);
	*p = (struct qd_spill_part){ .chunks = NULL };
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
static int get_memory(struct qd_spill_store *st, void **ret_memory, struct qd_err *err)
{
	struct full_chunk *oldest = &st->full[st->first_full];
	uintptr_t *place;
	void *memory;
	int r;

	if (st->nheld < st->max_held) {
		r = qd_bigarray_need(&st->memory, (uint64_t)st->max_held * st->chunk_nbytes, "records", err);
		*ret_memory = (uint8_t *)st->memory.p + st->nheld * st->chunk_nbytes;
		st->nheld += !r;
		return r;
	}
	place = &oldest->part->chunks[oldest->index];
	memory = (void *)*place;
	r = write_chunk(st, place, st->per_chunk, err);
	if (r)
		return r;
	st->first_full = (st->first_full + 1) % st->max_held;
	st->nfull--;
	*ret_memory = memory;
	return 0;
}

static void note_full(struct qd_spill_store *st, struct qd_spill_part *p)
{
	st->full[(st->first_full + st->nfull++) % st->max_held] = (struct full_chunk){ p, p->nchunks - 1 };
}

/* The last chunk is full, or there is none. */
static int next_chunk(struct qd_spill_store *st, struct qd_spill_part *p, struct qd_err *err)
{
	void *memory;
	int r;

	if (p->nchunks && st->sealed) {	/* dividing: what is full goes to the file at once */
		uintptr_t *place = &p->chunks[p->nchunks - 1];

		memory = (void *)*place;
		r = write_chunk(st, place, p->last_n, err);
	} else {
		if (p->nchunks)
			note_full(st, p);
		r = get_memory(st, &memory, err);
	}
	if (r)
		return r;
	return push_chunk(p, memory, err);
}

int qd_spill_store_add(struct qd_spill_store *st, struct qd_spill_part *p, const uint8_t *record,
		       struct qd_err *err)
{
	if (!p->nchunks || p->last_n == st->per_chunk) {
		int r = next_chunk(st, p, err);

		if (r)
			return r;
	}
	memcpy((uint8_t *)p->chunks[p->nchunks - 1] + p->last_n * st->record, record, st->record);
	p->last_n++;
	return 0;
}

void qd_spill_store_seal(struct qd_spill_store *st)
{
	st->sealed = true;
	st->nfull = 0;
}

static int flush_part(struct qd_spill_store *st, struct qd_spill_part *p, struct qd_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < p->nchunks; i++)
		if (!(p->chunks[i] & IN_FILE))
			r = write_chunk(st, &p->chunks[i], count_in_chunk(st, p, i), err);
	return r;
}

int qd_spill_store_flush(struct qd_spill_store *st, struct qd_spill_part *parts, unsigned nparts,
			 struct qd_err *err)
{
	for (unsigned k = 0; k < nparts; k++) {
		int r = flush_part(st, &parts[k], err);

		if (r)
			return r;
	}
	qd_bigarray_free(&st->memory);
	st->nheld = 0;
	return 0;
}

/* ---- reading ---- */

int qd_spill_store_read(struct qd_spill_store *st, const struct qd_spill_part *p, size_t i, void *buf,
			size_t *ret_n, struct qd_err *err)
{
	size_t n = count_in_chunk(st, p, i);

	*ret_n = n;
	if (p->chunks[i] & IN_FILE)
		return qd_io_read(st->file, buf, n * st->record,
				  (uint64_t)(p->chunks[i] >> 1) * st->chunk_nbytes, err);
	memcpy(buf, (const void *)p->chunks[i], n * st->record);
	return 0;
}

int qd_spill_store_discard(struct qd_spill_store *st, const struct qd_spill_part *p, size_t i,
			   struct qd_err *err)
{
	return p->chunks[i] & IN_FILE ? give_slot(st, p->chunks[i] >> 1, err) : 0;
}
