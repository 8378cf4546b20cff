/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * New files, each claim by both ways: unnamed temporary file and named one.
 */
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/lock.h"
#include "base/newfile.h"
#include "scratch.h"
#include "suites.h"

typedef int open_fn(const char *path, enum qd_cache_mode cache, struct qd_newfile **ret_nf,
		    struct qd_err *err);

static open_fn *const ways[] = { qd_newfile_open, qd_newfile_open_named };

#define NWAYS 2

static struct qd_newfile *must_open(open_fn *way, const char *path)
{
	struct qd_newfile *nf = NULL;

	CU_ASSERT_EQUAL_FATAL(way(path, QD_CACHE_WRITEBACK, &nf, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(qd_newfile_io(nf), "new", 3, 0, NULL), 0);
	return nf;
}

static mode_t mode_of(const char *path)
{
	struct stat st;

	CU_ASSERT_EQUAL(stat(path, &st), 0);
	return st.st_mode & 07777;
}

static void appears_only_when_committed(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct qd_newfile *nf;
		struct scratch s;

		scratch_open(&s);
		nf = must_open(ways[i], scratch_path(&s, "out"));
		CU_ASSERT_NOT_EQUAL(access(s.path, F_OK), 0);
		CU_ASSERT_EQUAL(scratch_count(&s), i);
		CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
		CU_ASSERT_EQUAL(scratch_count(&s), 1);
		scratch_close(&s);
	}
}

static void leaves_nothing_when_aborted(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct scratch s;

		scratch_open(&s);
		qd_newfile_abort(must_open(ways[i], scratch_path(&s, "out")));
		CU_ASSERT_EQUAL(scratch_count(&s), 0);
		scratch_file(&s, "out", "old", 3);
		qd_newfile_abort(must_open(ways[i], scratch_path(&s, "out")));
		CU_ASSERT_EQUAL(scratch_count(&s), 1);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "old", 3));
		scratch_close(&s);
	}
	qd_newfile_abort(NULL);
}

static void replaces_in_one_step_and_keeps_the_mode(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct qd_newfile *nf;
		struct scratch s;

		scratch_open(&s);
		CU_ASSERT_EQUAL(chmod(scratch_file(&s, "out", "old", 3), 0640), 0);
		nf = must_open(ways[i], scratch_path(&s, "out"));
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "old", 3));
		CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
		CU_ASSERT_EQUAL(mode_of(scratch_path(&s, "out")), 0640);
		CU_ASSERT_EQUAL(scratch_count(&s), 1);
		scratch_close(&s);
	}
}

static void replaces_what_came_meanwhile(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct qd_newfile *nf;
		struct scratch s;

		scratch_open(&s);
		nf = must_open(ways[i], scratch_path(&s, "out"));
		scratch_file(&s, "out", "foreign", 7);
		CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
		nf = must_open(ways[i], scratch_path(&s, "out"));
		CU_ASSERT_EQUAL(unlink(scratch_path(&s, "out")), 0);
		CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
		CU_ASSERT_EQUAL(scratch_count(&s), 1);
		scratch_close(&s);
	}
}

static void mode_follows_the_umask(void)
{
	for (int i = 0; i < NWAYS; i++) {
		mode_t old = umask(027);
		struct scratch s;

		scratch_open(&s);
		CU_ASSERT_EQUAL(qd_newfile_commit(must_open(ways[i], scratch_path(&s, "out")), NULL), 0);
		CU_ASSERT_EQUAL(mode_of(scratch_path(&s, "out")), 0640);
		umask(old);
		scratch_close(&s);
	}
}

static void every_cache_mode_commits(void)
{
	for (int cache = QD_CACHE_WRITEBACK; cache <= QD_CACHE_UNSAFE; cache++) {
		struct qd_newfile *nf = NULL;
		struct qd_err err;
		struct scratch s;
		int rc;

		scratch_open(&s);
		rc = qd_newfile_open(scratch_path(&s, "out"), (enum qd_cache_mode)cache, &nf, &err);
		if (rc < 0) {		/* no direct I/O below TMPDIR */
			CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "cache mode"));
		} else {
			CU_ASSERT_EQUAL(qd_io_write(qd_newfile_io(nf), "new", 3, 0, NULL), 0);
			CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
			CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
		}
		scratch_close(&s);
	}
}

