/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One walk over the L2 tables in the order they lie in the file, plus the structures
 * that the header names; further walks only when there are more compressed clusters
 * than fit.
 *
 * An external data file has no refcounts and its clusters belong to one guest cluster
 * each: they are counted, not tallied.
 */
#include "ops/census.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "format/table.h"
#include "image/bitmaps.h"
#include "image/tables.h"
#include "space/refcount.h"
#include "space/streams.h"

#define MAX_STREAM_MEMORY (64u << 20)

struct counting {
	const struct qd_image *img;
	struct qd_census *c;
	struct qd_streams *streams;
	uint64_t nclusters;		/* of the file */
	uint64_t index_off;		/* an embedded index: [off, end) bytes */
	uint64_t index_end;
	bool external;
};

enum entry_kind { ENTRY_NONE, ENTRY_DATA, ENTRY_COMPRESSED, ENTRY_ZERO };

/* Marks what a structure occupies; what lies past the end of the file is not there. */
static int mark(struct counting *k, uint64_t off, uint64_t nbytes, uint64_t *counter, struct qd_err *err)
{
	uint32_t bits = k->img->geom.cluster_bits;
	uint64_t end;

	if (!nbytes || !qd_add_u64(off, nbytes - 1, &end))
		return 0;
	for (uint64_t i = off >> bits; i <= end >> bits && i < k->nclusters; i++) {
		bool first = false;
		int r = qd_usage_mark(k->c->usage, i, &first, err);

		if (r)
			return r;
		*counter += first;
	}
	return 0;
}

static int mark_metadata(struct counting *k, uint64_t off, uint64_t nbytes, struct qd_err *err)
{
	return mark(k, off, nbytes, &k->c->metadata_clusters, err);
}

static enum entry_kind classify(const struct counting *k, const uint8_t *p, uint64_t *ret_entry)
{
	uint64_t entry = qd_get_be64(p);

	*ret_entry = entry;
	if (qd_l2_is_compressed(entry))
		return ENTRY_COMPRESSED;
	if (k->img->geom.extended_l2) {
		uint64_t bitmap = qd_get_be64(p + 8);

		if (bitmap == 0xffffffff00000000u || (bitmap >> 32 && !qd_entry_host_off(entry)))
			return ENTRY_ZERO;
	} else if (entry & QD_L2_ZERO) {
		return ENTRY_ZERO;
	}
	return qd_entry_host_off(entry) || (k->external && (entry & QD_COPIED)) ? ENTRY_DATA : ENTRY_NONE;
}

/* The guest's view of one table of the active layer. */
static void count_guest(struct counting *k, const uint8_t *entries, uint32_t l1_index)
{
	const struct qd_geom *g = &k->img->geom;
	uint64_t first = (uint64_t)l1_index * g->l2_entries;
	uint64_t inside = first < k->c->guest_clusters ? k->c->guest_clusters - first : 0;
	uint64_t expected = 0, entry;

	for (uint64_t i = 0; i < g->l2_entries; i++) {
		enum entry_kind kind = classify(k, entries + i * g->l2_entry_size, &entry);
		bool keeps = kind == ENTRY_DATA || (kind == ENTRY_ZERO && qd_entry_host_off(entry));

		if (kind == ENTRY_NONE)
			continue;
		if (i < inside) {
			k->c->guest_allocated += kind == ENTRY_DATA || kind == ENTRY_COMPRESSED;
			k->c->guest_compressed += kind == ENTRY_COMPRESSED;
			k->c->guest_zero += kind == ENTRY_ZERO;
		}
		/* A stream shares sectors with its neighbours, so reading in order means reading them twice. */
		k->c->mapped += keeps || kind == ENTRY_COMPRESSED;
		k->c->fragmented += kind == ENTRY_COMPRESSED;
		if (keeps) {
			k->c->fragmented += expected && qd_entry_host_off(entry) != expected;
			expected = qd_entry_host_off(entry) + g->cluster_size;
		}
	}
}

static int count_compressed(struct counting *k, uint64_t entry, uint64_t references, bool pinned,
			    struct qd_err *err)
{
	struct qd_compressed s = qd_l2_compressed(&k->img->geom, entry);
	uint64_t first, last, ignored = 0;
	int r;

	qd_compressed_clusters(&k->img->geom, s, &first, &last);
	if (k->external || first >= k->nclusters) {
		k->c->bad++;
		return 0;
	}
	r = mark(k, s.host_off, s.nbytes, &ignored, err);
	return r ? r : qd_streams_add(k->streams, entry, references, pinned, err);
}

static int count_plain(struct counting *k, uint64_t entry, bool zero, uint64_t references, bool pinned,
		       struct qd_err *err)
{
	uint64_t off = qd_entry_host_off(entry);
	uint64_t cluster = off >> k->img->geom.cluster_bits;
	int r = 0;

