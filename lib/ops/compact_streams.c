/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving compressed clusters.  Streams lie back to back and run over the ends of host
 * clusters, so they are moved one by one and packed anew:
 *
 *	host clusters   |AAABBBBCC|CDDDD....|..EE.....|     D, E: neighbours are gone
 *
 * Which streams move: those behind the end of the planned file, and once, at the start, all of
 * them, when they would fit noticeably fewer clusters.
 *
 * Where they go: for packing, to stretches of clusters wherever there are some, if need be behind
 * the end of the file, because in scattered holes a part of each would stay empty; the
 * next round fills what became free with what lies behind the planned end, the longest
 * stretches first.
 *
 * A descriptor tells a stream's length in sectors only: about how long it is, is enough to
 * decide; its true end is known when it is unpacked to be moved.
 */
#include "ops/compact_int.h"

#include <stdlib.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "format/entry.h"
#include "image/codec.h"

#define SLACK_PERCENT 4u	/* what all stream clusters together may waste */
#define MIN_REFCOUNT_BITS 8u	/* narrower counts keep streams from being packed */
#define GAPS 64u
#define POOL_CLUSTERS 64u	/* taken at once for packing, so that streams can run over their ends */
#define BYTES_PER_STREAM 192u	/* of memory: moves, and what a batch makes of them */

struct stream {
	struct qd_surveyed s;
	uint64_t nbytes;	/* about: up to the next stream, or into the middle of the last sector */
};

struct packing {
	struct compact *c;
	struct qd_image *img;
	const struct qd_geom *g;
	uint64_t end;		/* clusters: streams behind it move */
	struct qd_bigarray live;	/* uint32_t by host cluster: bytes of streams */
	uint64_t nlive;		/* clusters of `live` */
	struct qd_bits plain;	/* clusters that entries name as a whole */
	bool pack;		/* sparse clusters are emptied */
	struct stream last;	/* waits for the next one to tell its end */
	int (*each)(struct packing *p, const struct stream *s, struct qd_err *err);

	/* What moves. */
	struct qd_move *moves;
	uint64_t n;
	uint64_t limit;

	/* Where the next clusters come from: claimed already (packing), or known to be free. */
	uint64_t next, next_end;
	struct compact_move *holes;	/* stretches [from, to) below the end, the longest last */
	uint64_t nholes, holes_capacity;

	/* What is left of clusters that are done with: bytes [from, to) of the file. */
	struct compact_move gaps[GAPS];

	/* The cluster that is being filled. */
	struct qd_remap *remap;
	uint64_t cluster;	/* 0: none */
	uint64_t used;		/* bytes */
	uint64_t references;
	struct qd_codec *codec;
	uint8_t *in, *out;
};

/* ---- finding ---- */

static bool never(void *ctx, const struct qd_surveyed *c, uint64_t number)
{
	(void)ctx;
	(void)c;
	(void)number;
	return false;
}

static int finish_last(struct packing *p, uint64_t next_off, struct qd_err *err)
{
	uint64_t off;

	if (!p->last.s.entry)
		return 0;
	off = qd_l2_compressed(p->g, p->last.s.entry).host_off;
	if (next_off > off && next_off - off < qd_l2_compressed(p->g, p->last.s.entry).nbytes)
		p->last.nbytes = next_off - off;
	return p->each(p, &p->last, err);
}

static int take(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct packing *p = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct qd_compressed c;

		if (!qd_l2_is_compressed(v[i].c.entry)) {
			if (v[i].c.entry >> p->g->cluster_bits < p->plain.nbits)
				qd_bits_set(&p->plain, v[i].c.entry >> p->g->cluster_bits);
			continue;
		}
		c = qd_l2_compressed(p->g, v[i].c.entry);
		rc = finish_last(p, c.host_off, err);
		p->last = (struct stream){ v[i].c, c.nbytes - qd_min_u64(c.nbytes, 256) };
	}
	return rc;
}

static int each_stream(struct packing *p, int (*each)(struct packing *p, const struct stream *s, struct qd_err *err),
		       struct qd_err *err)
{
	struct qd_survey_opts opts = { .threads = 1, .memory = p->c->memory / 4 };
	struct qd_survey_ops ops = { .want = never, .commit = take };
	int rc;

