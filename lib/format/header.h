/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The qcow2 header, its extensions and the geometry that follows from it
 * (qcow2 specification, sections "Header", "Header extensions", "Feature name table").
 *
 * Pure: bytes <-> structs, no I/O, no allocation.  A version 2 header decodes to a
 * struct whose version 3 members have the values the specification gives them
 * (features 0, refcount_order 4, header_length 72, compression_type 0).
 *
 * Decoding validates what can be judged from the header alone; whether a table lies
 * within the file is for the layer that knows the file's size.
 */
#ifndef QD_FORMAT_HEADER_H
#define QD_FORMAT_HEADER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "format/fields.h"

#define QD_MAGIC 0x514649fbu		/* "QFI\xfb" */
#define QD_HEADER_V2_SIZE 72u
#define QD_HEADER_V3_SIZE 104u		/* without compression_type */
#define QD_HEADER_FULL_SIZE 112u	/* with compression_type and its padding: what we write */

#define QD_MIN_CLUSTER_BITS 9u
#define QD_MAX_CLUSTER_BITS 21u
#define QD_MAX_BACKING_NAME 1023u
#define QD_MAX_SNAPSHOTS 65536u			/* QEMU's limit */
#define QD_MAX_L1_BYTES (32u << 20)		/* QEMU's limit on any L1 table */
#define QD_MAX_REFTABLE_BYTES (8u << 20)	/* QEMU's limit on the refcount table */

/* Incompatible feature bits. */
#define QD_INCOMPAT_DIRTY (1ull << 0)
#define QD_INCOMPAT_CORRUPT (1ull << 1)
#define QD_INCOMPAT_DATA_FILE (1ull << 2)
#define QD_INCOMPAT_COMPRESSION (1ull << 3)
#define QD_INCOMPAT_EXTL2 (1ull << 4)
#define QD_INCOMPAT_KNOWN 0x1full
/* Compatible feature bits. */
#define QD_COMPAT_LAZY_REFCOUNTS (1ull << 0)
/* Autoclear feature bits. */
#define QD_AUTOCLEAR_BITMAPS (1ull << 0)
#define QD_AUTOCLEAR_DATA_FILE_RAW (1ull << 1)
#define QD_AUTOCLEAR_INDEX_BIT 48u		/* ours: nobody but qdedup wrote since the index was right */
#define QD_AUTOCLEAR_INDEX (1ull << QD_AUTOCLEAR_INDEX_BIT)
#define QD_AUTOCLEAR_INDEX_NAME "qdedup index"

enum qd_crypt { QD_CRYPT_NONE = 0, QD_CRYPT_AES = 1, QD_CRYPT_LUKS = 2 };
enum qd_compression { QD_COMPRESSION_ZLIB = 0, QD_COMPRESSION_ZSTD = 1 };

struct qd_header {
	uint32_t version;			/* 2 or 3 */
	uint64_t backing_name_off;		/* bytes; 0: no backing file */
	uint32_t backing_name_len;		/* bytes */
	uint32_t cluster_bits;
	uint64_t virtual_size;			/* bytes */
	uint32_t crypt_method;			/* enum qd_crypt */
	uint32_t l1_entries;
	uint64_t l1_off;
	uint64_t reftable_off;
	uint32_t reftable_clusters;
	uint32_t snapshot_count;
	uint64_t snapshots_off;
	uint64_t incompatible;
	uint64_t compatible;
	uint64_t autoclear;
	uint32_t refcount_order;		/* refcount width is 1 << order bits, 0..6 */
	uint32_t header_length;			/* bytes */
	uint8_t compression_type;		/* enum qd_compression */
};

/*
 * Decodes and validates the header at the start of buf (nbytes of it present).
 * QD_E_CORRUPT for a value the specification forbids, QD_E_UNSUPPORTED for a version
 * or an incompatible feature bit we do not know (named by number).  An image that is
 * not qcow2 at all (magic) is QD_E_CORRUPT too: ask qd_header_is_qcow2 first.
 * *ret_header is written only on success.
 */
int qd_header_decode(const uint8_t *buf, size_t nbytes, struct qd_header *ret_header,
		     struct qd_err *err);

/*
 * As above without refusing unknown incompatible bits and without the checks: for tools
 * that look at broken images.  Still refused are another magic, a version whose layout
 * is not known, and fewer than 72 (version 3: 104) bytes.
 */
int qd_header_decode_raw(const uint8_t *buf, size_t nbytes, struct qd_header *ret_header,
			 struct qd_err *err);

/* The checks alone. */
int qd_header_validate(const struct qd_header *h, struct qd_err *err);

