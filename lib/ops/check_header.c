/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's first phase: the header and its extensions.
 *
 * Values that everything else depends on (geometry, unknown features) end the check;
 * others are reported and replaced by what can be worked with.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "format/bitmap.h"

#define MAX_CRYPTO_HEADER (128u << 20)	/* LUKS with eight key slots takes about 2 MiB */

static int check_geometry(struct chk *c)
{
	const struct qd_header *h = &c->header;
	uint64_t least = (h->incompatible & QD_INCOMPAT_EXTL2) ? 14 : QD_MIN_CLUSTER_BITS;

	if (h->incompatible & ~QD_INCOMPAT_KNOWN) {
		qd_chk_found(c, QD_F_HEADER_FEATURE, QD_AT_HEADER, 0, h->incompatible & ~QD_INCOMPAT_KNOWN, 0,
			     0);
		return 1;
	}
	if (h->cluster_bits < least || h->cluster_bits > QD_MAX_CLUSTER_BITS || h->refcount_order > 6) {
		qd_chk_found(c, QD_F_HEADER_GEOMETRY, QD_AT_HEADER, 0, h->cluster_bits, h->refcount_order,
			     least);
		return 1;
	}
	return 0;
}

static void check_fields(struct chk *c)
{
	const struct qd_header *h = &c->header;
	uint64_t cluster_size = 1ull << h->cluster_bits;
	bool type_bit = (h->incompatible & QD_INCOMPAT_COMPRESSION) != 0;

	if (h->version >= 3 && (h->header_length < QD_HEADER_V3_SIZE || h->header_length > cluster_size ||
				h->header_length % 8 != 0))
		qd_chk_found(c, QD_F_HEADER_LENGTH, QD_AT_HEADER, 0, h->header_length, QD_HEADER_V3_SIZE,
			     cluster_size);
	if (h->compression_type > QD_COMPRESSION_ZSTD || (h->compression_type != 0) != type_bit)
		qd_chk_found(c, QD_F_HEADER_COMPRESSION, QD_AT_HEADER, 0, h->compression_type, type_bit, 0);
	if ((h->autoclear & QD_AUTOCLEAR_DATA_FILE_RAW) && !(h->incompatible & QD_INCOMPAT_DATA_FILE))
		qd_chk_found(c, QD_F_HEADER_DATA_FILE, QD_AT_HEADER, 0, h->autoclear, h->incompatible, 0);
	if (h->crypt_method > QD_CRYPT_LUKS)
		qd_chk_found(c, QD_F_HEADER_CRYPT, QD_AT_HEADER, 0, h->crypt_method, 0, 0);
	if (h->backing_name_off != 0 &&
	    (h->backing_name_len > QD_MAX_BACKING_NAME ||
	     !qd_range_within(h->backing_name_off, h->backing_name_len, cluster_size)))
		qd_chk_found(c, QD_F_HEADER_BACKING, QD_AT_HEADER, 0, h->backing_name_off,
			     h->backing_name_len, cluster_size);
	if (h->incompatible & QD_INCOMPAT_DIRTY)
		qd_chk_found(c, QD_F_DIRTY, QD_AT_HEADER, 0, 0, 0, 0);
	if (h->incompatible & QD_INCOMPAT_CORRUPT)
		qd_chk_found(c, QD_F_CORRUPT_BIT, QD_AT_HEADER, 0, 0, 0, 0);
}

static int take_crypto(struct chk *c, const struct qd_header_ext *ext, struct qd_err *err)
{
	uint64_t off = ext->nbytes >= 8 ? qd_get_be64(ext->data) : 0;
	uint64_t nbytes = ext->nbytes >= 16 ? qd_get_be64(ext->data + 8) : 0;

	if (ext->nbytes != 16 || nbytes == 0 || nbytes > MAX_CRYPTO_HEADER ||
	    !qd_is_aligned(off, c->geom.cluster_size) || !qd_chk_in_file(c, off, nbytes)) {
		qd_chk_found(c, QD_F_CRYPTO_HEADER, QD_AT_HEADER, 0, off, nbytes, 0);
		return 0;
	}
	return qd_chk_add_struct(c, off, nbytes, QD_STRUCT_CRYPTO, 0, err);
}