	p->each = each;
	p->last.s.entry = 0;
	rc = qd_survey_walk(p->img, &opts, &ops, p, NULL, err);
	return rc ? rc : finish_last(p, 0, err);
}

/* ---- weighing ---- */

static void clusters_of(const struct packing *p, const struct stream *s, uint64_t *ret_first, uint64_t *ret_last)
{
	qd_compressed_clusters(p->g, qd_l2_compressed(p->g, s->s.entry), ret_first, ret_last);
}

static int weigh(struct packing *p, const struct stream *s, struct qd_err *err)
{
	uint64_t first, last, off = qd_l2_compressed(p->g, s->s.entry).host_off, end = off + s->nbytes;
	uint32_t *live;
	int rc;

	clusters_of(p, s, &first, &last);
	rc = qd_bigarray_need(&p->live, (last + 1) * sizeof(*live), "a map of streams", err);
	live = p->live.p;
	for (uint64_t k = first; rc == 0 && k <= last; k++) {
		uint64_t from = qd_max_u64(off, k << p->g->cluster_bits);
		uint64_t to = qd_min_u64(end, (k + 1) << p->g->cluster_bits);

		live[k] += to > from ? (uint32_t)(to - from) : 0;
	}
	p->nlive = qd_max_u64(p->nlive, last + 1);
	return rc;
}

/* True when all streams, packed, would take noticeably fewer clusters. */
static bool is_wasteful(const struct packing *p)
{
	const uint32_t *live = p->live.p;
	uint64_t total = 0, nclusters = 0, need;

	for (uint64_t k = 0; k < p->nlive; k++) {
		total += live[k];
		nclusters += live[k] != 0;
	}
	need = qd_div_up(total, p->g->cluster_size) + 1;
	return p->g->refcount_bits >= MIN_REFCOUNT_BITS && nclusters > need + need * SLACK_PERCENT / 100;
}

/*
 * QEMU is known to put streams into a cluster that was freed and taken for data since: such streams
 * stay, because without them the entry would need the flag COPIED.
 */
static bool moves(const struct packing *p, const struct stream *s)
{
	uint64_t first, last;

	clusters_of(p, s, &first, &last);
	for (uint64_t k = first; k <= last; k++)
		if (k < p->plain.nbits && qd_bits_get(&p->plain, k))
			return false;
	return p->pack || last >= p->end;
}

static int gather(struct packing *p, const struct stream *s, struct qd_err *err)
{
	(void)err;
	if (p->n == p->limit || !moves(p, s))
		return 0;
	p->moves[p->n++] = (struct qd_move){
		.from = s->s.entry, .bitmap = s->s.bitmap, .references = s->s.references,
		.places = s->s.places, .pins = s->s.pins, .own = true,
	};
	return 0;
}

/* ---- clusters to fill ---- */

static int compare_holes(const void *pa, const void *pb)
{
	const struct compact_move *a = pa, *b = pb;
	uint64_t x = a->to - a->from, y = b->to - b->from;

	if (x != y)
		return x < y ? -1 : 1;
	return a->from > b->from ? -1 : a->from < b->from;	/* of equals, the lowest last */
}

static int add_hole(struct packing *p, uint64_t first, uint64_t end, struct qd_err *err)
{
	if (p->nholes == p->holes_capacity) {
		uint64_t capacity = p->holes_capacity ? p->holes_capacity * 2 : 256;
		struct compact_move *v = realloc(p->holes, capacity * sizeof(*v));

		if (!v)
			return qd_err_nomem(err, "the list of holes");
		p->holes = v;
		p->holes_capacity = capacity;
	}
	p->holes[p->nholes++] = (struct compact_move){ first, end };
	return 0;
}

