/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open image -> struct qd_info, strings copied.
 *
 * Damage outside the header (snapshot table, bitmaps, L2 tables) costs the part that it
 * concerns, and is told in `warning`: info is what people run to find out why an image
 * does not work.
 */
#include "ops/info.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/io_file.h"
#include "image/bitmaps.h"
#include "image/disk.h"
#include "ops/census.h"
#include "ops/single.h"

#define MAX_CHAIN 200u
#define LUKS_HEADER 592u

/* A file of the chain that is being read, and those above it. */
struct level {
	struct qd_single file;
	const struct level *above;
	unsigned depth;
};

static char *copy_bytes(const void *data, size_t nbytes)
{
	char *s = malloc(nbytes + 1);

	if (s) {
		memcpy(s, data, nbytes);
		s[nbytes] = '\0';
	}
	return s;
}

/* Copies an optional string; false when out of memory. */
static bool copy_text(char **to, const char *from)
{
	*to = from ? strdup(from) : NULL;
	return *to || !from;
}

/* The first warning stays. */
static void warn(struct qd_info *info, const char *what, const struct qd_err *err)
{
	if (!*info->warning)
		snprintf(info->warning, sizeof(info->warning), "%s: %.900s", what, err->msg);
}

static void take_header(struct qd_info *info, const struct qd_image *img)
{
	const struct qd_header *h = &img->header;

	info->is_qcow2 = true;
	info->format = "qcow2";
	info->cluster_size = img->geom.cluster_size;
	info->version = h->version;
	info->refcount_bits = img->geom.refcount_bits;
	info->compression_type = h->compression_type;
	info->lazy_refcounts = h->compatible & QD_COMPAT_LAZY_REFCOUNTS;
	info->extended_l2 = img->geom.extended_l2;
	info->dirty = h->incompatible & QD_INCOMPAT_DIRTY;
	info->corrupt = h->incompatible & QD_INCOMPAT_CORRUPT;
	info->encrypted = h->crypt_method != QD_CRYPT_NONE;
	info->has_data_file = h->incompatible & QD_INCOMPAT_DATA_FILE;
	info->data_file_raw = info->has_data_file && (h->autoclear & QD_AUTOCLEAR_DATA_FILE_RAW);
}

/* What the name means from where the image is; a protocol means itself. */
static int take_backing(struct qd_info *info, const struct qd_image *img, struct qd_err *err)
{
	struct qd_err ignored;

	if (!img->backing_name)
		return 0;
	if (!copy_text(&info->backing_name, img->backing_name) || !copy_text(&info->backing_format, img->backing_format))
		return qd_err_nomem(err, "image information");
	if (!strncmp(img->backing_name, "file:", 5) ||
	    qd_disk_resolve_name(info->path, img->backing_name, "backing file", &info->backing_path, &ignored))
		info->backing_path = strdup(img->backing_name);
	return info->backing_path ? 0 : qd_err_nomem(err, "image information");
}

static int take_snapshots(struct qd_info *info, const struct qd_image *img, struct qd_err *err)
{
	const struct qd_snapshot *pin = qd_image_find_pin(img);

	if (img->header.snapshot_count && !img->nsnapshots) {
		qd_err_set(err, QD_E_CORRUPT, "damaged, its %" PRIu32 " entries are left out", img->header.snapshot_count);
		warn(info, "snapshot table", err);
		qd_err_clear(err);
	}
	info->snapshots = calloc(img->nsnapshots ? img->nsnapshots : 1, sizeof(*info->snapshots));
	if (!info->snapshots)
		return qd_err_nomem(err, "image information");
	for (uint32_t i = 0; i < img->nsnapshots; i++) {
		const struct qd_snapshot *s = &img->snapshots[i];
		struct qd_info_snapshot *to = &info->snapshots[info->nsnapshots++];

		*to = (struct qd_info_snapshot){
			.vm_state_size = s->vm_state_size,
			.disk_size = s->disk_size,
			.date_sec = s->date_sec,
			.date_nsec = s->date_nsec,
			.vm_clock_nsec = s->vm_clock_nsec,
			.icount = s->icount,
			.has_icount = s->icount != UINT64_MAX,
			.is_pin = s == pin,
		};
		if (!copy_text(&to->id, s->id) || !copy_text(&to->name, s->name))
			return qd_err_nomem(err, "image information");
	}
	return 0;
}

