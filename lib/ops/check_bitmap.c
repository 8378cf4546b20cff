/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's look at persistent bitmaps: directory, tables, and the clusters that
 * tables name.  Tables are read piece by piece and holes in the file are skipped, so
 * that a table's claimed size costs nothing.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "format/bitmap.h"

#define PIECE 65536u	/* bytes of a bitmap table read at a time */

static int take_table_entry(struct chk *c, uint32_t bitmap, uint64_t i, uint64_t entry, struct qd_err *err)
{
	uint64_t off = entry & QD_OFFSET_MASK;

	if (entry == 0 || entry == QD_BITMAP_ENTRY_ONES)
		return 0;
	if ((entry & QD_BITMAP_ENTRY_RESERVED) || (off != 0 && (entry & QD_BITMAP_ENTRY_ONES)) ||
	    !qd_is_aligned(off, c->geom.cluster_size) || !qd_chk_in_file(c, off, c->geom.cluster_size)) {
		struct qd_finding f = {
			.type = QD_F_BITMAP_TABLE_ENTRY, .nitems = 1, .value = { entry },
			.place = { QD_AT_BITMAP_ENTRY, bitmap, i, QD_NOWHERE, off },
		};

		qd_chk_emit(c, &f);
		return 0;
	}
	return off ? qd_chk_add_struct(c, off, c->geom.cluster_size, QD_STRUCT_BITMAP_DATA, bitmap, err) : 0;
}

static int take_table(struct chk *c, uint32_t bitmap, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	uint8_t *buf = malloc(PIECE);
	uint64_t end = off + nbytes;
	int rc = buf ? 0 : qd_err_nomem(err, "a bitmap table");

	for (uint64_t pos = off; rc == 0 && pos < end;) {
		uint64_t data, hole;
		size_t piece;
		bool ok;

		rc = qd_io_next_data(c->io, pos, &data, &hole, err);
		if (rc || data == hole)
			break;
		pos = qd_max_u64(pos, qd_align_down(data, 8));
		if (pos >= end)
			break;
		piece = (size_t)qd_min_u64(PIECE, qd_min_u64(end, qd_align_up(hole, 8)) - pos);
		rc = qd_chk_read(c, buf, piece, pos, &ok, err);
		for (size_t i = 0; rc == 0 && i < piece / 8; i++)
			rc = take_table_entry(c, bitmap, (pos - off) / 8 + i, qd_get_be64(buf + i * 8), err);
		pos += piece;
	}
	free(buf);
	return rc;
}

/* A bit for each granule of the disk; stock QEMU opens no image where the table has another size. */
static uint64_t entries_needed(const struct chk *c, const struct qd_bitmap_entry *e)
{
	uint64_t granules = qd_div_up(c->header.virtual_size, 1ull << e->granularity_bits);

	return qd_div_up(qd_align_up(granules, 64) / 8, c->geom.cluster_size);
}

static int take_bitmap(struct chk *c, uint32_t bitmap, const struct qd_bitmap_entry *e, struct qd_err *err)
{
	uint64_t nbytes = (uint64_t)e->table_entries * 8;
	int rc;

	if (e->flags & QD_BITMAP_FLAG_IN_USE)
		qd_chk_found(c, QD_F_BITMAP_IN_USE, QD_AT_BITMAP, bitmap, e->flags, 0, 0);
	if (!qd_is_aligned(e->table_off, c->geom.cluster_size) || !qd_chk_in_file(c, e->table_off, nbytes)) {
		qd_chk_found(c, QD_F_BITMAP_TABLE, QD_AT_BITMAP, bitmap, e->table_off, e->table_entries, 0);
		c->result->blind = true;
		return 0;
	}
	if (!(e->flags & QD_BITMAP_FLAG_IN_USE) && e->table_entries != entries_needed(c, e)) {
		qd_chk_found(c, QD_F_BITMAP_TABLE, QD_AT_BITMAP, bitmap, e->table_off, e->table_entries, 0);
		c->result->blind = true;
		return 0;
	}
	rc = qd_chk_add_struct(c, e->table_off, nbytes, QD_STRUCT_BITMAP_TABLE, bitmap, err);
	return rc ? rc : take_table(c, bitmap, e->table_off, nbytes, err);
}

static int take_directory(struct chk *c, const uint8_t *dir, struct qd_err *err)
{
	size_t size = (size_t)c->bitmap_dir_size, pos = 0;
	uint32_t i = 0;

	while (pos < size && i < c->bitmap_count) {
		struct qd_bitmap_entry e;
		size_t nbytes;
		int rc;

		if (qd_bitmap_entry_decode(dir + pos, size - pos, &e, &nbytes, NULL) < 0)
			break;
		rc = take_bitmap(c, i++, &e, err);
		if (rc)
			return rc;
		pos += nbytes;
	}
	if (pos != size || i != c->bitmap_count) {
		qd_chk_found(c, QD_F_BITMAP_ENTRY, QD_AT_BITMAP, i, pos, 0, 0);
		c->result->blind = true;
	}
	return 0;
}

int qd_chk_bitmaps(struct chk *c, struct qd_err *err)
{
	uint8_t *dir;
	bool ok;
	int rc;

	if (!c->has_bitmaps)
		return 0;
	if (c->bitmap_dir_off == 0 || !qd_is_aligned(c->bitmap_dir_off, c->geom.cluster_size) ||
	    !qd_chk_in_file(c, c->bitmap_dir_off, c->bitmap_dir_size)) {
		qd_chk_found(c, QD_F_BITMAP_DIRECTORY, QD_AT_BITMAPS, 0, c->bitmap_dir_off,
			     c->bitmap_dir_size, 0);
		c->result->blind = true;
		return 0;
	}
	rc = qd_chk_add_struct(c, c->bitmap_dir_off, c->bitmap_dir_size, QD_STRUCT_BITMAP_DIR, 0, err);
	if (rc)
		return rc;
	dir = malloc(c->bitmap_dir_size);
	if (!dir)
		return qd_err_nomem(err, "the bitmap directory");
	rc = qd_chk_read(c, dir, c->bitmap_dir_size, c->bitmap_dir_off, &ok, err);
	if (rc == 0 && ok)
		rc = take_directory(c, dir, err);
	free(dir);
	return rc;
}
