/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Sections in a list, the oldest first; writes go to the last one.
 *
 *	unflushed   something was written to the io since its last flush
 *	fence       (of a section) unflushed must be settled before its first byte
 *
 * A barrier puts a fence before the section that follows.  Where the current section is
 * empty the fence is its own, so that any number of barriers is one flush (Q4).
 */
#include "txn/queue.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "txn/section.h"

#define MAX_IOV 256

struct section {
	struct qd_section bytes;
	bool fence;
	struct section *next;
};

struct qd_queue {
	struct qd_io *io;
	uint64_t limit;
	struct section *first;	/* never NULL */
	struct section *last;
	uint64_t memory;	/* bytes that the sections' contents take */
	bool unflushed;
	struct qd_err failed;	/* code not 0: Q6 */
	struct qd_queue_stats stats;
};

static struct section *new_section(void)
{
	return calloc(1, sizeof(struct section));
}

int qd_queue_new(struct qd_io *io, uint64_t limit, struct qd_queue **ret_queue, struct qd_err *err)
{
	struct qd_queue *q = calloc(1, sizeof(*q));

	if (!q)
		return qd_err_nomem(err, "the write queue");
	q->first = q->last = new_section();
	if (!q->first) {
		free(q);
		return qd_err_nomem(err, "the write queue");
	}
	q->io = io;
	q->limit = limit;
	*ret_queue = q;
	return 0;
}

static void free_section(struct section *s)
{
	qd_section_free(&s->bytes);
	free(s);
}

void qd_queue_free(struct qd_queue *q)
{
	if (!q)
		return;
	while (q->first) {
		struct section *s = q->first;

		q->first = s->next;
		free_section(s);
	}
	free(q);
}

/* Remembers the error, for everything that follows. */
static int fail(struct qd_queue *q, int rc, const struct qd_err *why, struct qd_err *err)
{
	q->failed = *why;
	q->failed.code = rc;
	qd_err_copy(err, why);
	return rc;
}

static int failed(const struct qd_queue *q, struct qd_err *err)
{
	if (q->failed.code)
		qd_err_copy(err, &q->failed);
	return q->failed.code;
}

static bool is_empty(const struct section *s)
{
	return s->bytes.npages == 0;
}

/* ---- writing ---- */

/* Runs that touch are gathered here and leave in one write. */
struct gather {
	struct qd_queue *q;
	struct iovec iov[MAX_IOV];
	int niov;
	uint64_t off;
	uint64_t nbytes;
	struct qd_err *err;
};

static int write_gathered(struct gather *g)
{
	struct qd_queue *q = g->q;
	int rc;

	if (g->niov == 0)
		return 0;
	q->unflushed = true;
	rc = qd_io_writev(q->io, g->iov, g->niov, g->off, g->err);
	if (rc)
		return rc;
	q->stats.writes++;
	q->stats.nbytes += g->nbytes;
	g->niov = 0;
	g->nbytes = 0;
	return 0;
}

static int gather_run(void *ctx, const uint8_t *data, size_t nbytes, uint64_t off)
{
	struct gather *g = ctx;

	if (g->niov && (off != g->off + g->nbytes || g->niov == MAX_IOV)) {
		int rc = write_gathered(g);

		if (rc)
			return rc;
	}
	if (g->niov == 0)
		g->off = off;
	g->iov[g->niov++] = (struct iovec){ .iov_base = (void *)(uintptr_t)data, .iov_len = nbytes };
	g->nbytes += nbytes;
	return 0;
}

static int flush_io(struct qd_queue *q, struct qd_err *err)
{
	int rc;

	if (!q->unflushed)
		return 0;
	rc = qd_io_flush(q->io, err);
	if (rc)
		return rc;
	q->unflushed = false;
	q->stats.flushes++;
	return 0;
}

static int write_section(struct qd_queue *q, struct section *s, struct qd_err *err)
{
	struct gather *g;
	int rc = 0;

	if (is_empty(s))
		return 0;
	if (s->fence)
		rc = flush_io(q, err);
	if (rc)
		return rc;
	g = calloc(1, sizeof(*g));
	if (!g)
		return qd_err_nomem(err, "the write queue");
	g->q = q;
	g->err = err;
	rc = qd_section_walk(&s->bytes, gather_run, g, err);
	if (rc == 0)
		rc = write_gathered(g);
	free(g);
	return rc;
}

int qd_queue_submit(struct qd_queue *q, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = failed(q, err);

	while (rc == 0) {
		struct section *s = q->first;

		rc = write_section(q, s, &why);
		if (rc)
			return fail(q, rc, &why, err);
		q->memory -= qd_section_memory(&s->bytes);
		if (!s->next) {
			/* An empty section keeps its fence: nothing has come after that barrier yet. */
			s->fence = s->fence && is_empty(s);
			qd_section_free(&s->bytes);
			break;
		}
		q->first = s->next;
		free_section(s);
	}
	return rc;
}

int qd_queue_flush(struct qd_queue *q, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = qd_queue_submit(q, err);

	if (rc)
		return rc;
	rc = flush_io(q, &why);
	return rc ? fail(q, rc, &why, err) : 0;
}

/* ---- queueing ---- */

int qd_queue_write(struct qd_queue *q, const void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	struct qd_err why = { .code = 0 };
	int rc = failed(q, err);

	if (rc)
		return rc;
	if (nbytes == 0)
		return 0;
	q->stats.queued++;
	if (q->memory >= q->limit) {
		rc = qd_queue_submit(q, err);
		if (rc)
			return rc;
	}
	q->memory -= qd_section_memory(&q->last->bytes);
	rc = qd_section_write(&q->last->bytes, buf, nbytes, off, &why);
	q->memory += qd_section_memory(&q->last->bytes);
	return rc ? fail(q, rc, &why, err) : 0;
}

int qd_queue_barrier(struct qd_queue *q, struct qd_err *err)
{
	struct section *s;
	int rc = failed(q, err);

	if (rc)
		return rc;
	if (is_empty(q->last)) {
		q->last->fence = true;
		return 0;
	}
	s = new_section();
	if (!s)
		return qd_err_nomem(err, "the write queue");
	s->fence = true;
	q->last->next = s;
	q->last = s;
	return 0;
}

void qd_queue_wrote_data(struct qd_queue *q)
{
	q->unflushed = true;
}

int qd_queue_read(struct qd_queue *q, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	int rc = qd_io_read_padded(q->io, buf, nbytes, off, err);

	for (const struct section *s = q->first; rc == 0 && s; s = s->next)
		qd_section_overlay(&s->bytes, buf, nbytes, off);
	return rc;
}

struct walk {
	int (*fn)(void *ctx, uint32_t section, const uint8_t *data, size_t nbytes, uint64_t off);
	void *ctx;
	uint32_t section;
};

static int walk_run(void *ctx, const uint8_t *data, size_t nbytes, uint64_t off)
{
	const struct walk *w = ctx;

	return w->fn(w->ctx, w->section, data, nbytes, off);
}

int qd_queue_walk(struct qd_queue *q,
		  int (*fn)(void *ctx, uint32_t section, const uint8_t *data, size_t nbytes, uint64_t off),
		  void *ctx, struct qd_err *err)
{
	struct walk w = { .fn = fn, .ctx = ctx };
	int rc = 0;

	for (struct section *s = q->first; rc == 0 && s; s = s->next, w.section++)
		rc = qd_section_walk(&s->bytes, walk_run, &w, err);
	return rc;
}

void qd_queue_stats(const struct qd_queue *q, struct qd_queue_stats *ret_stats)
{
	*ret_stats = q->stats;
}