static int take_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct qd_info *info = ctx;
	struct qd_info_bitmap *grown = realloc(info->bitmaps, (info->nbitmaps + 1) * sizeof(*grown));

	if (!grown)
		return qd_err_nomem(err, "image information");
	info->bitmaps = grown;
	grown[info->nbitmaps] = (struct qd_info_bitmap){
		.name = strdup(b->name),
		.granularity = b->granularity,
		.in_use = b->in_use,
		.enabled = b->enabled,
	};
	return grown[info->nbitmaps++].name ? 0 : qd_err_nomem(err, "image information");
}

static int take_bitmaps(struct qd_info *info, const struct qd_image *img, struct qd_err *err)
{
	int r = qd_bitmaps_walk(img, take_bitmap, info, err);

	if (r != QD_E_CORRUPT && r != QD_E_UNSUPPORTED)
		return r;
	warn(info, "bitmaps", err);
	qd_err_clear(err);
	return 0;
}

static char *luks_text(const uint8_t *p, size_t max)
{
	return copy_bytes(p, strnlen((const char *)p, max));
}

/* LUKS1 header (LUKS On-Disk Format Specification 1.2.3, section 3.1). */
static int decode_luks(struct qd_info *info, const uint8_t *p, struct qd_err *err)
{
	struct qd_info_luks *l = calloc(1, sizeof(*l));

	if (!l)
		return qd_err_nomem(err, "image information");
	info->luks = l;
	l->cipher = luks_text(p + 8, 32);
	l->mode = luks_text(p + 40, 32);
	l->hash = luks_text(p + 72, 32);
	l->payload_off = (uint64_t)qd_get_be32(p + 104) * 512;
	l->key_nbytes = qd_get_be32(p + 108);
	l->iterations = qd_get_be32(p + 164);
	l->uuid = luks_text(p + 168, 40);
	for (unsigned i = 0; i < QD_LUKS_SLOTS; i++) {
		const uint8_t *slot = p + 208 + 48 * i;

		l->slots[i].active = qd_get_be32(slot) == 0x00ac71f3u;
		l->slots[i].iterations = qd_get_be32(slot + 4);
		l->slots[i].key_off = (uint64_t)qd_get_be32(slot + 40) * 512;
		l->slots[i].stripes = qd_get_be32(slot + 44);
	}
	return l->cipher && l->mode && l->hash && l->uuid ? 0 : qd_err_nomem(err, "image information");
}

static int take_luks(struct qd_info *info, const struct qd_image *img, struct qd_err *err)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_CRYPTO);
	static const uint8_t magic[8] = { 'L', 'U', 'K', 'S', 0xba, 0xbe, 0, 1 };
	uint8_t header[LUKS_HEADER];
	size_t nread;
	int r;

	if (img->header.crypt_method != QD_CRYPT_LUKS || !copy || copy->nbytes < 16)
		return 0;
	r = qd_io_read_upto(img->io, header, sizeof(header), qd_get_be64(copy->data), &nread, err);
	if (r)
		return r;
	if (nread == sizeof(header) && !memcmp(header, magic, sizeof(magic)))
		return decode_luks(info, header, err);
	qd_err_set(err, QD_E_CORRUPT, "the header is damaged");
	warn(info, "LUKS", err);
	qd_err_clear(err);
	return 0;
}

static void count_shared(struct qd_info *info, const struct qd_image *img, uint64_t memory)
{
	struct qd_census census = { 0 };
	struct qd_err err;

	if (qd_census_take(img, memory ? memory : qd_default_memory(), &census, &err)) {
		warn(info, "shared clusters could not be counted", &err);
	} else {
		info->shared_clusters = census.data.shared;
		info->has_shared_clusters = true;
		if (census.bad) {
			qd_err_set(&err, QD_E_CORRUPT, "%" PRIu64 " entries cannot be true: see qdedup check", census.bad);
			warn(info, "metadata", &err);
		}
	}
	qd_census_free(&census);
}

