/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent bitmaps: the header extension, directory entries and bitmap table entries
 * (qcow2 specification, "Bitmaps").  Pure: bytes <-> structs.
 */
#ifndef QD_FORMAT_BITMAP_H
#define QD_FORMAT_BITMAP_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "format/fields.h"

#define QD_BITMAP_EXT_SIZE 24u
#define QD_BITMAP_MAX 65535u			/* QEMU's limit on the number of bitmaps */
#define QD_BITMAP_MAX_DIR (1024u * 65535u)	/* QEMU's limit on the directory, bytes */
#define QD_BITMAP_MAX_TABLE 0x8000000u		/* QEMU's limit on table entries */
#define QD_BITMAP_MAX_DATA 0x20000000u		/* QEMU's limit on the clusters of one bitmap, bytes */
#define QD_BITMAP_TYPE_DIRTY_TRACKING 1u	/* the only type there is */
#define QD_BITMAP_FLAG_IN_USE (1u << 0)
#define QD_BITMAP_FLAG_AUTO (1u << 1)
#define QD_BITMAP_FLAG_EXTRA_COMPATIBLE (1u << 2)

struct qd_bitmap_ext {
	uint32_t count;
	uint64_t dir_size;	/* bytes */
	uint64_t dir_off;
};

struct qd_bitmap_entry {
	uint64_t table_off;
	uint32_t table_entries;
	uint32_t flags;
	uint8_t type;			/* QD_BITMAP_TYPE_DIRTY_TRACKING */
	uint8_t granularity_bits;
	uint16_t name_len;
	uint32_t extra_len;
	const uint8_t *extra;
	const char *name;		/* not NUL-terminated; points into the buffer */
};

/* Bitmap table entry: 0 with bit 0 clear: all zeros, with bit 0 set: all ones; else a cluster. */
#define QD_BITMAP_ENTRY_ONES (1ull << 0)
#define QD_BITMAP_ENTRY_RESERVED 0xff000000000001feull

extern const struct qd_fields qd_bitmap_ext_fields;
extern const struct qd_fields qd_bitmap_entry_fields;

int qd_bitmap_ext_decode(const uint8_t *buf, size_t nbytes, struct qd_bitmap_ext *ret_ext,
			 struct qd_err *err);
void qd_bitmap_ext_encode(const struct qd_bitmap_ext *ext, uint8_t buf[QD_BITMAP_EXT_SIZE]);

/* *ret_nbytes: the entry's length with padding to 8. */
int qd_bitmap_entry_decode(const uint8_t *buf, size_t nbytes, struct qd_bitmap_entry *ret_entry,
			   size_t *ret_nbytes, struct qd_err *err);
size_t qd_bitmap_entry_encoded_size(const struct qd_bitmap_entry *e);
size_t qd_bitmap_entry_encode(const struct qd_bitmap_entry *e, uint8_t *buf);

#endif
