/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which files are read: every source, every file of their backing chains, each once,
 * told apart by what they are (device and inode), not by name; and which views they have.
 *
 * Files are opened here for their metadata and closed again: later one is open at a time.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/path.h"
#include "ops/scan_int.h"
#include "ops/scan_record.h"
#include "ops/scan_share.h"

/* ---- places ---- */

unsigned qd_scan_view_of(const struct scan *s, uint64_t unit)
{
	unsigned low = 0, high = s->nviews;

	while (high - low > 1) {
		unsigned middle = low + (high - low) / 2;

		if (s->views[middle].first_unit <= unit)
			low = middle;
		else
			high = middle;
	}
	return low;
}

int qd_scan_compare_places(const struct scan *s, unsigned view_a, uint64_t off_a, unsigned view_b,
			   uint64_t off_b)
{
	int order = view_a == view_b ? 0 : strcmp(s->views[view_a].label, s->views[view_b].label);

	return order ? order : (off_a > off_b) - (off_a < off_b);
}

/* ---- errors of one image ---- */

int qd_scan_leave_out(struct scan *s, struct scan_image *image, int rc, struct qd_err *err)
{
	if (rc == QD_E_CANCELLED || !s->opts->unreadable)
		return rc;
	image->bad = true;
	s->opts->unreadable(s->opts->ctx, err);
	qd_err_clear(err);
	return 0;
}

/* ---- images ---- */

static void disk_opts(const struct scan *s, const char *format, struct qd_disk_opts *ret_opts)
{
	*ret_opts = (struct qd_disk_opts){
		.format = format,
		.cache = s->opts->cache,
		.no_lock = s->opts->no_lock,
		.untrusted = s->opts->untrusted,
		.map_cache_nbytes = s->memory / 16,
	};
}

int qd_scan_add_image(struct scan *s, const char *name, struct scan_image **ret_image, struct qd_err *err)
{
	struct scan_image *grown = s->images;

	if ((s->nimages & (s->nimages - 1)) == 0)
		grown = realloc(s->images, (s->nimages ? 2 * (size_t)s->nimages : 1) * sizeof(*grown));
	if (!grown)
		return qd_err_nomem(err, "images");
	s->images = grown;
	grown += s->nimages;
	*grown = (struct scan_image){ .name = strdup(name) };
	if (!grown->name)
		return qd_err_nomem(err, "images");
	s->nimages++;
	*ret_image = grown;
	return 0;
}

static int add_source(struct scan *s, const struct qd_scan_source *source, struct qd_err *err)
{
	bool is_new = true;
	struct scan_image *image;
	uint64_t id[2];
	int r = 0;

	if (!source->io && qd_path_identity(source->path, id))
		r = qd_scan_files_add(&s->files, id, &is_new, err);
	if (r || !is_new)		/* named twice */
		return r;
	r = qd_scan_add_image(s, source->path, &image, err);
	if (r)
		return r;
	image->io = source->io;
	image->format = source->io ? "raw" : s->opts->format;
	return 0;
}

/*
 * One file of a chain, not known yet.  Its name is the same from whichever directory an overlay
 * leads to it: records of different runs are told apart by name.
 */
static int add_lower(struct scan *s, const struct qd_disk *d, struct qd_err *err)
{
	struct scan_image *image;
	char *name = NULL;
	int r = qd_path_tidy(d->path, &name, err);

	if (!r)
		r = qd_scan_add_image(s, name, &image, err);
	free(name);
	if (r)
		return r;
	image->format = d->is_qcow2 ? "qcow2" : "raw";
	image->backing = true;
	return 0;
}

/* The files below the first one of a chain, where they are not known yet. */
static int add_backing(struct scan *s, const struct qd_disk *d, struct qd_err *err)
{
	uint64_t id[2];
	bool is_new;

	for (; d; d = d->backing) {
		int r;

		if (!qd_path_identity(d->path, id))
			return qd_err_file(err, qd_err_set(err, QD_E_IO, "the file is gone"), d->path);
		r = qd_scan_files_add(&s->files, id, &is_new, err);
		if (!r && is_new)
			r = add_lower(s, d, err);
		if (r)
			return r;
	}
	return 0;
}

/* ---- views ---- */

int qd_scan_add_view(struct scan *s, unsigned image, const char *snapshot, uint64_t size, struct qd_err *err)
{
	struct scan_view *grown = s->views, *v;

	if ((s->nviews & (s->nviews - 1)) == 0)
		grown = realloc(s->views, (s->nviews ? 2 * (size_t)s->nviews : 1) * sizeof(*grown));
	if (!grown)
		return qd_err_nomem(err, "images");
	s->views = grown;
	v = &s->views[s->nviews];
	*v = (struct scan_view){ .image = image, .size = size };
	v->snapshot = snapshot ? strdup(snapshot) : NULL;
	s->images[image].nviews++;
	v->label = qd_scan_record_label(s->images[image].name, snapshot);
	s->nviews++;
	return v->label && (!snapshot || v->snapshot) ? 0 : qd_err_nomem(err, "images");
}

