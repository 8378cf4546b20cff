/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters packed anew: where each stream goes, and the batches that move them.
 *
 *	clusters to fill   |AAABBBBCC|CDDDD....|      a stream runs on into the next cluster, if that
 *	gaps                              [....]      is the neighbour; what is left takes a short one later
 */
#include "ops/compact_pack.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"

#define POOL_CLUSTERS 64u	/* taken at once for packing, so that streams can run over their ends */

/* ---- clusters to fill ---- */

static int compare_holes(const void *pa, const void *pb)
{
	const struct compact_move *a = pa, *b = pb;
	uint64_t x = a->to - a->from, y = b->to - b->from;

	if (x != y)
		return x < y ? -1 : 1;
	return a->from > b->from ? -1 : a->from < b->from;	/* of equals, the lowest last */
}

/* When the list is full, the shorter half of it is forgotten. */
static int make_room(struct compact_packing *p, struct qd_err *err)
{
	struct compact_move *v;
	uint64_t capacity = p->holes_capacity ? p->holes_capacity * 2 : 256;

	if (p->holes_capacity >= p->holes_limit) {
		qsort(p->holes, p->nholes, sizeof(*p->holes), compare_holes);
		p->nholes -= p->nholes / 2;
		memmove(p->holes, p->holes + p->holes_capacity - p->nholes, p->nholes * sizeof(*p->holes));
		p->holes_cut = true;
		return 0;
	}
	v = realloc(p->holes, capacity * sizeof(*v));
	if (!v)
		return qd_err_nomem(err, "the list of holes");
	p->holes = v;
	p->holes_capacity = capacity;
	return 0;
}

static int add_hole(struct compact_packing *p, uint64_t first, uint64_t end, struct qd_err *err)
{
	int rc = p->nholes == p->holes_capacity ? make_room(p, err) : 0;

	if (rc == 0)
		p->holes[p->nholes++] = (struct compact_move){ first, end };
	return rc;
}

static int find_holes(struct compact_packing *p, struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	uint64_t first = 0, count;
	int rc = 0;

	p->nholes = 0;
	p->holes_cut = false;
	for (uint64_t c = 0; rc == 0 && c <= p->end; c++) {
		count = 1;
		if (c < p->end && qd_alloc_block(alloc, c / p->g->block_entries))
			rc = qd_alloc_count(alloc, c, &count, err);
		if (rc || count == 0)
			continue;
		if (c > first)
			rc = add_hole(p, first, c, err);
		first = c + 1;
	}
	if (p->nholes)
		qsort(p->holes, p->nholes, sizeof(*p->holes), compare_holes);
	return rc;
}

/* One more cluster, claimed; next to the one before where that can be. */
static int next_cluster(struct compact_packing *p, uint64_t *ret_cluster, struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	int rc = 0;

	if (p->next == p->next_end && !p->pack && !p->nholes && p->holes_cut)
		rc = find_holes(p, err);
	if (rc)
		return rc;
	if (p->next == p->next_end && p->pack) {
		rc = qd_alloc_claim_run(alloc, POOL_CLUSTERS, &p->next, err);
		p->next_end = p->next + (rc ? 0 : POOL_CLUSTERS);
	} else if (p->next == p->next_end && p->nholes) {
		p->next = p->holes[--p->nholes].from;
		p->next_end = p->holes[p->nholes].to;
	}
	if (rc == 0 && p->next == p->next_end)
		return qd_alloc_claim(alloc, ret_cluster, err);
	if (rc == 0 && !p->pack)
		rc = qd_alloc_claim_at(alloc, p->next, err);
	*ret_cluster = p->next++;
	return rc;
}

/* What was claimed and not filled is given back. */
static int drop_pool(struct compact_packing *p, struct qd_err *err)
{
	int rc = 0;

	for (; rc == 0 && p->pack && p->next < p->next_end; p->next++)
		rc = qd_alloc_release(qd_remap_change(p->remap)->alloc, p->next, err);
	p->next = p->next_end = 0;
	return rc;
}

