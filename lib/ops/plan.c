/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Planned bytes lie over the base, page by page (plan_pages.h); each word has its step.
 * A lock keeps those who read apart from who plans, for a check that is still running may
 * have what it finds planned at once.
 */
#include "ops/plan.h"

#include <errno.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "ops/plan_pages.h"
#include "space/refcount.h"

#define PAGE_BITS QD_PLAN_PAGE_BITS
#define PAGE QD_PLAN_PAGE
#define WORDS QD_PLAN_WORDS

struct qd_plan {
	struct qd_io io;	/* the planned image */
	struct qd_io *base;
	struct qd_geom geom;
	uint64_t base_size;	/* bytes */
	uint64_t new_off;
	uint64_t end;		/* of the new clusters */
	pthread_rwlock_t lock;	/* of the pages */
	struct qd_plan_pages *pages;
};

/* ---- the planned image as an io ---- */

static struct qd_plan *plan_of(struct qd_io *io)
{
	return (struct qd_plan *)(void *)io;
}

static uint64_t planned_size(const struct qd_plan *p)
{
	return p->end > p->new_off ? qd_max_u64(p->base_size, p->end) : p->base_size;
}

static int overlay(struct qd_plan *p, uint8_t *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	int rc = 0;

	pthread_rwlock_rdlock(&p->lock);
	for (uint64_t at = off; rc == 0 && at < off + nbytes && qd_plan_pages_count(p->pages);) {
		size_t within = (size_t)(at & (PAGE - 1));
		size_t n = (size_t)qd_min_u64(PAGE - within, off + nbytes - at);

		rc = qd_plan_pages_overlay(p->pages, at >> PAGE_BITS, within, buf + (at - off), n, err);
		at += n;
	}
	pthread_rwlock_unlock(&p->lock);
	return rc;
}

int qd_plan_read(struct qd_plan *p, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	int rc = qd_io_read_padded(p->base, buf, nbytes, off, err);

	return rc ? rc : overlay(p, buf, nbytes, off, err);
}

int qd_plan_next_data_base(struct qd_plan *p, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole,
			   struct qd_err *err)
{
	return qd_io_next_data(p->base, off, ret_data, ret_hole, err);
}

static ssize_t op_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct qd_plan *p = plan_of(io);
	uint64_t size = planned_size(p);
	struct qd_err err = { .code = 0 };

	if (off >= size)
		return 0;
	nbytes = (size_t)qd_min_u64(nbytes, size - off);
	if (qd_plan_read(p, buf, nbytes, off, &err))
		return err.code == QD_E_NOMEM ? -ENOMEM : -(err.sys_errno ? err.sys_errno : EIO);
	return (ssize_t)nbytes;
}

static ssize_t op_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	(void)io;
	(void)iov;
	(void)niov;
	(void)off;
	return -EBADF;
}

static int op_flush(struct qd_io *io)
{
	(void)io;
	return 0;
}

static int op_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	*ret_nbytes = planned_size(plan_of(io));
	return 0;
}

static int op_truncate(struct qd_io *io, uint64_t nbytes)
{
	(void)io;
	(void)nbytes;
	return -EBADF;
}

/* Holes of the image stay holes up to the first page that is planned behind them. */
static int op_next_data(struct qd_io *io, uint64_t off, uint64_t *ret_data, uint64_t *ret_hole)
{
	struct qd_plan *p = plan_of(io);
	uint64_t data, hole, size = planned_size(p);

	if (qd_io_next_data(p->base, qd_min_u64(off, p->base_size), &data, &hole, NULL))
		return -EOPNOTSUPP;
	if (qd_plan_is_empty(p) && data == hole)
		return -ENXIO;
	if (!qd_plan_is_empty(p))
		data = off, hole = qd_max_u64(hole, size);
	*ret_data = data;
	*ret_hole = hole;
	return data >= hole ? -ENXIO : 0;
}

static const struct qd_io_ops plan_ops = {
	.pread = op_pread, .pwritev = op_pwritev, .flush = op_flush, .size = op_size,
	.truncate = op_truncate, .next_data = op_next_data,
};

int qd_plan_new(struct qd_io *io, const struct qd_geom *geom, const struct qd_plan_opts *opts,
		struct qd_plan **ret_plan, struct qd_err *err)
{
	struct qd_plan *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return qd_err_nomem(err, "the plan");
	p->io = (struct qd_io){ .ops = &plan_ops, .name = io->name, .align = 1 };
	p->base = io;
	p->geom = *geom;
	p->new_off = p->end = opts->new_off;
	pthread_rwlock_init(&p->lock, NULL);
	rc = qd_io_size(io, &p->base_size, err);
	if (rc == 0)
		rc = qd_plan_pages_new(opts->memory, opts->tmpdir, &p->pages, err);
	if (rc) {
		qd_plan_free(p);
		return rc;
	}
	*ret_plan = p;
	return 0;
}

