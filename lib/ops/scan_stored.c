/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_stored.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "ops/known.h"

struct scan_stored {
	const struct scan *s;
	const struct qd_disk *disk;
	struct qd_container *container;
	struct qd_known *known;
	uint64_t cluster;		/* bytes */
	uint8_t zero[QD_DIGEST_MAX];	/* the hash of a cluster of zeros */
};

/* ---- opening ---- */

static bool is_wanted(const struct scan *s, const struct qd_disk *disk)
{
	const struct qd_scan_opts *o = s->opts;

	if (!disk->img || o->no_lock || o->content || o->sample_n > 1)
		return false;
	return disk->img->geom.cluster_size == s->unit && (!s->named || s->nsizes == 1);
}

static int hash_zeros(struct scan_stored *st, struct qd_err *err)
{
	struct qd_digester *d = NULL;
	uint8_t *zeros = calloc(1, (size_t)st->cluster);
	int r = zeros ? qd_digester_new(st->s->digest, &d, err) : qd_err_nomem(err, "a buffer");

	if (!r)
		r = qd_digester_compute(d, zeros, (size_t)st->cluster, st->zero, err);
	qd_digester_free(d);
	free(zeros);
	return r;
}

/* An index that cannot be read costs time, nothing else: so its errors end here. */
static bool open_index(struct scan_stored *st)
{
	if (qd_container_open(st->disk->img, NULL, false, &st->container, NULL))
		return false;
	if (!st->container->opened || st->container->state != QD_CONTAINER_VALID)
		return false;
	if (qd_known_open(st->container, st->disk->img, &st->known, NULL))
		return false;
	return qd_known_digest(st->known)->id == st->s->digest->id;
}

int qd_scan_stored_open(const struct scan *s, const struct qd_disk *disk, struct scan_stored **ret_stored,
			struct qd_err *err)
{
	struct scan_stored *st;
	int r = 0;

	*ret_stored = NULL;
	if (!is_wanted(s, disk))
		return 0;
	st = calloc(1, sizeof(*st));
	if (!st)
		return qd_err_nomem(err, "the stored hashes");
	st->s = s;
	st->disk = disk;
	st->cluster = s->unit;
	if (open_index(st)) {
		r = hash_zeros(st, err);
		if (!r)
			*ret_stored = st;
	}
	if (!*ret_stored)
		qd_scan_stored_close(st);
	return r;
}

void qd_scan_stored_close(struct scan_stored *st)
{
	if (!st)
		return;
	qd_known_free(st->known);
	qd_container_close(st->container);
	free(st);
}

/* ---- finding ---- */

static int find_one(struct scan_stored *st, uint64_t entry, struct scan_known *to, struct qd_err *err)
{
	struct qd_record record;
	int r = qd_known_find(st->known, entry, &record, err);

	if (r <= 0 || (record.flags & QD_RECORD_PARTIAL))
		return r < 0 ? r : 0;
	to->zero = !memcmp(record.hash, st->zero, st->s->digest->nbytes);
	memcpy(to->key, record.hash, st->s->digest->nbytes);
	return 1;
}

int qd_scan_stored_find(struct scan_stored *st, uint64_t off, uint64_t nbytes, struct scan_known *list,
			size_t *ret_n, struct qd_err *err)
{
	uint64_t c = st->cluster, end = qd_min_u64(off + nbytes, st->disk->virtual_size), begin = off;
	struct qd_map_run run;
	size_t n = 0;

	for (; off < end; off += run.nbytes) {
		int r = qd_map_get(st->disk->map, off, end - off, &run, err);

		if (r)
			return r;
		if (run.kind != QD_MAP_DATA && run.kind != QD_MAP_COMPRESSED)
			continue;
		for (uint64_t g = qd_align_up(off, c); qd_range_within(g - off, c, run.nbytes); g += c) {
			bool plain = run.kind == QD_MAP_DATA;
			uint64_t entry = plain ? run.host_off + (g - off) : run.entry & ~QD_COPIED;

			r = find_one(st, entry, &list[n], err);
			if (r < 0)
				return r;
			list[n].off = g - begin;
			n += r == 1;
		}
	}
	*ret_n = n;
	return 0;
}