/* ---- packing ---- */

static uint64_t room_of(const struct compact_move *gap)
{
	return gap->to - gap->from;
}

/* Remembers what is left of the cluster instead of the smallest gap known. */
static void keep_gap(struct compact_packing *p)
{
	uint64_t off = p->cluster << p->g->cluster_bits;
	struct compact_move *least = &p->gaps[0];

	for (unsigned i = 1; i < COMPACT_GAPS; i++)
		if (room_of(&p->gaps[i]) < room_of(least))
			least = &p->gaps[i];
	if (p->g->cluster_size - p->used > room_of(least))
		*least = (struct compact_move){ off + p->used, off + p->g->cluster_size };
}

static int close_cluster(struct compact_packing *p, struct qd_err *err)
{
	int rc = 0;

	if (p->cluster && p->references > 1)
		rc = qd_alloc_share(qd_remap_change(p->remap)->alloc, p->cluster, p->references - 1, err);
	if (p->cluster)
		keep_gap(p);
	p->cluster = 0;
	return rc;
}

/* A place in what is left of a cluster; *ret_off is 0 when there is none. */
static int take_gap(struct compact_packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off,
		    struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	uint64_t count;

	*ret_off = 0;
	for (unsigned i = 0; i < COMPACT_GAPS; i++) {
		struct compact_move *gap = &p->gaps[i];
		uint64_t cluster = gap->from >> p->g->cluster_bits;
		int rc;

		if (room_of(gap) < nbytes)
			continue;
		rc = qd_alloc_count(alloc, cluster, &count, err);
		if (rc || count + amount > p->g->refcount_max)
			return rc;
		*ret_off = gap->from;
		gap->from += nbytes;
		return qd_alloc_share(alloc, cluster, amount, err);
	}
	return 0;
}

static int open_cluster(struct compact_packing *p, uint64_t cluster, uint64_t used, uint64_t references)
{
	p->cluster = cluster;
	p->used = used;
	p->references = references;
	return 0;
}

/* A place for more than a cluster: two of its own, the second of which is filled up. */
static int find_two(struct compact_packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off,
		    struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	uint64_t first;
	int rc = close_cluster(p, err);

	if (rc == 0)
		rc = qd_alloc_claim_run(alloc, 2, &first, err);
	if (rc == 0 && amount > 1)
		rc = qd_alloc_share(alloc, first, amount - 1, err);
	if (rc)
		return rc;
	*ret_off = first << p->g->cluster_bits;
	return open_cluster(p, first + 1, nbytes - p->g->cluster_size, amount);
}

/* A place for nbytes that `amount` references will name, in the cluster being filled or a new one. */
static int find_place(struct compact_packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off,
		    struct qd_err *err)
{
	uint64_t size = p->g->cluster_size, next, off;
	bool room = p->cluster && p->references + amount <= p->g->refcount_max;
	int rc;

	if (room && p->used + nbytes <= size) {
		*ret_off = (p->cluster << p->g->cluster_bits) + p->used;
		p->used += nbytes;
		p->references += amount;
		return 0;
	}
	rc = take_gap(p, nbytes, amount, ret_off, err);
	if (rc || *ret_off)
		return rc;
	if (nbytes > size)
		return find_two(p, nbytes, amount, ret_off, err);
	rc = next_cluster(p, &next, err);
	if (rc)
		return rc;
	off = next << p->g->cluster_bits;
	if (room && next == p->cluster + 1 && p->used < size) {
		off -= size - p->used;
		p->references += amount;
		p->used = size;	/* nothing of it is left */
	}
	rc = close_cluster(p, err);
	*ret_off = off;
	return rc ? rc : open_cluster(p, next, off + nbytes - (next << p->g->cluster_bits), amount);
}

