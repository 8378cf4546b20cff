/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The pin of an existing image: its slots against a list, its writes at every crash, the check as judge. */
#include "image/pin.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "image/build.h"
#include "image/change.h"
#include "ops/check.h"
#include "recorder.h"
#include "suites.h"

struct fixture {
	struct qd_io *io;		/* what images are opened on, again and again */
	struct qd_image *img;
	struct qd_change *change;
	struct qd_pin *pin;
};

/* An io that qd_image_close may close. */
struct lent {
	struct qd_io io;
	struct qd_io *to;
};

static struct qd_io *to_of(struct qd_io *io)
{
	return ((struct lent *)io)->to;
}
static ssize_t lent_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	return to_of(io)->ops->pread(to_of(io), buf, nbytes, off);
}
static ssize_t lent_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	return to_of(io)->ops->pwritev(to_of(io), iov, niov, off);
}
static int lent_flush(struct qd_io *io)
{
	return to_of(io)->ops->flush(to_of(io));
}
static int lent_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	return to_of(io)->ops->size(to_of(io), ret_nbytes);
}
static void lent_close(struct qd_io *io)
{
	free(io);
}
static const struct qd_io_ops lent_ops = {
	.pread = lent_pread, .pwritev = lent_pwritev, .flush = lent_flush, .size = lent_size, .close = lent_close,
};

static struct qd_io *lend(struct qd_io *io)
{
	struct lent *l = calloc(1, sizeof(*l));

	CU_ASSERT_PTR_NOT_NULL_FATAL(l);
	l->io = (struct qd_io){ .ops = &lent_ops, .name = io->name, .writable = true, .align = 1 };
	l->to = io;
	return &l->io;
}

/* An image with 40 clusters of data, of which `shared` have two references, and so a pin. */
static struct qd_io *make_image(uint32_t cluster_bits, bool extended_l2, unsigned shared)
{
	struct qd_build_opts opts = { .version = 3, .cluster_bits = cluster_bits, .refcount_order = 4,
				      .extended_l2 = extended_l2, .pin = true, .memory = 1u << 20 };
	uint64_t size = 200ull << cluster_bits, off;
	uint8_t *data = calloc(1, (size_t)1 << cluster_bits);
	struct qd_build_stats stats;
	struct qd_build *b = NULL;
	struct qd_io *io = NULL;
	bool full;

	CU_ASSERT_PTR_NOT_NULL_FATAL(data);
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, size, &opts, &b, NULL), 0);
	for (unsigned i = 0; i < 40; i++) {
		memset(data, (int)i + 1, (size_t)1 << cluster_bits);
		CU_ASSERT_EQUAL_FATAL(qd_build_add_data(b, i, &off, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_io_write(io, data, (size_t)1 << cluster_bits, off, NULL), 0);
	}
	for (unsigned i = 0; i < shared; i++)
		CU_ASSERT_EQUAL_FATAL(qd_build_share(b, 50 + i, i, &full, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, size, 0, &stats, NULL), 0);
	qd_build_free(b);
	free(data);
	return io;
}

