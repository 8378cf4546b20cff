/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The judge of the crash tests.  It runs an operation on an image in memory while every
 * write and flush is recorded, and then looks at each file that a crash could have left:
 *
 *	image --> layers before --> operation --> layers after
 *	                               |
 *	                         log of writes and flushes  (recorder.h)
 *	                               |  every crash of recorder_plan()
 *	                             state --+--> are its layers what they may be?    J1
 *	                                     +--> is a check content with it?         J2
 *	                                     +--> each way back, on a copy of it      J3
 *
 *  J1  each layer (the active one and every snapshot that was there, but for the pin) reads
 *      as it did before.  An operation that changes the active one says how: each byte is
 *      then what it was when the last judge_settled() returned before the crash, or what a
 *      change after that made of it.  Of a damaged image, whatever could be read and that
 *      the operation leaves as it is counts, cluster by cluster (guest.h).
 *  J2  struct judge_task.look, or: leaks at worst, unless the dirty bit is set.
 *  J3  every way back ends with an image that a check finds clean (of a damaged image: with
 *      the status that the undisturbed operation ended with) and with layers that read as
 *      the state's did (damaged: as they did after the undisturbed operation).
 *
 * Ways back are `qdedup check --repair`, through the library, of every state; those that
 * the task adds (a journal's replay), of every state; and for a seeded sample, stock QEMU:
 * `qemu-img check -r all`, and a read-write open by qemu-io.
 *
 * A crash program is a task and one line of main():
 *
 *	crash_NAME [-s SUBSETS] [-m MAX] [-S SEED] [-q EVERY] [-M MODE] IMAGE...
 *
 *	-s  seeded subsets of each kind for each prefix (2)    -m  states of an image, at most
 *	-S  the seed (1)                                       -q  QEMU judges one state in EVERY (0: none)
 *	-M  a word for the task (judge_mode)
 *
 * It prints "STATES states of IMAGES images, N by QEMU"; what goes wrong goes to
 * stderr, with the crash (operations, kind, seed) that shows it, and ends with status 1.
 */
#ifndef QD_TESTS_JUDGE_H
#define QD_TESTS_JUDGE_H

#include "base/io.h"
#include "ops/check.h"

struct judge;	/* one image and what is known of it */

/* Another way back: mends in place what a crash left. */
struct judge_way {
	const char *name;
	int (*run)(struct qd_io *io, struct qd_err *err);
};

struct judge_task {
	bool damaged;			/* the images are, and the operation repairs them */

	/* The operation, on an io that records.  An error ends the program. */
	int (*run)(struct judge *j, struct qd_io *io, struct qd_err *err);

	/* J2: what is wrong with a state, or NULL.  before: the image before the operation. */
	const char *(*look)(const struct qd_check_result *before, const struct qd_check_result *state);

	/* May QEMU judge states of such an image?  NULL: of any. */
	bool (*qemu_can)(const struct qd_check_result *before);

	const struct judge_way *ways;	/* of the task's own, up to one without a name; may be NULL */
	bool completes;			/* these complete what was cut short: the active layer then is what J1 allows */
};

int judge_main(int argc, char **argv, const struct judge_task *task);

/* ---- for operations ---- */

const char *judge_mode(const struct judge *j);			/* -M, or "" */
uint64_t judge_random(struct judge *j, uint64_t limit);	/* below limit; from the seed */

/* The active layer as it should be by now, judge_disk_size() bytes. */
const uint8_t *judge_disk(const struct judge *j);
uint64_t judge_disk_size(const struct judge *j);

/* Said before a command: from here on the bytes may be these (NULL: zeros). */
void judge_will_change(struct judge *j, uint64_t off, uint64_t nbytes, const uint8_t *data);

/* Said when a flush has returned: all changes until here have happened. */
void judge_settled(struct judge *j);

#endif
