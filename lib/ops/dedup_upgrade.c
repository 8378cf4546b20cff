/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Version 2 -> 3, where the image lies.
 *
 *	version 2   0 header 72 | extensions, end | backing file's name
 *	version 3   0 header 112      | extensions, end | ...           | the name, if moved
 *	            \________ the first 512 bytes: one write ________/
 *
 * What changes lies in one sector, which a disk writes whole or not at all.  A backing file's name
 * that does not fit there beside the longer header is first copied to where nothing is; the
 * same sector then switches to it.
 *
 * Version 3 wants of the snapshot table what QEMU has written for long: 16 bytes of extra data in
 * each entry.  Where they are missing, the image is refused, and so is one whose extensions do
 * not fit the sector.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "format/snapshot.h"
#include "ops/dedup_int.h"

#define SECTOR 512u
#define END_MARK 8u
#define EXTRA_V3 16u
#define WAY_OUT "use qemu-img amend -o compat=1.1"

static int check_snapshots(const struct dedup *d, struct qd_err *err)
{
	const struct qd_image *img = d->img;
	size_t nbytes = (size_t)img->snapshots_nbytes, pos = 0, taken;
	struct qd_snapshot_entry e;
	uint8_t *table;
	int rc = 0;

	if (!img->nsnapshots)
		return 0;
	table = malloc(nbytes);
	if (!table)
		return qd_err_nomem(err, "the snapshot table");
	rc = qd_io_read(d->io, table, nbytes, img->header.snapshots_off, err);
	for (uint32_t i = 0; rc == 0 && i < img->nsnapshots; i++) {
		rc = qd_snapshot_decode(table + pos, nbytes - pos, img->header.virtual_size, &e, &taken, err);
		pos += rc ? 0 : taken;
		if (rc == 0 && e.extra_len < EXTRA_V3)
			rc = qd_err_set(err, QD_E_UNSUPPORTED, "--upgrade: snapshot \"%s\" lacks what "
					"version 3 records of snapshots: " WAY_OUT, img->snapshots[i].name);
	}
	free(table);
	return rc;
}

/* Header and extensions in the sector; *ret_end: one past the end mark. */
static int make_sector(const struct dedup *d, struct qd_header *h, uint8_t *sector, size_t *ret_end,
		       struct qd_err *err)
{
	const struct qd_image *img = d->img;
	size_t pos = QD_HEADER_FULL_SIZE;
	int rc = 0;

	*h = img->header;
	h->version = 3;
	h->header_length = QD_HEADER_FULL_SIZE;
	for (uint32_t i = 0; rc == 0 && i < img->nexts; i++)
		rc = qd_header_ext_append(sector, SECTOR - END_MARK, &pos, img->exts[i].type,
					  img->exts[i].data, img->exts[i].nbytes, err);
	if (rc)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "--upgrade: the header's extensions leave no room for version 3 in its "
				  "first 512 bytes: " WAY_OUT);
	*ret_end = pos + END_MARK;
	return 0;
}

/* Puts the backing file's name where the new header says. */
static int place_name(const struct dedup *d, struct qd_header *h, uint8_t *sector, size_t end,
		      struct qd_err *err)
{
	size_t len = h->backing_name_len;
	uint64_t old_end = h->backing_name_off + len, at;
	int rc;

	if (!h->backing_name_off)
		return 0;
	if (end + len <= SECTOR) {
		memcpy(sector + end, d->img->backing_name, len);
		h->backing_name_off = end;
		return 0;
	}
	at = qd_max_u64(SECTOR, qd_align_up(old_end, 8));
	if (at + len > d->geom->cluster_size)
		return qd_err_set(err, QD_E_UNSUPPORTED, "--upgrade: the header's cluster has no room "
				  "to move the backing file's name: " WAY_OUT);
	rc = qd_io_write(d->io, d->img->backing_name, len, at, err);
	if (rc == 0)
		rc = qd_io_flush(d->io, err);
	d->result->flushes++;
	h->backing_name_off = at;
	return rc;
}

int dedup_check_upgrade(const struct dedup *d, struct qd_err *err)
{
	uint8_t sector[SECTOR];
	struct qd_header h;
	size_t end;
	int rc = check_snapshots(d, err);

	return rc ? rc : make_sector(d, &h, sector, &end, err);
}

int dedup_upgrade(struct dedup *d, struct qd_err *err)
{
	uint8_t sector[SECTOR] = { 0 };
	struct qd_header h;
	size_t end;
	int rc = make_sector(d, &h, sector, &end, err);

	if (rc == 0)
		rc = place_name(d, &h, sector, end, err);
	if (rc)
		return rc;
	qd_header_encode(&h, sector);
	rc = qd_io_write(d->io, sector, sizeof(sector), 0, err);
	if (rc == 0)
		rc = qd_io_flush(d->io, err);
	d->result->flushes++;
	d->result->upgraded = true;
	return rc;
}
