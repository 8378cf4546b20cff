/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a table:
 *
 *	add     --> the batch in memory --full: sort--> runs in a temporary file
 *	finish  --> one run: the batch, or what merging the runs gives, in a second file;
 *	            identity, rows of the directory
 *	write   --> blocks from that run, then the directory
 *
 * Records lie in batch and runs as on disk.  A batch whose records came in order is not
 * sorted, and a sorted batch that begins behind the end of the last run extends it: what
 * is added in order is one run, whatever its length.
 *
 * Of records with equal entries the last one added counts: within a batch by the number
 * that breaks ties, between runs by the run's number.
 */
#include "dedup/table.h"

#include <stdlib.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#endif

#include "base/bigarray.h"
#include "base/bytes.h"
#include "base/tmpfile.h"
#include "dedup/table_int.h"

#define MIN_BATCH 1024u			/* records */
#define MERGE_MIN 4096u			/* bytes read of a run at a time, at least */
#define IO_CHUNK (1u << 20)

struct run {
	uint64_t off;			/* bytes of the file */
	uint64_t nrecords;
	struct qd_table_key last;
};

struct sort_key {
	struct qd_table_key key;
	uint64_t number;		/* in the batch */
};

struct qd_table_maker {
	struct qd_geom geom;
	const struct qd_digest *digest;
	const char *tmpdir;
	uint32_t size;			/* bytes of a record */
	uint64_t memory;
	uint64_t capacity;		/* records of a batch */
	struct qd_bigarray batch;
	uint64_t nbatch;
	bool unordered;
	struct qd_table_key last;	/* of the batch, when nbatch */
	struct qd_io *file;		/* the runs */
	struct run *runs;
	uint64_t nruns;
	/* after finish */
	bool finished;
	uint64_t nrecords;
	struct qd_bigarray dir;		/* as on disk */
	struct qd_table_ext ext;
};

int qd_table_maker_new(const struct qd_geom *geom, const struct qd_digest *digest, uint64_t memory,
		       const char *tmpdir, struct qd_table_maker **ret_maker, struct qd_err *err)
{
	struct qd_table_maker *m = calloc(1, sizeof(*m));

	if (!m)
		return qd_err_nomem(err, "a hash table");
	m->geom = *geom;
	m->digest = digest;
	m->tmpdir = tmpdir;
	m->size = qd_record_nbytes(digest->nbytes);
	m->memory = memory;
	m->capacity = qd_max_u64(memory / (m->size + sizeof(struct sort_key)), MIN_BATCH);
	*ret_maker = m;
	return 0;
}

void qd_table_maker_free(struct qd_table_maker *m)
{
	if (!m)
		return;
	qd_bigarray_free(&m->batch);
	qd_bigarray_free(&m->dir);
	qd_io_close(m->file);
	free(m->runs);
	free(m);
}

uint64_t qd_table_maker_records(const struct qd_table_maker *m)
{
	return m->nrecords;
}

static uint8_t *batch_record(const struct qd_table_maker *m, uint64_t i)
{
	return (uint8_t *)m->batch.p + i * m->size;
}

static struct qd_table_key key_at(const struct qd_table_maker *m, const uint8_t *record)
{
	return qd_table_key_of(&m->geom, qd_get_be64(record));
}

/* --- a batch in order --- */

static int compare_sort_keys(const void *pa, const void *pb)
{
	const struct sort_key *a = pa, *b = pb;
	int c = qd_table_key_compare(a->key, b->key);

	return c ? c : a->number < b->number ? -1 : a->number > b->number;
}

/* Moves records to where keys say, along the cycles of the permutation. */
static void permute(struct qd_table_maker *m, struct sort_key *keys)
{
	uint8_t first[QD_TABLE_RECORD_HEAD + QD_DIGEST_MAX];

	for (uint64_t i = 0; i < m->nbatch; i++) {
		uint64_t to = i;

		if (keys[i].number == i)
			continue;
		memcpy(first, batch_record(m, i), m->size);
		while (keys[to].number != i) {
			uint64_t from = keys[to].number;

			memcpy(batch_record(m, to), batch_record(m, from), m->size);
			keys[to].number = to;
			to = from;
		}
		memcpy(batch_record(m, to), first, m->size);
		keys[to].number = to;
	}
}

