/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a stored table.  What a record says is believed only after the whole chain:
 *
 *	extension --dir_crc--> directory --row: CRC, first host offset, count--> block --> records
 *
 * and after the block's records were found in order (T1), with zeros behind them (T2),
 * and nothing in them that this version does not know (T4).
 *
 * A few checked blocks stay in memory, the one used longest ago makes room.
 */
#include "dedup/table.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "dedup/table_int.h"

#define SLOTS 8u
#define NO_BLOCK UINT32_MAX

struct slot {
	uint32_t number;		/* of the block, or NO_BLOCK */
	uint64_t used;			/* when last */
	uint8_t *data;			/* QD_TABLE_BLOCK_SIZE bytes; NULL until first needed */
};

struct qd_table {
	struct qd_io *io;
	uint64_t off;			/* of the container */
	struct qd_table_ext ext;
	struct qd_geom geom;
	const struct qd_digest *digest;
	uint32_t size;			/* bytes of a record */
	uint32_t full;			/* records of a full block */
	uint64_t nrecords;
	uint32_t nblocks;
	uint8_t *dir;			/* as on disk */
	uint64_t clock;
	struct slot slots[SLOTS];
};

static struct qd_table_row row_of(const struct qd_table *t, uint32_t number)
{
	struct qd_table_row row;

	qd_table_row_decode(t->dir + QD_TABLE_DIR_HEADER + (uint64_t)number * QD_TABLE_DIR_ROW, &row);
	return row;
}

/* --- the directory --- */

static int corrupt(struct qd_err *err, const char *why)
{
	return qd_err_set(err, QD_E_CORRUPT, "hash table: %s", why);
}

static int check_rows(const struct qd_table *t, struct qd_err *err)
{
	uint64_t before = 0;

	for (uint32_t i = 0; i < t->nblocks; i++) {
		struct qd_table_row row = row_of(t, i);
		uint64_t expected = qd_min_u64(t->full, t->nrecords - (uint64_t)i * t->full);

		if (row.nrecords != expected)
			return corrupt(err, "a row of the directory has another number of records than its block can have");
		if (row.first_host_off < before)
			return corrupt(err, "the rows of the directory are not in order");
		before = row.first_host_off;
	}
	return 0;
}

static int check_directory(struct qd_table *t, struct qd_err *err)
{
	struct qd_table_dir d;
	uint64_t limit = t->ext.journal_off ? t->ext.journal_off : t->ext.container_nbytes;

	qd_table_dir_decode(t->dir, &d);
	if (d.magic != QD_TABLE_DIR_MAGIC || d.zero)
		return corrupt(err, "the directory has no magic number where it should");
	if (d.crc != qd_table_crc(t->dir, t->ext.dir_nbytes))
		return corrupt(err, "checksum mismatch in the directory");
	if (d.generation != t->ext.generation || d.identity_hi != t->ext.identity_hi || d.identity_lo != t->ext.identity_lo)
		return corrupt(err, "the directory belongs to another table");
	if (QD_TABLE_DIR_HEADER + (uint64_t)d.nblocks * QD_TABLE_DIR_ROW != t->ext.dir_nbytes ||
	    qd_div_up(d.nrecords, t->full) != d.nblocks)
		return corrupt(err, "the numbers of blocks and records do not go together");
	t->nrecords = d.nrecords;
	t->nblocks = d.nblocks;
	if (qd_table_end(t->nrecords, t->digest->nbytes) > limit)
		return corrupt(err, "the blocks do not fit the container");
	return check_rows(t, err);
}

