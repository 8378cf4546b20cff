/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Allocation and sharing while the guest's clusters come by; build_finish.c writes the
 * metadata.  The invariants stand in build.h.
 *
 * Compressed streams are packed at byte granularity: each is put behind the one before,
 * running into the next cluster where that one is the next to be allocated.  Where it
 * is not (an L2 table or a plain cluster came between), the rest of the cluster is a gap
 * that smaller streams may fill later.
 */
#include "image/build_int.h"

#include <assert.h>
#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "space/refcount.h"

#define ALL_ZERO 0xffffffff00000000ull	/* subcluster bitmap of extended L2 */

static uint64_t width_max(uint32_t refcount_order)
{
	return refcount_order == 6 ? UINT64_MAX : (1ull << (1u << refcount_order)) - 1;
}

uint64_t qd_build_share_limit(uint32_t refcount_order, bool pin)
{
	uint64_t max = qd_min_u64(width_max(refcount_order), QD_TALLY_MAX);

	return pin ? max - 1 : max;
}

/* Half of what the width counts, but two at least where that leaves room for the pin. */
uint64_t qd_build_share_default(uint32_t refcount_order)
{
	uint64_t half = qd_min_u64(width_max(refcount_order), QD_TALLY_MAX) / 2;

	return refcount_order == 1 ? 2 : half;
}

static void header_of(const struct qd_build_opts *o, uint64_t virtual_size, struct qd_header *h)
{
	*h = (struct qd_header){
		.version = o->version,
		.cluster_bits = o->cluster_bits,
		.virtual_size = virtual_size,
		.refcount_order = o->refcount_order,
		.compression_type = (uint8_t)o->compression,
		.incompatible = (o->data_file_name ? QD_INCOMPAT_DATA_FILE : 0) |
				(o->compression != QD_COMPRESSION_ZLIB ? QD_INCOMPAT_COMPRESSION : 0) |
				(o->extended_l2 ? QD_INCOMPAT_EXTL2 : 0),
		.compatible = o->lazy_refcounts ? QD_COMPAT_LAZY_REFCOUNTS : 0,
		.header_length = o->version == 2 ? QD_HEADER_V2_SIZE : QD_HEADER_FULL_SIZE,
	};
}

int qd_build_check_size(const struct qd_build *b, uint64_t virtual_size, struct qd_err *err)
{
	if (qd_geom_l1_entries(&b->geom, virtual_size) <= QD_MAX_L1_BYTES / 8)
		return 0;
	return qd_err_set(err, QD_E_INVALID, "the disk (%" PRIu64 " bytes) is too large for clusters of %" PRIu64
			  " bytes: use larger clusters", virtual_size, b->geom.cluster_size);
}

static char *copy_name(const char *name, bool *failed)
{
	char *copy = name ? strdup(name) : NULL;

	if (name && !copy)
		*failed = true;
	return copy;
}

int qd_build_new(struct qd_io *io, uint64_t virtual_size, const struct qd_build_opts *opts,
		 struct qd_build **ret_build, struct qd_err *err)
{
	struct qd_build *b = calloc(1, sizeof(*b));
	bool failed = false;
	int r;

	if (!b)
		return qd_err_nomem(err, "a new image");
	b->io = io;
	b->opts = *opts;
	b->opts.backing_name = b->backing_name = copy_name(opts->backing_name, &failed);
	b->opts.backing_format = b->backing_format = copy_name(opts->backing_format, &failed);
	b->opts.data_file_name = b->data_file_name = copy_name(opts->data_file_name, &failed);
	if (!b->opts.max_share)
		b->opts.max_share = qd_build_share_default(opts->refcount_order);
	header_of(&b->opts, virtual_size, &b->header);
	qd_geom_init(&b->header, &b->geom);
	qd_tally_init(&b->counts, b->geom.refcount_max);
	qd_tally_init(&b->shares, b->opts.max_share);
	qd_l2store_init(&b->l2, io, &b->geom, opts->memory);
	b->next_cluster = 1;	/* cluster 0 is the header's */
	if (failed) {
		qd_build_free(b);
		return qd_err_nomem(err, "a new image");
	}
	r = qd_build_check_size(b, virtual_size, err);
	if (!r)
		r = qd_tally_add(&b->counts, 0, 1, err);
	if (r)
		qd_build_free(b);
	else
		*ret_build = b;
	return r;
}

void qd_build_free(struct qd_build *b)
{
	if (!b)
		return;
	qd_l2store_free(&b->l2);
	qd_tally_free(&b->counts);
	qd_tally_free(&b->shares);
	for (unsigned i = 0; i < b->nexts; i++)
		free(b->exts[i].data);
	free(b->exts);
	free(b->backing_name);
	free(b->backing_format);
	free(b->data_file_name);
	free(b);
}

const struct qd_geom *qd_build_geom(const struct qd_build *b)
{
	return &b->geom;
}

