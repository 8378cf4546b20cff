/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault_compact [-s STEP] IMAGE...: each I/O call of `qdedup compact` going wrong (faults.h).
 *
 * A run that goes through leaves a file as long as an undisturbed one does; the next run
 * after a repair does so, but for a few clusters.
 */
#include "faults.h"
#include "ops/compact.h"

#define MEMORY (64u << 20)
#define SLACK 4u		/* clusters */

/* r->end: the file's length afterwards, bytes. */
static int compact(struct faults_run *r, struct qd_err *err)
{
	struct qd_compact_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_compact_result result;
	int rc = qd_compact_io(r->io, &opts, NULL, &result, err);

	r->end = result.file_size[1];
	return rc;
}

static const char *look(const struct faults_run *r)
{
	if (r->stage == FAULTS_WENT_THROUGH && r->end != r->undisturbed_end)
		return "a file of another length";
	/* So many free clusters are not worth a run that has to put a hash table back. */
	if (r->stage == FAULTS_NEXT && r->end > r->undisturbed_end + SLACK * r->cluster_size)
		return "the next run leaves a longer file";
	return NULL;
}

int main(int argc, char **argv)
{
	static const struct faults_task task = { .memory = MEMORY, .run = compact, .look = look };

	return faults_main(argc, argv, &task);
}
