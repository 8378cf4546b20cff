/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Persistent bitmaps: the 24 bytes of the header extension, and the directory that it
 * points at, which is entries back to back:
 *
 *	0            24           24 + extra_len
 *	| fixed part | extra data | name | padding to 8 |
 *
 * Refused as QD_E_CORRUPT is what the specification forbids; legal values that QEMU
 * refuses (its limits, granularities outside 512 bytes .. 2 GiB) are QD_E_UNSUPPORTED.
 *
 * Left to others, who know them: alignment to the cluster size, the file's size, the
 * virtual size that a bitmap must cover, and that names are unique.
 */
#include "format/bitmap.h"

#include <assert.h>
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "format/fields.h"

#define ENTRY_FIXED 24u
#define MIN_ENTRY 32u	/* the fixed part, a name of one byte, padding */
#define FLAGS_KNOWN (QD_BITMAP_FLAG_IN_USE | QD_BITMAP_FLAG_AUTO | QD_BITMAP_FLAG_EXTRA_COMPATIBLE)
#define MIN_GRANULARITY_BITS 9
#define MAX_GRANULARITY_BITS 31
#define MAX_NAME 1023

struct ext_fields {
	struct qd_bitmap_ext ext;
	uint32_t reserved;
};

#define ROW(m, off) QD_FIELDS_ROW(struct ext_fields, m, off)
static const struct qd_fields_row ext_rows[] = {
	ROW(ext.count, 0),
	ROW(reserved, 4),
	ROW(ext.dir_size, 8),
	ROW(ext.dir_off, 16),
};
#undef ROW

#define ROW(m, off) QD_FIELDS_ROW(struct qd_bitmap_entry, m, off)
static const struct qd_fields_row entry_rows[] = {
	ROW(table_off, 0),
	ROW(table_entries, 8),
	ROW(flags, 12),
	ROW(type, 16),
	ROW(granularity_bits, 17),
	ROW(name_len, 18),
	ROW(extra_len, 20),
};
#undef ROW

const struct qd_fields qd_bitmap_ext_fields = QD_FIELDS(ext_rows);
const struct qd_fields qd_bitmap_entry_fields = QD_FIELDS(entry_rows);

static int check_ext(const struct ext_fields *f, struct qd_err *err)
{
	if (f->reserved != 0)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps extension: reserved field is 0x%" PRIx32
				  ", expected 0", f->reserved);
	if (f->ext.count == 0)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps extension: count is 0, expected 1..65535");
	if (f->ext.count > QD_BITMAP_MAX)
		return qd_err_set(err, QD_E_UNSUPPORTED, "bitmaps extension: count is %" PRIu32
				  ", expected 1..65535", f->ext.count);
	if (f->ext.dir_size < (uint64_t)f->ext.count * MIN_ENTRY)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps extension: dir_size is %" PRIu64
				  ", expected at least %" PRIu64, f->ext.dir_size,
				  (uint64_t)f->ext.count * MIN_ENTRY);
	if (f->ext.dir_size > QD_BITMAP_MAX_DIR)
		return qd_err_set(err, QD_E_UNSUPPORTED, "bitmaps extension: dir_size is %" PRIu64
				  ", expected at most %u", f->ext.dir_size, QD_BITMAP_MAX_DIR);
	if (f->ext.dir_off % 512 != 0)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps extension: dir_off is 0x%" PRIx64
				  ", expected a multiple of the cluster size", f->ext.dir_off);
	return 0;
}

int qd_bitmap_ext_decode(const uint8_t *buf, size_t nbytes, struct qd_bitmap_ext *ret_ext,
			 struct qd_err *err)
{
	struct ext_fields f = { .reserved = 0 };
	int rc;

	if (nbytes != QD_BITMAP_EXT_SIZE)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps extension: length is %zu, expected 24", nbytes);
	qd_fields_decode(&qd_bitmap_ext_fields, buf, nbytes, &f);
	rc = check_ext(&f, err);
	if (rc < 0)
		return rc;
	*ret_ext = f.ext;
	return 0;
}