static int take_image(struct qd_info *info, struct qd_image *img, uint64_t memory, struct qd_err *err)
{
	int r = 0;

	take_header(info, img);
	if (info->has_data_file && !copy_text(&info->data_file, img->data_file_name))
		r = qd_err_nomem(err, "image information");
	if (!r)
		r = take_backing(info, img, err);
	if (!r)
		r = take_snapshots(info, img, err);
	if (!r)
		r = take_bitmaps(info, img, err);
	if (!r)
		r = take_luks(info, img, err);
	if (!r)
		count_shared(info, img, memory);
	return r ? r : qd_index_info_get(img, &info->index, err);
}

static int check_chain(const struct level *level, const char *path, struct qd_err *err)
{
	if (level->depth > MAX_CHAIN)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the backing chain is deeper than %u files", MAX_CHAIN);
	for (const struct level *l = level->above; l; l = l->above)
		if (qd_io_same_file(l->file.io, level->file.io))
			return qd_err_set(err, QD_E_CORRUPT, "backing file \"%s\": the chain is a loop", path);
	return 0;
}

static int get_level(const char *path, const char *format, const struct qd_info_opts *opts,
		     const struct level *above, struct qd_info **ret_info, struct qd_err *err);

/* The backing file of info's image, opened as that image says. */
static int get_backing(struct qd_info *info, const struct qd_info_opts *opts, const struct level *level,
		       struct qd_err *err)
{
	const char *format = NULL;
	char *path = NULL;
	int r;

	if (opts->untrusted) {
		r = qd_err_set(err, QD_E_UNSUPPORTED,
			       "backing file \"%s\" is named by the image and --untrusted forbids to open it",
			       info->backing_name);
		return qd_err_file(err, r, info->path);
	}
	r = qd_disk_resolve_name(info->path, info->backing_name, "backing file", &path, err);
	if (!r)
		r = qd_disk_backing_format(info->backing_format, &format, err);
	if (!r)
		r = get_level(path, format, opts, level, &info->backing, err);
	free(path);
	return r ? qd_err_file(err, r, info->path) : 0;
}

static int get_level(const char *path, const char *format, const struct qd_info_opts *opts,
		     const struct level *above, struct qd_info **ret_info, struct qd_err *err)
{
	struct level level = { .above = above, .depth = above ? above->depth + 1 : 0 };
	struct qd_info *info = calloc(1, sizeof(*info));
	int r = qd_single_open(path, format, opts->force_share, QD_IMAGE_LENIENT, &level.file, err);

	if (!r && (!info || !copy_text(&info->path, path)))
		r = qd_err_nomem(err, "image information");
	if (!r)
		r = check_chain(&level, path, err);
	if (!r) {
		info->format = "raw";
		info->virtual_size = level.file.virtual_size;
		r = qd_io_allocated(level.file.io, &info->actual_size, err);
	}
	if (!r && level.file.img)
		r = take_image(info, level.file.img, opts->memory, err);
	r = r ? qd_err_file(err, r, path) : 0;
	if (!r && opts->backing_chain && info->backing_name)
		r = get_backing(info, opts, &level, err);
	qd_single_close(&level.file);
	if (r)
		qd_info_free(info);
	else
		*ret_info = info;
	return r;
}

int qd_info_get(const char *path, const struct qd_info_opts *opts, struct qd_info **ret_info,
		struct qd_err *err)
{
	return get_level(path, opts->format, opts, NULL, ret_info, err);
}

static void free_luks(struct qd_info_luks *l)
{
	if (!l)
		return;
	free(l->cipher);
	free(l->mode);
	free(l->hash);
	free(l->uuid);
	free(l);
}

void qd_info_free(struct qd_info *info)
{
	while (info) {
		struct qd_info *backing = info->backing;

		for (size_t i = 0; i < info->nsnapshots; i++) {
			free(info->snapshots[i].id);
			free(info->snapshots[i].name);
		}
		for (size_t i = 0; i < info->nbitmaps; i++)
			free(info->bitmaps[i].name);
		free(info->snapshots);
		free(info->bitmaps);
		free_luks(info->luks);
		free(info->path);
		free(info->data_file);
		free(info->backing_name);
		free(info->backing_path);
		free(info->backing_format);
		free(info);
		info = backing;
	}
}
