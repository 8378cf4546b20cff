/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What holds for every layout: its rows follow one another without gap or overlap, stay
 * within the struct, and no two of them share a member (each byte of a buffer of
 * distinct bytes comes back where it was).
 */
#ifndef TESTS_UNIT_ROWS_H
#define TESTS_UNIT_ROWS_H

#include <stdbool.h>
#include <stdio.h>
#include <string.h>

#include "format/fields.h"

#define ROWS_MAX 256

static inline bool rows_are_contiguous(const struct qd_fields *l, size_t first, size_t end)
{
	size_t at = first;

	for (size_t i = 0; i < l->count; i++) {
		const struct qd_fields_row *r = &l->rows[i];

		if (r->off != at) {
			fprintf(stderr, "row %s is at %u, expected %zu\n", r->name, (unsigned int)r->off, at);
			return false;
		}
		if (r->width != 1 && r->width != 2 && r->width != 4 && r->width != 8) {
			fprintf(stderr, "row %s has width %u\n", r->name, (unsigned int)r->width);
			return false;
		}
		at += r->width;
	}
	return at == end;
}

/* obj has obj_size bytes and is large enough for every member. */
static inline bool rows_are_distinct(const struct qd_fields *l, size_t first, size_t end, void *obj,
				     size_t obj_size)
{
	uint8_t in[ROWS_MAX] = { 0 };
	uint8_t out[ROWS_MAX] = { 0 };

	for (size_t i = 0; i < l->count; i++) {
		if ((size_t)l->rows[i].member + l->rows[i].width > obj_size)
			return false;
	}
	for (size_t i = first; i < end; i++)
		in[i] = (uint8_t)(i + 1);
	memset(obj, 0, obj_size);
	qd_fields_decode(l, in, end, obj);
	qd_fields_encode(l, obj, out, end);
	return memcmp(in, out, sizeof(in)) == 0;
}

#endif