/* Of neighbours with equal entries the last stays. */
static void drop_replaced(struct qd_table_maker *m)
{
	uint64_t n = 0;

	for (uint64_t i = 0; i < m->nbatch; i++) {
		if (i + 1 < m->nbatch && !memcmp(batch_record(m, i), batch_record(m, i + 1), 8))
			continue;
		if (n != i)
			memcpy(batch_record(m, n), batch_record(m, i), m->size);
		n++;
	}
	m->nbatch = n;
}

static int sort_batch(struct qd_table_maker *m, struct qd_err *err)
{
	struct sort_key *keys;

	if (!m->unordered)
		return 0;
	keys = malloc((size_t)m->nbatch * sizeof(*keys));
	if (!keys)
		return qd_err_nomem(err, "a hash table");
	for (uint64_t i = 0; i < m->nbatch; i++)
		keys[i] = (struct sort_key){ key_at(m, batch_record(m, i)), i };
	qsort(keys, (size_t)m->nbatch, sizeof(*keys), compare_sort_keys);
	permute(m, keys);
	free(keys);
	drop_replaced(m);
	m->unordered = false;
	m->last = key_at(m, batch_record(m, m->nbatch - 1));
	return 0;
}

/* --- runs --- */

/* The run that the batch extends, or a new one. */
static int open_run(struct qd_table_maker *m, struct run **ret_run, struct qd_err *err)
{
	struct run *last = m->nruns ? &m->runs[m->nruns - 1] : NULL, *runs;
	uint64_t end = last ? last->off + last->nrecords * m->size : 0;

	if (last && qd_table_key_compare(last->last, key_at(m, batch_record(m, 0))) < 0) {
		*ret_run = last;
		return 0;
	}
	runs = realloc(m->runs, (size_t)(m->nruns + 1) * sizeof(*runs));
	if (!runs)
		return qd_err_nomem(err, "a hash table");
	m->runs = runs;
	runs[m->nruns] = (struct run){ .off = end };
	*ret_run = &runs[m->nruns++];
	return 0;
}

static int spill_batch(struct qd_table_maker *m, struct qd_err *err)
{
	struct run *run = NULL;
	int r = m->file ? 0 : qd_tmpfile_open(m->tmpdir, &m->file, err);

	if (!r)
		r = sort_batch(m, err);
	if (!r)
		r = open_run(m, &run, err);
	if (!r)
		r = qd_io_write(m->file, m->batch.p, (size_t)(m->nbatch * m->size), run->off + run->nrecords * m->size, err);
	if (r)
		return r;
	run->nrecords += m->nbatch;
	run->last = m->last;
	m->nbatch = 0;
	return 0;
}

int qd_table_maker_add(struct qd_table_maker *m, const struct qd_record *record, struct qd_err *err)
{
	struct qd_table_key key = qd_table_key_of(&m->geom, record->entry);
	int c = m->nbatch ? qd_table_key_compare(m->last, key) : -1;
	int r = 0;

	if (c == 0 && !m->unordered) {		/* the one just added: replaced at once */
		qd_record_encode(record, m->digest->nbytes, batch_record(m, m->nbatch - 1));
		return 0;
	}
	if (m->nbatch == m->capacity)
		r = spill_batch(m, err);
	if (!r)
		r = qd_bigarray_need(&m->batch, (m->nbatch + 1) * m->size, "a hash table", err);
	if (r)
		return r;
	m->unordered = m->nbatch && (m->unordered || c > 0);
	m->last = key;
	qd_record_encode(record, m->digest->nbytes, batch_record(m, m->nbatch++));
	return 0;
}

/* --- merging --- */

struct source {			/* a run being read */
	uint64_t run;
	uint64_t next;		/* record of the run behind those in buf */
	uint8_t *buf;
	uint64_t pos;		/* record in buf */
	uint64_t n;		/* records in buf; 0: the run is at its end */
	struct qd_table_key key;
};

struct merge {
	struct qd_table_maker *m;
	struct source *sources;
	struct source **heap;	/* the least key on top; of equal keys the later run */
	uint64_t nheap;
	uint64_t per_buf;	/* records */
	uint8_t *bufs;
};

static bool comes_before(const struct source *a, const struct source *b)
{
	int c = qd_table_key_compare(a->key, b->key);

	return c ? c < 0 : a->run > b->run;
}

