/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A snapshot table entry:
 *
 *	0            40           40 + extra_len
 *	| fixed part | extra data | id | name | padding to 8 |
 *
 * Extra data is as long as the writer knew fields: its first 8 bytes are the VM state
 * size (and replace the 32-bit one of the fixed part), the next 8 the disk size, the
 * next 8 icount; what follows is unknown and kept.  The rows cover the fixed part and
 * these 24 bytes in one run of 64.
 *
 * Left to others: whether the L1 table that an entry names can be true.
 */
#include "format/snapshot.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "format/fields.h"

#define EXTRA_KNOWN 24u
#define ROWS_SIZE (QD_SNAPSHOT_FIXED + EXTRA_KNOWN)

/* The entry plus the one field on disk that has no member of its own. */
struct snapshot_fields {
	struct qd_snapshot_entry e;
	uint32_t vm_state_size_32;
};

#define ROW(m, off) QD_FIELDS_ROW(struct snapshot_fields, m, off)
static const struct qd_fields_row snapshot_rows[] = {
	ROW(e.l1_off, 0),
	ROW(e.l1_entries, 8),
	ROW(e.id_len, 12),
	ROW(e.name_len, 14),
	ROW(e.date_sec, 16),
	ROW(e.date_nsec, 20),
	ROW(e.vm_clock_nsec, 24),
	ROW(vm_state_size_32, 32),
	ROW(e.extra_len, 36),
	ROW(e.vm_state_size, 40),
	ROW(e.disk_size, 48),
	ROW(e.icount, 56),
};
#undef ROW

const struct qd_fields qd_snapshot_fields = QD_FIELDS(snapshot_rows);

int qd_snapshot_decode(const uint8_t *buf, size_t nbytes, uint64_t default_size,
		       struct qd_snapshot_entry *ret_entry, size_t *ret_nbytes, struct qd_err *err)
{
	struct snapshot_fields f = { .e = { .disk_size = default_size, .icount = UINT64_MAX } };
	size_t len;

	if (nbytes < QD_SNAPSHOT_FIXED)
		return qd_err_set(err, QD_E_CORRUPT, "snapshot entry: %zu bytes left, expected at least 40",
				  nbytes);
	qd_fields_decode(&qd_snapshot_fields, buf, QD_SNAPSHOT_FIXED, &f);
	if (f.e.extra_len > QD_SNAPSHOT_MAX_EXTRA)
		return qd_err_set(err, QD_E_CORRUPT, "snapshot entry: extra data has %" PRIu32
				  " bytes, expected at most 1024", f.e.extra_len);
	len = QD_SNAPSHOT_FIXED + (size_t)f.e.extra_len + f.e.id_len + f.e.name_len;
	if (len > nbytes)
		return qd_err_set(err, QD_E_CORRUPT, "snapshot entry: length is %zu, expected at most %zu",
				  len, nbytes);
	f.e.vm_state_size = f.vm_state_size_32;
	qd_fields_decode(&qd_snapshot_fields, buf, QD_SNAPSHOT_FIXED + (size_t)f.e.extra_len, &f);
	f.e.extra = buf + QD_SNAPSHOT_FIXED;
	f.e.id = (const char *)f.e.extra + f.e.extra_len;
	f.e.name = f.e.id + f.e.id_len;
	*ret_entry = f.e;
	*ret_nbytes = qd_min_u64(qd_align_up(len, 8), nbytes);
	return 0;
}

/* Unknown extra data is kept behind the fields we know. */
static uint32_t extra_on_disk(const struct qd_snapshot_entry *e)
{
	return e->extra && e->extra_len > EXTRA_KNOWN ? e->extra_len : EXTRA_KNOWN;
}

size_t qd_snapshot_encoded_size(const struct qd_snapshot_entry *e)
{
	return qd_align_up(QD_SNAPSHOT_FIXED + (size_t)extra_on_disk(e) + e->id_len + e->name_len, 8);
}

size_t qd_snapshot_encode(const struct qd_snapshot_entry *e, uint8_t *buf)
{
	/* The low half is what QEMU stores too; readers of the 64-bit field ignore it. */
	struct snapshot_fields f = { .e = *e, .vm_state_size_32 = (uint32_t)e->vm_state_size };
	size_t size = qd_snapshot_encoded_size(e);
	uint8_t *p = buf + ROWS_SIZE;

	f.e.extra_len = extra_on_disk(e);
	memset(buf, 0, size);
	qd_fields_encode(&qd_snapshot_fields, &f, buf, ROWS_SIZE);
	if (f.e.extra_len > EXTRA_KNOWN) {
		memcpy(p, e->extra + EXTRA_KNOWN, f.e.extra_len - EXTRA_KNOWN);
		p += f.e.extra_len - EXTRA_KNOWN;
	}
	if (e->id_len)
		memcpy(p, e->id, e->id_len);
	if (e->name_len)
		memcpy(p + e->id_len, e->name, e->name_len);
	return size;
}