void qd_plan_free(struct qd_plan *p)
{
	if (!p)
		return;
	qd_plan_pages_free(p->pages);
	pthread_rwlock_destroy(&p->lock);
	free(p);
}

struct qd_io *qd_plan_io(struct qd_plan *p)
{
	return &p->io;
}

/* ---- planning ---- */

/* A new page begins as what the base has there. */
static int touch(struct qd_plan *p, uint64_t number, enum qd_plan_step step, struct qd_plan_page **ret_page,
		 struct qd_err *err)
{
	bool is_new = false;
	int rc = qd_plan_pages_touch(p->pages, number, step, ret_page, &is_new, err);

	if (rc == 0 && is_new && number << PAGE_BITS < p->base_size)
		rc = qd_io_read_padded(p->base, (*ret_page)->data, PAGE, number << PAGE_BITS, err);
	return rc;
}

static int write_locked(struct qd_plan *p, const uint8_t *from, size_t nbytes, uint64_t off,
			enum qd_plan_step step, struct qd_err *err)
{
	for (uint64_t at = off; at < off + nbytes;) {
		size_t within = (size_t)(at & (PAGE - 1));
		size_t n = (size_t)qd_min_u64(PAGE - within, off + nbytes - at);
		struct qd_plan_page *page = NULL;
		int rc = touch(p, at >> PAGE_BITS, step, &page, err);

		if (rc)
			return rc;
		memcpy(page->data + within, from, n);
		for (size_t w = within / 8; w <= (within + n - 1) / 8; w++)
			if (page->step[w] < step)
				page->step[w] = (uint8_t)step;
		from += n;
		at += n;
	}
	return 0;
}

int qd_plan_write(struct qd_plan *p, const void *buf, size_t nbytes, uint64_t off, enum qd_plan_step step,
		  struct qd_err *err)
{
	int rc;

	pthread_rwlock_wrlock(&p->lock);
	rc = write_locked(p, buf, nbytes, off, step, err);
	pthread_rwlock_unlock(&p->lock);
	return rc;
}

int qd_plan_put64(struct qd_plan *p, uint64_t off, uint64_t value, enum qd_plan_step step,
		   struct qd_err *err)
{
	uint8_t word[8];

	qd_put_be64(word, value);
	return qd_plan_write(p, word, sizeof(word), off, step, err);
}

int qd_plan_get64(struct qd_plan *p, uint64_t off, uint64_t *ret_value, struct qd_err *err)
{
	uint8_t word[8];
	int rc = qd_plan_read(p, word, sizeof(word), off, err);

	if (rc == 0)
		*ret_value = qd_get_be64(word);
	return rc;
}

int qd_plan_alloc(struct qd_plan *p, uint64_t nclusters, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t nbytes, end, off = p->end;
	uint8_t *zeros;
	int rc = 0;

	if (!qd_mul_u64(nclusters, p->geom.cluster_size, &nbytes) || !qd_add_u64(off, nbytes, &end) ||
	    end > INT64_MAX)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the file would be too large");
	if (p->base->is_device && end > p->base_size)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the device has no room left for the clusters that the repair needs");
	zeros = calloc(1, PAGE);
	if (!zeros)
		return qd_err_nomem(err, "the plan");
	for (uint64_t at = off; rc == 0 && at < end; at += PAGE)
		rc = qd_plan_write(p, zeros, (size_t)qd_min_u64(PAGE, end - at), at, QD_PLAN_NEW, err);
	free(zeros);
	if (rc)
		return rc;
	p->end = end;
	*ret_off = off;
	return 0;
}

int qd_plan_read_base(struct qd_plan *p, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	return qd_io_read_padded(p->base, buf, nbytes, off, err);
}

uint64_t qd_plan_base_size(const struct qd_plan *p)
{
	return p->base_size;
}

uint64_t qd_plan_end(const struct qd_plan *p)
{
	return p->end;
}

bool qd_plan_is_empty(const struct qd_plan *p)
{
	return qd_plan_pages_count(p->pages) == 0;
}

/* ---- applying ---- */

/* Each count the larger of the two, so that nothing in use ever looks free. */
static void raise_counts(const struct qd_plan *p, uint8_t *word, const uint8_t *old)
{
	for (uint64_t i = 0; i < 64u >> p->geom.refcount_order; i++) {
		uint64_t a = qd_refcount_get(old, p->geom.refcount_order, i);

		if (a > qd_refcount_get(word, p->geom.refcount_order, i))
			qd_refcount_set(word, p->geom.refcount_order, i, a);
	}
}

