/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The stored hash table, byte by byte: the header extension that announces it, its
 * directory, its blocks and their records.  qdedup-format(5) is the specification.
 *
 *	header extension 0xcd8e819b: where, how long, which generation, CRC of the directory
 *	     |
 *	     v            container: one contiguous run of clusters
 *	     | directory | block 0 | block 1 | ... | log A | log B | redo log |
 *	       \__________/ \_____/                  \____ journal, optional ___/
 *	        CRC of each  records in host order
 *	        block
 *
 * Everything is big-endian.  A chain of checksums leads from the extension to every
 * record: the extension has its own, holds that of the directory, which holds that of
 * each block.  So a block of another image or of an older generation is never taken for
 * the right one, whatever it says of itself.
 *
 * Invariants
 *  T1  records ascend by key: host byte offset, then the entry itself; no two are equal.
 *  T2  blocks are full but for the last; what is left in a block is zeros.
 *  T3  identity and generation are the same in extension, directory and blocks.
 *  T4  a reader refuses what it finds set where this version says zero.
 *
 * Pure: bytes <-> structs.
 */
#ifndef QD_FORMAT_TABLE_H
#define QD_FORMAT_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "format/fields.h"
#include "format/header.h"

#define QD_TABLE_VERSION 1u
#define QD_TABLE_EXT_SIZE 112u		/* bytes of the extension's data */
#define QD_TABLE_DIR_HEADER 48u
#define QD_TABLE_DIR_ROW 16u
#define QD_TABLE_MAX_DIR (64u << 20)	/* bytes: our limit, 4 million blocks, so that a reader can hold it */
#define QD_TABLE_BLOCK_SIZE 65536u	/* the last one may be shorter: see qd_table_block_nbytes */
#define QD_TABLE_BLOCK_HEADER 32u
#define QD_TABLE_RECORD_HEAD 14u	/* bytes of a record without its hash */
#define QD_TABLE_ALIGN 512u		/* of the directory's end, of blocks */
#define QD_TABLE_DIR_MAGIC 0x51446472u	/* "QDdr" */
#define QD_TABLE_BLOCK_MAGIC 0x5144746bu	/* "QDtk" */

enum qd_table_flags {
	QD_TABLE_EXTERNAL = 1 << 0,	/* the container lies in a file of its own: container_off is 0 */
};

struct qd_table_ext {
	uint32_t version;		/* QD_TABLE_VERSION */
	uint32_t flags;			/* enum qd_table_flags */
	uint64_t container_off;		/* bytes, a multiple of the cluster size */
	uint64_t container_nbytes;	/* likewise */
	uint64_t generation;		/* >= 1; one more with every container written */
	uint64_t identity_hi;		/* XXH3-128 over all records in order, as they stand on disk */
	uint64_t identity_lo;
	uint32_t pin_id;		/* snapshot ID of the pin as a number; 0: there is none (external only) */
	uint8_t digest_id;		/* struct qd_digest.id */
	uint8_t digest_nbytes;
	uint8_t cluster_bits;		/* as in the header */
	uint8_t reserved;		/* 0 */
	uint32_t dir_nbytes;		/* of the directory, without padding */
	uint32_t dir_crc;		/* CRC32C of these bytes */
	uint64_t journal_off;		/* bytes from the container's start, a multiple of 4096; 0: no journal */
	uint32_t log_nbytes;		/* of each of the two log areas, a multiple of 4096 */
	uint32_t redo_nbytes;		/* of the redo log, likewise */
	uint64_t log_generation;	/* of the log in use, when it was last closed; 0: none */
	uint32_t log_clusters;		/* journal clusters it had then */
	uint32_t log_crc;		/* CRC32C of all their bytes */
	uint64_t journal_id;		/* drawn for this journal; 0: no journal */
	uint32_t reserved3;		/* 0 */
	uint32_t crc;			/* CRC32C of the 108 bytes before */
};

/* QD_E_CORRUPT: checksum, or a value that cannot be; QD_E_UNSUPPORTED: another version or flags. */
int qd_table_ext_decode(const uint8_t *data, size_t nbytes, struct qd_table_ext *ret_ext, struct qd_err *err);

