/* SPDX-License-Identifier: GPL-2.0-or-later */
/* The check before an operation: whom it asks whether to go on, and what is left of that. */
#include "ops/soundness.h"

#include <CUnit/CUnit.h>

#include "crafted.h"
#include "ops/compact.h"
#include "suites.h"

struct listener {
	unsigned ncalls;
	bool stops;
	uint64_t most;
};

static int listen(void *ctx, uint64_t current, uint64_t total)
{
	struct listener *l = ctx;

	l->ncalls++;
	l->most = current > l->most ? current : l->most;
	l->most = total > l->most ? total : l->most;
	return l->stops;
}

/* Header, L1 and L2 table, data, counts: nothing to complain of, and no better place for anything. */
static struct qd_io *sound_image(void)
{
	struct crafted_opts opts = { .virtual_size = 64 << 9 };
	struct crafted c;
	struct qd_io *io;
	uint64_t data, table, block;

	crafted_new(&c, &opts);
	data = crafted_data(&c, 1);
	crafted_map(&c, c.l1_off, 0, data | UINT64_C(1) << 63, 0);
	crafted_put(&c, c.l1_off, 8, crafted_get64(&c, c.l1_off) | UINT64_C(1) << 63);
	table = crafted_get64(&c, 48);
	block = crafted_alloc(&c, 1);
	crafted_put(&c, table, 8, block);
	for (uint64_t i = 0; i < c.nbytes / c.cluster_size; i++)
		crafted_put(&c, block + 2 * i, 2, 1);
	io = crafted_io(&c);
	crafted_free(&c);
	return io;
}

static void the_check_asks_and_leaves_the_counts_alone(void)
{
	struct qd_io *io = sound_image();

	for (unsigned stops = 0; stops < 2; stops++) {
		struct listener l = { .stops = stops };
		struct qd_progress p;

		qd_progress_init(&p, listen, &l);
		CU_ASSERT_EQUAL(qd_soundness_require(io, QD_SOUND_SPACE, 1, 0, &p, NULL),
				stops ? QD_E_CANCELLED : 0);
		CU_ASSERT(l.ncalls > 0);
		CU_ASSERT_EQUAL(l.most, 0);
		CU_ASSERT_EQUAL(p.current, 0);
		CU_ASSERT_EQUAL(p.total, 0);
		qd_progress_destroy(&p);
	}
	CU_ASSERT_EQUAL(qd_soundness_require(io, QD_SOUND_SPACE, 1, 0, NULL, NULL), 0);
	qd_io_close(io);
}

/* Of what compact does here only the check asks. */
static void compact_stops_in_the_check(void)
{
	struct qd_io *io = sound_image();
	struct qd_compact_opts opts = { .threads = 1 };
	struct listener l = { .stops = true };
	struct qd_compact_result r;
	struct qd_progress p;

	qd_progress_init(&p, listen, &l);
	CU_ASSERT_EQUAL(qd_compact_io(io, &opts, &p, &r, NULL), QD_E_CANCELLED);
	CU_ASSERT_EQUAL(r.stage, QD_COMPACT_READING);
	l.stops = false;
	CU_ASSERT_EQUAL(qd_compact_io(io, &opts, &p, &r, NULL), 0);
	CU_ASSERT_FALSE(r.changed);
	qd_progress_destroy(&p);
	qd_io_close(io);
}

CU_ErrorCode suite_soundness(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(the_check_asks_and_leaves_the_counts_alone),
		QD_TEST(compact_stops_in_the_check),
	};

	return QD_SUITE_ADD("soundness", tests);
}
