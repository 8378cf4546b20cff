/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table's structures as rows of (member, byte offset), and the
 * arithmetic of where they lie:
 *
 *	extension    0 version, flags | 8 place | 24 generation, identity | 48 pin, digest,
 *	             cluster_bits | 56 directory | 64 journal | 92 zeros | 108 CRC
 *	directory    48 bytes of header | 16 bytes for each block | zeros up to QD_TABLE_ALIGN
 *	block        32 bytes of header | records | zeros up to its end
 *	record       8 bytes entry | 1 flags | 5 guest cluster | hash
 *
 * Left to others: the checksums of directory and blocks, which cover more than what is
 * decoded here, and whether what the extension names lies within the file.
 */
#include "format/table.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "format/entry.h"

#define EXT_CRC_OFF (QD_TABLE_EXT_SIZE - 4)
#define JOURNAL_GRAIN 4096u
#define MIN_DIGEST 8u
#define MAX_DIGEST 32u

#define ROW(m, off) QD_FIELDS_ROW(struct qd_table_ext, m, off)
static const struct qd_fields_row ext_rows[] = {
	ROW(version, 0),
	ROW(flags, 4),
	ROW(container_off, 8),
	ROW(container_nbytes, 16),
	ROW(generation, 24),
	ROW(identity_hi, 32),
	ROW(identity_lo, 40),
	ROW(pin_id, 48),
	ROW(digest_id, 52),
	ROW(digest_nbytes, 53),
	ROW(cluster_bits, 54),
	ROW(reserved, 55),
	ROW(dir_nbytes, 56),
	ROW(dir_crc, 60),
	ROW(journal_off, 64),
	ROW(log_nbytes, 72),
	ROW(redo_nbytes, 76),
	ROW(log_generation, 80),
	ROW(log_clusters, 88),
	ROW(log_crc, 92),
	ROW(journal_id, 96),
	ROW(reserved3, 104),
	ROW(crc, EXT_CRC_OFF),
};
#undef ROW

#define ROW(m, off) QD_FIELDS_ROW(struct qd_table_dir, m, off)
static const struct qd_fields_row dir_rows[] = {
	ROW(magic, 0),
	ROW(crc, 4),
	ROW(generation, 8),
	ROW(identity_hi, 16),
	ROW(identity_lo, 24),
	ROW(nrecords, 32),
	ROW(nblocks, 40),
	ROW(zero, 44),
};
#undef ROW

#define ROW(m, off) QD_FIELDS_ROW(struct qd_table_row, m, off)
static const struct qd_fields_row row_rows[] = {
	ROW(first_host_off, 0),
	ROW(crc, 8),
	ROW(nrecords, 12),
};
#undef ROW

#define ROW(m, off) QD_FIELDS_ROW(struct qd_table_block, m, off)
static const struct qd_fields_row block_rows[] = {
	ROW(magic, 0),
	ROW(crc, 4),
	ROW(generation, 8),
	ROW(identity_hi, 16),
	ROW(number, 24),
	ROW(nrecords, 28),
};
#undef ROW

const struct qd_fields qd_table_ext_fields = QD_FIELDS(ext_rows);
const struct qd_fields qd_table_dir_fields = QD_FIELDS(dir_rows);
const struct qd_fields qd_table_row_fields = QD_FIELDS(row_rows);
const struct qd_fields qd_table_block_fields = QD_FIELDS(block_rows);

/* --- the extension --- */

static int refuse(struct qd_err *err, const char *name, uint64_t value, const char *expected)
{
	return qd_err_set(err, QD_E_CORRUPT, "index extension: %s is 0x%" PRIx64 ", expected %s", name, value, expected);
}

static int check_place(const struct qd_table_ext *e, struct qd_err *err)
{
	uint64_t cluster_size;

	if (e->cluster_bits < QD_MIN_CLUSTER_BITS || e->cluster_bits > QD_MAX_CLUSTER_BITS)
		return refuse(err, "cluster_bits", e->cluster_bits, "9..21");
	cluster_size = 1ull << e->cluster_bits;
	if (e->flags & QD_TABLE_EXTERNAL) {
		if (e->container_off)
			return refuse(err, "container_off", e->container_off, "0 for an external container");
	} else if (!e->container_off || !qd_is_aligned(e->container_off, cluster_size)) {
		return refuse(err, "container_off", e->container_off, "a multiple of the cluster size");
	}
	if (!e->container_nbytes || !qd_is_aligned(e->container_nbytes, cluster_size))
		return refuse(err, "container_nbytes", e->container_nbytes, "a multiple of the cluster size");
	if (e->container_off > INT64_MAX || e->container_nbytes > INT64_MAX - e->container_off)
		return refuse(err, "container_nbytes", e->container_nbytes, "an end that fits 63 bits");
	if (!(e->flags & QD_TABLE_EXTERNAL) && !e->pin_id)
		return refuse(err, "pin_id", 0, "a snapshot ID for an embedded container");
	return 0;
}