void qd_bitmap_ext_encode(const struct qd_bitmap_ext *ext, uint8_t buf[QD_BITMAP_EXT_SIZE])
{
	struct ext_fields f = { .ext = *ext };

	qd_fields_encode(&qd_bitmap_ext_fields, &f, buf, QD_BITMAP_EXT_SIZE);
}

static int check_table(const struct qd_bitmap_entry *e, struct qd_err *err)
{
	if (e->table_off == 0 || e->table_off % 512 != 0)
		return qd_err_set(err, QD_E_CORRUPT, "bitmap: table_off is 0x%" PRIx64
				  ", expected a multiple of the cluster size", e->table_off);
	if (e->table_entries == 0)
		return qd_err_set(err, QD_E_CORRUPT, "bitmap: table_entries is 0, expected at least 1");
	if (e->table_entries > QD_BITMAP_MAX_TABLE)
		return qd_err_set(err, QD_E_UNSUPPORTED, "bitmap: table_entries is %" PRIu32
				  ", expected at most %u", e->table_entries, QD_BITMAP_MAX_TABLE);
	return 0;
}

static int check_entry(const struct qd_bitmap_entry *e, struct qd_err *err)
{
	if (e->flags & ~FLAGS_KNOWN)
		return qd_err_set(err, QD_E_CORRUPT, "bitmap: flags are 0x%" PRIx32
				  ", expected bits 0..2 only", e->flags);
	if (e->type != QD_BITMAP_TYPE_DIRTY_TRACKING)
		return qd_err_set(err, QD_E_UNSUPPORTED, "bitmap: type is %u, expected 1", e->type);
	if (e->granularity_bits < MIN_GRANULARITY_BITS || e->granularity_bits > MAX_GRANULARITY_BITS)
		return qd_err_set(err, e->granularity_bits > 63 ? QD_E_CORRUPT : QD_E_UNSUPPORTED,
				  "bitmap: granularity_bits is %u, expected 9..31", e->granularity_bits);
	if (e->name_len == 0 || e->name_len > MAX_NAME)
		return qd_err_set(err, e->name_len == 0 ? QD_E_CORRUPT : QD_E_UNSUPPORTED,
				  "bitmap: name_len is %u, expected 1..1023", e->name_len);
	return check_table(e, err);
}

int qd_bitmap_entry_decode(const uint8_t *buf, size_t nbytes, struct qd_bitmap_entry *ret_entry,
			   size_t *ret_nbytes, struct qd_err *err)
{
	struct qd_bitmap_entry e = { .extra = NULL };
	uint64_t len;
	int rc;

	if (nbytes < ENTRY_FIXED)
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmap: %zu bytes left in the directory, expected at least 24", nbytes);
	qd_fields_decode(&qd_bitmap_entry_fields, buf, ENTRY_FIXED, &e);
	len = qd_align_up((uint64_t)ENTRY_FIXED + e.extra_len + e.name_len, 8);
	if (len > nbytes)
		return qd_err_set(err, QD_E_CORRUPT, "bitmap: directory entry has %" PRIu64
				  " bytes, expected at most %zu", len, nbytes);
	rc = check_entry(&e, err);
	if (rc < 0)
		return rc;
	e.extra = buf + ENTRY_FIXED;
	e.name = (const char *)e.extra + e.extra_len;
	*ret_entry = e;
	*ret_nbytes = (size_t)len;
	return 0;
}

size_t qd_bitmap_entry_encoded_size(const struct qd_bitmap_entry *e)
{
	return qd_align_up((uint64_t)ENTRY_FIXED + e->extra_len + e->name_len, 8);
}

size_t qd_bitmap_entry_encode(const struct qd_bitmap_entry *e, uint8_t *buf)
{
	size_t size = qd_bitmap_entry_encoded_size(e);

	assert(e->extra_len == 0 || e->extra);
	memset(buf, 0, size);
	qd_fields_encode(&qd_bitmap_entry_fields, e, buf, ENTRY_FIXED);
	if (e->extra_len)
		memcpy(buf + ENTRY_FIXED, e->extra, e->extra_len);
	if (e->name_len)
		memcpy(buf + ENTRY_FIXED + e->extra_len, e->name, e->name_len);
	return size;
}
