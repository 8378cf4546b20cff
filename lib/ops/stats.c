/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Statistics: the census, held against the refcounts that the image stores.
 */
#include "ops/stats.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/io_file.h"
#include "ops/census.h"
#include "ops/single.h"
#include "space/refcount.h"

static void take_header(const struct qd_image *img, struct qd_stats *s)
{
	const struct qd_header *h = &img->header;

	s->format = "qcow2";
	s->is_qcow2 = true;
	s->virtual_size = h->virtual_size;
	s->cluster_size = img->geom.cluster_size;
	s->refcount_bits = img->geom.refcount_bits;
	s->snapshots = img->nsnapshots;
	s->pin = qd_image_find_pin(img) != NULL;
	s->dirty = h->incompatible & QD_INCOMPAT_DIRTY;
	s->corrupt = h->incompatible & QD_INCOMPAT_CORRUPT;
	s->lazy_refcounts = h->compatible & QD_COMPAT_LAZY_REFCOUNTS;
	s->encrypted = h->crypt_method != QD_CRYPT_NONE;
	s->data_file = h->incompatible & QD_INCOMPAT_DATA_FILE;
}

static void take_census(const struct qd_census *c, struct qd_stats *s)
{
	_Static_assert(QD_STATS_BUCKETS == QD_USAGE_BUCKETS, "histograms are copied");
	s->guest_total = c->guest_clusters;
	s->guest_allocated = c->guest_allocated;
	s->guest_zero = c->guest_zero;
	s->guest_unallocated = c->guest_clusters - c->guest_allocated - c->guest_zero;
	s->guest_compressed = c->guest_compressed;
	s->references = c->data.references;
	s->data_clusters = c->data.distinct;
	s->data_nbytes = c->data_nbytes;
	s->preallocated_clusters = c->preallocated;
	s->metadata_clusters = c->metadata_clusters;
	s->pinned_clusters = c->data.pinned;
	s->pinned_unused = c->data.pinned_unused;
	s->shared_clusters = c->data.shared;
	s->saved_nbytes = c->saved_nbytes;
	s->max_refcount = c->data.max_references;
	memcpy(s->histogram, c->data.histogram, sizeof(s->histogram));
	s->mapped = c->mapped;
	s->fragmented = c->fragmented;
	s->bad_entries = c->bad;
}

static uint64_t count_leaks_in_block(const struct qd_image *img, const struct qd_usage *usage,
				     const uint8_t *block, uint64_t first, uint64_t n)
{
	uint64_t leaked = 0;

	for (uint64_t i = 0; i < n; i++)
		if (qd_refcount_get(block, img->geom.refcount_order, i) && !qd_usage_has(usage, first + i))
			leaked++;
	return leaked;
}

/* Reads the refcount blocks in the order of the table, which is that of the file in images made by QEMU. */
static int count_leaks(const struct qd_image *img, const struct qd_usage *usage, struct qd_stats *s,
		       struct qd_err *err)
{
	const struct qd_geom *g = &img->geom;
	uint64_t nclusters = qd_div_up(img->file_size, g->cluster_size);
	uint64_t nbytes = (uint64_t)img->header.reftable_clusters << g->cluster_bits;
	uint64_t nblocks = qd_min_u64(qd_div_up(nclusters, g->block_entries), nbytes / 8);
	uint8_t *block = malloc(g->cluster_size), *table = malloc(nblocks ? nblocks * 8 : 1);
	int r = 0;

	if (!block || !table)
		r = qd_err_nomem(err, "refcounts");
	else if (qd_range_within(img->header.reftable_off, nblocks * 8, img->file_size))
		r = qd_io_read(img->io, table, nblocks * 8, img->header.reftable_off, err);
	else
		nblocks = 0, s->bad_entries++;
	for (uint64_t i = 0; !r && i < nblocks; i++) {
		uint64_t off = qd_get_be64(table + i * 8) & QD_REFTABLE_OFFSET_MASK, first = i * g->block_entries;

		if (!off)
			continue;
		if (!qd_is_aligned(off, g->cluster_size) || !qd_range_within(off, g->cluster_size, img->file_size)) {
			s->bad_entries++;
			continue;
		}
		r = qd_io_read(img->io, block, g->cluster_size, off, err);
		if (!r)
			s->leaked_clusters += count_leaks_in_block(img, usage, block, first,
								   qd_min_u64(g->block_entries, nclusters - first));
	}
	free(table);
	free(block);
	return r ? qd_err_prefix(err, r, "refcounts") : 0;
}

static int collect_qcow2(struct qd_image *img, const struct qd_stats_opts *opts, struct qd_stats *s,
			 struct qd_err *err)
{
	struct qd_census census = { 0 };
	int r = qd_census_take(img, opts->memory ? opts->memory : qd_default_memory(), &census, err);

	take_header(img, s);
	if (!r) {
		take_census(&census, s);
		r = count_leaks(img, census.usage, s, err);
	}
	if (!r)
		r = qd_index_info_get(img, &s->index, err);
	qd_census_free(&census);
	return r ? qd_err_file(err, r, img->io->name) : 0;
}

int qd_stats_collect(const char *path, const struct qd_stats_opts *opts, struct qd_stats *ret_stats,
		     struct qd_err *err)
{
	struct qd_stats s = { .format = "raw" };
	struct qd_single file = { 0 };
	int r = qd_single_open(path, opts->format, opts->force_share, 0, &file, err);

	if (!r) {
		s.virtual_size = file.virtual_size;
		r = qd_io_allocated(file.io, &s.actual_size, err);
	}
	if (!r && file.img)
		r = collect_qcow2(file.img, opts, &s, err);
	qd_single_close(&file);
	if (!r)
		*ret_stats = s;
	return r;
}

double qd_stats_fragmentation(const struct qd_stats *s)
{
	return s->mapped ? (double)s->fragmented / (double)s->mapped : 0;
}

double qd_stats_dedup_ratio(const struct qd_stats *s)
{
	return s->data_clusters ? (double)s->references / (double)s->data_clusters : 1;
}
