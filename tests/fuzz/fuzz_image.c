/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * lib/image on any bytes: the input is opened as a disk, walked run by run from its start
 * and from near its end, and read; so are its snapshots; its bitmaps are listed and copied
 * into a new image, which must then open and list the same.
 *
 * The work is bounded (runs, reads, snapshots), so that an input which claims exabytes
 * costs no more than one that has a few clusters.
 */
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "image/bitmaps.h"
#include "image/disk.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

#define MAX_RUNS 400
#define MAX_READS 12
#define MAX_READ 8192u
#define MAX_LAYERS 4u
#define MAX_BITMAP_BYTES (4u << 20)

static struct qd_io *memory_of(const uint8_t *data, size_t size)
{
	struct qd_io *io = NULL;

	MUST(qd_io_mem_new(data, size, true, &io, NULL) == 0);
	return io;
}

/* What is read in one piece and in two must be the same. */
static void read_some(struct qd_reader *reader, uint64_t off, size_t nbytes)
{
	uint8_t whole[MAX_READ], parts[MAX_READ];
	size_t half = nbytes / 3;
	struct qd_err err;
	int r;

	memset(whole, 0xa5, sizeof(whole));
	memset(parts, 0x5a, sizeof(parts));
	r = qd_reader_read(reader, off, nbytes, whole, &err);
	if (r) {
		MUST(r == err.code && err.msg[0]);
		return;
	}
	MUST(qd_reader_read(reader, off, half, parts, NULL) == 0);
	MUST(qd_reader_read(reader, off + half, nbytes - half, parts + half, NULL) == 0);
	MUST(memcmp(whole, parts, nbytes) == 0);
}

static void walk_disk(const struct qd_disk *disk, struct qd_reader *reader, uint64_t pos)
{
	struct qd_disk_run run;
	struct qd_err err;
	int reads = 0;

	for (int i = 0; i < MAX_RUNS && pos < disk->virtual_size; i++) {
		int r = qd_disk_next(disk, pos, UINT64_MAX, &run, &err);

		if (r) {
			MUST(r == err.code && err.msg[0]);
			pos = (pos | 511) + 1;
			continue;
		}
		MUST(run.guest_off == pos && run.nbytes > 0 && run.nbytes <= disk->virtual_size - pos);
		MUST(run.layer == disk);
		if (run.kind != QD_RUN_HOLE && reads++ < MAX_READS) {
			read_some(reader, pos, (size_t)qd_min_u64(run.nbytes, MAX_READ));
			if (pos >= 700)
				read_some(reader, pos - 700, 1400);
		}
		pos += run.nbytes;
	}
}

static void search_data(const struct qd_disk *disk)
{
	uint64_t pos = 0, off, nbytes;

	/* A call may step over as many runs as the disk has: only where these are few. */
	if (disk->virtual_size > 16u << 20)
		return;
	for (int i = 0; i < 50 && pos < disk->virtual_size; i++) {
		if (qd_disk_next_data(disk, pos, 1u << 20, &off, &nbytes, NULL))
			return;
		MUST(off >= pos && off <= disk->virtual_size && nbytes <= 1u << 20);
		MUST(nbytes > 0 || off == disk->virtual_size);
		pos = off + nbytes;
	}
}

static void walk_snapshot(const struct qd_image *img, const struct qd_snapshot *s)
{
	struct qd_map *map = NULL;
	struct qd_map_run run;
	uint64_t *l1 = NULL;
	uint64_t pos = 0;

	MUST(s->id && s->name);
	if (s->disk_size > INT64_MAX - 511)	/* qd_disk refuses these */
		return;
	if (qd_image_load_l1(img, s->l1_off, s->l1_entries, &l1, NULL))
		return;
	MUST(qd_map_new(img, l1, s->l1_entries, s->disk_size, 1u << 16, &map, NULL) == 0);
	for (int i = 0; i < MAX_RUNS && pos < s->disk_size; i++) {
		if (qd_map_get(map, pos, UINT64_MAX, &run, NULL))
			break;
		MUST(run.guest_off == pos && run.nbytes > 0 && run.nbytes <= s->disk_size - pos);
		pos += run.nbytes;
	}
	qd_map_free(map);
	free(l1);
}

/* ---- bitmaps ----------------------------------------------------------------------- */

struct listing {
	uint32_t count;
	uint64_t nbytes;	/* of bits, in clusters of the image or of 512 bytes */
	uint64_t virtual_size;
};

static int list_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct listing *l = ctx;

	(void)err;
	MUST(b->name[0] && strlen(b->name) <= QD_BITMAP_NAME_MAX);
	MUST(b->granularity >= 512 && (b->granularity & (b->granularity - 1)) == 0);
	l->count++;
	l->nbytes += l->virtual_size / b->granularity / 8 + 512;
	return 0;
}

static void copy_bitmaps(const struct qd_image *img, const struct listing *before, uint32_t cluster_bits)
{
	struct qd_build_opts opts = { .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4, .memory = 1u << 16 };
	uint64_t size = qd_min_u64(img->header.virtual_size, 8u << 20);
	struct qd_io *io = memory_of(NULL, 0);
	struct listing after = { .virtual_size = size };
	struct qd_build *build = NULL;
	struct qd_build_stats stats;
	struct qd_image *copy = NULL;

	MUST(qd_build_new(io, size, &opts, &build, NULL) == 0);
	if (qd_bitmaps_copy(img, build, io, NULL) == 0 &&
	    qd_build_finish(build, size, QD_AUTOCLEAR_BITMAPS, &stats, NULL) == 0) {
		MUST(qd_image_open(io, 0, &copy, NULL) == 0);
		io = NULL;
		MUST(qd_bitmaps_count(copy) == before->count);
		MUST(qd_bitmaps_walk(copy, list_bitmap, &after, NULL) == 0);
		MUST(after.count == before->count);
		MUST(qd_bitmaps_check_copy(copy, NULL) == 0);
	}
	qd_build_free(build);
	qd_image_close(copy);
	qd_io_close(io);
}

static void bitmaps(const struct qd_image *img)
{
	struct listing l = { .virtual_size = img->header.virtual_size };
	struct qd_err err;
	int r = qd_bitmaps_walk(img, list_bitmap, &l, &err);

	if (r)
		MUST(r == err.code && err.msg[0]);
	else
		MUST(l.count == qd_bitmaps_count(img));
	if (!r && l.count && l.nbytes <= MAX_BITMAP_BYTES) {
		copy_bitmaps(img, &l, 9);
		copy_bitmaps(img, &l, 16);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	struct qd_disk_opts opts = { .format = "qcow2", .map_cache_nbytes = 1u << 16 };
	struct qd_io *io = memory_of(data, size);
	struct qd_reader *reader = NULL;
	struct qd_disk *disk = NULL;
	struct qd_err err;
	int r = qd_disk_open_io(io, &opts, &disk, &err);

	if (r) {
		MUST(r == err.code && err.msg[0]);
		qd_io_close(io);
		return 0;
	}
	MUST(qd_reader_new(disk, &reader, NULL) == 0);
	walk_disk(disk, reader, 0);
	walk_disk(disk, reader, disk->virtual_size / 2 + 300);
	if (disk->virtual_size > 100000)
		walk_disk(disk, reader, disk->virtual_size - 100000);
	search_data(disk);
	for (uint32_t i = 0; i < qd_min_u64(disk->img->nsnapshots, MAX_LAYERS); i++)
		walk_snapshot(disk->img, &disk->img->snapshots[i]);
	bitmaps(disk->img);
	qd_reader_free(reader);
	qd_disk_close(disk);
	return 0;
}
