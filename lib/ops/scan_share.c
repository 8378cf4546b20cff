/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Three bits for each host cluster:
 *
 *	once, twice    references counted by the walk
 *	owned          somebody reads it
 *
 * and for those that are shared a record: of each unit whether it is data, then its key;
 * with named keys, the same for each larger size.
 */
#include "ops/scan_share.h"

#include <stdlib.h>
#include <string.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "dedup/records.h"

#define PART 16u		/* of the memory, for bits; and again for records */

struct bits {
	struct qd_bigarray a;
};

struct scan_share {
	const struct scan *s;
	uint64_t cluster;		/* bytes */
	uint64_t nclusters;
	struct bits once, twice, owned;
	bool any;
	unsigned nlevels;		/* sizes whose keys are kept */
	uint32_t record_nbytes;
	uint8_t *record;		/* one; the ordered stages alone use it */
	struct qd_records *records;
};

static bool test(const struct bits *b, uint64_t i)
{
	return ((const uint8_t *)b->a.p)[i / 8] >> (i % 8) & 1;
}

static void set(struct bits *b, uint64_t i)
{
	((uint8_t *)b->a.p)[i / 8] |= (uint8_t)(1u << (i % 8));
}

/* ---- which clusters are shared ---- */

/* Calls fn for each whole cluster of the image's own in [off, end) of a disk. */
static int for_clusters(struct scan_share *sh, const struct qd_disk *disk, uint64_t off, uint64_t end,
			void (*fn)(struct scan_share *sh, void *ctx, uint64_t guest, uint64_t host),
			void *ctx, struct qd_err *err)
{
	uint64_t c = sh->cluster;
	struct qd_map_run run;

	for (; off < end; off += run.nbytes) {
		int r = qd_map_get(disk->map, off, end - off, &run, err);

		if (r)
			return r;
		if (run.kind != QD_MAP_DATA)
			continue;
		for (uint64_t g = qd_align_up(off, c); qd_range_within(g - off, c, run.nbytes); g += c) {
			uint64_t host = run.host_off + (g - off);

			/* A last cluster is padded, and so another content than its host cluster. */
			if (qd_is_aligned(host, c) && host / c < sh->nclusters && g + c <= disk->virtual_size)
				fn(sh, ctx, g, host / c);
		}
	}
	return 0;
}

static void count(struct scan_share *sh, void *ctx, uint64_t guest, uint64_t host)
{
	(void)ctx, (void)guest;
	if (test(&sh->once, host)) {
		set(&sh->twice, host);
		sh->any = true;
	}
	set(&sh->once, host);
}

static int count_views(struct scan *s, unsigned image, struct scan_share *sh, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < s->nviews; i++) {
		struct qd_disk *disk = NULL;

		if (s->views[i].image != image)
			continue;
		r = qd_scan_open_view(s, &s->views[i], &disk, err);
		if (!r)
			r = for_clusters(sh, disk, 0, disk->virtual_size, count, NULL, err);
		if (disk != s->views[i].disk)
			qd_disk_close(disk);
	}
	return r;
}

static int need_bits(struct scan_share *sh, struct qd_err *err)
{
	uint64_t nbytes = sh->nclusters / 8 + 1;
	int r = qd_bigarray_need(&sh->once.a, nbytes, "shared clusters", err);

	if (!r)
		r = qd_bigarray_need(&sh->twice.a, nbytes, "shared clusters", err);
	if (!r)
		r = qd_bigarray_need(&sh->owned.a, nbytes, "shared clusters", err);
	return r;
}

static bool worth_it(const struct scan *s, const struct qd_disk *disk)
{
	uint64_t c, most = s->sizes[s->nsizes - 1];

	if (!disk->img || disk->data_io != disk->io || s->opts->sample_n > 1)
		return false;
	c = disk->img->geom.cluster_size;
	if (c < s->unit || (s->named && c < most))
		return false;
	return disk->img->file_size / c / 8 * 3 <= s->memory / PART;
}

int qd_scan_share_new(struct scan *s, unsigned image, const struct qd_disk *disk,
		      struct scan_share **ret_share, struct qd_err *err)
{
	struct scan_share *sh;
	int r;