static void sift_down(struct merge *g, uint64_t i)
{
	struct source *s = g->heap[i];

	for (;;) {
		uint64_t child = 2 * i + 1;

		if (child + 1 < g->nheap && comes_before(g->heap[child + 1], g->heap[child]))
			child++;
		if (child >= g->nheap || !comes_before(g->heap[child], s))
			break;
		g->heap[i] = g->heap[child];
		i = child;
	}
	g->heap[i] = s;
}

static int refill(struct merge *g, struct source *s, struct qd_err *err)
{
	const struct run *run = &g->m->runs[s->run];
	int r = 0;

	s->pos = 0;
	s->n = qd_min_u64(g->per_buf, run->nrecords - s->next);
	if (s->n)
		r = qd_io_read(g->m->file, s->buf, (size_t)(s->n * g->m->size), run->off + s->next * g->m->size, err);
	s->next += s->n;
	if (!r && s->n)
		s->key = key_at(g->m, s->buf);
	return r;
}

static int advance(struct merge *g, struct qd_err *err)
{
	struct source *s = g->heap[0];
	int r = 0;

	if (++s->pos < s->n)
		s->key = key_at(g->m, s->buf + s->pos * g->m->size);
	else
		r = refill(g, s, err);
	if (!r && !s->n)
		g->heap[0] = g->heap[--g->nheap];
	if (!r && g->nheap)
		sift_down(g, 0);
	return r;
}

static int merge_open(struct merge *g, struct qd_err *err)
{
	struct qd_table_maker *m = g->m;
	uint64_t per_run = qd_max_u64(m->memory / (m->nruns + 1), MERGE_MIN);
	int r = 0;

	g->per_buf = qd_min_u64(per_run, IO_CHUNK) / m->size;
	g->sources = calloc((size_t)m->nruns, sizeof(*g->sources));
	g->heap = calloc((size_t)m->nruns, sizeof(*g->heap));
	g->bufs = malloc((size_t)(m->nruns * g->per_buf * m->size));
	if (!g->sources || !g->heap || !g->bufs)
		return qd_err_nomem(err, "sorting a hash table");
	for (uint64_t i = 0; !r && i < m->nruns; i++) {
		g->sources[i].run = i;
		g->sources[i].buf = g->bufs + i * g->per_buf * m->size;
		r = refill(g, &g->sources[i], err);
		g->heap[g->nheap++] = &g->sources[i];
	}
	for (uint64_t i = g->nheap / 2; !r && i-- > 0;)
		sift_down(g, i);
	return r;
}

/* Collects the merged records in the batch array, which is free now, and writes them in chunks. */
static int merge_into(struct merge *g, struct qd_io *to, uint64_t *ret_n, struct qd_err *err)
{
	struct qd_table_maker *m = g->m;
	uint64_t chunk = IO_CHUNK / m->size, n = 0, total = 0;
	int r = qd_bigarray_need(&m->batch, chunk * m->size, "sorting a hash table", err);

	while (!r && g->nheap) {
		const struct source *s = g->heap[0];
		struct qd_table_key key = s->key;

		memcpy(batch_record(m, n++), s->buf + s->pos * m->size, m->size);
		do
			r = advance(g, err);
		while (!r && g->nheap && !qd_table_key_compare(g->heap[0]->key, key));
		if (!r && (n == chunk || !g->nheap)) {
			r = qd_io_write(to, m->batch.p, (size_t)(n * m->size), total * m->size, err);
			total += n;
			n = 0;
		}
	}
	*ret_n = total;
	return r;
}

static int merge_runs(struct qd_table_maker *m, struct qd_err *err)
{
	struct merge g = { .m = m };
	struct qd_io *to = NULL;
	uint64_t n = 0;
	int r = qd_tmpfile_open(m->tmpdir, &to, err);

	qd_bigarray_free(&m->batch);
	if (!r)
		r = merge_open(&g, err);
	if (!r)
		r = merge_into(&g, to, &n, err);
	free(g.sources);
	free(g.heap);
	free(g.bufs);
	if (r) {
		qd_io_close(to);
		return r;
	}
	qd_io_close(m->file);
	m->file = to;
	m->nruns = 1;
	m->runs[0] = (struct run){ .nrecords = n };
	return 0;
}