static void a_locked_target_is_busy_at_open_and_at_commit(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct qd_newfile *nf = NULL, *none = NULL;
		struct qd_err err;
		struct scratch s;
		int fd;

		scratch_open(&s);
		fd = open(scratch_file(&s, "out", "old", 3), O_RDONLY | O_CLOEXEC);
		CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, NULL), 0);
		CU_ASSERT_EQUAL(ways[i](s.path, QD_CACHE_WRITEBACK, &none, &err), QD_E_BUSY);
		CU_ASSERT_STRING_EQUAL(err.file, s.path);
		close(fd);

		/* While we hold it nobody else can start; a file put in its place is looked at again. */
		nf = must_open(ways[i], s.path);
		fd = open(s.path, O_RDONLY | O_CLOEXEC);
		CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, NULL), QD_E_BUSY);
		close(fd);
		CU_ASSERT_EQUAL(unlink(s.path), 0);
		fd = open(scratch_file(&s, "out", "other", 5), O_RDONLY | O_CLOEXEC);
		CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, NULL), 0);
		CU_ASSERT_EQUAL(qd_newfile_commit(nf, &err), QD_E_BUSY);
		CU_ASSERT_STRING_EQUAL(err.file, s.path);
		CU_ASSERT_TRUE(scratch_holds(&s, "out", "other", 5));
		CU_ASSERT_EQUAL(scratch_count(&s), 1);
		close(fd);
		scratch_close(&s);
	}
}

static void expect_refused(const char *path, int code, const char *text)
{
	struct qd_newfile *nf = NULL;
	struct qd_err err;

	for (int i = 0; i < NWAYS; i++) {
		CU_ASSERT_EQUAL(ways[i](path, QD_CACHE_WRITEBACK, &nf, &err), code);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, text));
		CU_ASSERT_STRING_EQUAL(err.file, path);
		CU_ASSERT_PTR_NULL(nf);
	}
}

static void what_cannot_be_replaced_is_named(void)
{
	struct scratch s;

	scratch_open(&s);
	expect_refused(s.dir, QD_E_INVALID, "is a directory");
	expect_refused("/dev/null", QD_E_INVALID, "is a character device");
	CU_ASSERT_EQUAL(mkfifo(scratch_path(&s, "fifo"), 0600), 0);
	expect_refused(s.path, QD_E_INVALID, "is a pipe");
	expect_refused(scratch_path(&s, "missing/out"), QD_E_IO, "missing/': No such file or directory");
	expect_refused(scratch_path(&s, "fifo/out"), QD_E_IO, "Not a directory");
	expect_refused(scratch_path(&s, "out/"), QD_E_INVALID, "expected the name of a file");
	expect_refused(scratch_path(&s, ".."), QD_E_INVALID, "expected the name of a file");
	expect_refused("", QD_E_INVALID, "expected the name of a file");
	CU_ASSERT_EQUAL(symlink("loop", scratch_path(&s, "loop")), 0);
	expect_refused(s.path, QD_E_IO, "Too many levels of symbolic links");
	CU_ASSERT_EQUAL(scratch_count(&s), 2);
	scratch_close(&s);
}

/* /proc/self takes no new files from anybody, root included. */
static void a_directory_without_room_for_us_is_an_error(void)
{
	expect_refused("/proc/self/out", QD_E_IO, "cannot create a file in the directory");
}

static void a_link_is_followed_even_into_nothing(void)
{
	for (int i = 0; i < NWAYS; i++) {
		struct scratch s;
		struct stat st;
		char third[128];

		scratch_open(&s);
		CU_ASSERT_EQUAL(mkdir(scratch_path(&s, "sub"), 0700), 0);
		CU_ASSERT_EQUAL(symlink("../target", scratch_path(&s, "sub/second")), 0);
		CU_ASSERT_EQUAL(symlink("sub/second", scratch_path(&s, "third")), 0);
		snprintf(third, sizeof(third), "%s/third", s.dir);
		CU_ASSERT_EQUAL(symlink(third, scratch_path(&s, "first")), 0);
		for (int round = 0; round < 2; round++) {
			const char *path = scratch_path(&s, "first");

			CU_ASSERT_EQUAL(qd_newfile_commit(must_open(ways[i], path), NULL), 0);
			CU_ASSERT_TRUE(lstat(path, &st) == 0 && S_ISLNK(st.st_mode));
			CU_ASSERT_TRUE(scratch_holds(&s, "target", "new", 3));
			CU_ASSERT_EQUAL(scratch_count(&s), 4);
			scratch_file(&s, "target", "older", 5);
		}
		scratch_close(&s);
	}
}

