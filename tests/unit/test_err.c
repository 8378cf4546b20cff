/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <string.h>

#include "base/err.h"
#include "suites.h"

static void set_returns_its_code_and_formats(void)
{
	struct qd_err err;

	CU_ASSERT_EQUAL(qd_err_set(&err, QD_E_CORRUPT, "cluster_bits is %d", 7), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(err.code, QD_E_CORRUPT);
	CU_ASSERT_EQUAL(err.sys_errno, 0);
	CU_ASSERT_STRING_EQUAL(err.msg, "cluster_bits is 7");
	CU_ASSERT_STRING_EQUAL(err.file, "");
}

static void sys_appends_what_the_system_says(void)
{
	struct qd_err err;

	CU_ASSERT_EQUAL(qd_err_sys(&err, ENOSPC, "cannot write"), QD_E_IO);
	CU_ASSERT_EQUAL(err.sys_errno, ENOSPC);
	CU_ASSERT_STRING_EQUAL(err.msg, "cannot write: No space left on device");
}

static void sys_turns_enomem_into_nomem(void)
{
	struct qd_err err;

	CU_ASSERT_EQUAL(qd_err_sys(&err, ENOMEM, "cannot open"), QD_E_NOMEM);
	CU_ASSERT_EQUAL(err.code, QD_E_NOMEM);
	CU_ASSERT_EQUAL(err.sys_errno, 0);
}

static void prefix_goes_before_and_keeps_the_code(void)
{
	struct qd_err err;

	qd_err_sys(&err, EIO, "cannot read");
	qd_err_file(&err, QD_E_IO, "disk.qcow2");
	CU_ASSERT_EQUAL(qd_err_prefix(&err, QD_E_INVALID, "l1 table %d", 3), QD_E_IO);
	CU_ASSERT_STRING_EQUAL(err.msg, "l1 table 3: cannot read: Input/output error");
	CU_ASSERT_EQUAL(err.sys_errno, EIO);
	CU_ASSERT_STRING_EQUAL(err.file, "disk.qcow2");
}

static void innermost_file_wins_and_set_clears_it(void)
{
	struct qd_err err;

	qd_err_set(&err, QD_E_IO, "x");
	CU_ASSERT_EQUAL(qd_err_file(&err, QD_E_IO, "base.qcow2"), QD_E_IO);
	qd_err_file(&err, QD_E_IO, "top.qcow2");
	CU_ASSERT_STRING_EQUAL(err.file, "base.qcow2");
	qd_err_set(&err, QD_E_IO, "y");
	CU_ASSERT_STRING_EQUAL(err.file, "");
}

static void arguments_may_be_the_error_itself(void)
{
	struct qd_err err;

	qd_err_set(&err, QD_E_IO, "inner");
	qd_err_set(&err, QD_E_IO, "outer (%s)", err.msg);
	CU_ASSERT_STRING_EQUAL(err.msg, "outer (inner)");
	qd_err_prefix(&err, QD_E_IO, "again %s", err.msg);
	CU_ASSERT_STRING_EQUAL(err.msg, "again outer (inner): outer (inner)");
}

static void long_texts_are_cut_but_the_reason_stays(void)
{
	char name[3 * QD_ERR_MSG_MAX], path[2 * QD_ERR_FILE_MAX];
	struct qd_err err;

	memset(name, 'n', sizeof(name));
	name[sizeof(name) - 1] = '\0';
	memset(path, 'p', sizeof(path));
	path[sizeof(path) - 1] = '\0';
	qd_err_sys(&err, EIO, "%s", name);
	CU_ASSERT_EQUAL(strlen(err.msg), QD_ERR_MSG_MAX - 1);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "n: Input/output error"));
	qd_err_prefix(&err, QD_E_IO, "%s", name);
	CU_ASSERT_TRUE(strlen(err.msg) < QD_ERR_MSG_MAX);
	qd_err_file(&err, QD_E_IO, path);
	CU_ASSERT_EQUAL(strlen(err.file), QD_ERR_FILE_MAX - 1);
}

static void null_is_allowed_everywhere(void)
{
	struct qd_err err;

	qd_err_clear(NULL);
	CU_ASSERT_EQUAL(qd_err_set(NULL, QD_E_BUSY, "x"), QD_E_BUSY);
	CU_ASSERT_EQUAL(qd_err_sys(NULL, EIO, "x"), QD_E_IO);
	CU_ASSERT_EQUAL(qd_err_sys(NULL, ENOMEM, "x"), QD_E_NOMEM);
	CU_ASSERT_EQUAL(qd_err_prefix(NULL, QD_E_CORRUPT, "x"), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_err_file(NULL, QD_E_IO, "x"), QD_E_IO);
	CU_ASSERT_EQUAL(qd_err_nomem(NULL, "x"), QD_E_NOMEM);
	qd_err_set(&err, QD_E_BUSY, "x");
	qd_err_copy(NULL, &err);
	qd_err_copy(&err, NULL);
	CU_ASSERT_EQUAL(err.code, QD_OK);
	CU_ASSERT_STRING_EQUAL(err.msg, "");
}

static void copy_takes_everything(void)
{
	struct qd_err a, b;

	qd_err_sys(&a, EIO, "cannot read");
	qd_err_file(&a, QD_E_IO, "f");
	qd_err_copy(&b, &a);
	CU_ASSERT_EQUAL(b.code, QD_E_IO);
	CU_ASSERT_EQUAL(b.sys_errno, EIO);
	CU_ASSERT_STRING_EQUAL(b.msg, a.msg);
	CU_ASSERT_STRING_EQUAL(b.file, "f");
}

CU_ErrorCode suite_err(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(set_returns_its_code_and_formats),
		QD_TEST(sys_appends_what_the_system_says),
		QD_TEST(sys_turns_enomem_into_nomem),
		QD_TEST(prefix_goes_before_and_keeps_the_code),
		QD_TEST(innermost_file_wins_and_set_clears_it),
		QD_TEST(arguments_may_be_the_error_itself),
		QD_TEST(long_texts_are_cut_but_the_reason_stays),
		QD_TEST(null_is_allowed_everywhere),
		QD_TEST(copy_takes_everything),
	};

	return QD_SUITE_ADD("err", tests);
}
