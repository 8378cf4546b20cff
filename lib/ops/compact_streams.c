/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving compressed clusters.  Streams lie back to back and run over the ends of host
 * clusters, so they are moved one by one and packed anew:
 *
 *	host clusters   |AAABBBBCC|CDDDD....|..EE.....|     D, E: neighbours are gone
 *	                               `-- sparse: what they still hold moves
 *
 * Which streams move: those behind the end of the planned file, and once, at the start,
 * those in host clusters that hold little, when all together would fit noticeably fewer.
 *
 * A descriptor tells a stream's length in sectors only.  Where the next stream begins inside
 * the last sector, its true end is known, and taken if the shorter stream still unpacks.
 */
#include "ops/compact_int.h"

#include <stdlib.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "format/entry.h"
#include "image/codec.h"

#define SPARSE_PERCENT 90u	/* a host cluster with less than that in use is sparse */
#define SLACK_PERCENT 2u	/* what all stream clusters together may waste */
#define MIN_REFCOUNT_BITS 8u	/* narrower counts keep streams from being packed */
#define BYTES_PER_STREAM 192u	/* of memory: moves, and what a batch makes of them */

struct stream {
	struct qd_surveyed s;
	uint64_t nbytes;	/* up to the next stream, or to the end of the last sector */
};

struct packing {
	struct compact *c;
	struct qd_image *img;
	const struct qd_geom *g;
	uint64_t end;		/* clusters: streams behind it move */
	struct qd_bigarray live;	/* uint32_t by host cluster: bytes of streams */
	uint64_t nlive;		/* clusters of `live` */
	bool pack;		/* sparse clusters are emptied */
	struct stream last;	/* waits for the next one to tell its end */
	int (*each)(struct packing *p, const struct stream *s, struct qd_err *err);

	/* What moves. */
	struct qd_move *moves;
	uint64_t *nbytes;	/* of each */
	uint64_t n;
	uint64_t limit;

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
	if (next_off > off && next_off - off < p->last.nbytes)
		p->last.nbytes = next_off - off;
	return p->each(p, &p->last, err);
}

static int take(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct packing *p = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct qd_compressed c;

		if (!qd_l2_is_compressed(v[i].c.entry))
			continue;
		c = qd_l2_compressed(p->g, v[i].c.entry);
		rc = finish_last(p, c.host_off, err);
		p->last = (struct stream){ v[i].c, c.nbytes };
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

static bool moves(const struct packing *p, const struct stream *s)
{
	const uint32_t *live = p->live.p;
	uint64_t first, last;

	clusters_of(p, s, &first, &last);
	if (last >= p->end)
		return true;
	for (uint64_t k = first; p->pack && k <= last; k++)
		if (live[k] < p->g->cluster_size / 100 * SPARSE_PERCENT)
			return true;
	return false;
}

static int gather(struct packing *p, const struct stream *s, struct qd_err *err)
{
	(void)err;
	if (p->n == p->limit || !moves(p, s))
		return 0;
	p->nbytes[p->n] = s->nbytes;
	p->moves[p->n++] = (struct qd_move){
		.from = s->s.entry, .bitmap = s->s.bitmap, .references = s->s.references,
		.places = s->s.places, .pins = s->s.pins, .own = true,
	};
	return 0;
}

/* ---- packing ---- */

static int close_cluster(struct packing *p, struct qd_err *err)
{
	int rc = 0;

	if (p->cluster && p->references > 1)
		rc = qd_alloc_share(qd_remap_change(p->remap)->alloc, p->cluster, p->references - 1, err);
	p->cluster = 0;
	return rc;
}

static int open_cluster(struct packing *p, uint64_t cluster, uint64_t used, uint64_t references)
{
	p->cluster = cluster;
	p->used = used;
	p->references = references;
	return 0;
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
	rc = qd_alloc_claim(qd_remap_change(p->remap)->alloc, &next, err);
	if (rc)
		return rc;
	off = next << p->g->cluster_bits;
	if (room && next == p->cluster + 1 && p->used < size) {
		off -= size - p->used;
		p->references += amount;
	}
	rc = close_cluster(p, err);
	*ret_off = off;
	return rc ? rc : open_cluster(p, next, off + nbytes - (next << p->g->cluster_bits), amount);
}

/* Reads the stream; *nbytes becomes its length. */
static int read_stream(struct packing *p, uint64_t entry, uint64_t *nbytes, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(p->g, entry);
	int rc = qd_io_read_padded(p->c->io, p->in, (size_t)c.nbytes, c.host_off, err);

	if (rc == 0 && (*nbytes == c.nbytes || qd_codec_decompress(p->codec, p->in, (size_t)*nbytes, p->out, NULL)))
		*nbytes = c.nbytes;
	return rc;
}

static int move_stream(struct packing *p, uint64_t i, struct qd_err *err)
{
	struct qd_move *m = &p->moves[i];
	uint64_t off, nbytes = p->nbytes[i];
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

	for (uint64_t i = first; rc == 0 && i < first + n; i++)
		rc = move_stream(p, i, err);
	if (rc == 0)
		rc = close_cluster(p, err);
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
	int rc = qd_remap_open(p->img, &opts, &p->remap, err), stop = 0;

	for (uint64_t i = 0, n; rc == 0 && stop == 0 && i < p->n; i += n) {
		n = qd_min_u64(p->n - i, qd_remap_capacity(p->remap));
		rc = move_batch(p, i, n, err);
		if (rc == QD_E_CANCELLED) {	/* between two batches: the image can be left clean */
			stop = rc;
			rc = 0;
		}
	}
	if (rc == 0)
		rc = qd_remap_finish(p->remap, &stats, stop ? NULL : err);
	p->c->res->flushes += stats.flushes;
	qd_remap_free(p->remap);
	return rc ? rc : stop;
}

/* ---- all of it ---- */

static int prepare(struct packing *p, struct qd_err *err)
{
	size_t size = (size_t)p->g->cluster_size;

	p->limit = qd_max_u64(p->c->memory / 2 / BYTES_PER_STREAM, 256);
	p->moves = malloc(p->limit * sizeof(*p->moves));
	p->nbytes = malloc(p->limit * sizeof(*p->nbytes));
	p->in = malloc(2 * size);
	p->out = malloc(size);
	if (!p->moves || !p->nbytes || !p->in || !p->out)
		return qd_err_nomem(err, "moving compressed clusters");
	return qd_codec_new(p->img->header.compression_type, size, 0, &p->codec, err);
}

int compact_move_streams(struct compact *c, uint64_t end, bool dry_run, uint64_t *ret_nstreams, struct qd_err *err)
{
	struct packing p = { .c = c, .end = end };
	int rc = compact_open(c, &p.img, err);

	if (rc == 0) {
		p.g = &p.img->geom;
		rc = each_stream(&p, weigh, err);
	}
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
	free(p.moves);
	free(p.nbytes);
	free(p.in);
	free(p.out);
	return rc;
}
