/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening: first cluster -> header, extensions, names; then L1 table and snapshot
 * table.  Each step validates its part against the size of the file before it
 * allocates: memory follows what the file really holds, not what the header claims.
 */
#include "image/image.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/snapshot.h"

/* A table starts on a cluster boundary and lies within the file. */
static int check_table(const struct qd_image *img, const char *what, uint64_t off, uint64_t nbytes,
		       struct qd_err *err)
{
	if (!qd_is_aligned(off, img->geom.cluster_size))
		return qd_err_set(err, QD_E_CORRUPT, "%s: offset 0x%" PRIx64 " is not a multiple of the cluster size",
				  what, off);
	if (!qd_range_within(off, nbytes, img->file_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "%s: %" PRIu64 " bytes at 0x%" PRIx64 " lie past the end of the file (0x%" PRIx64 ")",
				  what, nbytes, off, img->file_size);
	return 0;
}

int qd_image_load_l1(const struct qd_image *img, uint64_t l1_off, uint32_t l1_entries,
		     uint64_t **ret_l1, struct qd_err *err)
{
	uint64_t nbytes = (uint64_t)l1_entries * 8;
	uint64_t *l1;
	int r;

	if (nbytes > QD_MAX_L1_BYTES)
		return qd_err_set(err, QD_E_CORRUPT, "L1 table: %" PRIu32 " entries, expected at most %u", l1_entries,
				  QD_MAX_L1_BYTES / 8);
	if (l1_entries) {
		r = check_table(img, "L1 table", l1_off, nbytes, err);
		if (r)
			return r;
	}
	l1 = malloc(nbytes ? nbytes : 8);
	if (!l1)
		return qd_err_nomem(err, "the L1 table");
	r = qd_io_read(img->io, l1, nbytes, l1_off, err);
	if (r) {
		free(l1);
		return qd_err_prefix(err, r, "L1 table");
	}
	for (uint32_t i = 0; i < l1_entries; i++)
		l1[i] = qd_get_be64((const uint8_t *)&l1[i]);
	*ret_l1 = l1;
	return 0;
}

static char *copy_text(const void *data, size_t nbytes)
{
	char *s = malloc(nbytes + 1);

	if (s) {
		memcpy(s, data, nbytes);
		s[nbytes] = '\0';
	}
	return s;
}

/* A name from the file as a string; embedded NUL bytes cannot name a file. */
static int read_text(const void *data, size_t nbytes, const char *what, char **ret_text, struct qd_err *err)
{
	if (memchr(data, 0, nbytes))
		return qd_err_set(err, QD_E_CORRUPT, "%s: contains a NUL byte", what);
	*ret_text = copy_text(data, nbytes);
	return *ret_text ? 0 : qd_err_nomem(err, what);
}

static int keep_ext(struct qd_image *img, const struct qd_header_ext *ext, struct qd_err *err)
{
	struct qd_ext_copy *exts = realloc(img->exts, (img->nexts + 1) * sizeof(*exts));
	struct qd_ext_copy *e;

	if (!exts)
		return qd_err_nomem(err, "header extensions");
	img->exts = exts;
	e = &exts[img->nexts];
	e->type = ext->type;
	e->nbytes = ext->nbytes;
	e->data = (uint8_t *)copy_text(ext->data, ext->nbytes);
	if (!e->data)
		return qd_err_nomem(err, "header extensions");
	img->nexts++;
	return 0;
}

static int take_ext(struct qd_image *img, const struct qd_header_ext *ext, struct qd_err *err)
{
	if (ext->type == QD_EXT_BACKING_FORMAT && !img->backing_format)
		return read_text(ext->data, ext->nbytes, "backing format name", &img->backing_format, err);
	if (ext->type == QD_EXT_DATA_FILE && !img->data_file_name)
		return read_text(ext->data, ext->nbytes, "data file name", &img->data_file_name, err);
	return 0;
}

/* Unknown incompatible bits are refused under the name the image itself gives them, if it does. */
static int refuse_unknown_features(const struct qd_image *img, uint64_t unknown, struct qd_err *err)
{
	unsigned bit = (unsigned)__builtin_ctzll(unknown);
	struct qd_feature_name name;

	for (uint32_t i = 0; i < img->nexts; i++) {
		struct qd_header_ext ext = { img->exts[i].type, img->exts[i].nbytes, img->exts[i].data };

		if (ext.type != QD_EXT_FEATURE_NAMES)
			continue;
		for (size_t k = 0; qd_feature_name_get(&ext, k, &name); k++)
			if (name.kind == QD_FEATURE_INCOMPATIBLE && name.bit == bit)
				return qd_err_set(err, QD_E_UNSUPPORTED,
						  "header: unknown incompatible feature bit %u (\"%.46s\")", bit, name.name);
	}
	return qd_err_set(err, QD_E_UNSUPPORTED, "header: unknown incompatible feature bit %u", bit);
}

/* The first cluster: header, extensions, backing file name. */
static int read_first_cluster(struct qd_image *img, struct qd_err *err)
{
	uint8_t start[QD_HEADER_FULL_SIZE] = { 0 };
	struct qd_header *h = &img->header;
	struct qd_header_ext ext;
	uint8_t *buf = NULL;
	size_t nread, end, pos;
	int r;

	r = qd_io_read_upto(img->io, start, sizeof(start), 0, &nread, err);
	if (r)
		return r;
	if (!qd_header_is_qcow2(start, nread))
		return qd_err_set(err, QD_E_CORRUPT, "not a qcow2 image (wrong magic)");
	r = qd_header_decode_raw(start, nread, h, err);
	if (r)
		return r;
	if (h->version == 3 && h->cluster_bits >= QD_MIN_CLUSTER_BITS && h->cluster_bits <= QD_MAX_CLUSTER_BITS &&
	    (h->incompatible & ~QD_INCOMPAT_KNOWN))
		goto parse;	/* the feature name table tells what it is */
	r = qd_header_validate(h, err);
	if (r)
		return r;
parse:
	end = (size_t)1 << h->cluster_bits;
	buf = malloc(end);
	if (!buf)
		return qd_err_nomem(err, "the first cluster");
	r = qd_io_read_upto(img->io, buf, end, 0, &nread, err);
	if (r)
		goto out;
	memset(buf + nread, 0, end - nread);
	pos = h->header_length;
	if (h->backing_name_off && h->backing_name_off < end)
		end = (size_t)h->backing_name_off;
	while (pos <= end && (r = qd_header_ext_next(buf, end, &pos, &ext, err)) == 1) {
		r = keep_ext(img, &ext, err);
		if (!r)
			r = take_ext(img, &ext, err);
		if (r)
			goto out;
	}
	if (h->version == 3 && (h->incompatible & ~QD_INCOMPAT_KNOWN)) {
		r = refuse_unknown_features(img, h->incompatible & ~QD_INCOMPAT_KNOWN, err);
		goto out;
	}
	if (r)
		goto out;
	if (h->backing_name_off)
		r = read_text(buf + h->backing_name_off, h->backing_name_len, "backing file name", &img->backing_name,
			      err);
out:
	free(buf);
	return r;
}

static int take_snapshot(struct qd_image *img, const struct qd_snapshot_entry *e, struct qd_err *err)
{
	struct qd_snapshot *s = &img->snapshots[img->nsnapshots];

	*s = (struct qd_snapshot){
		.id = copy_text(e->id, e->id_len),
		.name = copy_text(e->name, e->name_len),
		.l1_off = e->l1_off,
		.l1_entries = e->l1_entries,
		.date_sec = e->date_sec,
		.date_nsec = e->date_nsec,
		.vm_clock_nsec = e->vm_clock_nsec,
		.vm_state_size = e->vm_state_size,
		.disk_size = e->disk_size,
		.icount = e->icount,
	};
	img->nsnapshots++;
	return s->id && s->name ? 0 : qd_err_nomem(err, "the snapshot table");
}

/* The table's length is only known by walking it: read what the format allows and the file holds. */
static int read_snapshots(struct qd_image *img, struct qd_err *err)
{
	const struct qd_header *h = &img->header;
	struct qd_snapshot_entry e;
	uint8_t *buf = NULL;
	size_t nbytes, pos = 0, used;
	int r;

	if (!h->snapshot_count)
		return 0;
	r = check_table(img, "snapshot table", h->snapshots_off, QD_SNAPSHOT_FIXED, err);
	if (r)
		return r;
	nbytes = (size_t)qd_min_u64(img->file_size - h->snapshots_off, QD_SNAPSHOT_MAX_TABLE);
	/* An entry is at most 40 + 1024 + 2 * 65535 + padding bytes. */
	nbytes = (size_t)qd_min_u64(nbytes, (uint64_t)h->snapshot_count * (QD_SNAPSHOT_FIXED + 1024 + 2 * 65536));
	buf = malloc(nbytes);
	img->snapshots = calloc(h->snapshot_count, sizeof(*img->snapshots));
	if (!buf || !img->snapshots) {
		r = qd_err_nomem(err, "the snapshot table");
		goto out;
	}
	r = qd_io_read(img->io, buf, nbytes, h->snapshots_off, err);
	for (uint32_t i = 0; !r && i < h->snapshot_count; i++) {
		r = qd_snapshot_decode(buf + pos, nbytes - pos, h->virtual_size, &e, &used, err);
		if (r) {
			qd_err_prefix(err, r, "snapshot table entry %" PRIu32, i);
			break;
		}
		pos += used;
		r = take_snapshot(img, &e, err);
	}
	img->snapshots_nbytes = pos;
out:
	free(buf);
	return r;
}

static void free_snapshots(struct qd_image *img)
{
	for (uint32_t i = 0; i < img->nsnapshots; i++) {
		free(img->snapshots[i].id);
		free(img->snapshots[i].name);
	}
	free(img->snapshots);
	img->snapshots = NULL;
	img->nsnapshots = 0;
}

static int load(struct qd_image *img, unsigned flags, struct qd_err *err)
{
	int r = qd_io_size(img->io, &img->file_size, err);

	if (!r)
		r = read_first_cluster(img, err);
	if (r)
		return r;
	qd_geom_init(&img->header, &img->geom);
	r = qd_image_load_l1(img, img->header.l1_off, img->header.l1_entries, &img->l1, err);
	if (r)
		return r;
	r = read_snapshots(img, err);
	if (r == QD_E_CORRUPT && (flags & QD_IMAGE_LENIENT)) {
		free_snapshots(img);
		qd_err_clear(err);
		r = 0;
	}
	return r;
}

int qd_image_open(struct qd_io *io, unsigned flags, struct qd_image **ret_img, struct qd_err *err)
{
	struct qd_image *img = calloc(1, sizeof(*img));
	int r;

	if (!img)
		return qd_err_nomem(err, "an image");
	img->io = io;
	r = load(img, flags, err);
	if (r) {
		img->io = NULL;
		qd_image_close(img);
		return qd_err_file(err, r, io->name);
	}
	*ret_img = img;
	return 0;
}

void qd_image_close(struct qd_image *img)
{
	if (!img)
		return;
	free_snapshots(img);
	for (uint32_t i = 0; i < img->nexts; i++)
		free(img->exts[i].data);
	free(img->exts);
	free(img->l1);
	free(img->backing_name);
	free(img->backing_format);
	free(img->data_file_name);
	qd_io_close(img->io);
	free(img);
}

void qd_image_detach(struct qd_image *img)
{
	if (img)
		img->io = NULL;
	qd_image_close(img);
}

int qd_image_require_plain(const struct qd_image *img, struct qd_err *err)
{
	const char *what = img->header.crypt_method == QD_CRYPT_LUKS ? "LUKS" : "AES";

	if (img->header.crypt_method == QD_CRYPT_NONE)
		return 0;
	return qd_err_set(err, QD_E_UNSUPPORTED,
			  "the image is encrypted (%s), which is not supported: decrypt it with qemu-img convert first",
			  what);
}

const struct qd_snapshot *qd_image_find_snapshot(const struct qd_image *img, const char *id_or_name)
{
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (!strcmp(img->snapshots[i].id, id_or_name))
			return &img->snapshots[i];
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (!strcmp(img->snapshots[i].name, id_or_name))
			return &img->snapshots[i];
	return NULL;
}

const struct qd_snapshot *qd_image_find_pin(const struct qd_image *img)
{
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (!strcmp(img->snapshots[i].name, QD_PIN_NAME) && img->snapshots[i].disk_size % 512)
			return &img->snapshots[i];
	return NULL;
}

bool qd_image_has_own_snapshots(const struct qd_image *img)
{
	return img->nsnapshots > (qd_image_find_pin(img) ? 1u : 0u);
}

const struct qd_ext_copy *qd_image_find_ext(const struct qd_image *img, uint32_t type)
{
	for (uint32_t i = 0; i < img->nexts; i++)
		if (img->exts[i].type == type)
			return &img->exts[i];
	return NULL;
}