/* One run is left: the batch, or the file. */
static int settle(struct qd_table_maker *m, struct qd_err *err)
{
	int r = 0;

	if (!m->file) {
		r = m->nbatch ? sort_batch(m, err) : 0;
		m->nrecords = m->nbatch;
		return r;
	}
	if (m->nbatch)
		r = spill_batch(m, err);
	if (!r && m->nruns > 1)
		r = merge_runs(m, err);
	m->nrecords = m->runs ? m->runs[0].nrecords : 0;
	return r;
}

/* --- the final run, as blocks --- */

/* n records from number `first` on; buf (room for n) is used when they lie in the file. */
static int get_records(const struct qd_table_maker *m, uint64_t first, uint64_t n, uint8_t *buf, const uint8_t **ret_p,
		       struct qd_err *err)
{
	*ret_p = buf;
	if (m->file)
		return qd_io_read(m->file, buf, (size_t)(n * m->size), first * m->size, err);
	*ret_p = batch_record(m, first);
	return 0;
}

static uint64_t records_of_block(const struct qd_table_maker *m, uint64_t number)
{
	uint64_t full = qd_table_block_records(m->digest->nbytes);

	return qd_min_u64(full, m->nrecords - number * full);
}

static int compute_identity(struct qd_table_maker *m, uint8_t *buf, struct qd_err *err)
{
	XXH3_state_t *state = XXH3_createState();
	uint64_t full = qd_table_block_records(m->digest->nbytes);
	XXH128_hash_t h;
	int r = 0;

	if (!state)
		return qd_err_nomem(err, "a hash table");
	XXH3_128bits_reset(state);
	for (uint64_t i = 0; !r && i < m->nrecords; i += full) {
		uint64_t n = qd_min_u64(full, m->nrecords - i);
		const uint8_t *p;

		r = get_records(m, i, n, buf, &p, err);
		if (!r)
			XXH3_128bits_update(state, p, (size_t)(n * m->size));
	}
	h = XXH3_128bits_digest(state);
	m->ext.identity_hi = h.high64;
	m->ext.identity_lo = h.low64;
	XXH3_freeState(state);
	return r;
}

/* A whole block but for its checksum at buf (QD_TABLE_BLOCK_SIZE bytes); *ret_nbytes of it belong to the table. */
static int fill_block(const struct qd_table_maker *m, uint64_t number, uint8_t *buf, uint32_t *ret_nbytes,
		      struct qd_err *err)
{
	uint32_t n = (uint32_t)records_of_block(m, number);
	uint32_t used = QD_TABLE_BLOCK_HEADER + n * m->size, nbytes = qd_table_block_nbytes(n, m->digest->nbytes);
	struct qd_table_block b = { .magic = QD_TABLE_BLOCK_MAGIC, .generation = m->ext.generation,
				    .identity_hi = m->ext.identity_hi, .number = (uint32_t)number, .nrecords = n };
	const uint8_t *p;
	int r = get_records(m, number * qd_table_block_records(m->digest->nbytes), n, buf + QD_TABLE_BLOCK_HEADER, &p, err);

	if (r)
		return r;
	if (p != buf + QD_TABLE_BLOCK_HEADER)
		memcpy(buf + QD_TABLE_BLOCK_HEADER, p, n * m->size);
	memset(buf + used, 0, nbytes - used);
	qd_table_block_encode(&b, buf);
	*ret_nbytes = nbytes;
	return 0;
}

static uint8_t *dir_row(const struct qd_table_maker *m, uint64_t number)
{
	return (uint8_t *)m->dir.p + QD_TABLE_DIR_HEADER + number * QD_TABLE_DIR_ROW;
}

static int make_row(const struct qd_table_maker *m, uint64_t number, uint8_t *buf, struct qd_err *err)
{
	struct qd_table_row row = { .nrecords = (uint32_t)records_of_block(m, number) };
	uint32_t nbytes;
	int r = fill_block(m, number, buf, &nbytes, err);

	if (r)
		return r;
	row.crc = qd_table_crc(buf, nbytes);
	row.first_host_off = key_at(m, buf + QD_TABLE_BLOCK_HEADER).host_off;
	qd_table_row_encode(&row, dir_row(m, number));
	return 0;
}

