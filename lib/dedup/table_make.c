/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Making a table:
 *
 *	add     --> the runs
 *	finish  --> one run; identity, rows of the directory
 *	write   --> blocks from that run, then the directory
 *
 * Finishing encodes every block once for its checksum, writing encodes it again: blocks
 * are never kept, only their rows are.
 *
 * Left to others: collecting records and their order (runs.h).
 */
#include "dedup/table.h"

#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>
#endif

#include "base/bigarray.h"
#include "base/bytes.h"
#include "dedup/runs.h"
#include "dedup/table_int.h"

#define IO_CHUNK (1u << 20)

struct qd_table_maker {
	struct qd_geom geom;
	const struct qd_digest *digest;
	uint32_t size;			/* bytes of a record */
	struct qd_runs *runs;
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
	int r;

	if (!m)
		return qd_err_nomem(err, "a hash table");
	m->geom = *geom;
	m->digest = digest;
	m->size = qd_record_nbytes(digest->nbytes);
	r = qd_runs_new(&m->geom, digest->nbytes, memory, tmpdir, &m->runs, err);
	if (r) {
		free(m);
		return r;
	}
	*ret_maker = m;
	return 0;
}

void qd_table_maker_free(struct qd_table_maker *m)
{
	if (!m)
		return;
	qd_bigarray_free(&m->dir);
	qd_runs_free(m->runs);
	free(m);
}

uint64_t qd_table_maker_records(const struct qd_table_maker *m)
{
	return m->nrecords;
}

int qd_table_maker_add(struct qd_table_maker *m, const struct qd_record *record, struct qd_err *err)
{
	return qd_runs_add(m->runs, record, err);
}

/* --- blocks and their rows --- */

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

		r = qd_runs_get(m->runs, i, n, buf, &p, err);
		if (!r)
			XXH3_128bits_update(state, p, (size_t)(n * m->size));
	}
	h = XXH3_128bits_digest(state);
	m->ext.identity_hi = h.high64;
	m->ext.identity_lo = h.low64;
	XXH3_freeState(state);
	return r;
}

/* A whole block but for its checksum; of buf (QD_TABLE_BLOCK_SIZE bytes) *ret_nbytes belong to the table. */
static int fill_block(const struct qd_table_maker *m, uint64_t number, uint8_t *buf, uint32_t *ret_nbytes,
		      struct qd_err *err)
{
	uint32_t n = (uint32_t)records_of_block(m, number);
	uint32_t used = QD_TABLE_BLOCK_HEADER + n * m->size;
	uint32_t nbytes = qd_table_block_nbytes(n, m->digest->nbytes);
	struct qd_table_block b = { .magic = QD_TABLE_BLOCK_MAGIC, .generation = m->ext.generation,
				    .identity_hi = m->ext.identity_hi, .number = (uint32_t)number,
				    .nrecords = n };
	uint64_t first = number * qd_table_block_records(m->digest->nbytes);
	const uint8_t *p;
	int r = qd_runs_get(m->runs, first, n, buf + QD_TABLE_BLOCK_HEADER, &p, err);

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
	row.first_host_off = qd_record_host_off(&m->geom, qd_get_be64(buf + QD_TABLE_BLOCK_HEADER));
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
		return qd_err_set(err, QD_E_INVALID,
				  "the hash table would be too large: use larger clusters");
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
		r = qd_runs_settle(m->runs, err);
	m->ext.generation = generation;
	m->nrecords = qd_runs_count(m->runs);
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
