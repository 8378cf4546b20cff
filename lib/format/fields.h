/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Fields: a big-endian structure described once, as rows of (member, byte offset).
 *
 * The width of a field on disk is the width of the member that holds it, so a row
 * cannot contradict the struct.  The same rows drive decoding, encoding and the unit
 * tests that every byte of a structure belongs to exactly one row.  Fields that the
 * specification reserves get a row too; their member lives in a struct private to the
 * file that checks it.
 *
 * What the values mean and which are allowed is left to the owner of the rows.
 */
#ifndef QD_FORMAT_FIELDS_H
#define QD_FORMAT_FIELDS_H

#include <assert.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

struct qd_fields_row {
	const char *name;
	uint16_t off;		/* byte in the structure on disk */
	uint16_t member;	/* byte in the struct in memory */
	uint8_t width;		/* bytes: 1, 2, 4 or 8, both on disk and in memory */
};

struct qd_fields {
	const struct qd_fields_row *rows;	/* by ascending off */
	size_t count;
};

#define QD_FIELDS_ROW(type, m, disk_off) \
	{ .name = #m, .off = (disk_off), .member = offsetof(type, m), .width = sizeof(((type *)0)->m) }

#define QD_FIELDS(row_array) { .rows = (row_array), .count = sizeof(row_array) / sizeof((row_array)[0]) }

static inline void qd_fields_load(const struct qd_fields_row *r, const uint8_t *p, uint8_t *member)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (r->width) {
	case 1:
		*member = *p;
		break;
	case 2:
		v16 = qd_get_be16(p);
		memcpy(member, &v16, sizeof(v16));
		break;
	case 4:
		v32 = qd_get_be32(p);
		memcpy(member, &v32, sizeof(v32));
		break;
	default:
		assert(r->width == 8);
		v64 = qd_get_be64(p);
		memcpy(member, &v64, sizeof(v64));
	}
}

static inline void qd_fields_store(const struct qd_fields_row *r, const uint8_t *member, uint8_t *p)
{
	uint16_t v16;
	uint32_t v32;
	uint64_t v64;

	switch (r->width) {
	case 1:
		*p = *member;
		break;
	case 2:
		memcpy(&v16, member, sizeof(v16));
		qd_put_be16(p, v16);
		break;
	case 4:
		memcpy(&v32, member, sizeof(v32));
		qd_put_be32(p, v32);
		break;
	default:
		assert(r->width == 8);
		memcpy(&v64, member, sizeof(v64));
		qd_put_be64(p, v64);
	}
}

/* Sets the members whose rows end within the nbytes of buf; the others keep their value. */
static inline void qd_fields_decode(const struct qd_fields *l, const uint8_t *buf, size_t nbytes, void *obj)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct qd_fields_row *r = &l->rows[i];

		if ((size_t)r->off + r->width <= nbytes)
			qd_fields_load(r, buf + r->off, (uint8_t *)obj + r->member);
	}
}

/* Stores the members whose rows end within nbytes; other bytes of buf are left alone. */
static inline void qd_fields_encode(const struct qd_fields *l, const void *obj, uint8_t *buf, size_t nbytes)
{
	for (size_t i = 0; i < l->count; i++) {
		const struct qd_fields_row *r = &l->rows[i];

		if ((size_t)r->off + r->width <= nbytes)
			qd_fields_store(r, (const uint8_t *)obj + r->member, buf + r->off);
	}
}

#endif
