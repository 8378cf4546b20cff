/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Copying bitmaps between images whose clusters differ in size: the bits of a bitmap are
 * one array of bytes, cut into clusters anew.
 *
 *	source   | 64K of bits              | all zeros                | 64K ...
 *	target   | 4K | 4K | zeros | ones | ...
 *
 * A cluster of the target that is all zeros or all ones becomes an entry without a
 * cluster.  In the target's file a bitmap is its table, then its clusters; the directory
 * comes behind all bitmaps.  One cluster of bits and a piece of either table are held.
 *
 * Invariants
 *  M1  what is written depends on the bits alone, not on how the source stores them.
 *  M2  bits past the end of either disk are zero in the target, whatever the source has.
 *  M3  the data clusters read are no more than the source file has: a small file whose
 *      tables name one cluster again and again is refused, not blown up.
 *  M4  nor are tables that name no cluster, which cost nothing in the source: the bits of
 *      all bitmaps together, which QEMU holds in memory, are bounded.
 */
#include "image/bitmaps.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/bitmaps_int.h"
#include "image/build_int.h"

#define WINDOW 512u			/* table entries held at a time */
#define MAX_TOTAL (8ull << 30)		/* bytes of bits, 16 bitmaps of the largest size */

struct source {
	const struct qd_image *img;
	const struct qd_bitmap *bitmap;
	uint8_t window[WINDOW * 8];	/* of the table */
	uint64_t window_first;		/* entry; UINT64_MAX: nothing is held */
};

struct target {
	struct qd_build *build;
	struct qd_io *io;
	uint64_t table_off;
	uint64_t nentries;		/* written to the table so far */
	uint8_t window[WINDOW * 8];	/* entries that are not */
	unsigned held;
};

struct copying {
	struct source from;
	struct target to;
	uint8_t *cluster;		/* of the target */
	uint64_t nclusters;		/* data clusters of the source so far (M3) */
	uint64_t total;			/* bytes of bits so far (M4) */
	uint8_t *dir;
	size_t dir_nbytes;
	struct qd_bitmap_ext ext;
};

static int refuse_broken(const struct qd_bitmap *b, struct qd_err *err)
{
	if (b->in_use)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "bitmap \"%s\" is inconsistent (it was not closed properly) and cannot be copied: "
				  "remove it with qemu-img bitmap --remove, or do without bitmaps", b->name);
	if (b->extra_len)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "bitmap \"%s\" has extra data of unknown meaning and cannot be copied", b->name);
	return 0;
}

/* M4 */
static int count_bits(uint64_t *total, uint64_t nbytes, struct qd_err *err)
{
	*total += nbytes;
	if (*total <= MAX_TOTAL)
		return 0;
	return qd_err_set(err, QD_E_UNSUPPORTED, "bitmaps: together they have more than %llu bytes of bits",
			  MAX_TOTAL);
}

struct checking {
	uint64_t virtual_size;
	uint64_t total;
};

static int check_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct checking *c = ctx;
	int r = refuse_broken(b, err);

	return r ? r : count_bits(&c->total, qd_bitmaps_data_nbytes(c->virtual_size, b->granularity), err);
}

int qd_bitmaps_check_copy(const struct qd_image *from, struct qd_err *err)
{
	struct checking c = { .virtual_size = from->geom.virtual_size };

	return qd_bitmaps_walk(from, check_bitmap, &c, err);
}

/* --- reading --- */

static int load_window(struct source *s, uint64_t index, struct qd_err *err)
{
	uint64_t first = index - index % WINDOW;
	uint64_t n = qd_min_u64(WINDOW, s->bitmap->table_entries - first);
	int r = qd_io_read(s->img->io, s->window, (size_t)n * 8, s->bitmap->table_off + first * 8, err);

	s->window_first = r ? UINT64_MAX : first;
	return r;
}

static int check_entry(const struct source *s, uint64_t index, uint64_t entry, struct qd_err *err)
{
	uint64_t off = qd_entry_host_off(entry), size = s->img->geom.cluster_size;

	if ((entry & QD_BITMAP_ENTRY_RESERVED) || (off && (entry & QD_BITMAP_ENTRY_ONES)))
		return qd_err_set(err, QD_E_CORRUPT, "table entry %" PRIu64 ": reserved bits set in 0x%" PRIx64, index,
				  entry);
	if (!qd_is_aligned(off, size) || (off && !qd_range_within(off, size, s->img->file_size)))
		return qd_err_set(err, QD_E_CORRUPT,
				  "table entry %" PRIu64 ": cluster at 0x%" PRIx64
				  " is unaligned or past the end of the file (0x%" PRIx64 ")",
				  index, off, s->img->file_size);
	return 0;
}