static int add_snapshots(struct scan *s, unsigned image, const struct qd_image *img, struct qd_err *err)
{
	const struct qd_snapshot *pin = qd_image_find_pin(img);
	int r = 0;

	for (uint32_t i = 0; !r && i < img->nsnapshots; i++) {
		const struct qd_snapshot *snap = &img->snapshots[i];

		if (snap == pin)
			continue;
		if (snap->disk_size > INT64_MAX - 511)
			return qd_err_set(err, QD_E_CORRUPT,
					  "snapshot \"%s\": disk size %" PRIu64 " is too large", snap->id,
					  snap->disk_size);
		r = qd_scan_add_view(s, image, snap->id, qd_align_up(snap->disk_size, 512), err);
		s->images[image].nsnapshots++;
	}
	return r;
}

static int open_image(struct scan *s, unsigned image, struct qd_disk **ret_disk, struct qd_err *err)
{
	struct scan_image *im = &s->images[image];
	struct qd_disk_opts opts;
	int r;

	disk_opts(s, im->format, &opts);
	if (!im->io)
		return qd_disk_open(im->name, &opts, ret_disk, err);
	r = qd_disk_open_io(im->io, &opts, ret_disk, err);
	if (!r)
		im->io = NULL;
	return r;
}

/* One image: its views, and its backing files as images. */
static int plan_image(struct scan *s, unsigned image, struct qd_err *err)
{
	bool is_io = s->images[image].io != NULL;
	struct qd_disk *disk = NULL;
	int r = open_image(s, image, &disk, err);

	if (!r)
		r = qd_scan_add_view(s, image, NULL, disk->virtual_size, err);
	if (!r) {
		s->images[image].virtual_size = disk->virtual_size;
		r = add_backing(s, disk->backing, err);
	}
	if (!r && s->opts->snapshots && disk->img)
		r = add_snapshots(s, image, disk->img, err);
	if (is_io && !r)
		s->views[s->nviews - 1].disk = disk;
	else
		qd_disk_close(disk);
	return r ? qd_err_file(err, r, s->images[image].name) : 0;
}

static int compare_views(const void *a, const void *b)
{
	const struct scan_view *va = a, *vb = b;

	return strcmp(va->label, vb->label);
}

/* Views of images left out stay: a place must be found for each record. */
int qd_scan_number_units(struct scan *s, struct qd_err *err)
{
	uint64_t next = 0;

	if (s->nviews)
		qsort(s->views, s->nviews, sizeof(*s->views), compare_views);
	for (unsigned i = 0; i < s->nviews; i++) {
		s->views[i].first_unit = next;
		if (!qd_add_u64(next, qd_div_up(s->views[i].size, s->unit), &next) ||
		    next > 1ull << QD_SCAN_PLACE_BITS)
			return qd_err_set(err, QD_E_INVALID,
					  "the disks together are too large for clusters of %" PRIu64
					  " bytes",
					  s->unit);
	}
	s->nunits = next;
	return 0;
}

int qd_scan_plan(struct scan *s, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->opts->nsources; i++)
		r = add_source(s, &s->opts->sources[i], err);
	for (unsigned i = 0; !r && i < s->nimages; i++) {	/* which grows meanwhile */
		r = plan_image(s, i, err);
		if (r)
			r = qd_scan_leave_out(s, &s->images[i], r, err);
		if (!r)			/* somebody may press ^C while thousands are opened */
			r = qd_progress_add(s->opts->progress, 0, err);
	}
	return r ? r : qd_scan_number_units(s, err);
}

int qd_scan_open_view(struct scan *s, const struct scan_view *v, struct qd_disk **ret_disk,
		      struct qd_err *err)
{
	const struct scan_image *im = &s->images[v->image];
	struct qd_disk_opts opts;

	if (v->disk) {
		*ret_disk = v->disk;
		return 0;
	}
	disk_opts(s, im->format, &opts);
	opts.snapshot = v->snapshot;
	return qd_disk_open(im->name, &opts, ret_disk, err);
}

void qd_scan_clear(struct scan *s)
{
	for (unsigned i = 0; i < s->nviews; i++) {
		free(s->views[i].snapshot);
		free(s->views[i].label);
		qd_disk_close(s->views[i].disk);
	}
	for (unsigned i = 0; i < s->nimages; i++) {
		qd_io_close(s->images[i].io);
		qd_scan_share_free(s->images[i].share);
		free(s->images[i].name);
	}
	free(s->views);
	free(s->images);
	qd_scan_files_free(&s->files);
	qd_spill_free(s->spill);
	s->views = NULL;
	s->images = NULL;
	s->spill = NULL;
}