static void the_temporary_name_is_cut_between_characters(void)
{
	struct qd_newfile *nf;
	struct scratch s;
	const char *temp;
	char name[NAME_MAX + 1] = "x";

	while (strlen(name) + 3 <= NAME_MAX)
		strcat(name, "\xe2\x82\xac");
	scratch_open(&s);
	nf = must_open(qd_newfile_open_named, scratch_path(&s, name));
	temp = scratch_hidden(&s);
	/* ".x", 82 characters of 3 bytes where 246 are left for them, ".XXXXXX" */
	CU_ASSERT_EQUAL(strlen(temp), 2 + 246 + 7);
	CU_ASSERT_EQUAL(strncmp(temp + 1, name, 247), 0);
	CU_ASSERT_EQUAL(temp[248], '.');
	qd_newfile_abort(nf);
	strcpy(name, "xx");
	while (strlen(name) + 3 <= NAME_MAX)
		strcat(name, "\xe2\x82\xac");
	nf = must_open(qd_newfile_open_named, scratch_path(&s, name));
	temp = scratch_hidden(&s);
	/* Only 81 fit behind "xx". */
	CU_ASSERT_EQUAL(strlen(temp), 3 + 243 + 7);
	CU_ASSERT_EQUAL(strncmp(temp + 1, name, 245), 0);
	CU_ASSERT_EQUAL(temp[246], '.');
	qd_newfile_abort(nf);
	scratch_close(&s);
}

/* Names at and near NAME_MAX, where the temporary name must be cut, between characters. */
static void awkward_names_work(void)
{
	static const char *const units[] = { "n", "\xc3\xa4", "\xe2\x82\xac", "\n", " ", "%s", "\xff" };

	for (size_t u = 0; u < sizeof(units) / sizeof(units[0]); u++) {
		for (size_t len = NAME_MAX - 10; len <= NAME_MAX; len++) {
			char name[NAME_MAX + 1] = "";
			struct scratch s;

			while (strlen(name) + strlen(units[u]) <= len)
				strcat(name, units[u]);
			scratch_open(&s);
			for (int i = 0; i < 2 * NWAYS; i++) {
				struct qd_newfile *nf = must_open(ways[i / 2], scratch_path(&s, name));

				CU_ASSERT_EQUAL(qd_newfile_commit(nf, NULL), 0);
				CU_ASSERT_TRUE(scratch_holds(&s, name, "new", 3));
				CU_ASSERT_EQUAL(scratch_count(&s), 1);
			}
			scratch_close(&s);
		}
	}
}

static void a_relative_name_is_in_the_working_directory(void)
{
	int cwd = open(".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
	struct scratch s;

	scratch_open(&s);
	CU_ASSERT_EQUAL_FATAL(chdir(s.dir), 0);
	CU_ASSERT_EQUAL(qd_newfile_commit(must_open(qd_newfile_open, "out"), NULL), 0);
	CU_ASSERT_EQUAL_FATAL(fchdir(cwd), 0);
	CU_ASSERT_TRUE(scratch_holds(&s, "out", "new", 3));
	close(cwd);
	scratch_close(&s);
}

static void the_same_name_is_recognised(void)
{
	static const struct {
		const char *name;
		bool same;
	} rows[] = { { "out", true }, { "./out", true }, { "sub/../out", true }, { "link", true }, { "out2", false },
		     { "sub/out", false } };
	struct qd_newfile *nf, *other;
	struct scratch s;

	scratch_open(&s);
	CU_ASSERT_EQUAL(mkdir(scratch_path(&s, "sub"), 0777), 0);
	CU_ASSERT_EQUAL(symlink("out", scratch_path(&s, "link")), 0);
	nf = must_open(qd_newfile_open, scratch_path(&s, "out"));
	for (unsigned i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		other = must_open(qd_newfile_open, scratch_path(&s, rows[i].name));
		CU_ASSERT_EQUAL(qd_newfile_same(nf, other), rows[i].same);
		qd_newfile_abort(other);
	}
	qd_newfile_abort(nf);
	scratch_close(&s);
}

CU_ErrorCode suite_newfile(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(appears_only_when_committed),
		QD_TEST(leaves_nothing_when_aborted),
		QD_TEST(replaces_in_one_step_and_keeps_the_mode),
		QD_TEST(replaces_what_came_meanwhile),
		QD_TEST(mode_follows_the_umask),
		QD_TEST(every_cache_mode_commits),
		QD_TEST(a_locked_target_is_busy_at_open_and_at_commit),
		QD_TEST(what_cannot_be_replaced_is_named),
		QD_TEST(a_directory_without_room_for_us_is_an_error),
		QD_TEST(a_link_is_followed_even_into_nothing),
		QD_TEST(the_temporary_name_is_cut_between_characters),
		QD_TEST(awkward_names_work),
		QD_TEST(the_same_name_is_recognised),
		QD_TEST(a_relative_name_is_in_the_working_directory),
	};

	return QD_SUITE_ADD("newfile", tests);
}