enum pass { PASS_DROP, PASS_NEW, PASS_SWITCH, PASS_REFCOUNT, PASS_COPIED, NPASSES };

static const uint8_t step_of[NPASSES] = {
	[PASS_DROP] = QD_PLAN_DROP, [PASS_NEW] = QD_PLAN_NEW, [PASS_SWITCH] = QD_PLAN_SWITCH,
	[PASS_REFCOUNT] = QD_PLAN_REFCOUNT, [PASS_COPIED] = QD_PLAN_COPIED,
};

/* What this pass makes of word w, in `word`; false when it is not its business. */
static bool word_of_pass(const struct qd_plan *p, const struct qd_plan_page *page, size_t w, enum pass pass,
			 const uint8_t *now, uint8_t *word)
{
	memcpy(word, page->data + w * 8, 8);
	if (pass == PASS_NEW && page->step[w] == QD_PLAN_NEW)
		return true;
	if (pass == PASS_NEW && page->step[w] == QD_PLAN_REFCOUNT)
		raise_counts(p, word, now + w * 8);
	else if (page->step[w] != step_of[pass])
		return false;
	return memcmp(word, now + w * 8, 8) != 0;
}

static int queue_page(struct qd_plan *p, uint64_t number, enum pass pass, struct qd_queue *q,
		      struct qd_err *err)
{
	struct qd_plan_page page;
	uint8_t now[PAGE], out[PAGE];
	size_t from = 0, n = 0;
	int rc = qd_plan_pages_get(p->pages, number, &page, err);

	if (rc == 0)
		rc = qd_queue_read(q, now, PAGE, number << PAGE_BITS, err);
	for (size_t w = 0; rc == 0 && w <= WORDS; w++) {
		bool mine = w < WORDS && word_of_pass(p, &page, w, pass, now, out + w * 8);

		if (mine && n++ == 0)
			from = w;
		if (mine || n == 0)
			continue;
		rc = qd_queue_write(q, out + from * 8, n * 8, (number << PAGE_BITS) + from * 8, err);
		n = 0;
	}
	return rc;
}

/* May a page with these steps have words for this pass? */
static bool is_of_pass(unsigned steps, enum pass pass)
{
	return (steps & 1u << step_of[pass]) || (pass == PASS_NEW && (steps & 1u << QD_PLAN_REFCOUNT));
}

int qd_plan_apply(struct qd_plan *p, struct qd_queue *q, struct qd_err *err)
{
	size_t n = qd_plan_pages_count(p->pages);
	uint64_t *numbers = NULL;
	int rc = qd_plan_pages_numbers(p->pages, &numbers, err);

	for (enum pass pass = 0; rc == 0 && pass < NPASSES; pass++) {
		rc = qd_queue_barrier(q, err);
		for (size_t i = 0; rc == 0 && i < n; i++)
			if (is_of_pass(qd_plan_pages_steps(p->pages, numbers[i]), pass))
				rc = queue_page(p, numbers[i], pass, q, err);
	}
	free(numbers);
	return rc;
}

static int page_differs(struct qd_plan *p, uint64_t number, bool *ret_differs, struct qd_err *err)
{
	uint8_t now[PAGE], planned[PAGE];
	int rc = qd_io_read_padded(p->base, now, PAGE, number << PAGE_BITS, err);

	if (rc == 0)
		rc = qd_plan_pages_overlay(p->pages, number, 0, planned, PAGE, err);
	if (rc == 0)
		*ret_differs = memcmp(now, planned, PAGE) != 0;
	return rc;
}

int qd_plan_each_cluster(struct qd_plan *p, uint64_t from,
			 int (*fn)(void *ctx, uint64_t off, struct qd_err *err), void *ctx,
			 struct qd_err *err)
{
	size_t n = qd_plan_pages_count(p->pages);
	uint64_t *numbers = NULL, next = from;	/* first byte not yet told about */
	int rc = qd_plan_pages_numbers(p->pages, &numbers, err);
	bool differs = false;

	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint64_t page_off = numbers[i] << PAGE_BITS;
		uint64_t at = qd_max_u64(next, qd_align_down(page_off, p->geom.cluster_size));
		uint64_t end = qd_min_u64(page_off + PAGE, p->new_off);

		if (at >= end)
			continue;
		rc = page_differs(p, numbers[i], &differs, err);
		for (; rc == 0 && differs && at < end; at += p->geom.cluster_size)
			rc = fn(ctx, at, err);
		next = at;
	}
	free(numbers);
	return rc;
}