static int add_references(struct qd_build *b, uint64_t first, uint64_t last, uint32_t amount, struct qd_err *err)
{
	int r = 0;

	for (uint64_t c = first; !r && c <= last; c++)
		r = qd_tally_add(&b->counts, c, amount, err);
	return r;
}

/* nclusters at the end of the file that nothing refers to yet. */
static int extend(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err)
{
	uint64_t first = b->next_cluster;

	if (nclusters > (QD_OFFSET_MASK >> b->geom.cluster_bits) - first)
		return qd_err_set(err, QD_E_INVALID, "the new image would be larger than the format allows");
	b->next_cluster += nclusters;
	*ret_host_off = first << b->geom.cluster_bits;
	return 0;
}

int qd_build_alloc(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err)
{
	uint64_t first = b->next_cluster;
	int r = extend(b, nclusters, ret_host_off, err);

	if (r || !nclusters)
		return r;
	return add_references(b, first, first + nclusters - 1, 1, err);
}

int qd_build_add_raw(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err)
{
	return qd_build_alloc(b, nclusters, ret_host_off, err);
}

int qd_build_add_pinned(struct qd_build *b, uint64_t nclusters, uint64_t *ret_host_off, struct qd_err *err)
{
	int r;

	assert(b->opts.pin && !b->npinned && nclusters);
	r = qd_build_alloc(b, nclusters, ret_host_off, err);
	if (r)
		return r;
	b->first_pinned = *ret_host_off >> b->geom.cluster_bits;
	b->npinned = nclusters;
	return 0;
}

/* Makes sure that guest_cluster's L2 table is the open one. */
static int open_table(struct qd_build *b, uint64_t guest_cluster, struct qd_err *err)
{
	uint64_t off;
	int r;

	if (qd_l2store_is_open(&b->l2, guest_cluster))
		return 0;
	r = qd_build_alloc(b, 1, &off, err);
	return r ? r : qd_l2store_open(&b->l2, guest_cluster, off, err);
}

static int add_plain(struct qd_build *b, uint64_t guest_cluster, uint64_t bitmap, uint64_t *ret_host_off,
		     struct qd_err *err)
{
	uint64_t off;
	int r = open_table(b, guest_cluster, err);

	if (r)
		return r;
	if (b->opts.data_file_name) {
		off = guest_cluster << b->geom.cluster_bits;
	} else {
		r = qd_build_alloc(b, 1, &off, err);
		if (r)
			return r;
	}
	qd_l2store_set(&b->l2, guest_cluster, off | QD_COPIED, bitmap);
	b->stats.data_clusters++;
	b->stats.references++;
	*ret_host_off = off;
	return 0;
}

int qd_build_add_data(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_host_off, struct qd_err *err)
{
	return add_plain(b, guest_cluster, QD_BUILD_ALL_ALLOCATED, ret_host_off, err);
}

int qd_build_add_place(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_host_off, struct qd_err *err)
{
	return add_plain(b, guest_cluster, 0, ret_host_off, err);
}

int qd_build_add_zero(struct qd_build *b, uint64_t guest_cluster, struct qd_err *err)
{
	int r = open_table(b, guest_cluster, err);

	assert(b->opts.version >= 3);
	if (!r)
		qd_l2store_set(&b->l2, guest_cluster, b->geom.extended_l2 ? 0ul : (uint64_t)QD_L2_ZERO, ALL_ZERO);
	return r;
}

/* Room for `need` more references in every cluster of [first, last]. */
static bool has_room(const struct qd_build *b, uint64_t first, uint64_t last, uint64_t need)
{
	for (uint64_t c = first; c <= last; c++)
		if (qd_tally_get(&b->counts, c) + need > b->counts.max)
			return false;
	return true;
}

/* A place of nbytes in what is left of clusters in use; false when there is none. */
static bool take_gap(struct qd_build *b, uint64_t nbytes, uint64_t *ret_off)
{
	for (unsigned i = 0; i < QD_BUILD_GAPS; i++) {
		struct qd_build_gap *g = &b->gaps[i];

		if (g->end - g->off < nbytes || !has_room(b, g->off >> b->geom.cluster_bits,
							  g->off >> b->geom.cluster_bits, 1))
			continue;
		*ret_off = g->off;
		g->off += nbytes;
		return true;
	}
	return false;
}

/* Remembers what is left of a cluster instead of the smallest gap known. */
static void keep_gap(struct qd_build *b, struct qd_build_gap gap)
{
	struct qd_build_gap *least = &b->gaps[0];

	for (unsigned i = 1; i < QD_BUILD_GAPS; i++)
		if (b->gaps[i].end - b->gaps[i].off < least->end - least->off)
			least = &b->gaps[i];
	if (gap.end - gap.off > least->end - least->off)
		*least = gap;
}

/*
 * Where a stream of nbytes goes.  The tail is the free rest of the cluster written to
 * last; a stream may run over its end only into the cluster right behind it.
 */