static int find_holes(struct packing *p, struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	uint64_t first = 0, count;
	int rc = 0;

	p->nholes = 0;
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
static int next_cluster(struct packing *p, uint64_t *ret_cluster, struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	int rc = 0;

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
static int drop_pool(struct packing *p, struct qd_err *err)
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
static void keep_gap(struct packing *p)
{
	uint64_t off = p->cluster << p->g->cluster_bits;
	struct compact_move *least = &p->gaps[0];

	for (unsigned i = 1; i < GAPS; i++)
		if (room_of(&p->gaps[i]) < room_of(least))
			least = &p->gaps[i];
	if (p->g->cluster_size - p->used > room_of(least))
		*least = (struct compact_move){ off + p->used, off + p->g->cluster_size };
}

static int close_cluster(struct packing *p, struct qd_err *err)
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
static int take_gap(struct packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off, struct qd_err *err)
{
	struct qd_alloc *alloc = qd_remap_change(p->remap)->alloc;
	uint64_t count;

	*ret_off = 0;
	for (unsigned i = 0; i < GAPS; i++) {
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

static int open_cluster(struct packing *p, uint64_t cluster, uint64_t used, uint64_t references)
{
	p->cluster = cluster;
	p->used = used;
	p->references = references;
	return 0;
}

/* A place for more than a cluster: two of its own, the second of which is filled up. */
static int find_two(struct packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off, struct qd_err *err)
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
static int find_place(struct packing *p, uint64_t nbytes, uint64_t amount, uint64_t *ret_off, struct qd_err *err)
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
static int read_stream(struct packing *p, uint64_t entry, uint64_t *ret_nbytes, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(p->g, entry);
	int rc = qd_io_read_padded(p->c->io, p->in, (size_t)c.nbytes, c.host_off, err);

	*ret_nbytes = c.nbytes;
	if (rc == 0 && qd_codec_decompress(p->codec, p->in, (size_t)c.nbytes, p->out, NULL) == 0)
		*ret_nbytes = qd_codec_stream_nbytes(p->codec);
	return rc;
}

static int move_stream(struct packing *p, uint64_t i, struct qd_err *err)
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
	return compact_index_moved(p->c, m->from, m->to, err);
}

/* The last cluster that is filled lies in the file with all its bytes. */
static int complete_file(struct packing *p, struct qd_err *err)
{
	uint64_t size, end = qd_alloc_end(qd_remap_change(p->remap)->alloc);
	int rc = qd_io_size(p->c->io, &size, err);

	return rc || size >= end ? rc : qd_io_truncate(p->c->io, end, err);
}

static int move_batch(struct packing *p, uint64_t first, uint64_t n, struct qd_err *err)
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

static int move_all(struct packing *p, struct qd_err *err)
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

/* ---- all of it ---- */

static int prepare(struct packing *p, struct qd_err *err)
{
	size_t size = (size_t)p->g->cluster_size;

	p->limit = qd_max_u64(p->c->memory / 2 / BYTES_PER_STREAM, 256);
	p->moves = malloc(p->limit * sizeof(*p->moves));
	p->in = malloc(2 * size);
	p->out = malloc(size);
	if (!p->moves || !p->in || !p->out)
		return qd_err_nomem(err, "moving compressed clusters");
	return qd_codec_new(p->img->header.compression_type, size, 0, &p->codec, err);
}

int compact_move_streams(struct compact *c, uint64_t end, bool dry_run, uint64_t *ret_nstreams, struct qd_err *err)
{
	struct packing p = { .c = c, .end = end };
	int rc = compact_open(c, &p.img, err);

	if (rc == 0) {
		p.g = &p.img->geom;
		rc = qd_bits_new(qd_div_up(p.img->file_size, p.g->cluster_size), &p.plain, err);
	}
	if (rc == 0)
		rc = each_stream(&p, weigh, err);
	if (rc == 0 && p.nlive) {
		p.pack = c->res->rounds == 0 && is_wasteful(&p);
		rc = prepare(&p, err);
		if (rc == 0)
			rc = each_stream(&p, gather, err);
	}
	if (rc == 0 && p.n && !dry_run)
		rc = move_all(&p, err);
	*ret_nstreams = p.n;
	compact_close(p.img);
	qd_codec_free(p.codec);
	qd_bigarray_free(&p.live);
	qd_bits_free(&p.plain);
	free(p.moves);
	free(p.holes);
	free(p.in);
	free(p.out);
	return rc;
}
