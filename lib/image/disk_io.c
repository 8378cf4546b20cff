/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Readers are for one thread each: those not in use wait in a list, which grows to as many
 * as there are threads.
 */
#include "image/disk_io.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define MAX_FOUND (1u << 30)	/* bytes of data that one search looks at */

struct idle {
	struct idle *next;
	struct qd_reader *reader;
};

struct disk_io {
	struct qd_io io;
	const struct qd_disk *disk;
	pthread_mutex_t lock;	/* guards idle */
	struct idle *idle;
};

static struct disk_io *of(struct qd_io *io)
{
	return (struct disk_io *)io;
}

/* The interface speaks errno. */
static int errno_of(int rc)
{
	return rc == QD_E_NOMEM ? -ENOMEM : -EIO;
}

static int take_reader(struct disk_io *d, struct idle **ret_idle)
{
	struct idle *i;
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	i = d->idle;
	if (i)
		d->idle = i->next;
	pthread_mutex_unlock(&d->lock);
	if (!i) {
		i = calloc(1, sizeof(*i));
		rc = i ? qd_reader_new(d->disk, &i->reader, NULL) : QD_E_NOMEM;
		if (rc)
			free(i);
	}
	*ret_idle = i;
	return rc;
}

static void give_back(struct disk_io *d, struct idle *i)
{
	pthread_mutex_lock(&d->lock);
	i->next = d->idle;
	d->idle = i;
	pthread_mutex_unlock(&d->lock);
}

static ssize_t disk_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct disk_io *d = of(io);
	struct idle *i;
	int rc;

	if (off >= d->disk->virtual_size)
		return 0;
	nbytes = (size_t)qd_min_u64(nbytes, d->disk->virtual_size - off);
	rc = take_reader(d, &i);
	if (rc)
		return errno_of(rc);
	rc = qd_reader_read(i->reader, off, nbytes, buf, NULL);
	give_back(d, i);
	return rc ? errno_of(rc) : (ssize_t)nbytes;
}

static int disk_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	*ret_nbytes = of(io)->disk->virtual_size;
	return 0;
}

static int disk_next_data(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole)
{
	const struct qd_disk *disk = of(io)->disk;
	uint64_t nbytes;
	int rc;

	if (off >= disk->virtual_size)
		return -ENXIO;
	rc = qd_disk_next_data(disk, off, MAX_FOUND, ret_data, &nbytes, NULL);
	if (rc)
		return errno_of(rc);
	*ret_hole = *ret_data + nbytes;
	return *ret_data < disk->virtual_size ? 0 : -ENXIO;
}

static void disk_close(struct qd_io *io)
{
	struct disk_io *d = of(io);

	while (d->idle) {
		struct idle *i = d->idle;

		d->idle = i->next;
		qd_reader_free(i->reader);
		free(i);
	}
	pthread_mutex_destroy(&d->lock);
	free(io->name);
	free(d);
}

static const struct qd_io_ops ops = {
	.pread = disk_pread,
	.size = disk_size,
	.next_data = disk_next_data,
	.close = disk_close,
};

int qd_disk_io_new(const struct qd_disk *disk, struct qd_io **ret_io, struct qd_err *err)
{
	struct disk_io *d = calloc(1, sizeof(*d));

	if (!d)
		return qd_err_nomem(err, "a disk to read from");
	d->io = (struct qd_io){ .ops = &ops, .name = strdup(disk->path), .align = 1 };
	d->disk = disk;
	if (!d->io.name) {
		free(d);
		return qd_err_nomem(err, "a disk to read from");
	}
	pthread_mutex_init(&d->lock, NULL);
	*ret_io = &d->io;
	return 0;
}
