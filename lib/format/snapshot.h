/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One entry of the snapshot table (qcow2 specification, "Snapshots").
 * Pure: bytes <-> struct; names point into the caller's buffer when decoding.
 */
#ifndef QD_FORMAT_SNAPSHOT_H
#define QD_FORMAT_SNAPSHOT_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "format/fields.h"

#define QD_SNAPSHOT_FIXED 40u			/* bytes before the extra data */
#define QD_SNAPSHOT_MAX_EXTRA 1024u		/* QEMU's limit */
#define QD_SNAPSHOT_MAX_TABLE (1024u * 65536u)	/* QEMU's limit on the whole table, bytes */

struct qd_snapshot_entry {
	uint64_t l1_off;
	uint32_t l1_entries;
	uint32_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t vm_state_size;		/* bytes; the 64-bit value where extra data has it */
	uint64_t disk_size;		/* bytes; `default_size` where extra data lacks it */
	uint64_t icount;		/* UINT64_MAX when not recorded */
	uint32_t extra_len;
	uint16_t id_len;
	uint16_t name_len;
	const uint8_t *extra;
	const char *id;			/* not NUL-terminated */
	const char *name;		/* not NUL-terminated */
};

/* The rows of the fixed part and the 24 bytes of known extra data. */
extern const struct qd_fields qd_snapshot_fields;

/*
 * Decodes the entry at the start of buf.  *ret_nbytes is its length on disk with
 * padding to 8, less only when nbytes ends within that padding (the last entry of a
 * table need not be padded).  QD_E_CORRUPT when the entry does not fit in nbytes or
 * extra data is too large.
 */
int qd_snapshot_decode(const uint8_t *buf, size_t nbytes, uint64_t default_size,
		       struct qd_snapshot_entry *ret_entry, size_t *ret_nbytes, struct qd_err *err);

/* Bytes on disk with padding, extra data being 24 bytes, or extra_len when `extra` has more. */
size_t qd_snapshot_encoded_size(const struct qd_snapshot_entry *e);

/*
 * Encodes with 24 bytes of extra data (vm state size, disk size, icount) and, so that a
 * rewritten table loses nothing, what `extra` holds behind them.  Returns the bytes written.
 */
size_t qd_snapshot_encode(const struct qd_snapshot_entry *e, uint8_t *buf);

#endif
