/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging the runs of a file into one:
 *
 *	run 0  ------> buffer --+
 *	run 1  ------> buffer --+--> heap, least key first --> a chunk --> the new file
 *	...                     |
 *	run n  ------> buffer --+
 *
 * The buffers share the memory that the batch had.  Of records with equal keys the one of
 * the later run is taken and the others are passed over: the last one added counts.
 *
 * Left to others: what a run is and when there are several (runs.c).
 */
#include "dedup/runs_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/tmpfile.h"

#define MERGE_MIN 4096u			/* bytes read of a run at a time, at least */
#define IO_CHUNK (1u << 20)

struct source {			/* a run being read */
	uint64_t run;
	uint64_t next;		/* record of the run behind those in buf */
	uint8_t *buf;
	uint64_t pos;		/* record in buf */
	uint64_t n;		/* records in buf; 0: the run is at its end */
	struct qd_table_key key;
};

struct merge {
	struct qd_runs *all;
	struct source *sources;
	struct source **heap;	/* the least key on top; of equal keys the later run */
	uint64_t nheap;
	uint64_t per_buf;	/* records */
	uint8_t *bufs;
};

static bool comes_before(const struct source *a, const struct source *b)
{
	int c = qd_table_key_compare(a->key, b->key);

	return c ? c < 0 : a->run > b->run;
}

static void sift_down(struct merge *g, uint64_t i)
{
	struct source *s = g->heap[i];

	for (;;) {
		uint64_t child = 2 * i + 1;

		if (child + 1 < g->nheap && comes_before(g->heap[child + 1], g->heap[child]))
			child++;
		if (child >= g->nheap || !comes_before(g->heap[child], s))
			break;
		g->heap[i] = g->heap[child];
		i = child;
	}
	g->heap[i] = s;
}

static int refill(struct merge *g, struct source *s, struct qd_err *err)
{
	const struct qd_run *run = &g->all->runs[s->run];
	int r = 0;

	s->pos = 0;
	s->n = qd_min_u64(g->per_buf, run->nrecords - s->next);
	if (s->n)
		r = qd_io_read(g->all->file, s->buf, (size_t)(s->n * g->all->size),
			       run->off + s->next * g->all->size, err);
	s->next += s->n;
	if (!r && s->n)
		s->key = qd_runs_key(g->all, s->buf);
	return r;
}

static int advance(struct merge *g, struct qd_err *err)
{
	struct source *s = g->heap[0];
	int r = 0;

	if (++s->pos < s->n)
		s->key = qd_runs_key(g->all, s->buf + s->pos * g->all->size);
	else
		r = refill(g, s, err);
	if (!r && !s->n)
		g->heap[0] = g->heap[--g->nheap];
	if (!r && g->nheap)
		sift_down(g, 0);
	return r;
}

static int merge_open(struct merge *g, struct qd_err *err)
{
	struct qd_runs *all = g->all;
	uint64_t per_run = qd_max_u64(all->memory / (all->nruns + 1), MERGE_MIN);
	int r = 0;

	g->per_buf = qd_min_u64(per_run, IO_CHUNK) / all->size;
	g->sources = calloc((size_t)all->nruns, sizeof(*g->sources));
	g->heap = calloc((size_t)all->nruns, sizeof(struct source *));
	g->bufs = malloc((size_t)(all->nruns * g->per_buf * all->size));
	if (!g->sources || !g->heap || !g->bufs)
		return qd_err_nomem(err, "sorting a hash table");
	for (uint64_t i = 0; !r && i < all->nruns; i++) {
		g->sources[i].run = i;
		g->sources[i].buf = g->bufs + i * g->per_buf * all->size;
		r = refill(g, &g->sources[i], err);
		g->heap[g->nheap++] = &g->sources[i];
	}
	for (uint64_t i = g->nheap / 2; !r && i-- > 0;)
		sift_down(g, i);
	return r;
}

/* Collects the merged records in the batch array, which is free now, and writes them in chunks. */
static int merge_into(struct merge *g, struct qd_io *to, uint64_t *ret_n, struct qd_err *err)
{
	struct qd_runs *all = g->all;
	uint64_t chunk = IO_CHUNK / all->size, n = 0, total = 0;
	int r = qd_bigarray_need(&all->batch, chunk * all->size, "sorting a hash table", err);

	while (!r && g->nheap) {
		const struct source *s = g->heap[0];
		struct qd_table_key key = s->key;

		memcpy((uint8_t *)all->batch.p + n++ * all->size, s->buf + s->pos * all->size, all->size);
		do
			r = advance(g, err);
		while (!r && g->nheap && !qd_table_key_compare(g->heap[0]->key, key));
		if (!r && (n == chunk || !g->nheap)) {
			r = qd_io_write(to, all->batch.p, (size_t)(n * all->size), total * all->size, err);
			total += n;
			n = 0;
		}
	}
	*ret_n = total;
	return r;
}

int qd_runs_merge(struct qd_runs *s, struct qd_err *err)
{
	struct merge g = { .all = s };
	struct qd_io *to = NULL;
	uint64_t n = 0;
	int r = qd_tmpfile_open(s->tmpdir, &to, err);

	qd_bigarray_free(&s->batch);
	if (!r)
		r = merge_open(&g, err);
	if (!r)
		r = merge_into(&g, to, &n, err);
	free(g.sources);
	free(g.heap);
	free(g.bufs);
	if (r) {
		qd_io_close(to);
		return r;
	}
	qd_io_close(s->file);
	s->file = to;
	s->nruns = 1;
	s->runs[0] = (struct qd_run){ .nrecords = n };
	return 0;
}