	*ret_share = NULL;
	if (!worth_it(s, disk))
		return 0;
	sh = calloc(1, sizeof(*sh));
	if (!sh)
		return qd_err_nomem(err, "shared clusters");
	sh->s = s;
	sh->cluster = disk->img->geom.cluster_size;
	sh->nclusters = qd_div_up(disk->img->file_size, sh->cluster);
	sh->nlevels = s->named ? s->nsizes : 1;
	for (unsigned k = 0; k < sh->nlevels; k++)
		sh->record_nbytes += (uint32_t)(sh->cluster / s->sizes[k]) * (s->key_nbytes + 1);
	sh->record = malloc(sh->record_nbytes);
	r = sh->record ? need_bits(sh, err) : qd_err_nomem(err, "shared clusters");
	if (!r)
		r = count_views(s, image, sh, err);
	if (!r && sh->any)
		r = qd_records_new(sh->record_nbytes, s->memory / PART, s->opts->tmpdir, &sh->records, err);
	if (r || !sh->any)
		qd_scan_share_free(sh);
	else
		*ret_share = sh;
	return r;
}

void qd_scan_share_free(struct scan_share *sh)
{
	if (!sh)
		return;
	qd_bigarray_free(&sh->once.a);
	qd_bigarray_free(&sh->twice.a);
	qd_bigarray_free(&sh->owned.a);
	qd_records_free(sh->records);
	free(sh->record);
	free(sh);
}

uint64_t qd_scan_share_cluster(const struct scan_share *sh)
{
	return sh->cluster;
}

/* ---- ownership ---- */

struct finding {
	uint64_t off;
	struct scan_shared *list;
	size_t n;
};

static void find(struct scan_share *sh, void *ctx, uint64_t guest, uint64_t host)
{
	struct finding *f = ctx;

	if (!test(&sh->twice, host))
		return;
	f->list[f->n++] = (struct scan_shared) { .off = guest - f->off,
						 .host = host,
						 .owner = !test(&sh->owned, host) };
	set(&sh->owned, host);
}

int qd_scan_share_find(struct scan_share *sh, const struct qd_disk *disk, uint64_t off, uint64_t nbytes,
		       struct scan_shared *list, size_t *ret_n, struct qd_err *err)
{
	struct finding f = { .off = off, .list = list };
	int r = for_clusters(sh, disk, off, qd_min_u64(off + nbytes, disk->virtual_size), find, &f, err);

	*ret_n = f.n;
	return r;
}

/* ---- keys ---- */

int qd_scan_share_put(struct scan_share *sh, const struct scan_cells *c, const struct scan_shared *at,
		      struct qd_err *err)
{
	uint8_t *to = sh->record;

	for (unsigned k = 0; k < sh->nlevels; k++) {
		size_t first = (size_t)(at->off / sh->s->sizes[k]),
		       n = (size_t)(sh->cluster / sh->s->sizes[k]);

		memcpy(to, c->cells[k] + first, n);
		memcpy(to + n, c->keys[k] + first * sh->s->key_nbytes, n * sh->s->key_nbytes);
		to += n * (sh->s->key_nbytes + 1);
	}
	return qd_records_put(sh->records, at->host, sh->record, err);
}

int qd_scan_share_get(struct scan_share *sh, struct scan_cells *c, const struct scan_shared *at,
		      struct qd_err *err)
{
	const uint8_t *from = sh->record;
	int r = qd_records_get(sh->records, at->host, sh->record, err);

	for (unsigned k = 0; !r && k < sh->nlevels; k++) {
		size_t first = (size_t)(at->off / sh->s->sizes[k]),
		       n = (size_t)(sh->cluster / sh->s->sizes[k]);

		/* Both are the image's own clusters, so the cells are alike. */
		memcpy(c->cells[k] + first, from, n);
		memcpy(c->keys[k] + first * sh->s->key_nbytes, from + n, n * sh->s->key_nbytes);
		from += n * (sh->s->key_nbytes + 1);
	}
	return r;
}