	if (!qd_is_aligned(off, k->img->geom.cluster_size) || (!k->external && cluster >= k->nclusters)) {
		k->c->bad++;
		return 0;
	}
	if (k->external) {
		if (!zero)
			qd_usage_sum_add(&k->c->data, references, false);
		return 0;
	}
	if (zero)
		return off ? mark(k, off, 1, &k->c->preallocated, err) : 0;
	if (!references && off >= k->index_off && off < k->index_end)
		return mark_metadata(k, off, 1, err);
	if (references)
		r = qd_usage_add(k->c->usage, cluster, references, err);
	if (!r && pinned)
		r = qd_usage_pin(k->c->usage, cluster, err);
	return r;
}

static void count_uses(const struct qd_table_use *uses, uint64_t nuses, uint64_t *ret_references,
		       bool *ret_pinned)
{
	*ret_references = 0;
	*ret_pinned = false;
	for (uint64_t i = 0; i < nuses; i++) {
		*ret_references += uses[i].layer != QD_LAYER_PIN;
		*ret_pinned |= uses[i].layer == QD_LAYER_PIN;
	}
}

static int count_table(void *ctx, uint64_t l2_off, const uint8_t *entries, const struct qd_table_use *uses,
		       uint64_t nuses, struct qd_err *err)
{
	struct counting *k = ctx;
	const struct qd_geom *g = &k->img->geom;
	uint64_t references, entry;
	bool pinned;
	int r = mark_metadata(k, l2_off, g->cluster_size, err);

	count_uses(uses, nuses, &references, &pinned);
	for (uint64_t i = 0; i < nuses; i++)
		if (uses[i].layer == QD_LAYER_ACTIVE)
			count_guest(k, entries, uses[i].l1_index);
	for (uint64_t i = 0; !r && i < g->l2_entries; i++) {
		enum entry_kind kind = classify(k, entries + i * g->l2_entry_size, &entry);

		if (kind == ENTRY_COMPRESSED)
			r = count_compressed(k, entry, references, pinned, err);
		else if (kind != ENTRY_NONE)
			r = count_plain(k, entry, kind == ENTRY_ZERO, references, pinned, err);
	}
	return r;
}

/* Offers the compressed clusters once more, nothing else. */
static int offer_table(void *ctx, uint64_t l2_off, const uint8_t *entries, const struct qd_table_use *uses,
		       uint64_t nuses, struct qd_err *err)
{
	struct counting *k = ctx;
	const struct qd_geom *g = &k->img->geom;
	uint64_t references, entry;
	bool pinned;
	int r = 0;

	(void)l2_off;
	count_uses(uses, nuses, &references, &pinned);
	for (uint64_t i = 0; !r && i < g->l2_entries; i++)
		if (classify(k, entries + i * g->l2_entry_size, &entry) == ENTRY_COMPRESSED)
			r = qd_streams_add(k->streams, entry, references, pinned, err);
	return r;
}

static int count_streams_in_passes(struct counting *k, struct qd_err *err)
{
	uint64_t end = k->nclusters << k->img->geom.cluster_bits, lo = 0, bad;
	uint64_t width = qd_streams_guess(k->streams, end);
	int r;

	while (lo < end) {
		qd_streams_begin(k->streams, lo, qd_min_u64(lo + width, end));
		r = qd_tables_walk(k->img, offer_table, k, &bad, err);
		if (r)
			return r;
		if (qd_streams_end(k->streams, &k->c->data, &k->c->data_nbytes, &k->c->saved_nbytes))
			lo += width;
		else if (width > 1)
			width /= 2;
		else
			return qd_err_set(err, QD_E_NOMEM, "too many compressed clusters start at 0x%" PRIx64, lo);
	}
	return 0;
}

static int count_layers(struct counting *k, struct qd_err *err)
{
	uint64_t bad = 0;
	int r;

	qd_streams_begin(k->streams, 0, UINT64_MAX);
	r = qd_tables_walk(k->img, count_table, k, &bad, err);
	if (r)
		return r;
	k->c->bad += bad;
	qd_usage_summarize(k->c->usage, &k->c->data);
	k->c->data_nbytes = k->c->data.distinct << k->img->geom.cluster_bits;
	k->c->saved_nbytes = (k->c->data.references - k->c->data.distinct) << k->img->geom.cluster_bits;
	if (!qd_streams_end(k->streams, &k->c->data, &k->c->data_nbytes, &k->c->saved_nbytes))
		r = count_streams_in_passes(k, err);
	return r;
}

