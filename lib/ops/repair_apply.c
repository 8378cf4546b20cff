/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Carrying out a complete plan:
 *
 *	save metadata | dirty bit | FLUSH | the steps of plan.h, FLUSH after each | check | bits | FLUSH
 */
#include "ops/repair_int.h"
#include "ops/saved.h"

static int set_bits(struct rep *r, struct qd_queue *q, uint64_t clear, uint64_t set, struct qd_err *err)
{
	uint8_t word[8];
	uint64_t old;
	int rc;

	if (r->header.version < 3)
		return 0;
	rc = qd_queue_read(q, word, sizeof(word), QD_HEADER_OFF_INCOMPATIBLE, err);
	if (rc)
		return rc;
	old = qd_get_be64(word);
	qd_put_be64(word, (old & ~clear) | set);
	if (qd_get_be64(word) == old)
		return 0;
	return qd_queue_write(q, word, sizeof(word), QD_HEADER_OFF_INCOMPATIBLE, err);
}

/* Is everything but counts and flags in order? */
static bool is_mild(const struct qd_check_result *c)
{
	uint64_t mild = c->count[QD_F_COPIED_SET] + c->count[QD_F_COPIED_CLEAR] +
			c->count[QD_F_L1_COPIED_SET] + c->count[QD_F_L1_COPIED_CLEAR] +
			c->count[QD_F_REFCOUNT_LOW];

	return c->corruptions == mild && !c->corrupt_bit && !c->blind;
}

/* R6 */
static int finish(struct rep *r, struct qd_io *io, struct qd_queue *q, bool marked,
		  struct qd_repair_result *res, struct qd_err *err)
{
	struct qd_check_opts opts = {
		.threads = r->opts->threads, .memory = REP_MEMORY_CHECK(r->opts->memory),
	};
	uint64_t bits = QD_INCOMPAT_DIRTY | QD_INCOMPAT_CORRUPT;
	int rc;

	rc = qd_check(io, &opts, r->progress, &res->after, err);
	if (rc)
		return rc;
	if (r->opts->what == QD_REPAIR_LEAKS)
		bits = marked && !res->before.dirty ? (uint64_t)QD_INCOMPAT_DIRTY : 0;
	if (res->after.corruptions || res->after.check_errors)
		return 0;
	rc = qd_queue_barrier(q, err);
	if (rc == 0)
		rc = set_bits(r, q, bits, 0, err);
	if (rc == 0)
		rc = qd_queue_flush(q, err);
	if (rc == 0) {
		res->after.dirty = res->after.dirty && !(bits & QD_INCOMPAT_DIRTY);
		res->after.corrupt_bit = res->after.corrupt_bit && !(bits & QD_INCOMPAT_CORRUPT);
		res->after.count[QD_F_DIRTY] = res->after.dirty;
		res->after.count[QD_F_CORRUPT_BIT] = res->after.corrupt_bit;
	}
	return rc;
}

int qd_rep_distrust_index(struct rep *r, const struct qd_check_result *before, struct qd_err *err)
{
	uint64_t bits;
	int rc;

	if (is_mild(before) || r->header.version < 3 || !(r->header.autoclear & QD_AUTOCLEAR_INDEX))
		return 0;
	rc = qd_plan_get64(r->plan, QD_HEADER_OFF_AUTOCLEAR, &bits, err);
	return rc ? rc : qd_plan_put64(r->plan, QD_HEADER_OFF_AUTOCLEAR, bits & ~QD_AUTOCLEAR_INDEX,
				       QD_PLAN_DROP, err);
}

int qd_rep_carry_out(struct rep *r, struct qd_io *io, struct qd_repair_result *res, struct qd_err *err)
{
	/* R8: QEMU is able to deal with it. */
	bool mark = is_mild(&res->before) && !qd_plan_is_empty(r->plan);
	struct qd_queue_stats stats;
	struct qd_queue *q = NULL;
	int rc = 0;

	if (r->opts->save)
		rc = qd_rep_save_metadata(r, r->opts->save, err);
	if (rc == 0 && r->opts->ready)
		rc = r->opts->ready(r->opts->ctx, res, err);
	if (rc == 0)
		rc = qd_queue_new(io, REP_MEMORY_QUEUE(r->opts->memory), &q, err);
	if (rc == 0 && mark)
		rc = set_bits(r, q, 0, QD_INCOMPAT_DIRTY, err);
	if (rc == 0)
		rc = qd_plan_apply(r->plan, q, err);
	if (rc == 0)
		rc = qd_queue_flush(q, err);
	if (rc == 0)
		rc = finish(r, io, q, mark, res, err);
	if (q) {
		qd_queue_stats(q, &stats);
		res->flushes = stats.flushes;
	}
	qd_queue_free(q);
	return rc;
}