static int get_entry(struct source *s, uint64_t index, uint64_t *ret_entry, struct qd_err *err)
{
	int r = 0;

	if (s->window_first == UINT64_MAX || index - s->window_first >= WINDOW)
		r = load_window(s, index, err);
	if (r)
		return r;
	*ret_entry = qd_get_be64(s->window + (index - s->window_first) * 8);
	return check_entry(s, index, *ret_entry, err);
}

/* M3 */
static int count_cluster(struct copying *c, struct qd_err *err)
{
	if (++c->nclusters > c->from.img->file_size >> c->from.img->geom.cluster_bits)
		return qd_err_set(err, QD_E_CORRUPT, "bitmaps: their tables name more clusters than the file has");
	return 0;
}

/* The bits [off, off + nbytes), which lie in one cluster of the source. */
static int read_piece(struct copying *c, uint64_t off, size_t nbytes, uint8_t *buf, struct qd_err *err)
{
	struct source *s = &c->from;
	uint64_t in_cluster = off & (s->img->geom.cluster_size - 1), entry;
	int r = get_entry(s, off >> s->img->geom.cluster_bits, &entry, err);

	if (r)
		return r;
	if (!qd_entry_host_off(entry)) {
		memset(buf, entry & QD_BITMAP_ENTRY_ONES ? 0xff : 0, nbytes);
		return 0;
	}
	if (!in_cluster)
		r = count_cluster(c, err);
	return r ? r : qd_io_read(s->img->io, buf, nbytes, qd_entry_host_off(entry) + in_cluster, err);
}

static int read_bits(struct copying *c, uint64_t off, size_t nbytes, uint8_t *buf, struct qd_err *err)
{
	uint64_t size = c->from.img->geom.cluster_size;
	int r = 0;

	for (size_t done = 0; !r && done < nbytes;) {
		size_t n = (size_t)qd_min_u64(nbytes - done, size - ((off + done) & (size - 1)));

		r = read_piece(c, off + done, n, buf + done, err);
		done += n;
	}
	return r;
}

/* --- writing --- */

static int flush_table(struct target *t, struct qd_err *err)
{
	int r = qd_io_write(t->io, t->window, (size_t)t->held * 8, t->table_off + t->nentries * 8, err);

	t->nentries += t->held;
	t->held = 0;
	return r;
}

static int put_entry(struct target *t, uint64_t entry, struct qd_err *err)
{
	qd_put_be64(t->window + (size_t)t->held * 8, entry);
	return ++t->held == WINDOW ? flush_table(t, err) : 0;
}

static bool is_ones(const uint8_t *p, size_t nbytes)
{
	return p[0] == 0xff && !memcmp(p, p + 1, nbytes - 1);
}

/* A cluster of bits, of which `used` bytes belong to the disk. */
static int put_cluster(struct target *t, uint8_t *bits, size_t used, struct qd_err *err)
{
	size_t size = (size_t)t->build->geom.cluster_size;
	uint64_t off;
	int r;

	if (qd_is_zero(bits, used))
		return put_entry(t, 0, err);
	if (used == size && is_ones(bits, size))
		return put_entry(t, QD_BITMAP_ENTRY_ONES, err);
	memset(bits + used, 0, size - used);
	r = qd_build_add_raw(t->build, 1, &off, err);
	if (!r)
		r = qd_io_write(t->io, bits, size, off, err);
	return r ? r : put_entry(t, off, err);
}

/* Clusters of `nbytes` bytes, filled up with zeros. */
static int add_clusters(struct target *t, uint64_t nbytes, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t size = t->build->geom.cluster_size, n = qd_div_up(nbytes, size);
	int r = qd_build_add_raw(t->build, n, ret_off, err);

	return r || n * size == nbytes ? r : qd_io_zero(t->io, *ret_off + nbytes, n * size - nbytes, err);
}

/* The size of the new disk, as far as the builder knows it yet. */
static uint64_t new_size(const struct copying *c)
{
	uint64_t size = c->to.build->header.virtual_size;

	return size ? size : c->from.img->geom.virtual_size;
}

/* Fills c->cluster with n bytes from off on, of `nbits` bits that the source has for the new disk (M2). */
static int fill_cluster(struct copying *c, uint64_t off, size_t n, uint64_t nbits, struct qd_err *err)
{
	uint64_t used = qd_div_up(nbits, 8);
	size_t have = off < used ? (size_t)qd_min_u64(n, used - off) : 0;
	int r = read_bits(c, off, have, c->cluster, err);

	memset(c->cluster + have, 0, n - have);
	if (have && off + have == used && nbits % 8)
		c->cluster[have - 1] &= (uint8_t)((1u << nbits % 8) - 1);
	return r;
}