static int read_directory(struct qd_table *t, struct qd_err *err)
{
	size_t padded = (size_t)qd_align_up(t->ext.dir_nbytes, QD_TABLE_ALIGN);
	int r;

	t->dir = malloc(padded);
	if (!t->dir)
		return qd_err_nomem(err, "the directory of a hash table");
	r = qd_io_read_padded(t->io, t->dir, padded, t->off, err);
	if (r)
		return r;
	if (!qd_is_zero(t->dir + t->ext.dir_nbytes, padded - t->ext.dir_nbytes))
		return corrupt(err, "there is something behind the directory, where zeros must be");
	if (qd_crc32c(QD_CRC32C_SEED, t->dir, t->ext.dir_nbytes) != t->ext.dir_crc)
		return corrupt(err, "the directory is not the one that the extension names");
	return check_directory(t, err);
}

static int set_digest(struct qd_table *t, struct qd_err *err)
{
	t->digest = qd_digest_by_id(t->ext.digest_id);
	if (!t->digest)
		return qd_err_set(err, QD_E_UNSUPPORTED, "hash table: unknown hash number %u", t->ext.digest_id);
	if (t->digest->nbytes != t->ext.digest_nbytes)
		return qd_err_set(err, QD_E_CORRUPT, "hash table: hashes of %u bytes, expected %" PRIu32 " for %s",
				  t->ext.digest_nbytes, t->digest->nbytes, t->digest->name);
	t->size = qd_record_nbytes(t->digest->nbytes);
	t->full = qd_table_block_records(t->digest->nbytes);
	return 0;
}

int qd_table_open(struct qd_io *io, uint64_t off, const struct qd_table_ext *ext, const struct qd_geom *geom,
		  struct qd_table **ret_table, struct qd_err *err)
{
	struct qd_table *t = calloc(1, sizeof(*t));
	int r;

	if (!t)
		return qd_err_nomem(err, "a hash table");
	*t = (struct qd_table){ .io = io, .off = off, .ext = *ext, .geom = *geom };
	for (unsigned i = 0; i < SLOTS; i++)
		t->slots[i].number = NO_BLOCK;
	r = ext->cluster_bits == geom->cluster_bits ? set_digest(t, err) :
	    corrupt(err, "it was made for another cluster size");
	if (!r)
		r = read_directory(t, err);
	if (r)
		qd_table_close(t);
	else
		*ret_table = t;
	return r;
}

void qd_table_close(struct qd_table *t)
{
	if (!t)
		return;
	for (unsigned i = 0; i < SLOTS; i++)
		free(t->slots[i].data);
	free(t->dir);
	free(t);
}

uint64_t qd_table_nrecords(const struct qd_table *t)
{
	return t->nrecords;
}

const struct qd_digest *qd_table_digest(const struct qd_table *t)
{
	return t->digest;
}

/* --- blocks --- */

static const uint8_t *record_in(const struct qd_table *t, const uint8_t *block, uint32_t i)
{
	return block + QD_TABLE_BLOCK_HEADER + (size_t)i * t->size;
}

static struct qd_table_key key_in(const struct qd_table *t, const uint8_t *block, uint32_t i)
{
	return qd_table_key_of(&t->geom, qd_get_be64(record_in(t, block, i)));
}

/* T1, T2, T4 within the block; NULL when they hold. */
static const char *judge_records(const struct qd_table *t, const uint8_t *block, const struct qd_table_row *row)
{
	uint32_t used = QD_TABLE_BLOCK_HEADER + row->nrecords * t->size;
	uint32_t nbytes = qd_table_block_nbytes(row->nrecords, t->digest->nbytes);
	struct qd_table_key before = { 0, 0 };
	struct qd_record rec;

	for (uint32_t i = 0; i < row->nrecords; i++) {
		struct qd_table_key key = key_in(t, block, i);

		qd_record_decode(record_in(t, block, i), t->digest->nbytes, &rec);
		if (!qd_record_is_valid(&t->geom, &rec))
			return "a record that cannot be";
		if (i && qd_table_key_compare(before, key) >= 0)
			return "records out of order";
		before = key;
	}
	if (key_in(t, block, 0).host_off != row->first_host_off)
		return "another first record than the directory says";
	return qd_is_zero(block + used, nbytes - used) ? NULL : "bytes behind the last record";
}

