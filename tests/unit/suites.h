/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All unit test suites: suite_X in test_X.c registers the suite "X" with CUnit.  One
 * row per suite, in alphabetical order; main.c runs what stands here.
 */
#ifndef QD_TESTS_SUITES_H
#define QD_TESTS_SUITES_H

#include <CUnit/CUnit.h>

#define QD_SUITES(X) \
	X(alloc) \
	X(bitmap) \
	X(bitmaps) \
	X(build) \
	X(bytes) \
	X(cache) \
	X(codec) \
	X(compact_plan) \
	X(container) \
	X(counts) \
	X(crc32c) \
	X(digest) \
	X(disk) \
	X(entry) \
	X(err) \
	X(ext_edit) \
	X(header) \
	X(image) \
	X(index) \
	X(io) \
	X(io_file) \
	X(journal) \
	X(journal_format) \
	X(l2set) \
	X(layout) \
	X(lock) \
	X(map) \
	X(newfile) \
	X(overlap) \
	X(pipeline) \
	X(path) \
	X(pin) \
	X(plan) \
	X(queue) \
	X(recorder) \
	X(records) \
	X(refcount) \
	X(sampler) \
	X(scan_record) \
	X(size) \
	X(snapshot) \
	X(soundness) \
	X(spill) \
	X(table) \
	X(table_format) \
	X(tally) \
	/* end of list */

#define DECLARE_SUITE(name) CU_ErrorCode suite_##name(void);
QD_SUITES(DECLARE_SUITE)
#undef DECLARE_SUITE

/* One test of a suite; suites are registered with a table of these. */
struct qd_test {
	const char *claim;
	CU_TestFunc run;
};

/* A row of the table; the function's name is the claim. */
#define QD_TEST(fn) { #fn, fn }

/* Registers a suite with its tests. */
CU_ErrorCode qd_suite_add(const char *name, const struct qd_test *tests, size_t ntests);

#define QD_SUITE_ADD(name, tests) qd_suite_add(name, tests, sizeof(tests) / sizeof((tests)[0]))

#endif
