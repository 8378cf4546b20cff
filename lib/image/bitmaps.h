/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The persistent bitmaps of an open image: which there are, and copying them into an
 * image that is being built.
 *
 * They count only while the image's autoclear bit says so: without it somebody wrote
 * who does not know bitmaps, and there are none as far as anybody may tell.
 */
#ifndef QD_IMAGE_BITMAPS_H
#define QD_IMAGE_BITMAPS_H

#include "image/build.h"
#include "image/image.h"

#define QD_BITMAP_NAME_MAX 1023u

struct qd_bitmap {
	char name[QD_BITMAP_NAME_MAX + 1];
	uint64_t granularity;		/* bytes of guest disk that a bit stands for */
	bool in_use;			/* not closed properly: what it says may not be true */
	bool enabled;			/* "auto": whoever opens the image for writing records in it */
	uint64_t table_off;
	uint32_t table_entries;
	uint32_t extra_len;		/* bytes of extra data, of which nobody knows the meaning */
};

/* How many there are, by the header alone; 0 also when the extension is damaged. */
uint32_t qd_bitmaps_count(const struct qd_image *img);

/*
 * How many there are that say nothing any more: the autoclear bit is gone, so somebody
 * wrote the image without keeping them.
 */
uint32_t qd_bitmaps_stale(const struct qd_image *img);

/* The extension, valid and within the file; ret_ext->count is 0 when there are no bitmaps. */
int qd_bitmaps_directory(const struct qd_image *img, struct qd_bitmap_ext *ret_ext, struct qd_err *err);

/* Non-zero stops the walk and is its result. */
typedef int (*qd_bitmaps_fn)(void *ctx, const struct qd_bitmap *bitmap, struct qd_err *err);

/*
 * Calls fn for each bitmap in the order of the directory.  QD_E_CORRUPT/UNSUPPORTED at the
 * first entry that cannot be true (those before it have been told), or at the end when two
 * bitmaps have one name or all tables together exceed the file.
 */
int qd_bitmaps_walk(const struct qd_image *img, qd_bitmaps_fn fn, void *ctx, struct qd_err *err);

/*
 * QD_E_UNSUPPORTED, naming the bitmap, when one cannot be copied because it is in use or
 * has extra data, or when all together are absurdly large: cheap, to be asked before a
 * long conversion.
 */
int qd_bitmaps_check_copy(const struct qd_image *from, struct qd_err *err);

/*
 * Copies all bitmaps, bit by bit, into clusters of the new image (to_io is what `to` writes
 * to) and adds the header extension; does nothing when there are none.  The caller passes
 * QD_AUTOCLEAR_BITMAPS to qd_build_finish if qd_bitmaps_count(from) is not 0.  The new disk
 * has the size that qd_build_new was given (0: that of from's active layer): what it has
 * more is clean.  Fails where qd_bitmaps_check_copy does; where anything fails, the new
 * image is not to be finished.
 */
int qd_bitmaps_copy(const struct qd_image *from, struct qd_build *to, struct qd_io *to_io, struct qd_err *err);

#endif