static const char *judge_block(const struct qd_table *t, const uint8_t *block, uint32_t number)
{
	struct qd_table_row row = row_of(t, number);
	struct qd_table_block b;

	qd_table_block_decode(block, &b);
	if (b.magic != QD_TABLE_BLOCK_MAGIC)
		return "no magic number";
	if (b.crc != row.crc || b.crc != qd_table_crc(block, qd_table_block_nbytes(row.nrecords, t->digest->nbytes)))
		return "checksum mismatch";
	if (b.generation != t->ext.generation || b.identity_hi != t->ext.identity_hi || b.number != number ||
	    b.nrecords != row.nrecords)
		return "it belongs elsewhere";
	return judge_records(t, block, &row);
}

/* Reads a block into buf; *ret_why (a literal) is set when it is not to be believed. */
static int read_block(const struct qd_table *t, uint32_t number, uint8_t *buf, const char **ret_why, struct qd_err *err)
{
	uint32_t nbytes = qd_table_block_nbytes(row_of(t, number).nrecords, t->digest->nbytes);
	int r = qd_io_read_padded(t->io, buf, nbytes, t->off + qd_table_block_off(t->ext.dir_nbytes, number), err);

	if (!r)
		*ret_why = judge_block(t, buf, number);
	return r;
}

static int load_block(struct qd_table *t, uint32_t number, const uint8_t **ret_block, struct qd_err *err)
{
	struct slot *s = &t->slots[0];
	const char *why = NULL;
	int r;

	for (unsigned i = 0; i < SLOTS && s->number != number; i++)
		if (t->slots[i].number == number || t->slots[i].used < s->used)
			s = &t->slots[i];
	s->used = ++t->clock;
	*ret_block = s->data;
	if (s->number == number)
		return 0;
	if (!s->data)
		s->data = malloc(QD_TABLE_BLOCK_SIZE);
	if (!s->data)
		return qd_err_nomem(err, "a block of a hash table");
	s->number = NO_BLOCK;
	*ret_block = s->data;
	r = read_block(t, number, s->data, &why, err);
	if (!r && why)
		r = qd_err_set(err, QD_E_CORRUPT, "hash table: block %" PRIu32 ": %s", number, why);
	if (!r)
		s->number = number;
	return r;
}

int qd_table_get(struct qd_table *t, uint64_t n, struct qd_record *ret_record, struct qd_err *err)
{
	const uint8_t *block;
	int r;

	if (n >= t->nrecords)
		return qd_err_set(err, QD_E_INVALID, "hash table: record %" PRIu64 " of %" PRIu64, n, t->nrecords);
	r = load_block(t, (uint32_t)(n / t->full), &block, err);
	if (!r)
		qd_record_decode(record_in(t, block, (uint32_t)(n % t->full)), t->digest->nbytes, ret_record);
	return r;
}

