/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading guest bytes: runs of a disk -> buffer, decompressing where needed.
 *
 * A reader remembers the cluster it decompressed last, because a caller whose pieces
 * are smaller than a compressed cluster comes back for the next one.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/codec.h"
#include "image/disk.h"

#define MAX_UNPACKERS 2u		/* a chain may have 200 layers with clusters of 2 MiB */

struct unpacker {			/* of one layer with compressed clusters */
	const struct qd_disk *layer;	/* NULL: unused */
	struct qd_codec *codec;
	uint8_t *packed;		/* up to two clusters: what a descriptor can span */
	uint8_t *cluster;
	uint64_t entry;			/* of what `cluster` holds; 0: nothing */
};

struct qd_reader {
	const struct qd_disk *disk;
	struct unpacker unpackers[MAX_UNPACKERS];
	unsigned next;			/* the one that serves another layer next */
};

int qd_reader_new(const struct qd_disk *disk, struct qd_reader **ret_reader, struct qd_err *err)
{
	struct qd_reader *r = calloc(1, sizeof(*r));

	if (!r)
		return qd_err_nomem(err, "a reader");
	r->disk = disk;
	*ret_reader = r;
	return 0;
}

static void clear_unpacker(struct unpacker *u)
{
	qd_codec_free(u->codec);
	free(u->packed);
	free(u->cluster);
	*u = (struct unpacker){ .layer = NULL };
}

void qd_reader_free(struct qd_reader *r)
{
	if (!r)
		return;
	for (unsigned i = 0; i < MAX_UNPACKERS; i++)
		clear_unpacker(&r->unpackers[i]);
	free(r);
}

static int init_unpacker(struct unpacker *u, const struct qd_disk *layer, struct qd_err *err)
{
	size_t cluster_size = (size_t)layer->img->geom.cluster_size;
	int ret;

	ret = qd_codec_new(layer->img->header.compression_type, cluster_size, 0, &u->codec, err);
	if (ret)
		return ret;
	u->packed = malloc(2 * cluster_size);
	u->cluster = malloc(cluster_size);
	if (!u->packed || !u->cluster)
		return qd_err_nomem(err, "a reader");
	u->layer = layer;
	return 0;
}

static int get_unpacker(struct qd_reader *r, const struct qd_disk *layer, struct unpacker **ret_u,
			struct qd_err *err)
{
	struct unpacker *u;
	int ret;

	for (unsigned i = 0; i < MAX_UNPACKERS; i++)
		if (r->unpackers[i].layer == layer) {
			*ret_u = &r->unpackers[i];
			return 0;
		}
	u = &r->unpackers[r->next++ % MAX_UNPACKERS];
	clear_unpacker(u);
	ret = init_unpacker(u, layer, err);
	if (ret)
		clear_unpacker(u);
	else
		*ret_u = u;
	return ret;
}

static int unpack(struct unpacker *u, uint64_t entry, struct qd_err *err)
{
	const struct qd_image *img = u->layer->img;
	struct qd_compressed c = qd_l2_compressed(&img->geom, entry);
	size_t nread;
	int r;

	if (u->entry == entry)
		return 0;
	u->entry = 0;
	if (c.host_off >= img->file_size)
		return qd_err_set(err, QD_E_CORRUPT, "compressed cluster at 0x%" PRIx64
				  " lies past the end of the file (0x%" PRIx64 ")", c.host_off, img->file_size);
	/* The last sector named need not be there in full. */
	r = qd_io_read_upto(img->io, u->packed, (size_t)c.nbytes, c.host_off, &nread, err);
	if (!r)
		r = qd_codec_decompress(u->codec, u->packed, nread, u->cluster, err);
	if (r)
		return r;
	u->entry = entry;
	return 0;
}

static int read_compressed(struct qd_reader *r, const struct qd_disk_run *run, uint8_t *buf, struct qd_err *err)
{
	struct unpacker *u = NULL;
	int ret = get_unpacker(r, run->layer, &u, err);

	if (!ret)
		ret = unpack(u, run->entry, err);
	if (ret)
		return qd_err_prefix(err, ret, "guest offset 0x%" PRIx64, run->guest_off);
	memcpy(buf, u->cluster + (run->guest_off & (run->layer->img->geom.cluster_size - 1)), run->nbytes);
	return 0;
}

static int read_run(struct qd_reader *r, const struct qd_disk_run *run, uint8_t *buf, struct qd_err *err)
{
	int ret;

	switch (run->kind) {
	case QD_RUN_DATA:
		ret = qd_io_read_padded(run->layer->data_io, buf, (size_t)run->nbytes, run->host_off, err);
		if (ret)
			ret = qd_err_prefix(err, ret, "guest offset 0x%" PRIx64, run->guest_off);
		break;
	case QD_RUN_COMPRESSED:
		ret = read_compressed(r, run, buf, err);
		break;
	default:
		memset(buf, 0, run->nbytes);
		return 0;
	}
	return ret ? qd_err_file(err, ret, run->layer->path) : 0;
}

int qd_reader_read_sparse(struct qd_reader *r, uint64_t guest_off, size_t nbytes, void *buf,
			  bool *ret_zero, struct qd_err *err)
{
	uint64_t size = r->disk->virtual_size;
	uint64_t inside = guest_off < size ? qd_min_u64(nbytes, size - guest_off) : 0;
	uint64_t done = 0;
	bool zero = true;	/* so far, and then buf is not filled yet */
	struct qd_disk_run run;

	while (done < inside) {
		int ret = qd_disk_next(r->disk, guest_off + done, inside - done, &run, err);

		if (ret)
			return ret;
		if (zero && (run.kind == QD_RUN_DATA || run.kind == QD_RUN_COMPRESSED)) {
			memset(buf, 0, done);
			zero = false;
		}
		if (!zero)
			ret = read_run(r, &run, (uint8_t *)buf + done, err);
		if (ret)
			return ret;
		done += run.nbytes;
	}
	if (!zero)
		memset((uint8_t *)buf + inside, 0, nbytes - inside);
	*ret_zero = zero;
	return 0;
}

int qd_reader_read(struct qd_reader *r, uint64_t guest_off, size_t nbytes, void *buf, struct qd_err *err)
{
	bool zero;
	int ret;

	if (!r->disk->is_qcow2) {	/* holes read as zeros by themselves */
		ret = qd_io_read_padded(r->disk->io, buf, nbytes, guest_off, err);
		return ret ? qd_err_file(err, ret, r->disk->path) : 0;
	}
	ret = qd_reader_read_sparse(r, guest_off, nbytes, buf, &zero, err);

	if (!ret && zero)
		memset(buf, 0, nbytes);
	return ret;
}
