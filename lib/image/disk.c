/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening disks and their chains.  What lies where in them is disk_run.c's, reading the
 * bytes reader.c's.
 *
 * Names that come from inside an image are resolved and refused in one place,
 * qd_disk_resolve_name(); files are opened in one place, open_layer().
 */
#include "image/disk.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"

#define MAX_CHAIN_DEPTH 200u
#define DEFAULT_MAP_CACHE (32u << 20)

static bool has_protocol(const char *name)
{
	const char *p = name + strcspn(name, ":/");

	return *p == ':';
}

int qd_disk_resolve_name(const char *base_path, const char *name, const char *what, char **ret_path,
			 struct qd_err *err)
{
	const char *slash = strrchr(base_path, '/');
	size_t dir_len = slash ? (size_t)(slash - base_path) + 1 : 0;
	char *path;

	if (!strncmp(name, "file:", 5))
		name += 5;
	else if (has_protocol(name))
		return qd_err_set(err, QD_E_UNSUPPORTED, "%s \"%s\": only plain files are opened, not %s", what, name,
				  !strncmp(name, "json:", 5) ? "json: descriptions" : "protocols");
	if (!*name)
		return qd_err_set(err, QD_E_CORRUPT, "%s: the name is empty", what);
	if (name[0] == '/')
		dir_len = 0;
	path = malloc(dir_len + strlen(name) + 1);
	if (!path)
		return qd_err_nomem(err, "a file name");
	memcpy(path, base_path, dir_len);
	strcpy(path + dir_len, name);
	*ret_path = path;
	return 0;
}

static int refuse_untrusted(const char *what, const char *name, struct qd_err *err)
{
	return qd_err_set(err, QD_E_UNSUPPORTED,
			  "%s \"%s\" is named by the image and --untrusted forbids to open it", what, name);
}

int qd_disk_backing_format(const char *name, const char **ret_format, struct qd_err *err)
{
	if (!name || !strcmp(name, "raw") || !strcmp(name, "qcow2"))
		*ret_format = name;
	else if (!strcmp(name, "file") || !strcmp(name, "host_device"))
		*ret_format = "raw";
	else
		return qd_err_set(err, QD_E_UNSUPPORTED, "backing file format \"%s\" is not supported, expected raw or qcow2",
				  name);
	return 0;
}

static int decide_format(struct qd_io *io, const char *format, bool *ret_qcow2, struct qd_err *err)
{
	uint8_t magic[8];
	size_t nread;
	int r;

	if (format && strcmp(format, "raw") && strcmp(format, "qcow2"))
		return qd_err_set(err, QD_E_INVALID, "unknown format \"%s\", expected raw or qcow2", format);
	if (format) {
		*ret_qcow2 = !strcmp(format, "qcow2");
		return 0;
	}
	r = qd_io_read_upto(io, magic, sizeof(magic), 0, &nread, err);
	if (!r)
		*ret_qcow2 = qd_header_is_qcow2(magic, nread);
	return r;
}

/*
 * QEMU looks for a relative data file in its current directory, people expect it beside
 * the image: either place will do, two different files will not.
 */
static int find_data_file(struct qd_disk *d, struct qd_err *err)
{
	const char *name = d->img->data_file_name;
	char *here = NULL;
	int r = qd_disk_resolve_name(d->path, name, "data file", &d->data_path, err);

	if (r || name[0] == '/')
		return r;
	r = qd_disk_resolve_name("", name, "data file", &here, err);
	if (r)
		return r;
	if (!qd_path_exists(here) || qd_path_same(here, d->data_path)) {
		free(here);
	} else if (!qd_path_exists(d->data_path)) {
		free(d->data_path);
		d->data_path = here;
	} else {
		r = qd_err_set(err, QD_E_INVALID, "data file \"%s\" is both beside the image (\"%s\") and in the current"
			       " directory: move one of them away",
			       name, d->data_path);
		free(here);
	}
	return r;
}