static int check_directory(const struct qd_table_ext *e, struct qd_err *err)
{
	if (!e->generation)
		return refuse(err, "generation", 0, "1 or more");
	if (e->digest_nbytes < MIN_DIGEST || e->digest_nbytes > MAX_DIGEST)
		return refuse(err, "digest_nbytes", e->digest_nbytes, "8..32");
	if (e->dir_nbytes < QD_TABLE_DIR_HEADER || e->dir_nbytes % QD_TABLE_DIR_ROW)
		return refuse(err, "dir_nbytes", e->dir_nbytes, "a multiple of 16, 48 or more");
	if (e->dir_nbytes > e->container_nbytes)
		return refuse(err, "dir_nbytes", e->dir_nbytes, "no more than the container has");
	if (e->dir_nbytes > QD_TABLE_MAX_DIR)
		return qd_err_set(err, QD_E_UNSUPPORTED, "index extension: dir_nbytes is %" PRIu32 ", expected at most %u",
				  e->dir_nbytes, QD_TABLE_MAX_DIR);
	return 0;
}

static int check_journal(const struct qd_table_ext *e, struct qd_err *err)
{
	uint64_t nbytes = 2ull * e->log_nbytes + e->redo_nbytes;

	if (!e->journal_off) {
		if (e->log_nbytes || e->redo_nbytes || e->log_generation || e->log_clusters || e->log_crc ||
		    e->journal_id)
			return refuse(err, "journal_off", 0, "a place for the journal that the other fields tell of");
		return 0;
	}
	if (e->journal_off % JOURNAL_GRAIN || e->log_nbytes % JOURNAL_GRAIN || e->redo_nbytes % JOURNAL_GRAIN)
		return refuse(err, "journal_off", e->journal_off, "areas that are multiples of 4096");
	if (!e->log_nbytes || e->journal_off < e->dir_nbytes)
		return refuse(err, "log_nbytes", e->log_nbytes, "room for a log behind the table");
	if (!qd_range_within(e->journal_off, nbytes, e->container_nbytes))
		return refuse(err, "journal_off", e->journal_off, "areas within the container");
	if (!e->journal_id)
		return refuse(err, "journal_id", 0, "a number other than 0");
	if (!e->log_clusters && e->log_crc)
		return refuse(err, "log_crc", e->log_crc, "0 for a log without clusters");
	if (e->log_clusters > e->log_nbytes / JOURNAL_GRAIN)
		return refuse(err, "log_clusters", e->log_clusters, "no more than an area has");
	return 0;
}

static int check_ext(const struct qd_table_ext *e, struct qd_err *err)
{
	int r = 0;

	if (e->flags & ~(uint32_t)QD_TABLE_EXTERNAL || e->reserved || e->reserved3)
		return qd_err_set(err, QD_E_UNSUPPORTED, "index extension: unknown flags or fields are set (flags 0x%" PRIx32
				  ")", e->flags);
	r = check_place(e, err);
	if (!r)
		r = check_directory(e, err);
	return r ? r : check_journal(e, err);
}

int qd_table_ext_decode(const uint8_t *data, size_t nbytes, struct qd_table_ext *ret_ext, struct qd_err *err)
{
	struct qd_table_ext e = { 0 };
	int r;

	if (nbytes >= 4 && qd_get_be32(data) != QD_TABLE_VERSION && qd_get_be32(data) != 0)
		return qd_err_set(err, QD_E_UNSUPPORTED, "index extension: version is %" PRIu32 ", expected %u",
				  qd_get_be32(data), QD_TABLE_VERSION);
	if (nbytes != QD_TABLE_EXT_SIZE)
		return qd_err_set(err, QD_E_CORRUPT, "index extension: length is %zu, expected %u", nbytes, QD_TABLE_EXT_SIZE);
	qd_fields_decode(&qd_table_ext_fields, data, nbytes, &e);
	if (e.version != QD_TABLE_VERSION || e.crc != qd_crc32c(QD_CRC32C_SEED, data, EXT_CRC_OFF))
		return qd_err_set(err, QD_E_CORRUPT, "index extension: checksum mismatch");
	r = check_ext(&e, err);
	if (!r)
		*ret_ext = e;
	return r;
}

void qd_table_ext_encode(const struct qd_table_ext *ext, uint8_t *buf)
{
	qd_fields_encode(&qd_table_ext_fields, ext, buf, QD_TABLE_EXT_SIZE);
	qd_put_be32(buf + EXT_CRC_OFF, qd_crc32c(QD_CRC32C_SEED, buf, EXT_CRC_OFF));
}

/* --- directory, rows, blocks, records --- */

void qd_table_dir_decode(const uint8_t *p, struct qd_table_dir *ret_dir)
{
	qd_fields_decode(&qd_table_dir_fields, p, QD_TABLE_DIR_HEADER, ret_dir);
}