bool qd_header_is_qcow2(const uint8_t *buf, size_t nbytes);

/*
 * Encodes h->header_length bytes (72, 104 or 112..; what lies beyond 112 is zeroed) into buf.
 * Returns the number of bytes written.  The caller provides at least header_length.
 */
size_t qd_header_encode(const struct qd_header *h, uint8_t *buf);

/* The rows of the header, magic excepted. */
extern const struct qd_fields qd_header_fields;

/* Offsets of single members, for writes that switch one of them. */
#define QD_HEADER_OFF_L1_ENTRIES 36u
#define QD_HEADER_OFF_L1_OFF 40u
#define QD_HEADER_OFF_REFTABLE_OFF 48u
#define QD_HEADER_OFF_REFTABLE_CLUSTERS 56u
#define QD_HEADER_OFF_SNAPSHOT_COUNT 60u
#define QD_HEADER_OFF_SNAPSHOTS_OFF 64u
#define QD_HEADER_OFF_INCOMPATIBLE 72u
#define QD_HEADER_OFF_COMPATIBLE 80u
#define QD_HEADER_OFF_AUTOCLEAR 88u

/* Header extensions: type, length, data, padding to 8 bytes. */
#define QD_EXT_END 0x00000000u
#define QD_EXT_BACKING_FORMAT 0xe2792acau
#define QD_EXT_FEATURE_NAMES 0x6803f857u
#define QD_EXT_BITMAPS 0x23852875u
#define QD_EXT_CRYPTO 0x0537be77u
#define QD_EXT_DATA_FILE 0x44415441u
#define QD_EXT_QDEDUP 0xcd8e819bu

struct qd_header_ext {
	uint32_t type;
	uint32_t nbytes;	/* of data, without padding */
	const uint8_t *data;	/* points into the caller's buffer */
};

/*
 * Walks the extensions in buf[*pos, end).  Start with *pos = header_length and end =
 * backing_name_off, or the cluster size when there is no backing file (what buf holds
 * must reach that far).  1: *ret_ext filled and *pos advanced; 0: no more;
 * QD_E_CORRUPT: one runs past the end.  At the end mark *pos stays on it.
 */
int qd_header_ext_next(const uint8_t *buf, size_t end, size_t *pos, struct qd_header_ext *ret_ext,
		       struct qd_err *err);

/* Appends one extension at buf + *pos; QD_E_INVALID when it does not fit before end. */
int qd_header_ext_append(uint8_t *buf, size_t end, size_t *pos, uint32_t type, const void *data,
			 size_t nbytes, struct qd_err *err);

/* Feature name table: rows of 48 bytes. */
enum qd_feature_kind { QD_FEATURE_INCOMPATIBLE = 0, QD_FEATURE_COMPATIBLE = 1, QD_FEATURE_AUTOCLEAR = 2 };
#define QD_FEATURE_ROW 48u

struct qd_feature_name {
	uint8_t kind;		/* enum qd_feature_kind */
	uint8_t bit;
	char name[47];		/* NUL-terminated */
};

/* Row number `index` of a feature name table extension; false when there is no such row. */
bool qd_feature_name_get(const struct qd_header_ext *ext, size_t index, struct qd_feature_name *ret_name);

/*
 * Writes the table of the features that stock QEMU names into buf, and those of ours that
 * are set in `autoclear`; returns its bytes (<= buf_size).
 */
size_t qd_feature_names_encode(uint64_t autoclear, uint8_t *buf, size_t buf_size);

/*
 * Geometry: the numbers that follow from the header and that everything which maps,
 * allocates or counts needs.
 */
struct qd_geom {
	uint32_t cluster_bits;
	uint64_t cluster_size;		/* bytes */
	uint64_t virtual_size;		/* bytes, active layer */
	bool extended_l2;		/* 16-byte L2 entries, 32 subclusters */
	uint32_t l2_entry_size;		/* bytes: 8 or 16 */
	uint32_t l2_bits;		/* log2 of entries in an L2 table */
	uint64_t l2_entries;
	uint32_t subcluster_bits;	/* log2 bytes of a subcluster; cluster_bits without extended L2 */
	uint32_t refcount_order;
	uint32_t refcount_bits;
	uint64_t refcount_max;		/* largest count that fits */
	uint64_t block_entries;		/* refcounts in a refcount block */
	uint32_t csize_shift;		/* compressed descriptors: 62 - (cluster_bits - 8) */
};

void qd_geom_init(const struct qd_header *h, struct qd_geom *ret_geom);

/* L1 entries that a disk of that size needs. */
uint64_t qd_geom_l1_entries(const struct qd_geom *g, uint64_t virtual_size);

#endif
