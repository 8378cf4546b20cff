/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Runs the unit tests: all suites, or those named as arguments.  Exit status 0 only
 * when at least one suite ran and every assertion held.
 */
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <CUnit/Basic.h>

#include "suites.h"

static const struct suite {
	const char *name;
	CU_ErrorCode (*add)(void);
} suites[] = {
#define SUITE_ROW(name) { #name, suite_##name },
	QD_SUITES(SUITE_ROW)
#undef SUITE_ROW
};

#define NSUITES (sizeof(suites) / sizeof(suites[0]))

CU_ErrorCode qd_suite_add(const char *name, const struct qd_test *tests, size_t ntests)
{
	CU_pSuite suite = CU_add_suite(name, NULL, NULL);

	if (!suite)
		return CU_get_error();
	for (size_t i = 0; i < ntests; i++)
		if (!CU_add_test(suite, tests[i].claim, tests[i].run))
			return CU_get_error();
	return CUE_SUCCESS;
}

static bool is_wanted(const char *name, int argc, char **argv)
{
	for (int i = 1; i < argc; i++)
		if (strcmp(argv[i], name) == 0)
			return true;
	return argc < 2;
}

static bool is_suite(const char *name)
{
	for (size_t i = 0; i < NSUITES; i++)
		if (strcmp(suites[i].name, name) == 0)
			return true;
	return false;
}

static bool add_suites(int argc, char **argv)
{
	for (int i = 1; i < argc; i++) {
		if (!is_suite(argv[i])) {
			fprintf(stderr, "no such suite: %s\n", argv[i]);
			return false;
		}
	}
	for (size_t i = 0; i < NSUITES; i++) {
		if (is_wanted(suites[i].name, argc, argv) && suites[i].add() != CUE_SUCCESS) {
			fprintf(stderr, "suite %s: %s\n", suites[i].name, CU_get_error_msg());
			return false;
		}
	}
	return true;
}

int main(int argc, char **argv)
{
	bool passed;

	if (CU_initialize_registry() != CUE_SUCCESS)
		return EXIT_FAILURE;
	passed = add_suites(argc, argv);
	if (passed) {
		CU_basic_set_mode(CU_BRM_NORMAL);
		passed = CU_basic_run_tests() == CUE_SUCCESS && CU_get_number_of_failures() == 0 &&
			 CU_get_number_of_tests_run() > 0;
	}
	CU_cleanup_registry();
	return passed ? EXIT_SUCCESS : EXIT_FAILURE;
}
