/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bitmaps whose content cannot be known any more.
 */
#include "ops/repair_bitmap.h"

#include <stdlib.h>

#include "format/bitmap.h"

/* The directory's entry with that number says where the table is. */
static int bitmap_table(struct rep *r, uint32_t number, uint64_t *ret_off, struct qd_err *err)
{
	size_t cluster_size = (size_t)r->geom.cluster_size, pos = r->header.header_length;
	uint8_t *buf = malloc(cluster_size), head[24];
	struct qd_bitmap_ext b = { .count = 0 };
	struct qd_header_ext ext;
	int rc = buf ? 0 : qd_err_nomem(err, "the header");

	*ret_off = 0;
	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, cluster_size, 0, err);
	while (rc == 0 && b.count == 0 && qd_header_ext_next(buf, cluster_size, &pos, &ext, NULL) > 0)
		if (ext.type == QD_EXT_BITMAPS)
			rc = qd_bitmap_ext_decode(ext.data, ext.nbytes, &b, err);
	free(buf);
	for (uint64_t off = b.dir_off, i = 0; rc == 0 && i <= number && i < b.count; i++) {
		rc = qd_plan_read(r->plan, head, sizeof(head), off, err);
		if (rc == 0 && i == number)
			*ret_off = qd_get_be64(head);
		off += qd_align_up(24u + qd_get_be16(head + 18) + qd_get_be32(head + 20), 8);
	}
	return rc;
}

int qd_rep_fix_bitmap_entry(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	int rc = 0;

	if (r->bitmap_table == 0 || r->bitmap != f->place.layer)
		rc = bitmap_table(r, f->place.layer, &r->bitmap_table, err);
	r->bitmap = f->place.layer;
	if (rc || r->bitmap_table == 0)
		return rc;
	qd_rep_plan(r, QD_REPAIR_SET, f);
	return qd_plan_put64(r->plan, r->bitmap_table + f->place.index * 8, QD_BITMAP_ENTRY_ONES,
			     QD_PLAN_DROP, err);
}