static int place_stream(struct qd_build *b, uint64_t nbytes, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t cluster_size = b->geom.cluster_size, fresh = 0, off;
	struct qd_build_gap *tail = &b->tail;
	uint64_t tail_cluster = tail->off >> b->geom.cluster_bits;
	bool tail_usable = tail->end > tail->off && has_room(b, tail_cluster, tail_cluster, 1);
	int r;

	if (tail_usable && tail->end - tail->off >= nbytes) {
		*ret_off = tail->off;
		tail->off += nbytes;
		return 0;
	}
	if (take_gap(b, nbytes, ret_off))
		return 0;
	r = extend(b, 1, &fresh, err);
	if (r)
		return r;
	if (tail_usable && tail->end == fresh) {
		off = tail->off;
	} else {
		if (tail_usable)
			keep_gap(b, *tail);
		off = fresh;
	}
	tail->off = off + nbytes;
	tail->end = fresh + cluster_size;
	*ret_off = off;
	return 0;
}

int qd_build_add_compressed(struct qd_build *b, uint64_t guest_cluster, uint64_t nbytes,
			    uint64_t *ret_host_off, struct qd_err *err)
{
	struct qd_compressed c = { .nbytes = nbytes };
	uint64_t first, last;
	int r = open_table(b, guest_cluster, err);

	assert(nbytes > 0 && nbytes < b->geom.cluster_size);
	if (!r)
		r = place_stream(b, nbytes, &c.host_off, err);
	if (r)
		return r;
	qd_compressed_clusters(&b->geom, c, &first, &last);
	r = add_references(b, first, last, 1, err);
	if (r)
		return r;
	qd_l2store_set(&b->l2, guest_cluster, qd_l2_make_compressed(&b->geom, c.host_off, nbytes), 0);
	b->stats.data_clusters++;
	b->stats.references++;
	*ret_host_off = c.host_off;
	return 0;
}

int qd_build_share(struct qd_build *b, uint64_t guest_cluster, uint64_t owner, bool *ret_full,
		   struct qd_err *err)
{
	uint64_t extra = qd_tally_get(&b->shares, owner), entry, first, last;
	bool first_share = extra == 0;
	uint32_t need = first_share && b->opts.pin ? 2 : 1;
	int r = open_table(b, guest_cluster, err);

	assert(!b->opts.data_file_name);
	if (!r)
		r = qd_l2store_get(&b->l2, owner, &entry, err);
	if (r)
		return r;
	qd_l2_clusters(&b->geom, entry, &first, &last);
	*ret_full = extra + 1 >= b->opts.max_share || !has_room(b, first, last, need);
	if (*ret_full)
		return 0;
	r = add_references(b, first, last, need, err);
	if (!r)
		r = qd_tally_add(&b->shares, owner, 1, err);
	if (r)
		return r;
	if (first_share) {
		qd_l2store_owe(&b->l2, owner);
		b->stats.shared_clusters++;
	}
	qd_l2store_set(&b->l2, guest_cluster, entry & ~QD_COPIED, qd_l2_is_compressed(entry) ? 0 : QD_BUILD_ALL_ALLOCATED);
	b->stats.references++;
	return 0;
}

bool qd_build_is_full(const struct qd_build *b, uint64_t owner)
{
	return qd_tally_get(&b->shares, owner) + 1 >= b->opts.max_share;
}

bool qd_build_has_header_room(const struct qd_build *b, size_t ext_nbytes)
{
	uint64_t need = b->header.header_length + 8 + qd_align_up(ext_nbytes, 8) + 8;

	if (b->backing_name)
		need += strlen(b->backing_name);
	if (b->backing_format)
		need += 8 + qd_align_up(strlen(b->backing_format), 8);
	for (unsigned i = 0; i < b->nexts; i++)
		need += 8 + qd_align_up(b->exts[i].nbytes, 8);
	return need + (8 + QD_BITMAP_EXT_SIZE) <= b->geom.cluster_size;
}

int qd_build_entry(struct qd_build *b, uint64_t guest_cluster, uint64_t *ret_entry, struct qd_err *err)
{
	int r = qd_l2store_get(&b->l2, guest_cluster, ret_entry, err);

	if (!r)
		*ret_entry &= ~QD_COPIED;
	return r;
}

int qd_build_add_ext(struct qd_build *b, uint32_t type, const void *data, size_t nbytes, struct qd_err *err)
{
	struct qd_ext_copy *exts = realloc(b->exts, (b->nexts + 1) * sizeof(*exts));

	if (!exts)
		return qd_err_nomem(err, "a header extension");
	b->exts = exts;
	exts[b->nexts] = (struct qd_ext_copy){ .type = type, .nbytes = (uint32_t)nbytes, .data = malloc(nbytes + 1) };
	if (!exts[b->nexts].data)
		return qd_err_nomem(err, "a header extension");
	memcpy(exts[b->nexts].data, data, nbytes);
	b->nexts++;
	return 0;
}