static int open_data_file(struct qd_disk *d, const struct qd_disk_opts *opts, struct qd_err *err)
{
	struct qd_file_opts fo = { .cache = opts->cache, .no_lock = opts->no_lock };
	uint64_t size;
	int r;

	if (!d->img->data_file_name)
		return qd_err_set(err, QD_E_CORRUPT, "the image has an external data file but does not name it");
	if (opts->untrusted)
		return refuse_untrusted("data file", d->img->data_file_name, err);
	r = find_data_file(d, err);
	if (!r)
		r = qd_io_file_open(d->data_path, &fo, &d->data_io, err);
	if (!r)
		r = qd_io_size(d->data_io, &size, err);
	if (!r)
		qd_map_set_data_size(d->map, size);
	return r;
}

/*
 * QEMU counts in sectors.  A tail shorter than one exists in no image it makes, but what
 * is there is data: the size is rounded up, never down.
 */
static int round_size(struct qd_disk *d, struct qd_err *err)
{
	if (d->virtual_size > INT64_MAX - 511)
		return qd_err_set(err, QD_E_CORRUPT, "virtual size %" PRIu64 " is too large", d->virtual_size);
	d->virtual_size = qd_align_up(d->virtual_size, 512);
	return 0;
}

static uint64_t map_cache(const struct qd_disk_opts *opts)
{
	return opts->map_cache_nbytes ? opts->map_cache_nbytes : DEFAULT_MAP_CACHE;
}

static int make_map(struct qd_disk *d, const struct qd_disk_opts *opts, struct qd_err *err)
{
	struct qd_image *img = d->img;
	const struct qd_snapshot *s;
	uint64_t cache = map_cache(opts);
	uint64_t *l1 = NULL;
	int r;

	d->virtual_size = img->header.virtual_size;
	if (!opts->snapshot) {
		r = round_size(d, err);
		return r ? r : qd_map_new(img, img->l1, img->header.l1_entries, d->virtual_size, cache, &d->map, err);
	}
	s = qd_image_find_snapshot(img, opts->snapshot);
	if (!s)
		return qd_err_set(err, QD_E_INVALID, "there is no snapshot \"%s\" in the image", opts->snapshot);
	if (s == qd_image_find_pin(img))
		return qd_err_set(err, QD_E_INVALID,
				  "snapshot \"%s\" is the pin that keeps shared clusters shared: it holds no disk", s->name);
	d->virtual_size = s->disk_size;
	r = round_size(d, err);
	if (!r)
		r = qd_image_load_l1(img, s->l1_off, s->l1_entries, &l1, err);
	if (!r)
		r = qd_map_new(img, l1, s->l1_entries, d->virtual_size, cache, &d->map, err);
	free(l1);
	return r;
}

/* One file: everything but its backing file.  d->io is set; img takes it over for qcow2. */
static int open_layer(struct qd_disk *d, const struct qd_disk_opts *opts, const char *format, struct qd_err *err)
{
	int r = decide_format(d->io, format, &d->is_qcow2, err);

	if (r)
		return r;
	d->data_io = d->io;
	if (!d->is_qcow2) {
		if (opts->snapshot)
			return qd_err_set(err, QD_E_INVALID, "a raw image has no snapshots");
		r = qd_io_size(d->io, &d->virtual_size, err);
		return r ? r : round_size(d, err);
	}
	r = qd_image_open(d->io, 0, &d->img, err);
	if (!r)
		r = qd_image_require_plain(d->img, err);
	if (!r)
		r = make_map(d, opts, err);
	if (!r && (d->img->header.incompatible & QD_INCOMPAT_DATA_FILE))
		r = open_data_file(d, opts, err);
	return r;
}

static int new_disk(const char *path, struct qd_disk **ret_disk, struct qd_err *err)
{
	struct qd_disk *d = calloc(1, sizeof(*d));

	if (d)
		d->path = strdup(path);
	if (!d || !d->path) {
		free(d);
		return qd_err_nomem(err, "a disk");
	}
	*ret_disk = d;
	return 0;
}

static int open_path(const char *path, const struct qd_disk_opts *opts, const char *format, unsigned depth,
		     struct qd_disk **ret_disk, struct qd_err *err)
{
	struct qd_file_opts fo = { .cache = opts->cache, .no_lock = opts->no_lock };
	struct qd_disk *d = NULL;
	int r = new_disk(path, &d, err);

	if (r)
		return r;
	d->depth = depth;
	r = qd_io_file_open(path, &fo, &d->io, err);
	if (!r)
		r = open_layer(d, opts, format, err);
	if (r) {
		qd_disk_close(d);
		return qd_err_file(err, r, path);
	}
	*ret_disk = d;
	return 0;
}