/*
 * Reads the stream; *ret_nbytes is its length.  One that yields no cluster is moved with all
 * that its sectors span.
 */
static int read_stream(struct compact_packing *p, uint64_t entry, uint64_t *ret_nbytes, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(p->g, entry);
	int rc = qd_io_read_padded(p->c->io, p->in, (size_t)c.nbytes, c.host_off, err);

	*ret_nbytes = c.nbytes;
	if (rc == 0 && qd_codec_decompress(p->codec, p->in, (size_t)c.nbytes, p->out, NULL) == 0)
		*ret_nbytes = qd_codec_stream_nbytes(p->codec);
	return rc;
}

/* Another pass leaves it alone. */
static void keep_there(struct compact_packing *p, uint64_t entry)
{
	uint64_t first, last;

	qd_l2_clusters(p->g, entry, &first, &last);
	for (; first <= last && first < p->still.nbits; first++)
		qd_bits_set(&p->still, first);
}

static int move_stream(struct compact_packing *p, uint64_t i, struct qd_err *err)
{
	struct qd_move *m = &p->moves[i];
	uint64_t off, nbytes;
	int rc = read_stream(p, m->from, &nbytes, err);

	if (rc == 0)
		rc = find_place(p, nbytes, (uint64_t)m->references + m->places + m->pins, &off, err);
	if (rc == 0)
		rc = qd_io_write(p->c->io, p->in, (size_t)nbytes, off, err);
	if (rc)
		return rc;
	m->to = qd_l2_make_compressed(p->g, off, nbytes);
	if (p->pack)
		keep_there(p, m->to);
	return compact_index_moved(p->c, m->from, m->to, err);
}

/* The last cluster that is filled lies in the file with all its bytes. */
static int complete_file(struct compact_packing *p, struct qd_err *err)
{
	uint64_t size, end = qd_alloc_end(qd_remap_change(p->remap)->alloc);
	int rc = qd_io_size(p->c->io, &size, err);

	return rc || size >= end ? rc : qd_io_truncate(p->c->io, end, err);
}

static int move_batch(struct compact_packing *p, uint64_t first, uint64_t n, struct qd_err *err)
{
	struct qd_change *ch = qd_remap_change(p->remap);
	int rc = qd_change_begin(ch, err);

	if (rc == 0 && !p->pack)
		rc = find_holes(p, err);
	for (uint64_t i = first; rc == 0 && i < first + n; i++)
		rc = move_stream(p, i, err);
	if (rc == 0)
		rc = close_cluster(p, err);
	if (rc == 0)
		rc = drop_pool(p, err);
	if (rc == 0)
		rc = complete_file(p, err);
	qd_queue_wrote_data(ch->queue);
	if (rc == 0)
		rc = qd_remap_batch(p->remap, p->moves + first, n, err);
	p->c->res->streams_moved += n;
	return rc ? rc : qd_progress_add(p->c->progress, 0, err);
}

int compact_pack_all(struct compact_packing *p, struct qd_err *err)
{
	struct qd_remap_opts opts = { .memory = p->c->memory / 2 };
	struct qd_remap_stats stats = { 0 };
	struct qd_err why;
	int rc = qd_remap_open(p->img, &opts, &p->remap, err), stop = 0;

	for (uint64_t i = 0, n; rc == 0 && stop == 0 && i < p->n; i += n) {
		n = qd_min_u64(p->n - i, qd_remap_capacity(p->remap));
		rc = move_batch(p, i, n, err);
		if (rc == QD_E_CANCELLED) {	/* between two batches: the image can be left clean */
			stop = rc;
			rc = 0;
			qd_err_copy(&why, err);
			qd_err_clear(err);
		}
	}
	if (rc == 0)
		rc = qd_remap_finish(p->remap, &stats, err);
	p->c->res->flushes += stats.flushes;
	qd_remap_free(p->remap);
	if (rc == 0 && stop)
		qd_err_copy(err, &why);
	return rc ? rc : stop;
}
