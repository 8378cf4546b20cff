/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Crashes of a repair of damaged images: judge.h says the rest.  The second repair of what
 * was left must come to the same end as the one that nobody interrupted, and at no moment
 * may more refcounts be too low than were before.
 */
#include "judge.h"
#include "ops/repair.h"

#define MEMORY (64u << 20)

static int run(struct judge *j, struct qd_io *io, struct qd_err *err)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };
	struct qd_repair_result res;

	(void)j;
	return qd_repair(io, &opts, NULL, &res, err);
}

/* Where the damaged image's counts could not be judged, neither can this. */
static const char *look(const struct qd_check_result *before, const struct qd_check_result *now)
{
	for (size_t t = QD_F_REFTABLE_SIZE; t <= QD_F_REFBLOCK_SHARED; t++)
		if (before->count[t])
			return NULL;
	if (before->count[QD_F_OVERLAP] || now->count[QD_F_REFCOUNT_LOW] <= before->count[QD_F_REFCOUNT_LOW])
		return NULL;
	return "more refcounts are too low than before";
}

/* Damage that QEMU mends without a loss: counts and flags. */
static bool qemu_can(const struct qd_check_result *before)
{
	uint64_t mild = before->count[QD_F_REFCOUNT_LOW] + before->count[QD_F_COPIED_SET] +
			before->count[QD_F_COPIED_CLEAR] + before->count[QD_F_L1_COPIED_SET] +
			before->count[QD_F_L1_COPIED_CLEAR];

	return before->corruptions == mild && !before->corrupt_bit && !before->check_errors && !before->blind;
}

int main(int argc, char **argv)
{
	static const struct judge_task task = {
		.damaged = true, .run = run, .look = look, .qemu_can = qemu_can,
	};

	return judge_main(argc, argv, &task);
}