static int mark_refcounts(struct counting *k, struct qd_err *err)
{
	const struct qd_image *img = k->img;
	uint64_t nbytes = (uint64_t)img->header.reftable_clusters << img->geom.cluster_bits;
	uint8_t buf[4096];
	size_t nread = 0;
	int r = mark_metadata(k, img->header.reftable_off, nbytes, err);

	for (uint64_t pos = 0; !r && pos < nbytes; pos += nread) {
		r = qd_io_read_upto(img->io, buf, qd_min_u64(sizeof(buf), nbytes - pos), img->header.reftable_off + pos,
				    &nread, err);
		if (!r && nread < 8)
			break;
		for (size_t i = 0; !r && i + 8 <= nread; i += 8) {
			uint64_t off = qd_get_be64(buf + i) & QD_REFTABLE_OFFSET_MASK;

			if (off)
				r = mark_metadata(k, off, img->geom.cluster_size, err);
		}
	}
	return r;
}

static int mark_bitmap(void *ctx, const struct qd_bitmap *b, struct qd_err *err)
{
	struct counting *k = ctx;
	uint64_t nbytes = (uint64_t)b->table_entries * 8;
	uint8_t buf[4096];
	int r = mark_metadata(k, b->table_off, nbytes, err);

	for (uint64_t pos = 0; !r && pos < nbytes;) {
		size_t n = (size_t)qd_min_u64(sizeof(buf), nbytes - pos);

		r = qd_io_read(k->img->io, buf, n, b->table_off + pos, err);
		for (size_t i = 0; !r && i + 8 <= n; i += 8) {
			uint64_t off = qd_entry_host_off(qd_get_be64(buf + i));

			if (off)
				r = mark_metadata(k, off, k->img->geom.cluster_size, err);
		}
		pos += n;
	}
	return r;
}

static int mark_bitmaps(struct counting *k, struct qd_err *err)
{
	struct qd_bitmap_ext ext = { 0 };
	int r = qd_bitmaps_directory(k->img, &ext, err);

	if (!r && ext.count)
		r = mark_metadata(k, ext.dir_off, ext.dir_size, err);
	if (!r)
		r = qd_bitmaps_walk(k->img, mark_bitmap, k, err);
	if (r != QD_E_CORRUPT && r != QD_E_UNSUPPORTED)
		return r;
	qd_err_clear(err);
	k->c->bad++;
	return 0;
}

/* Everything that is neither data nor an L2 table. */
static int mark_structures(struct counting *k, struct qd_err *err)
{
	const struct qd_image *img = k->img;
	const struct qd_ext_copy *crypto = qd_image_find_ext(img, QD_EXT_CRYPTO);
	int r = mark_metadata(k, 0, 1, err);

	if (!r)
		r = mark_metadata(k, img->header.l1_off, (uint64_t)img->header.l1_entries * 8, err);
	if (!r)
		r = mark_metadata(k, img->header.snapshots_off, img->snapshots_nbytes, err);
	for (uint32_t i = 0; !r && i < img->nsnapshots; i++)
		r = mark_metadata(k, img->snapshots[i].l1_off, (uint64_t)img->snapshots[i].l1_entries * 8, err);
	if (!r && crypto && crypto->nbytes >= 16)
		r = mark_metadata(k, qd_get_be64(crypto->data), qd_get_be64(crypto->data + 8), err);
	if (!r)
		r = mark_refcounts(k, err);
	return r ? r : mark_bitmaps(k, err);
}

/* Where the extension says that the index lies, whether it holds or not. */
static void find_index(struct counting *k)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(k->img, QD_EXT_QDEDUP);
	struct qd_table_ext ext;

	if (!copy || qd_table_ext_decode(copy->data, copy->nbytes, &ext, NULL) || ext.flags & QD_TABLE_EXTERNAL)
		return;
	k->index_off = ext.container_off;
	k->index_end = ext.container_off + ext.container_nbytes;
}

int qd_census_take(const struct qd_image *img, uint64_t memory, struct qd_census *ret_census,
		   struct qd_err *err)
{
	struct counting k = {
		.img = img,
		.c = ret_census,
		.nclusters = qd_div_up(img->file_size, img->geom.cluster_size),
		.external = (img->header.incompatible & QD_INCOMPAT_DATA_FILE) != 0,
	};
	int r;

	*ret_census = (struct qd_census){
		.guest_clusters = qd_div_up(img->header.virtual_size, img->geom.cluster_size),
	};
	r = qd_usage_new(k.nclusters, memory, &ret_census->usage, err);
	if (!r)
		r = qd_streams_new(&img->geom, qd_min_u64(memory / 4, MAX_STREAM_MEMORY), &k.streams, err);
	find_index(&k);
	if (!r)
		r = count_layers(&k, err);
	if (!r)
		r = mark_structures(&k, err);
	qd_streams_free(k.streams);
	return r;
}

void qd_census_free(struct qd_census *census)
{
	qd_usage_free(census->usage);
	census->usage = NULL;
}
