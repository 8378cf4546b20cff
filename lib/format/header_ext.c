/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Header extensions, which follow the header in the first cluster:
 *
 *	header_length                       backing_name_off, or the cluster size
 *	| type len data pad | ... | END | ... | backing file name | ...
 *
 * and the one extension whose content has no file of its own, the feature name table:
 * rows of 48 bytes, which are kind, bit and a name padded with zeros.
 *
 * Left to others: which extension may appear when, and how often.
 */
#include "format/header.h"

#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"

#define EXT_HEAD 8u	/* bytes of type and length before an extension's data */

int qd_header_ext_next(const uint8_t *buf, size_t end, size_t *pos, struct qd_header_ext *ret_ext,
		       struct qd_err *err)
{
	struct qd_header_ext ext;
	size_t left;

	if (*pos >= end)
		return 0;
	left = end - *pos;
	if (left < EXT_HEAD)
		return qd_err_set(err, QD_E_CORRUPT,
				  "header extension at 0x%zx: %zu bytes left, expected at least 8",
				  *pos, left);
	ext.type = qd_get_be32(buf + *pos);
	ext.nbytes = qd_get_be32(buf + *pos + 4);
	ext.data = buf + *pos + EXT_HEAD;
	left -= EXT_HEAD;
	if (ext.nbytes > left)
		return qd_err_set(err, QD_E_CORRUPT, "header extension 0x%08" PRIx32 ": length is %" PRIu32
				  ", expected at most %zu", ext.type, ext.nbytes, left);
	if (ext.type == QD_EXT_END)
		return 0;
	*pos += EXT_HEAD + qd_min_u64(qd_align_up(ext.nbytes, 8), left);
	*ret_ext = ext;
	return 1;
}

int qd_header_ext_append(uint8_t *buf, size_t end, size_t *pos, uint32_t type, const void *data,
			 size_t nbytes, struct qd_err *err)
{
	size_t left = *pos < end ? end - *pos : 0;
	size_t padded;

	if (left < EXT_HEAD || nbytes > left - EXT_HEAD || qd_align_up(nbytes, 8) > left - EXT_HEAD)
		return qd_err_set(err, QD_E_INVALID, "header extension 0x%08" PRIx32
				  ": needs %zu bytes of the first cluster, %zu are left", type, nbytes, left);
	padded = qd_align_up(nbytes, 8);
	qd_put_be32(buf + *pos, type);
	qd_put_be32(buf + *pos + 4, (uint32_t)nbytes);
	memset(buf + *pos + EXT_HEAD, 0, padded);
	if (nbytes)
		memcpy(buf + *pos + EXT_HEAD, data, nbytes);
	*pos += EXT_HEAD + padded;
	return 0;
}

bool qd_feature_name_get(const struct qd_header_ext *ext, size_t index, struct qd_feature_name *ret_name)
{
	const uint8_t *row;

	if (index >= ext->nbytes / QD_FEATURE_ROW)
		return false;
	row = ext->data + index * QD_FEATURE_ROW;
	ret_name->kind = row[0];
	ret_name->bit = row[1];
	memcpy(ret_name->name, row + 2, QD_FEATURE_ROW - 2);
	ret_name->name[QD_FEATURE_ROW - 2] = '\0';
	return true;
}

size_t qd_feature_names_encode(uint64_t autoclear, uint8_t *buf, size_t buf_size)
{
	static const struct qd_feature_name names[] = {
		{ QD_FEATURE_INCOMPATIBLE, 0, "dirty bit" },
		{ QD_FEATURE_INCOMPATIBLE, 1, "corrupt bit" },
		{ QD_FEATURE_INCOMPATIBLE, 2, "external data file" },
		{ QD_FEATURE_INCOMPATIBLE, 3, "compression type" },
		{ QD_FEATURE_INCOMPATIBLE, 4, "extended L2 entries" },
		{ QD_FEATURE_COMPATIBLE, 0, "lazy refcounts" },
		{ QD_FEATURE_AUTOCLEAR, 0, "bitmaps" },
		{ QD_FEATURE_AUTOCLEAR, 1, "raw external data" },
		{ QD_FEATURE_AUTOCLEAR, QD_AUTOCLEAR_INDEX_BIT, QD_AUTOCLEAR_INDEX_NAME },
	};
	size_t pos = 0, count = sizeof(names) / sizeof(names[0]);

	if (!(autoclear & QD_AUTOCLEAR_INDEX))
		count--;
	for (size_t i = 0; i < count; i++) {
		if (buf_size - pos < QD_FEATURE_ROW)
			break;
		buf[pos] = names[i].kind;
		buf[pos + 1] = names[i].bit;
		memcpy(buf + pos + 2, names[i].name, QD_FEATURE_ROW - 2);
		pos += QD_FEATURE_ROW;
	}
	return pos;
}