/* Writes QD_TABLE_EXT_SIZE bytes; computes the checksum itself. */
void qd_table_ext_encode(const struct qd_table_ext *ext, uint8_t *buf);

struct qd_table_dir {			/* the directory's header */
	uint32_t magic;
	uint32_t crc;			/* CRC32C of all bytes of the directory after this one */
	uint64_t generation;
	uint64_t identity_hi;
	uint64_t identity_lo;
	uint64_t nrecords;		/* of all blocks */
	uint32_t nblocks;
	uint32_t zero;
};

struct qd_table_row {			/* one for each block */
	uint64_t first_host_off;	/* host byte offset of the block's first record */
	uint32_t crc;			/* the block's, as it stands in it */
	uint32_t nrecords;
};

struct qd_table_block {			/* a block's header */
	uint32_t magic;
	uint32_t crc;			/* CRC32C of all bytes of the block after this one */
	uint64_t generation;
	uint64_t identity_hi;
	uint32_t number;		/* of the block, from 0 */
	uint32_t nrecords;
};

enum qd_record_flags {
	QD_RECORD_FULL = 1 << 0,	/* at the share cap: not to be shared further */
	QD_RECORD_PARTIAL = 1 << 1,	/* extended L2: only the allocated subclusters count, others as zeros */
	QD_RECORD_SNAPSHOT = 1 << 2,	/* no entry of the active layer refers to it; guest: the snapshot's */
	QD_RECORD_KNOWN = 7,
};

struct qd_record {
	/*
	 * What names the cluster: its host byte offset, or for a compressed one the L2 entry
	 * (bit 62 set).
	 */
	uint64_t entry;
	uint64_t guest;			/* first guest cluster (number, 40 bits) that refers to it */
	uint8_t flags;			/* enum qd_record_flags */
	uint8_t hash[32];		/* digest_nbytes of it */
};

extern const struct qd_fields qd_table_ext_fields;
extern const struct qd_fields qd_table_dir_fields;
extern const struct qd_fields qd_table_row_fields;
extern const struct qd_fields qd_table_block_fields;

void qd_table_dir_decode(const uint8_t *p, struct qd_table_dir *ret_dir);
void qd_table_dir_encode(const struct qd_table_dir *dir, uint8_t *p);
void qd_table_row_decode(const uint8_t *p, struct qd_table_row *ret_row);
void qd_table_row_encode(const struct qd_table_row *row, uint8_t *p);
void qd_table_block_decode(const uint8_t *p, struct qd_table_block *ret_block);
void qd_table_block_encode(const struct qd_table_block *block, uint8_t *p);

/* Records: 8 bytes entry, 1 byte flags, 5 bytes guest, hash (decoded: zeros behind it). */
static inline uint32_t qd_record_nbytes(uint32_t digest_nbytes)
{
	return QD_TABLE_RECORD_HEAD + digest_nbytes;
}
void qd_record_decode(const uint8_t *p, uint32_t digest_nbytes, struct qd_record *ret_record);
void qd_record_encode(const struct qd_record *record, uint32_t digest_nbytes, uint8_t *p);

/* The entry is of a plain cluster in the embedded container; an external one, or none, has no clusters. */
bool qd_table_ext_holds(const struct qd_table_ext *ext, uint64_t entry);

/* Flags are known, and the entry is one that T1 can sort and an L2 table can hold. */
bool qd_record_is_valid(const struct qd_geom *g, const struct qd_record *record);

/* Host byte offset of what a record's entry names: what T1 sorts by first. */
uint64_t qd_record_host_off(const struct qd_geom *g, uint64_t entry);

/* Records of a full block; bytes that a block of nrecords takes (a multiple of QD_TABLE_ALIGN). */
uint32_t qd_table_block_records(uint32_t digest_nbytes);
uint32_t qd_table_block_nbytes(uint32_t nrecords, uint32_t digest_nbytes);

/* Where block `number` starts, and where the last one ends, in bytes from the container's start. */
uint64_t qd_table_block_off(uint32_t dir_nbytes, uint32_t number);
uint64_t qd_table_end(uint64_t nrecords, uint32_t digest_nbytes);

#endif