static void open_fixture(struct fixture *f)
{
	struct qd_pin_image pi;

	CU_ASSERT_EQUAL_FATAL(qd_image_open(lend(f->io), 0, &f->img, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_change_open(f->img, 4u << 20, &f->change, NULL), 0);
	pi = (struct qd_pin_image){ .img = f->img, .queue = f->change->queue, .cache = f->change->cache,
				    .alloc = f->change->alloc };
	CU_ASSERT_EQUAL_FATAL(qd_pin_open(&pi, &f->pin, NULL), 0);
}

static void close_fixture(struct fixture *f)
{
	qd_pin_free(f->pin);
	qd_change_free(f->change);
	qd_image_close(f->img);
}

static void commit(struct fixture *f)
{
	CU_ASSERT_EQUAL(qd_change_tables(f->change, NULL), 0);
	CU_ASSERT_EQUAL(qd_pin_write(f->pin, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_flush(f->change->queue, NULL), 0);
	CU_ASSERT_EQUAL(qd_change_settle(f->change, NULL), 0);
}

/* New clusters, each with a slot. */
static void add(struct fixture *f, unsigned n)
{
	uint64_t bitmap = f->img->geom.extended_l2 ? 0xffffffffu : 0, cluster;
	uint8_t *data = calloc(1, (size_t)f->img->geom.cluster_size);

	CU_ASSERT_PTR_NOT_NULL_FATAL(data);
	CU_ASSERT_EQUAL(qd_change_begin(f->change, NULL), 0);
	for (unsigned i = 0; i < n; i++) {
		CU_ASSERT_EQUAL_FATAL(qd_alloc_claim(f->change->alloc, &cluster, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_io_write(f->img->io, data, (size_t)f->img->geom.cluster_size,
						  cluster << f->img->geom.cluster_bits, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_pin_add(f->pin, cluster << f->img->geom.cluster_bits, bitmap, NULL),
				      0);
	}
	free(data);
	qd_queue_wrote_data(f->change->queue);
	commit(f);
	CU_ASSERT_EQUAL(qd_change_end(f->change, NULL), 0);
}

struct visit {
	struct fixture *f;
	unsigned every;		/* remove one in so many; 0: none */
	unsigned seen;
	unsigned removed;
	uint64_t sum;		/* of the entries that stay */
};

static int visit_slot(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove, struct qd_err *err)
{
	struct visit *v = ctx;

	CU_ASSERT_EQUAL(bitmap != 0, v->f->img->geom.extended_l2);
	if (v->every && v->seen % v->every == 0) {
		*remove = true;
		v->removed++;
		if (qd_alloc_release(v->f->change->alloc, entry >> v->f->img->geom.cluster_bits, err))
			return -1;
	} else {
		v->sum += entry >> v->f->img->geom.cluster_bits;
	}
	v->seen++;
	return 0;
}

static struct visit visit(struct fixture *f, unsigned every)
{
	struct visit v = { .f = f, .every = every };

	CU_ASSERT_EQUAL(qd_pin_walk(f->pin, visit_slot, &v, NULL), 0);
	return v;
}

static void removes(struct fixture *f, unsigned every)
{
	CU_ASSERT_EQUAL(qd_change_begin(f->change, NULL), 0);
	visit(f, every);
	if (every == 1)
		CU_ASSERT_EQUAL(qd_pin_delete(f->pin, NULL), 0);
	commit(f);
	CU_ASSERT_EQUAL(qd_change_end(f->change, NULL), 0);
}

static void check_is(struct qd_io *io, bool leaks_allowed)
{
	struct qd_check_opts opts = { .threads = 1, .memory = 8u << 20 };
	struct qd_check_result res;

	CU_ASSERT_EQUAL_FATAL(qd_check(io, &opts, NULL, &res, NULL), 0);
	CU_ASSERT_EQUAL(res.check_errors, 0);
	CU_ASSERT_EQUAL(res.corruptions, 0);
	if (!leaks_allowed && !res.dirty)
		CU_ASSERT_EQUAL(res.leaks, 0);
}

static void slots_are_kept_at_every_cluster_size(void)
{
	static const struct { uint32_t bits; bool ext; unsigned shared, adds; } cases[] = {
		{ 9, false, 0, 5000 }, { 9, false, 20, 9000 }, { 12, false, 0, 3000 }, { 16, false, 3, 100 },
		{ 16, true, 0, 100 }, { 14, true, 5, 2000 }, { 21, false, 0, 3 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct fixture f = { .io = make_image(cases[i].bits, cases[i].ext, cases[i].shared) };
		struct visit v;
		unsigned n = cases[i].adds + cases[i].shared;
		uint64_t sum;

		open_fixture(&f);
		CU_ASSERT_EQUAL(qd_pin_exists(f.pin), cases[i].shared > 0);
		add(&f, cases[i].adds - 2);
		add(&f, 2);
		CU_ASSERT_EQUAL(qd_pin_id(f.pin), 1);
		sum = visit(&f, 0).sum;
		close_fixture(&f);
		check_is(f.io, false);
		open_fixture(&f);
		CU_ASSERT_TRUE_FATAL(qd_pin_exists(f.pin));
		v = visit(&f, 0);
		CU_ASSERT_EQUAL(v.seen, n);
		CU_ASSERT_EQUAL(v.sum, sum);
		close_fixture(&f);
		qd_io_close(f.io);
	}
}

static void slots_come_and_go(void)
{
	struct fixture f = { .io = make_image(9, false, 0) };
	struct visit v;
	uint64_t size;

	open_fixture(&f);
	add(&f, 1000);
	removes(&f, 3);
	check_is(f.io, false);
	v = visit(&f, 0);
	CU_ASSERT_EQUAL(v.seen, 1000 - 334);
	CU_ASSERT_EQUAL(qd_io_size(f.io, &size, NULL), 0);
	add(&f, 334);			/* into the gaps */
	CU_ASSERT_EQUAL(visit(&f, 0).seen, 1000);
	close_fixture(&f);
	check_is(f.io, false);
	open_fixture(&f);
	removes(&f, 1);
	CU_ASSERT_FALSE(qd_pin_exists(f.pin));
	close_fixture(&f);
	check_is(f.io, false);
	open_fixture(&f);
	CU_ASSERT_EQUAL(f.img->nsnapshots, 0);
	add(&f, 5);			/* a new one in its place */
	CU_ASSERT_TRUE(qd_pin_exists(f.pin));
	close_fixture(&f);
	check_is(f.io, false);
	qd_io_close(f.io);
}

static void a_crash_leaves_leaks_at_worst(void)
{
	static const struct { uint32_t bits; unsigned shared, first; } cases[] = {
		{ 9, 0, 70 }, { 9, 20, 4060 }, { 12, 2, 510 },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct recorder *rec = NULL;
		struct crash c;
		struct fixture f = { .io = make_image(cases[i].bits, false, cases[i].shared) }, r;

		open_fixture(&f);
		add(&f, cases[i].first);
		close_fixture(&f);
		CU_ASSERT_EQUAL_FATAL(recorder_new(f.io, &rec, NULL), 0);
		r.io = recorder_io(rec);
		open_fixture(&r);
		add(&r, 40);
		removes(&r, 2);
		add(&r, 30);
		removes(&r, 1);
		close_fixture(&r);
		for (size_t k = 0; recorder_plan(rec, 1, 7, k, &c); k++) {
			struct qd_io *state = NULL;

			CU_ASSERT_EQUAL_FATAL(recorder_crash(rec, &c, &state, NULL), 0);
			check_is(state, true);
			qd_io_close(state);
		}
		recorder_free(rec);
	}
}

CU_ErrorCode suite_pin(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(slots_are_kept_at_every_cluster_size),
		QD_TEST(slots_come_and_go),
		QD_TEST(a_crash_leaves_leaks_at_worst),
	};

	return QD_SUITE_ADD("pin", tests);
}