static int make_directory(struct qd_table_maker *m, uint8_t *buf, struct qd_err *err)
{
	uint64_t nblocks = qd_div_up(m->nrecords, qd_table_block_records(m->digest->nbytes));
	uint64_t nbytes = QD_TABLE_DIR_HEADER + nblocks * QD_TABLE_DIR_ROW;
	struct qd_table_dir d = { .magic = QD_TABLE_DIR_MAGIC, .generation = m->ext.generation,
				  .identity_hi = m->ext.identity_hi, .identity_lo = m->ext.identity_lo,
				  .nrecords = m->nrecords, .nblocks = (uint32_t)nblocks };
	uint8_t *p;
	int r;

	if (nbytes > QD_TABLE_MAX_DIR)
		return qd_err_set(err, QD_E_INVALID, "the hash table would be too large: use larger clusters");
	r = qd_bigarray_need(&m->dir, nbytes, "a hash table", err);
	if (r)
		return r;
	p = m->dir.p;
	for (uint64_t i = 0; !r && i < nblocks; i++)
		r = make_row(m, i, buf, err);
	if (r)
		return r;
	qd_table_dir_encode(&d, p);
	d.crc = qd_table_crc(p, (size_t)nbytes);
	qd_table_dir_encode(&d, p);
	m->ext.dir_nbytes = (uint32_t)nbytes;
	m->ext.dir_crc = qd_crc32c(QD_CRC32C_SEED, p, (size_t)nbytes);
	return 0;
}

int qd_table_maker_finish(struct qd_table_maker *m, uint64_t generation, struct qd_table_ext *ret_ext,
			  uint64_t *ret_nbytes, struct qd_err *err)
{
	uint8_t *buf = malloc(QD_TABLE_BLOCK_SIZE);
	int r = buf ? 0 : qd_err_nomem(err, "a hash table");

	if (!r && !m->finished)
		r = settle(m, err);
	m->ext.generation = generation;
	if (!r)
		r = compute_identity(m, buf, err);
	if (!r)
		r = make_directory(m, buf, err);
	free(buf);
	if (r)
		return r;
	m->finished = true;
	ret_ext->version = QD_TABLE_VERSION;
	ret_ext->generation = generation;
	ret_ext->identity_hi = m->ext.identity_hi;
	ret_ext->identity_lo = m->ext.identity_lo;
	ret_ext->digest_id = m->digest->id;
	ret_ext->digest_nbytes = (uint8_t)m->digest->nbytes;
	ret_ext->cluster_bits = (uint8_t)m->geom.cluster_bits;
	ret_ext->dir_nbytes = m->ext.dir_nbytes;
	ret_ext->dir_crc = m->ext.dir_crc;
	*ret_nbytes = qd_table_end(m->nrecords, m->digest->nbytes);
	return 0;
}

static int write_directory(struct qd_table_maker *m, struct qd_io *io, uint64_t off, struct qd_err *err)
{
	uint64_t padded = qd_align_up(m->ext.dir_nbytes, QD_TABLE_ALIGN);
	int r = qd_bigarray_need(&m->dir, padded, "a hash table", err);	/* zeros behind its end */

	return r ? r : qd_io_write(io, m->dir.p, (size_t)padded, off, err);
}

int qd_table_maker_write(struct qd_table_maker *m, struct qd_io *io, uint64_t off, struct qd_err *err)
{
	uint64_t nblocks = qd_div_up(m->nrecords, qd_table_block_records(m->digest->nbytes));
	uint64_t batch = IO_CHUNK / QD_TABLE_BLOCK_SIZE, in_buf = 0, start = 0;
	uint8_t *buf = malloc(IO_CHUNK);
	uint32_t nbytes = 0;
	int r = buf ? write_directory(m, io, off, err) : qd_err_nomem(err, "a hash table");

	for (uint64_t i = 0; !r && i < nblocks; i++) {
		if (!in_buf)
			start = qd_table_block_off(m->ext.dir_nbytes, (uint32_t)i);
		r = fill_block(m, i, buf + in_buf, &nbytes, err);
		if (!r)		/* the checksum is in the directory */
			memcpy(buf + in_buf + 4, dir_row(m, i) + 8, 4);
		in_buf += nbytes;
		if (!r && (i + 1 == nblocks || in_buf == batch * QD_TABLE_BLOCK_SIZE)) {
			r = qd_io_write(io, buf, (size_t)in_buf, off + start, err);
			in_buf = 0;
		}
	}
	free(buf);
	return r;
}