static int copy_bits(struct copying *c, const struct qd_bitmap *b, uint64_t *ret_entries, struct qd_err *err)
{
	uint64_t from_size = c->from.img->geom.virtual_size, size = c->to.build->geom.cluster_size;
	uint64_t nbits = qd_div_up(qd_min_u64(from_size, new_size(c)), b->granularity);
	uint64_t nbytes = qd_bitmaps_data_nbytes(new_size(c), b->granularity);
	uint64_t entries = qd_div_up(nbytes, size);
	int r;

	if (entries * size > QD_BITMAP_MAX_DATA)
		return qd_err_set(err, QD_E_INVALID, "granularity %" PRIu64 " is too fine for the new disk", b->granularity);
	r = count_bits(&c->total, nbytes, err);
	if (r)
		return r;
	r = add_clusters(&c->to, entries * 8, &c->to.table_off, err);
	c->from.bitmap = b;
	c->from.window_first = UINT64_MAX;
	c->to.nentries = 0;
	for (uint64_t off = 0; !r && off < nbytes; off += size) {
		size_t n = (size_t)qd_min_u64(size, nbytes - off);

		r = fill_cluster(c, off, n, nbits, err);
		if (!r)
			r = put_cluster(&c->to, c->cluster, n, err);
	}
	*ret_entries = entries;
	return r ? r : flush_table(&c->to, err);
}

static int append_entry(struct copying *c, const struct qd_bitmap *b, uint64_t entries, struct qd_err *err)
{
	struct qd_bitmap_entry e = {
		.table_off = c->to.table_off,
		.table_entries = (uint32_t)entries,
		.flags = b->enabled ? QD_BITMAP_FLAG_AUTO : 0,
		.type = QD_BITMAP_TYPE_DIRTY_TRACKING,
		.granularity_bits = (uint8_t)__builtin_ctzll(b->granularity),
		.name_len = (uint16_t)strlen(b->name),
		.name = b->name,
	};
	uint8_t *dir = realloc(c->dir, c->dir_nbytes + qd_bitmap_entry_encoded_size(&e));

	if (!dir)
		return qd_err_nomem(err, "the bitmap directory");
	c->dir = dir;
	c->dir_nbytes += qd_bitmap_entry_encode(&e, dir + c->dir_nbytes);
	c->ext.count++;
	return 0;
}

static int copy_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct copying *c = ctx;
	uint64_t entries = 0;
	int r = refuse_broken(b, err);

	if (r)
		return r;
	r = copy_bits(c, b, &entries, err);
	if (r)
		return qd_err_prefix(err, r, "bitmap \"%s\"", b->name);
	return append_entry(c, b, entries, err);
}

static int write_directory(struct copying *c, struct qd_err *err)
{
	uint8_t ext[QD_BITMAP_EXT_SIZE];
	int r;

	if (!c->ext.count)
		return 0;
	c->ext.dir_size = c->dir_nbytes;
	r = add_clusters(&c->to, c->dir_nbytes, &c->ext.dir_off, err);
	if (!r)
		r = qd_io_write(c->to.io, c->dir, c->dir_nbytes, c->ext.dir_off, err);
	if (r)
		return r;
	qd_bitmap_ext_encode(&c->ext, ext);
	return qd_build_add_ext(c->to.build, QD_EXT_BITMAPS, ext, sizeof(ext), err);
}

int qd_bitmaps_copy(const struct qd_image *from, struct qd_build *to, struct qd_io *to_io, struct qd_err *err)
{
	struct copying c = { .from = { .img = from }, .to = { .build = to, .io = to_io } };
	int r = 0;

	if (!qd_bitmaps_count(from))
		return qd_bitmaps_check_copy(from, err);	/* none, or what is wrong */
	if (to->opts.version < 3)
		return qd_err_set(err, QD_E_INVALID, "an image of compat 0.10 cannot hold bitmaps: use compat=1.1");
	c.cluster = malloc((size_t)to->geom.cluster_size);
	if (!c.cluster)
		r = qd_err_nomem(err, "a bitmap");
	if (!r)
		r = qd_bitmaps_walk(from, copy_bitmap, &c, err);
	if (!r)
		r = write_directory(&c, err);
	free(c.cluster);
	free(c.dir);
	return r;
}
