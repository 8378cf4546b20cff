/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The frame of the fault tests.  It runs an operation on copies of an image in memory, again
 * and again, with another of its I/O calls going wrong each time (faulty.h):
 *
 *	for each kind of fault, for n = 1, 2, 3 ... until a run is not touched by it:
 *
 *	copy of the image --> run, call n goes wrong --> F1 F2 F3
 *	                                  |
 *	                                  +-- failed --> repair --> F2 F3 --> next run --> F2 F3 F4
 *
 *  F1  the run fails with a message, or goes through.  A short transfer fails no run, and
 *      no run fails that was not touched.
 *  F2  every layer reads what it did.
 *  F3  the file is clean or has leaks at worst, or, right after a run that failed, is
 *      marked dirty; and struct faults_task.look has nothing to say.
 *  F4  the next run goes through.
 *
 * What an operation ends with, and how near to an undisturbed run that must be, is for the
 * task to say.  A fault program is a task and one line of main():
 *
 *	fault_NAME [-s STEP] IMAGE...
 *
 *	-s  every STEP-th call only (1)
 *
 * It prints "RUNS runs of IMAGES images"; what goes wrong goes to stderr, with the kind of
 * fault and the call that show it, and ends with status 1.
 */
#ifndef QD_TESTS_FAULTS_H
#define QD_TESTS_FAULTS_H

#include "base/io.h"

enum faults_stage {
	FAULTS_WENT_THROUGH,	/* the run under test, in spite of the fault or untouched */
	FAULTS_FAILED,		/* the run under test */
	FAULTS_NEXT,		/* the run after a repair, with nothing in its way */
};

struct faults_run {
	struct qd_io *io;	/* for the operation: calls of it go wrong */
	struct qd_io *image;	/* what lies below, for looking without being disturbed */

	/* The operation sets these, as far as it has something to say. */
	uint64_t end;		/* a number of the task's own, comparable between runs */
	const char *wrong;	/* NULL: nothing */

	/* For look(); not yet known while the operation runs. */
	enum faults_stage stage;
	uint64_t undisturbed_end;	/* end of a run that nothing disturbed */
	uint64_t cluster_size;		/* bytes */
};

struct faults_task {
	uint64_t memory;	/* bytes, for each check and each repair */
	bool no_enospc_once;	/* leave that kind of fault out */

	/* The operation.  An error of a run that nothing disturbs ends the program. */
	int (*run)(struct faults_run *r, struct qd_err *err);

	/* The run after a repair; NULL: the same again. */
	int (*next)(struct faults_run *r, struct qd_err *err);

	/* What is wrong with the image after a run, beyond F2 and F3, or NULL. */
	const char *(*look)(const struct faults_run *r);
};

/* The exit status: 0, 1 when something went wrong, 2 for an unknown option. */
int faults_main(int argc, char **argv, const struct faults_task *task);

#endif
