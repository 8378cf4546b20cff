/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Read through the library's own reader, over a view of the io, because a disk closes
 * what it was opened on.
 */
#include "layers.h"

#include <stdlib.h>
#include <string.h>

#include "image/disk.h"

struct view {
	struct qd_io io;
	struct qd_io *below;
};

static struct qd_io *below(struct qd_io *io)
{
	return ((struct view *)(void *)io)->below;
}

static ssize_t view_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	return below(io)->ops->pread(below(io), buf, nbytes, off);
}

static int view_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	return below(io)->ops->size(below(io), ret_nbytes);
}

static void view_close(struct qd_io *io)
{
	free(io);
}

static const struct qd_io_ops view_ops = { .pread = view_pread, .size = view_size, .close = view_close };

static struct qd_io *view_of(struct qd_io *io)
{
	struct view *v = calloc(1, sizeof(*v));

	if (!v)
		abort();
	v->io = (struct qd_io){ .ops = &view_ops, .name = io->name, .align = 1 };
	v->below = io;
	return &v->io;
}

int layer_read(struct qd_io *io, struct layer *l, struct qd_err *err)
{
	struct qd_disk_opts opts = { .format = "qcow2", .snapshot = l->name, .no_backing = true };
	struct qd_reader *reader = NULL;
	struct qd_disk *disk = NULL;
	struct qd_io *view = view_of(io);
	int rc = qd_disk_open_io(view, &opts, &disk, err);

	l->bytes = NULL;
	if (rc) {
		qd_io_close(view);
		return rc;
	}
	l->size = disk->virtual_size;
	l->bytes = malloc(l->size ? l->size : 1);
	if (!l->bytes)
		abort();
	rc = qd_reader_new(disk, &reader, err);
	if (rc == 0)
		rc = qd_reader_read(reader, 0, l->size, l->bytes, err);
	if (rc) {
		free(l->bytes);
		l->bytes = NULL;
	}
	qd_reader_free(reader);
	qd_disk_close(disk);
	return rc;
}

static int name_layers(struct qd_io *io, struct layers *l, struct qd_err *err)
{
	struct qd_io *view = view_of(io);
	struct qd_image *img = NULL;
	int rc = qd_image_open(view, 0, &img, err);

	if (rc) {
		qd_io_close(view);
		return rc;
	}
	l->v = calloc(img->nsnapshots + 1, sizeof(*l->v));
	if (!l->v)
		abort();
	l->n = 1;
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (&img->snapshots[i] != qd_image_find_pin(img))
			l->v[l->n++].name = strdup(img->snapshots[i].name);
	qd_image_close(img);
	return 0;
}

int layers_read(struct qd_io *io, struct layers *l, struct qd_err *err)
{
	int rc;

	*l = (struct layers){ .n = 0 };
	rc = name_layers(io, l, err);
	for (unsigned i = 0; rc == 0 && i < l->n; i++)
		rc = layer_read(io, &l->v[i], err);
	if (rc)
		layers_free(l);
	return rc;
}

void layers_free(struct layers *l)
{
	for (unsigned i = 0; i < l->n; i++) {
		free(l->v[i].name);
		free(l->v[i].bytes);
	}
	free(l->v);
	*l = (struct layers){ .n = 0 };
}
