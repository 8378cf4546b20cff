/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An io that remembers what was done to it, and makes the files that a crash could have
 * left.
 *
 *	io below (owned)  <--  recorder io  <--  the code under test
 *	                          |
 *	base image + log: write write FLUSH write punch write FLUSH write
 *	                                                  ^ crash after n operations:
 *	    what came before the last flush among them is on disk; of what came after it,
 *	    any subset is, and any of a write's 512-byte sectors.
 *
 * The model: a flush that returned makes everything before it durable; without one,
 * operations may reach the disk in any order or not at all; a sector of 512 bytes is
 * written whole or not.  A truncation or hole is done whole or not, and the file's size
 * follows from what was done.
 */
#ifndef QD_TESTS_RECORDER_H
#define QD_TESTS_RECORDER_H

#include "base/io.h"

struct recorder;

/*
 * Records from here on; the content of `below` now is the base.  On success the recorder
 * owns below.  Writable files of up to a few hundred MiB: base and log are in memory.
 */
int recorder_new(struct qd_io *below, struct recorder **ret_recorder, struct qd_err *err);
void recorder_free(struct recorder *r);

/* The io to give to the code under test; closing it changes nothing, recorder_free does. */
struct qd_io *recorder_io(struct recorder *r);

/* Operations so far; flushes count. */
size_t recorder_nops(const struct recorder *r);
size_t recorder_nflushes(const struct recorder *r);

enum crash_kind {
	CRASH_ALL,	/* every operation up to the crash is on disk */
	CRASH_NONE,	/* none since the last flush */
	CRASH_SUBSET,	/* some of them, whole */
	CRASH_TORN,	/* some of their sectors */
};

struct crash {
	size_t nops;		/* operations that were issued */
	enum crash_kind kind;
	uint64_t seed;		/* chooses the subset */
};

/* The file as that crash left it, in memory; the caller owns *ret_io.  One thread at a time. */
int recorder_crash(const struct recorder *r, const struct crash *crash, struct qd_io **ret_io,
		   struct qd_err *err);

/*
 * A row of crashes that covers a recording: for every prefix CRASH_ALL, CRASH_NONE and
 * `subsets` seeded ones of each other kind.  Number i of them, false when there are no
 * more.
 */
bool recorder_plan(const struct recorder *r, unsigned subsets, uint64_t seed, size_t i,
		   struct crash *ret_crash);

#endif