/* A bitmaps extension without its autoclear bit is void, and version 2 has none. */
static void take_bitmaps(struct chk *c, const struct qd_header_ext *ext)
{
	struct qd_bitmap_ext b = { .count = 0 };

	if (!(c->header.autoclear & QD_AUTOCLEAR_BITMAPS)) {
		if (c->header.version >= 3)
			qd_chk_found(c, QD_F_BITMAP_STALE, QD_AT_BITMAPS, 0, 0, 0, 0);
		return;
	}
	if (qd_bitmap_ext_decode(ext->data, ext->nbytes, &b, NULL) < 0) {
		if (ext->nbytes >= QD_BITMAP_EXT_SIZE)
			b = (struct qd_bitmap_ext){ qd_get_be32(ext->data), qd_get_be64(ext->data + 8),
						    qd_get_be64(ext->data + 16) };
		qd_chk_found(c, QD_F_BITMAP_EXTENSION, QD_AT_BITMAPS, 0, b.count, b.dir_size, b.dir_off);
		return;
	}
	c->has_bitmaps = true;
	c->bitmap_count = b.count;
	c->bitmap_dir_off = b.dir_off;
	c->bitmap_dir_size = b.dir_size;
}

static int take_extensions(struct chk *c, const uint8_t *buf, struct qd_err *err)
{
	const struct qd_header *h = &c->header;
	size_t cluster_size = (size_t)c->geom.cluster_size;
	size_t pos = h->header_length, end = cluster_size;
	struct qd_header_ext ext;
	int rc, more;

	if (h->backing_name_off != 0 && h->backing_name_off < end)
		end = (size_t)h->backing_name_off;
	if (pos > end || pos % 8 != 0)
		return 0;
	while ((more = qd_header_ext_next(buf, end, &pos, &ext, NULL)) > 0) {
		rc = 0;
		if (ext.type == QD_EXT_CRYPTO && h->crypt_method == QD_CRYPT_LUKS)
			rc = take_crypto(c, &ext, err);
		else if (ext.type == QD_EXT_BITMAPS && !c->has_bitmaps)
			take_bitmaps(c, &ext);
		if (rc)
			return rc;
	}
	if (more < 0)
		qd_chk_found(c, QD_F_HEADER_EXTENSION, QD_AT_HEADER, 0, pos,
			     pos + 8 <= end ? qd_get_be32(buf + pos) : 0,
			     pos + 8 <= end ? qd_get_be32(buf + pos + 4) : end - pos);
	return 0;
}

static int read_header(struct chk *c, struct qd_err *err)
{
	uint8_t buf[QD_HEADER_FULL_SIZE];
	size_t nread;
	int rc;

	rc = qd_io_size(c->io, &c->file_size, err);
	if (rc)
		return rc;
	rc = qd_io_read_upto(c->io, buf, sizeof(buf), 0, &nread, err);
	if (rc)
		return rc;
	if (!qd_header_is_qcow2(buf, nread))
		return 1;
	c->result->is_qcow2 = true;
	rc = qd_header_decode_raw(buf, nread, &c->header, err);
	return rc ? qd_err_file(err, rc, c->io->name) : 0;
}

int qd_chk_header(struct chk *c, struct qd_err *err)
{
	const struct qd_header *h = &c->header;
	uint8_t *buf = NULL;
	bool ok;
	int rc;

	rc = read_header(c, err);
	if (rc)
		return rc;
	rc = check_geometry(c);
	if (rc)
		return rc;
	qd_geom_init(h, &c->geom);
	if (c->file_size > INT64_MAX - c->geom.cluster_size)
		return qd_err_file(err, qd_err_set(err, QD_E_UNSUPPORTED, "the file is too large"),
				   c->io->name);
	c->file_size = qd_align_up(c->file_size, 512);
	c->nclusters = qd_div_up(c->file_size, c->geom.cluster_size);
	c->data_file = (h->incompatible & QD_INCOMPAT_DATA_FILE) != 0;
	c->result->cluster_size = c->geom.cluster_size;
	c->result->total_clusters = qd_div_up(qd_align_down(h->virtual_size, 512), c->geom.cluster_size);
	c->result->dirty = (h->incompatible & QD_INCOMPAT_DIRTY) != 0;
	c->result->corrupt_bit = (h->incompatible & QD_INCOMPAT_CORRUPT) != 0;
	check_fields(c);
	rc = qd_chk_add_struct(c, 0, c->geom.cluster_size, QD_STRUCT_HEADER, 0, err);
	if (rc)
		return rc;
	buf = malloc(c->geom.cluster_size);
	if (!buf)
		return qd_err_nomem(err, "the header");
	rc = qd_chk_read(c, buf, c->geom.cluster_size, 0, &ok, err);
	if (rc == 0 && ok)
		rc = take_extensions(c, buf, err);
	free(buf);
	return rc;
}