void qd_table_dir_encode(const struct qd_table_dir *dir, uint8_t *p)
{
	qd_fields_encode(&qd_table_dir_fields, dir, p, QD_TABLE_DIR_HEADER);
}

void qd_table_row_decode(const uint8_t *p, struct qd_table_row *ret_row)
{
	qd_fields_decode(&qd_table_row_fields, p, QD_TABLE_DIR_ROW, ret_row);
}

void qd_table_row_encode(const struct qd_table_row *row, uint8_t *p)
{
	qd_fields_encode(&qd_table_row_fields, row, p, QD_TABLE_DIR_ROW);
}

void qd_table_block_decode(const uint8_t *p, struct qd_table_block *ret_block)
{
	qd_fields_decode(&qd_table_block_fields, p, QD_TABLE_BLOCK_HEADER, ret_block);
}

void qd_table_block_encode(const struct qd_table_block *block, uint8_t *p)
{
	qd_fields_encode(&qd_table_block_fields, block, p, QD_TABLE_BLOCK_HEADER);
}

void qd_record_decode(const uint8_t *p, uint32_t digest_nbytes, struct qd_record *ret_record)
{
	ret_record->entry = qd_get_be64(p);
	ret_record->flags = p[8];
	ret_record->guest = (uint64_t)p[9] << 32 | qd_get_be32(p + 10);
	memcpy(ret_record->hash, p + QD_TABLE_RECORD_HEAD, digest_nbytes);
	memset(ret_record->hash + digest_nbytes, 0, sizeof(ret_record->hash) - digest_nbytes);
}

/*
 * In words, as the hash was put together a moment ago: a wider load would wait until those
 * stores have left the processor, and with them the cache misses before.
 */
static void copy_hash(uint8_t *to, const uint8_t *from, uint32_t nbytes)
{
	uint32_t i = 0;

	for (; i + 8 <= nbytes; i += 8)
		memcpy(to + i, from + i, 8);
	memcpy(to + i, from + i, nbytes - i);
}

void qd_record_encode(const struct qd_record *record, uint32_t digest_nbytes, uint8_t *p)
{
	qd_put_be64(p, record->entry);
	p[8] = record->flags;
	p[9] = (uint8_t)(record->guest >> 32);
	qd_put_be32(p + 10, (uint32_t)record->guest);
	copy_hash(p + QD_TABLE_RECORD_HEAD, record->hash, digest_nbytes);
}

bool qd_table_ext_holds(const struct qd_table_ext *ext, uint64_t entry)
{
	uint64_t off = qd_entry_host_off(entry);

	return ext->container_off && !(ext->flags & QD_TABLE_EXTERNAL) && !qd_l2_is_compressed(entry) &&
	       off >= ext->container_off && off - ext->container_off < ext->container_nbytes;
}

bool qd_record_is_valid(const struct qd_geom *g, const struct qd_record *record)
{
	uint64_t entry = record->entry;

	if (record->flags & ~(unsigned)QD_RECORD_KNOWN || entry & QD_COPIED)
		return false;
	if (qd_l2_is_compressed(entry))
		return !(record->flags & QD_RECORD_PARTIAL);
	return entry && !(entry & ~QD_OFFSET_MASK) && qd_is_aligned(entry, g->cluster_size);
}

uint64_t qd_record_host_off(const struct qd_geom *g, uint64_t entry)
{
	return qd_l2_is_compressed(entry) ? qd_l2_compressed(g, entry).host_off : qd_entry_host_off(entry);
}

/* --- where things lie --- */

uint32_t qd_table_block_records(uint32_t digest_nbytes)
{
	return (QD_TABLE_BLOCK_SIZE - QD_TABLE_BLOCK_HEADER) / qd_record_nbytes(digest_nbytes);
}

uint32_t qd_table_block_nbytes(uint32_t nrecords, uint32_t digest_nbytes)
{
	if (nrecords == qd_table_block_records(digest_nbytes))
		return QD_TABLE_BLOCK_SIZE;
	return (uint32_t)qd_align_up(QD_TABLE_BLOCK_HEADER + (uint64_t)nrecords * qd_record_nbytes(digest_nbytes),
				     QD_TABLE_ALIGN);
}

uint64_t qd_table_block_off(uint32_t dir_nbytes, uint32_t number)
{
	return qd_align_up(dir_nbytes, QD_TABLE_ALIGN) + (uint64_t)number * QD_TABLE_BLOCK_SIZE;
}

uint64_t qd_table_end(uint64_t nrecords, uint32_t digest_nbytes)
{
	uint32_t full = qd_table_block_records(digest_nbytes), rest = (uint32_t)(nrecords % full);
	uint64_t nblocks = qd_div_up(nrecords, full);
	uint64_t start = qd_align_up(QD_TABLE_DIR_HEADER + nblocks * QD_TABLE_DIR_ROW, QD_TABLE_ALIGN);

	return start + nrecords / full * QD_TABLE_BLOCK_SIZE + (rest ? qd_table_block_nbytes(rest, digest_nbytes) : 0);
}