static int check_loop(const struct qd_disk *top, const struct qd_disk *last, struct qd_err *err)
{
	for (const struct qd_disk *d = top; d; d = d->backing)
		if (qd_io_same_file(d->io, last->io))
			return qd_err_set(err, QD_E_CORRUPT, "backing file \"%s\": the chain is a loop", last->path);
	if (last->depth > MAX_CHAIN_DEPTH)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the backing chain is deeper than %u files", MAX_CHAIN_DEPTH);
	return 0;
}

static int open_backing(struct qd_disk *top, struct qd_disk *overlay, const struct qd_disk_opts *opts,
			struct qd_err *err)
{
	const char *name = overlay->img->backing_name;
	struct qd_disk_opts bo = *opts;
	struct qd_disk *backing = NULL;
	const char *format = NULL;
	char *path = NULL;
	int r;

	bo.snapshot = NULL;
	r = opts->untrusted ? refuse_untrusted("backing file", name, err) :
			      qd_disk_resolve_name(overlay->path, name, "backing file", &path, err);
	if (!r)
		r = qd_disk_backing_format(overlay->img->backing_format, &format, err);
	if (!r)
		r = open_path(path, &bo, format, overlay->depth + 1, &backing, err);
	if (!r)
		r = check_loop(top, backing, err);
	free(path);
	if (r) {
		qd_disk_close(backing);
		return qd_err_file(err, r, overlay->path);
	}
	overlay->backing = backing;
	return 0;
}

static int open_chain(struct qd_disk *top, const struct qd_disk_opts *opts, struct qd_err *err)
{
	int r = 0;

	for (struct qd_disk *d = top; !r && !opts->no_backing && d && d->img && d->img->backing_name; d = d->backing)
		r = open_backing(top, d, opts, err);
	return r;
}

/* Every layer was given all of the cache while nobody knew how many there are. */
static int share_cache(struct qd_disk *top, const struct qd_disk_opts *opts, struct qd_err *err)
{
	uint64_t nmaps = 0;
	int r = 0;

	for (struct qd_disk *d = top; d; d = d->backing)
		nmaps += d->map != NULL;
	for (struct qd_disk *d = top; !r && d; d = d->backing)
		if (d->map && nmaps > 1)
			r = qd_map_set_cache(d->map, map_cache(opts) / nmaps, err);
	return r;
}

int qd_disk_open(const char *path, const struct qd_disk_opts *opts, struct qd_disk **ret_disk,
		 struct qd_err *err)
{
	struct qd_disk *d = NULL;
	int r = open_path(path, opts, opts->format, 0, &d, err);

	if (r)
		return r;
	r = open_chain(d, opts, err);
	if (!r)
		r = share_cache(d, opts, err);
	if (r) {
		qd_disk_close(d);
		return r;
	}
	*ret_disk = d;
	return 0;
}

int qd_disk_open_io(struct qd_io *io, const struct qd_disk_opts *opts, struct qd_disk **ret_disk,
		    struct qd_err *err)
{
	struct qd_disk_opts alone = *opts;
	struct qd_disk *d = NULL;
	int r = new_disk(io->name, &d, err);

	if (r)
		return r;
	alone.untrusted = true;		/* an io has no directory that names could be relative to */
	d->io = io;
	r = open_layer(d, &alone, opts->format, err);
	if (r) {
		if (d->img)
			d->img->io = NULL;
		d->io = NULL;
		qd_disk_close(d);
		return qd_err_file(err, r, io->name);
	}
	*ret_disk = d;
	return 0;
}

void qd_disk_close(struct qd_disk *disk)
{
	while (disk) {
		struct qd_disk *backing = disk->backing;

		qd_map_free(disk->map);
		if (disk->data_path)
			qd_io_close(disk->data_io == disk->io ? NULL : disk->data_io);
		if (disk->img)
			qd_image_close(disk->img);
		else
			qd_io_close(disk->io);
		free(disk->data_path);
		free(disk->path);
		free(disk);
		disk = backing;
	}
}

bool qd_disk_uses_path(const struct qd_disk *disk, const char *path)
{
	for (; disk; disk = disk->backing)
		if (qd_io_is_path(disk->io, path) || (disk->data_io && qd_io_is_path(disk->data_io, path)))
			return true;
	return false;
}
