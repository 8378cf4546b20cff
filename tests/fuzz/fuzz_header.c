/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The decoders of lib/format on any bytes: read as an image (header, its extensions, and
 * the snapshot table and bitmap directory they point at) and, to be independent of a
 * valid header, as a snapshot table and as a bitmap directory from the first byte on.
 *
 * Whatever a decoder accepts must survive encoding and decoding; every byte that it
 * hands out is read, so that a sanitizer sees one that is not there.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/bitmap.h"
#include "format/header.h"
#include "format/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

static volatile uint8_t sink;

static void touch(const void *p, size_t nbytes)
{
	uint8_t sum = 0;

	for (size_t i = 0; i < nbytes; i++)
		sum = (uint8_t)(sum + ((const uint8_t *)p)[i]);
	sink = sum;
}

static uint8_t *allocate(size_t nbytes)
{
	uint8_t *p = calloc(1, nbytes ? nbytes : 1);

	MUST(p);
	return p;
}

static void snapshot_round_trip(const struct qd_snapshot_entry *e)
{
	size_t size = qd_snapshot_encoded_size(e);
	uint8_t *first = allocate(size);
	uint8_t *second = allocate(size);
	struct qd_snapshot_entry again;
	size_t used;

	MUST(qd_snapshot_encode(e, first) == size);
	MUST(qd_snapshot_decode(first, size, 0, &again, &used, NULL) == 0);
	MUST(used == size);
	MUST(qd_snapshot_encoded_size(&again) == size);
	MUST(qd_snapshot_encode(&again, second) == size);
	MUST(memcmp(first, second, size) == 0);
	MUST(again.disk_size == e->disk_size && again.vm_state_size == e->vm_state_size);
	MUST(again.name_len == e->name_len && memcmp(again.name, e->name, e->name_len) == 0);
	free(first);
	free(second);
}

static void snapshot_table(const uint8_t *buf, size_t nbytes)
{
	struct qd_snapshot_entry e;
	struct qd_err err;
	size_t pos = 0;
	size_t used;

	while (qd_snapshot_decode(buf + pos, nbytes - pos, 4096, &e, &used, &err) == 0) {
		MUST(used >= QD_SNAPSHOT_FIXED && used <= nbytes - pos);
		touch(e.extra, e.extra_len);
		touch(e.id, e.id_len);
		touch(e.name, e.name_len);
		snapshot_round_trip(&e);
		pos += used;
	}
	MUST(err.msg[0] != '\0');
}

static void bitmap_directory(const uint8_t *buf, size_t nbytes)
{
	struct qd_bitmap_entry e;
	struct qd_err err;
	size_t pos = 0;
	size_t used;

	while (qd_bitmap_entry_decode(buf + pos, nbytes - pos, &e, &used, &err) == 0) {
		uint8_t *copy = allocate(used);

		MUST(used <= nbytes - pos && used % 8 == 0);
		MUST(qd_bitmap_entry_encoded_size(&e) == used);
		touch(e.extra, e.extra_len);
		touch(e.name, e.name_len);
		MUST(qd_bitmap_entry_encode(&e, copy) == used);
		MUST(memcmp(copy, buf + pos, 24 + (size_t)e.extra_len + e.name_len) == 0);
		free(copy);
		pos += used;
	}
	MUST(err.msg[0] != '\0');
}

static void bitmaps(const struct qd_header_ext *x, const uint8_t *image, size_t image_size)
{
	struct qd_bitmap_ext ext;
	uint8_t copy[QD_BITMAP_EXT_SIZE];

	if (qd_bitmap_ext_decode(x->data, x->nbytes, &ext, NULL) < 0)
		return;
	qd_bitmap_ext_encode(&ext, copy);
	MUST(memcmp(copy, x->data, sizeof(copy)) == 0);
	if (qd_range_within(ext.dir_off, ext.dir_size, image_size))
		bitmap_directory(image + ext.dir_off, ext.dir_size);
}

static void feature_names(const struct qd_header_ext *x)
{
	struct qd_feature_name name;
	size_t i = 0;

	while (qd_feature_name_get(x, i, &name)) {
		MUST(strlen(name.name) < sizeof(name.name));
		i++;
	}
	MUST(i == x->nbytes / QD_FEATURE_ROW);
}

/* The first `end` bytes of an image, zeros where the input has ended. */
static void extensions(const uint8_t *cluster, size_t start, size_t end, const uint8_t *image,
		       size_t image_size)
{
	uint8_t *copy = allocate(end);
	size_t pos = start;
	size_t last = start;
	size_t copied = start;
	struct qd_header_ext ext;

	while (qd_header_ext_next(cluster, end, &pos, &ext, NULL) == 1) {
		MUST(pos >= last + 8 && pos <= end);
		MUST(ext.data == cluster + last + 8);
		last = pos;
		touch(ext.data, ext.nbytes);
		if (ext.type == QD_EXT_FEATURE_NAMES)
			feature_names(&ext);
		if (ext.type == QD_EXT_BITMAPS)
			bitmaps(&ext, image, image_size);
		if (qd_header_ext_append(copy, end, &copied, ext.type, ext.data, ext.nbytes, NULL) == 0)
			MUST(copied == pos);
	}
	MUST(pos == last);
	free(copy);
}

static void header_round_trip(const struct qd_header *h, const uint8_t *data)
{
	uint8_t *copy = allocate(h->header_length);
	size_t known = qd_min_u64(h->header_length, 105);
	struct qd_header again;

	MUST(qd_header_encode(h, copy) == h->header_length);
	MUST(memcmp(copy, data, known) == 0);
	MUST(qd_header_decode(copy, h->header_length, &again, NULL) == 0);
	free(copy);
}

static void image(const uint8_t *data, size_t size)
{
	struct qd_header h, raw;
	struct qd_geom g;
	uint8_t *cluster;
	size_t end;

	if (qd_header_decode_raw(data, size, &raw, NULL) < 0) {
		MUST(qd_header_decode(data, size, &h, NULL) < 0);
		return;
	}
	if (qd_header_decode(data, size, &h, NULL) < 0)
		return;
	MUST(qd_header_validate(&raw, NULL) == 0);
	header_round_trip(&h, data);
	qd_geom_init(&h, &g);
	MUST(qd_geom_l1_entries(&g, h.virtual_size) <= h.l1_entries);
	end = h.backing_name_off ? h.backing_name_off : g.cluster_size;
	cluster = allocate(end);
	memcpy(cluster, data, qd_min_u64(end, size));
	extensions(cluster, h.header_length, end, data, size);
	free(cluster);
	if (h.snapshot_count && h.snapshots_off <= size)
		snapshot_table(data + h.snapshots_off, size - h.snapshots_off);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	image(data, size);
	snapshot_table(data, size);
	bitmap_directory(data, size);
	return 0;
}
