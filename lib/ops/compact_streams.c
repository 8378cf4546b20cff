/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Moving compressed clusters: which (where to: compact_pack.c).  Streams lie back to back and run over the
 * ends of host clusters, so they are moved one by one and packed anew:
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
#include "ops/compact_pack.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define SLACK_PERCENT 4u	/* what all stream clusters together may waste */
#define MIN_REFCOUNT_BITS 8u	/* narrower counts keep streams from being packed */
#define BYTES_PER_STREAM 192u	/* of memory: moves, and what a batch makes of them */

/* ---- finding ---- */

static int finish_last(struct compact_packing *p, uint64_t next_off, struct qd_err *err)
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
	struct compact_packing *p = ctx;
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < n; i++) {
		struct qd_compressed c;

		if (!qd_l2_is_compressed(v[i].c.entry)) {
			if (v[i].c.entry >> p->g->cluster_bits < p->still.nbits)
				qd_bits_set(&p->still, v[i].c.entry >> p->g->cluster_bits);
			continue;
		}
		c = qd_l2_compressed(p->g, v[i].c.entry);
		rc = finish_last(p, c.host_off, err);
		p->last = (struct compact_stream){ v[i].c, c.nbytes - qd_min_u64(c.nbytes, 256) };
	}
	return rc;
}

static int each_stream(struct compact_packing *p,
		       int (*each)(struct compact_packing *p, const struct compact_stream *s,
				   struct qd_err *err),
		       struct qd_err *err)
{
	struct qd_survey_opts opts = { .threads = 1, .memory = p->c->memory / 4 };
	struct qd_survey_ops ops = { .want = qd_survey_want_nothing, .commit = take };
	int rc;

	p->each = each;
	p->last.s.entry = 0;
	rc = qd_survey_walk(p->img, &opts, &ops, p, NULL, err);
	return rc ? rc : finish_last(p, 0, err);
}

/* ---- weighing ---- */

/* Streams come by ascending offset, so what one shares with those before it is counted already. */
static int weigh(struct compact_packing *p, const struct compact_stream *s, struct qd_err *err)
{
	uint64_t off = qd_l2_compressed(p->g, s->s.entry).host_off;
	uint64_t first = qd_max_u64(off >> p->g->cluster_bits, p->counted);
	uint64_t end = qd_div_up(off + s->nbytes, p->g->cluster_size);

	(void)err;
	p->nbytes += s->nbytes;
	p->nclusters += end > first ? end - first : 0;
	p->counted = qd_max_u64(p->counted, end);
	return 0;
}

/* True when all streams, packed, would take noticeably fewer clusters. */
static bool is_wasteful(const struct compact_packing *p)
{
	uint64_t need = qd_div_up(p->nbytes, p->g->cluster_size) + 1;

	return p->g->refcount_bits >= MIN_REFCOUNT_BITS && p->nclusters > need + need * SLACK_PERCENT / 100;
}

/*
 * QEMU is known to put streams into a cluster that was freed and taken for data since: such streams
 * stay, because without them the entry would need the flag COPIED.
 */
static bool moves(const struct compact_packing *p, const struct compact_stream *s)
{
	uint64_t first, last;

	qd_l2_clusters(p->g, s->s.entry, &first, &last);
	if (p->pack && first >= p->still.nbits)
		return false;
	for (uint64_t k = first; k <= last; k++)
		if (k < p->still.nbits && qd_bits_get(&p->still, k))
			return false;
	return p->pack || last >= p->end;
}

static bool was_before(const struct compact_packing *p, uint64_t entry)
{
	uint64_t off = qd_l2_compressed(p->g, entry).host_off;

	return off < p->after_off || (off == p->after_off && entry <= p->after_entry);
}

static int gather(struct compact_packing *p, const struct compact_stream *s, struct qd_err *err)
{
	(void)err;
	if (was_before(p, s->s.entry) || !moves(p, s))
		return 0;
	p->cut = p->n == p->limit;
	if (p->cut) {
		p->nleft++;
		return 0;
	}
	p->moves[p->n++] = (struct qd_move){
		.from = s->s.entry, .bitmap = s->s.bitmap, .references = s->s.references,
		.places = s->s.places, .pins = s->s.pins, .own = true,
	};
	return 0;
}

/* ---- all of it ---- */

static int prepare(struct compact_packing *p, struct qd_err *err)
{
	size_t size = (size_t)p->g->cluster_size;

	p->limit = qd_max_u64(p->c->memory / 2 / BYTES_PER_STREAM, 256);
	p->holes_limit = qd_max_u64(p->c->memory / 2 / BYTES_PER_STREAM, 256);
	p->moves = malloc(p->limit * sizeof(*p->moves));
	p->in = malloc(2 * size);
	p->out = malloc(size);
	if (!p->moves || !p->in || !p->out)
		return qd_err_nomem(err, "moving compressed clusters");
	return qd_codec_new(p->img->header.compression_type, size, 0, &p->codec, err);
}

static int open_image(struct compact_packing *p, struct qd_err *err)
{
	int rc;

	compact_close(p->img);
	p->img = NULL;
	rc = compact_open(p->c, &p->img, err);
	if (rc == 0)
		p->g = &p->img->geom;
	return rc;
}

/* So many streams as memory allows, of those after the last pass. */
static int pass(struct compact_packing *p, bool dry_run, struct qd_err *err)
{
	int rc;

	p->n = p->nleft = 0;
	p->cut = false;
	rc = each_stream(p, gather, err);
	if (rc || !p->n)
		return rc;
	p->after_entry = p->moves[p->n - 1].from;
	p->after_off = qd_l2_compressed(p->g, p->after_entry).host_off;
	p->total += p->n;
	return dry_run ? 0 : compact_pack_all(p, err);
}

/* Packing goes on until all are packed; what lies behind the end can wait for the next round. */
static int move(struct compact_packing *p, bool dry_run, struct qd_err *err)
{
	int rc = pass(p, dry_run, err);

	while (rc == 0 && p->pack && p->cut && !dry_run) {
		rc = open_image(p, err);
		if (rc == 0)
			rc = pass(p, dry_run, err);
	}
	p->total += p->nleft;
	return rc;
}

int compact_move_streams(struct compact *c, uint64_t end, bool dry_run, uint64_t *ret_nstreams, bool *ret_cut,
			 struct qd_err *err)
{
	struct compact_packing p = { .c = c, .end = end };
	int rc;

	*ret_nstreams = 0;
	*ret_cut = false;
	if (c->no_streams)
		return 0;
	rc = open_image(&p, err);
	if (rc == 0)
		rc = qd_bits_new(qd_div_up(p.img->file_size, p.g->cluster_size), &p.still, err);
	if (rc == 0)
		rc = each_stream(&p, weigh, err);
	c->no_streams = rc == 0 && !p.nclusters;
	if (rc == 0 && p.nclusters) {
		p.pack = c->res->rounds == 0 && is_wasteful(&p);
		rc = prepare(&p, err);
		if (rc == 0)
			rc = move(&p, dry_run, err);
	}
	*ret_nstreams = p.total;
	*ret_cut = p.cut;
	compact_close(p.img);
	qd_codec_free(p.codec);
	qd_bits_free(&p.still);
	free(p.moves);
	free(p.holes);
	free(p.in);
	free(p.out);
	return rc;
}