/* The last block that may hold a record at host_off; nblocks when there is none. */
static uint32_t block_for(const struct qd_table *t, uint64_t host_off)
{
	uint32_t lo = 0, hi = t->nblocks;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (row_of(t, mid).first_host_off <= host_off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? lo - 1 : t->nblocks;
}

static int find_in_block(struct qd_table *t, uint32_t number, struct qd_table_key key, struct qd_record *ret_record,
			 struct qd_err *err)
{
	uint32_t lo = 0, hi = row_of(t, number).nrecords;
	const uint8_t *block;
	int r = load_block(t, number, &block, err);

	while (!r && lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;
		int c = qd_table_key_compare(key_in(t, block, mid), key);

		if (c == 0) {
			qd_record_decode(record_in(t, block, mid), t->digest->nbytes, ret_record);
			return 1;
		}
		if (c < 0)
			lo = mid + 1;
		else
			hi = mid;
	}
	return r;
}

/* Compressed entries that differ in their length only may begin in the block before. */
int qd_table_find(struct qd_table *t, uint64_t entry, struct qd_record *ret_record, struct qd_err *err)
{
	struct qd_table_key key = qd_table_key_of(&t->geom, entry);
	uint32_t number = block_for(t, key.host_off);
	int r = 0;

	if (number == t->nblocks)
		return 0;
	for (;;) {
		r = find_in_block(t, number, key, ret_record, err);
		if (r || number == 0 || row_of(t, number).first_host_off < key.host_off)
			return r;
		number--;
	}
}

/* The last block that begins below host_off; the first when none does. */
static uint32_t block_below(const struct qd_table *t, uint64_t host_off)
{
	uint32_t lo = 0, hi = t->nblocks;

	while (lo < hi) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (row_of(t, mid).first_host_off < host_off)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo ? lo - 1 : 0;
}

int qd_table_lower(struct qd_table *t, uint64_t host_off, uint64_t *ret_n, struct qd_err *err)
{
	uint32_t number = block_below(t, host_off), lo = 0, hi;
	const uint8_t *block;
	int r;

	if (!t->nblocks) {
		*ret_n = 0;
		return 0;
	}
	r = load_block(t, number, &block, err);
	if (r)
		return r;
	for (hi = row_of(t, number).nrecords; lo < hi;) {
		uint32_t mid = lo + (hi - lo) / 2;

		if (key_in(t, block, mid).host_off < host_off)
			lo = mid + 1;
		else
			hi = mid;
	}
	*ret_n = (uint64_t)number * t->full + lo;
	return 0;
}

/* --- all of it --- */

struct pass {
	struct qd_table *t;
	int (*fn)(void *ctx, uint64_t n, const struct qd_record *record, struct qd_err *err);	/* or NULL */
	void (*bad)(void *ctx, uint32_t block, const char *why);
	void *ctx;
	bool follows;			/* a block was read before this one */
	struct qd_table_key last;	/* of its last record */
	uint64_t nbad;
};

static int pass_block(struct pass *p, uint32_t number, uint8_t *buf, struct qd_err *err)
{
	struct qd_table *t = p->t;
	uint32_t n = row_of(t, number).nrecords;
	const char *why = NULL;
	struct qd_record rec;
	int r = read_block(t, number, buf, &why, err);

	if (r)
		return r;
	if (!why && p->follows && qd_table_key_compare(p->last, key_in(t, buf, 0)) >= 0)
		why = "records out of order";
	if (why && p->fn)
		return qd_err_set(err, QD_E_CORRUPT, "hash table: block %" PRIu32 ": %s", number, why);
	p->follows = !why;
	if (why) {
		p->nbad++;
		if (p->bad)
			p->bad(p->ctx, number, why);
		return 0;
	}
	p->last = key_in(t, buf, n - 1);
	for (uint32_t i = 0; !r && p->fn && i < n; i++) {
		qd_record_decode(record_in(t, buf, i), t->digest->nbytes, &rec);
		r = p->fn(p->ctx, (uint64_t)number * t->full + i, &rec, err);
	}
	return r;
}

static int run_pass(struct pass *p, struct qd_err *err)
{
	uint8_t *buf = malloc(QD_TABLE_BLOCK_SIZE);
	int r = buf ? 0 : qd_err_nomem(err, "a block of a hash table");

	for (uint32_t i = 0; !r && i < p->t->nblocks; i++)
		r = pass_block(p, i, buf, err);
	free(buf);
	return r;
}

int qd_table_walk(struct qd_table *t, int (*fn)(void *ctx, uint64_t n, const struct qd_record *record,
						struct qd_err *err), void *ctx, struct qd_err *err)
{
	struct pass p = { .t = t, .fn = fn, .ctx = ctx };

	return run_pass(&p, err);
}

int qd_table_check(struct qd_table *t, void (*bad)(void *ctx, uint32_t block, const char *why), void *ctx,
		   uint64_t *ret_bad, struct qd_err *err)
{
	struct pass p = { .t = t, .bad = bad, .ctx = ctx };
	int r = run_pass(&p, err);

	*ret_bad = p.nbad;
	return r;
}
