/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Listing and validating; copying is bitmaps_copy.c's.
 *
 *	header extension -> directory: entry, entry, ... -> table -> clusters of bits
 *
 * The directory is held in memory while it is walked: the file holds it in full and QEMU
 * limits it to 64 MiB.  Tables are judged by their size here, not read.
 */
#include "image/bitmaps.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "image/bitmaps_int.h"

struct name {			/* points into the directory */
	const char *text;
	size_t nbytes;
};

struct walk {
	const struct qd_image *img;
	struct qd_bitmap_ext ext;
	uint8_t *dir;
	struct name *names;
	uint64_t tables_nbytes;		/* of all bitmaps so far */
};

uint32_t qd_bitmaps_count(const struct qd_image *img)
{
	struct qd_bitmap_ext ext = { 0 };

	return qd_bitmaps_directory(img, &ext, NULL) ? 0 : ext.count;
}

uint32_t qd_bitmaps_stale(const struct qd_image *img)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_BITMAPS);
	struct qd_bitmap_ext ext = { 0 };

	if (!copy || (img->header.autoclear & QD_AUTOCLEAR_BITMAPS) ||
	    qd_bitmap_ext_decode(copy->data, copy->nbytes, &ext, NULL))
		return 0;
	return ext.count;
}

int qd_bitmaps_directory(const struct qd_image *img, struct qd_bitmap_ext *ret_ext, struct qd_err *err)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_BITMAPS);
	struct qd_bitmap_ext ext = { 0 };
	int r;

	if (!copy || !(img->header.autoclear & QD_AUTOCLEAR_BITMAPS)) {
		*ret_ext = ext;
		return 0;
	}
	r = qd_bitmap_ext_decode(copy->data, copy->nbytes, &ext, err);
	if (r)
		return r;
	if (!qd_is_aligned(ext.dir_off, img->geom.cluster_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmaps extension: dir_off is 0x%" PRIx64 ", expected a multiple of the cluster size",
				  ext.dir_off);
	if (!qd_range_within(ext.dir_off, ext.dir_size, img->file_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmap directory: %" PRIu64 " bytes at 0x%" PRIx64
				  " lie past the end of the file (0x%" PRIx64 ")",
				  ext.dir_size, ext.dir_off, img->file_size);
	*ret_ext = ext;
	return 0;
}

uint64_t qd_bitmaps_data_nbytes(uint64_t virtual_size, uint64_t granularity)
{
	return qd_div_up(qd_div_up(virtual_size, granularity), 8);
}

/* A bitmap in use may be of the time before the disk was resized. */
static int check_table(struct walk *w, const struct qd_bitmap *b, struct qd_err *err)
{
	const struct qd_geom *g = &w->img->geom;
	uint64_t nbytes = (uint64_t)b->table_entries * 8;
	uint64_t data = qd_bitmaps_data_nbytes(g->virtual_size, b->granularity);

	if (!qd_is_aligned(b->table_off, g->cluster_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmap \"%s\": table_off is 0x%" PRIx64 ", expected a multiple of the cluster size", b->name,
				  b->table_off);
	if (!qd_range_within(b->table_off, nbytes, w->img->file_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmap \"%s\": table of %" PRIu32 " entries at 0x%" PRIx64
				  " lies past the end of the file (0x%" PRIx64 ")",
				  b->name, b->table_entries, b->table_off, w->img->file_size);
	if (!b->in_use && b->table_entries != qd_div_up(data, g->cluster_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "bitmap \"%s\": table_entries is %" PRIu32 ", expected %" PRIu64, b->name,
				  b->table_entries, qd_div_up(data, g->cluster_size));
	if ((uint64_t)b->table_entries << g->cluster_bits > QD_BITMAP_MAX_DATA)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "bitmap \"%s\": table_entries is %" PRIu32 ", expected at most %" PRIu64, b->name,
				  b->table_entries, (uint64_t)QD_BITMAP_MAX_DATA >> g->cluster_bits);
	w->tables_nbytes += nbytes;
	if (w->tables_nbytes > w->img->file_size)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps: their tables have more bytes together than the file");
	return 0;
}

static int take_entry(struct walk *w, const struct qd_bitmap_entry *e, struct qd_bitmap *b,
		      struct qd_err *err)
{
	if (memchr(e->name, 0, e->name_len))
		return qd_err_set(err, QD_E_CORRUPT, "bitmap: the name contains a NUL byte");
	b->granularity = 1ull << e->granularity_bits;
	b->in_use = (e->flags & QD_BITMAP_FLAG_IN_USE) != 0;
	b->enabled = (e->flags & QD_BITMAP_FLAG_AUTO) != 0;
	b->table_off = e->table_off;
	b->table_entries = e->table_entries;
	b->extra_len = e->extra_len;
	memcpy(b->name, e->name, e->name_len);
	b->name[e->name_len] = '\0';
	return check_table(w, b, err);
}

static int compare_names(const void *pa, const void *pb)
{
	const struct name *a = pa, *b = pb;
	int r = memcmp(a->text, b->text, a->nbytes < b->nbytes ? a->nbytes : b->nbytes);

	return r ? r : (a->nbytes > b->nbytes) - (a->nbytes < b->nbytes);
}

static int check_names(struct walk *w, struct qd_err *err)
{
	qsort(w->names, w->ext.count, sizeof(*w->names), compare_names);
	for (uint32_t i = 1; i < w->ext.count; i++)
		if (!compare_names(&w->names[i - 1], &w->names[i]))
			return qd_err_set(err, QD_E_CORRUPT, "bitmap \"%.*s\": there are two of this name",
					  (int)w->names[i].nbytes, w->names[i].text);
	return 0;
}

static int load(struct walk *w, struct qd_err *err)
{
	w->dir = malloc((size_t)w->ext.dir_size);
	w->names = calloc(w->ext.count, sizeof(*w->names));
	if (!w->dir || !w->names)
		return qd_err_nomem(err, "the bitmap directory");
	return qd_io_read(w->img->io, w->dir, (size_t)w->ext.dir_size, w->ext.dir_off, err);
}

static int walk_entries(struct walk *w, qd_bitmaps_fn fn, void *ctx, struct qd_err *err)
{
	size_t nbytes = (size_t)w->ext.dir_size, pos = 0, used = 0;
	struct qd_bitmap_entry e;
	struct qd_bitmap b;
	int r = 0;

	for (uint32_t i = 0; !r && i < w->ext.count; i++) {
		r = qd_bitmap_entry_decode(w->dir + pos, nbytes - pos, &e, &used, err);
		if (!r)
			r = take_entry(w, &e, &b, err);
		if (r)
			return qd_err_prefix(err, r, "bitmap directory entry %" PRIu32, i);
		w->names[i] = (struct name){ e.name, e.name_len };
		pos += used;
		r = fn(ctx, &b, err);
	}
	return r ? r : check_names(w, err);
}

int qd_bitmaps_walk(const struct qd_image *img, qd_bitmaps_fn fn, void *ctx, struct qd_err *err)
{
	struct walk w = { .img = img };
	int r = qd_bitmaps_directory(img, &w.ext, err);

	if (!r && w.ext.count)
		r = load(&w, err);
	if (!r && w.ext.count)
		r = walk_entries(&w, fn, ctx, err);
	free(w.dir);
	free(w.names);
	return r ? qd_err_file(err, r, img->io->name) : 0;
}
