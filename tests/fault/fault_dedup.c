/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault_dedup [-s STEP] IMAGE...: each I/O call of `qdedup dedup` going wrong (faults.h).
 *
 * A run that goes through, and the next run after a repair, leave as many data clusters as
 * an undisturbed one does.
 */
#include "faults.h"
#include "ops/dedup.h"

#define MEMORY (64u << 20)

/* r->end: the data clusters that remain. */
static int dedup(struct faults_run *r, struct qd_err *err)
{
	struct qd_dedup_opts opts = { .threads = 1, .memory = MEMORY, .batch = 20 };
	struct qd_dedup_result result;
	int rc = qd_dedup_io(r->io, &opts, NULL, &result, err);

	r->end = result.remaining;
	return rc;
}

static const char *look(const struct faults_run *r)
{
	if (r->stage == FAULTS_FAILED || r->end == r->undisturbed_end)
		return NULL;
	return r->stage == FAULTS_NEXT ? "the next run leaves another number of clusters" :
					 "another number of clusters";
}

int main(int argc, char **argv)
{
	static const struct faults_task task = { .memory = MEMORY, .run = dedup, .look = look };

	return faults_main(argc, argv, &task);
}
