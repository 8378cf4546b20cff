/* SPDX-License-Identifier: GPL-2.0-or-later */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io_file.h"
#include "scratch.h"
#include "suites.h"

static const struct qd_file_opts read_opts = { .cache = QD_CACHE_WRITEBACK };
static const struct qd_file_opts write_opts = { .cache = QD_CACHE_WRITEBACK, .writable = true };
static const struct qd_file_opts unlocked_opts = { .cache = QD_CACHE_WRITEBACK, .no_lock = true };

static struct qd_io *must_open(const char *path, const struct qd_file_opts *opts)
{
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_file_open(path, opts, &io, NULL), 0);
	return io;
}

static void cache_modes_have_qemus_names(void)
{
	enum qd_cache_mode mode = QD_CACHE_UNSAFE;
	struct qd_err err;

	CU_ASSERT_EQUAL(qd_cache_mode_parse("writeback", &mode, NULL), 0);
	CU_ASSERT_EQUAL(mode, QD_CACHE_WRITEBACK);
	CU_ASSERT_EQUAL(qd_cache_mode_parse("directsync", &mode, NULL), 0);
	CU_ASSERT_EQUAL(mode, QD_CACHE_DIRECTSYNC);
	CU_ASSERT_EQUAL(qd_cache_mode_parse("Writeback", &mode, &err), QD_E_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "'Writeback'"));
	CU_ASSERT_EQUAL(qd_cache_mode_parse("", &mode, NULL), QD_E_INVALID);
}

/* Aligned and unaligned requests mixed: under direct modes they take different ways. */
static void check_mode(struct scratch *s, enum qd_cache_mode cache)
{
	struct qd_file_opts opts = { .cache = cache, .writable = true };
	struct qd_io *io = NULL;
	uint8_t *buf = NULL, want[3 * 4096 + 100];
	struct qd_err err;
	int rc;

	memset(want, 'a', sizeof(want));
	rc = qd_io_file_open(scratch_file(s, "modes", want, sizeof(want)), &opts, &io, &err);
	if (rc != 0 && err.sys_errno == EINVAL)
		return;		/* no direct I/O below TMPDIR */
	CU_ASSERT_EQUAL_FATAL(rc, 0);
	CU_ASSERT_EQUAL_FATAL(posix_memalign((void **)&buf, 4096, 2 * 4096), 0);
	CU_ASSERT_EQUAL(io->align, cache == QD_CACHE_NONE || cache == QD_CACHE_DIRECTSYNC ? 4096 : 1);
	memset(buf, 'b', 2 * 4096);
	CU_ASSERT_EQUAL(qd_io_write(io, buf, 4096, 4096, NULL), 0);
	memset(want + 4096, 'b', 4096);
	CU_ASSERT_EQUAL(qd_io_write(io, buf + 1, 500, 8000, NULL), 0);
	memset(want + 8000, 'b', 500);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 2 * 4096, 4096, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, want + 4096, 2 * 4096), 0);
	/* Aligned, but the file ends within. */
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 2 * 4096, 2 * 4096, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, want + 2 * 4096, 4096 + 100), 0);
	CU_ASSERT_TRUE(qd_is_zero(buf + 4096 + 100, 4096 - 100));
	CU_ASSERT_EQUAL(qd_io_flush(io, NULL), 0);
	qd_io_close(io);
	CU_ASSERT_TRUE(scratch_holds(s, "modes", want, sizeof(want)));
	free(buf);
}

static void every_cache_mode_reads_and_writes(void)
{
	struct scratch s;

	scratch_open(&s);
	for (int cache = QD_CACHE_WRITEBACK; cache <= QD_CACHE_UNSAFE; cache++)
		check_mode(&s, (enum qd_cache_mode)cache);
	scratch_close(&s);
}

static void expect_refused(const char *path, int code, const char *text)
{
	struct qd_io *io = NULL;
	struct qd_err err;

	for (int writable = 0; writable < 2; writable++) {
		CU_ASSERT_EQUAL(qd_io_file_open(path, writable ? &write_opts : &read_opts, &io, &err), code);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, text));
		CU_ASSERT_STRING_EQUAL(err.file, path);
		CU_ASSERT_PTR_NULL(io);
	}
}

static void what_is_no_image_is_refused_by_name(void)
{
	struct sockaddr_un addr = { .sun_family = AF_UNIX };
	int sock = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
	struct scratch s;

	scratch_open(&s);
	expect_refused(scratch_path(&s, "missing"), QD_E_IO, "No such file or directory");
	expect_refused(s.dir, QD_E_INVALID, "is a directory");
	expect_refused("/dev/null", QD_E_INVALID, "is a character device");
	CU_ASSERT_EQUAL(mkfifo(scratch_path(&s, "fifo"), 0600), 0);
	expect_refused(s.path, QD_E_INVALID, "is a pipe");
	strcpy(addr.sun_path, scratch_path(&s, "sock"));
	CU_ASSERT_EQUAL(bind(sock, (struct sockaddr *)&addr, sizeof(addr)), 0);
	expect_refused(s.path, QD_E_INVALID, "is a socket");
	expect_refused("", QD_E_IO, "No such file or directory");
	close(sock);
	scratch_close(&s);
}

static void a_colon_in_a_name_is_a_colon(void)
{
	struct scratch s;
	struct qd_io *io;
	char buf[3];

	scratch_open(&s);
	io = must_open(scratch_file(&s, "json:a:b\n", "abc", 3), &read_opts);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 3, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "abc", 3), 0);
	CU_ASSERT_STRING_EQUAL(io->name, s.path);
	qd_io_close(io);
	scratch_close(&s);
}

static void reading_shares_and_writing_excludes(void)
{
	struct qd_io *a, *b, *none = NULL;
	struct scratch s;
	struct qd_err err;
	const char *path;

	scratch_open(&s);
	path = scratch_file(&s, "image", "abc", 3);
	a = must_open(path, &read_opts);
	b = must_open(path, &read_opts);
	CU_ASSERT_EQUAL(qd_io_file_open(path, &write_opts, &none, &err), QD_E_BUSY);
	CU_ASSERT_STRING_EQUAL(err.file, path);
	qd_io_close(a);
	qd_io_close(b);
	a = must_open(path, &write_opts);
	CU_ASSERT_EQUAL(qd_io_file_open(path, &read_opts, &none, &err), QD_E_BUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "--force-share"));
	CU_ASSERT_EQUAL(qd_io_file_open(path, &write_opts, &none, &err), QD_E_BUSY);
	CU_ASSERT_PTR_NULL(none);
	b = must_open(path, &unlocked_opts);
	qd_io_close(b);
	qd_io_close(a);
	a = must_open(path, &write_opts);
	qd_io_close(a);
	scratch_close(&s);
}

/* 1 MiB of data at 4 MiB and at 12 MiB of a file of 16 MiB. */
static void holes_are_found_where_there_are_some(void)
{
	enum { MIB = 1 << 20 };
	uint64_t data, hole, off = 0, allocated, ndata = 0;
	uint8_t *buf = malloc(MIB);
	struct scratch s;
	struct qd_io *io;

	scratch_open(&s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	memset(buf, 'x', MIB);
	io = must_open(scratch_file(&s, "sparse", "", 0), &write_opts);
	CU_ASSERT_EQUAL(qd_io_truncate(io, 16 * MIB, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, buf, MIB, 4 * MIB, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, buf, MIB, 12 * MIB, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &allocated, NULL), 0);
	/* Where the file system cannot tell, all is data; never is data called a hole. */
	for (unsigned i = 0; i < 10 && off < 16 * MIB; i++) {
		CU_ASSERT_EQUAL(qd_io_next_data(io, off, &data, &hole, NULL), 0);
		CU_ASSERT_TRUE(data >= off && hole >= data && hole <= 16 * MIB);
		CU_ASSERT_FALSE(off <= 4 * MIB && data > 4 * MIB);
		CU_ASSERT_FALSE(off <= 12 * MIB && data > 12 * MIB);
		CU_ASSERT_FALSE(data >= 4 * MIB && data < 5 * MIB && hole < 5 * MIB);
		ndata += hole - data;
		off = hole;
	}
	CU_ASSERT_EQUAL(off, 16 * MIB);
	CU_ASSERT_TRUE(ndata == 16 * MIB || ndata < 4 * MIB);
	CU_ASSERT_EQUAL(qd_io_next_data(io, 16 * MIB, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 16 * MIB && hole == 16 * MIB);
	CU_ASSERT_EQUAL(qd_io_next_data(io, 99 * MIB, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 16 * MIB && hole == 16 * MIB);
	CU_ASSERT_TRUE(allocated >= 2 * MIB);
	qd_io_close(io);
	free(buf);
	scratch_close(&s);
}

static void punch_gives_back_and_keeps_the_rest(void)
{
	enum { NBYTES = 1 << 20, OFF = 100 * 4096, LEN = 50 * 4096 };
	uint64_t before, after, size;
	uint8_t *buf = malloc(NBYTES);
	struct scratch s;
	struct qd_io *io;

	scratch_open(&s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	memset(buf, 'x', NBYTES);
	io = must_open(scratch_file(&s, "punch", buf, NBYTES), &write_opts);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &before, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_punch(io, OFF, LEN, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &after, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, NBYTES, 0, NULL), 0);
	if (after < before)
		CU_ASSERT_TRUE(qd_is_zero(buf + OFF, LEN));
	CU_ASSERT_TRUE(buf[OFF - 1] == 'x' && buf[OFF + LEN] == 'x');
	CU_ASSERT_EQUAL(qd_io_punch(io, NBYTES - 4096, 1 << 20, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
	CU_ASSERT_EQUAL(size, NBYTES);
	qd_io_close(io);
	free(buf);
	scratch_close(&s);
}

/* Where the host can do it; where it cannot, the content is right all the same. */
static void zero_gives_back_and_reserve_takes(void)
{
	enum { NBYTES = 1 << 20 };
	uint64_t full, zeroed, punched, reserved;
	uint8_t *buf = malloc(NBYTES);
	struct scratch s;
	struct qd_io *io;

	scratch_open(&s);
	CU_ASSERT_PTR_NOT_NULL_FATAL(buf);
	memset(buf, 'x', NBYTES);
	io = must_open(scratch_file(&s, "zero", buf, NBYTES), &write_opts);
	CU_ASSERT_EQUAL(qd_io_flush(io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &full, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_zero(io, 0, NBYTES / 2, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &zeroed, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_punch(io, NBYTES / 2, NBYTES / 2, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &punched, NULL), 0);
	if (punched < zeroed)
		CU_ASSERT_TRUE(zeroed < full);
	CU_ASSERT_EQUAL(qd_io_reserve(io, 0, NBYTES, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_allocated(io, &reserved, NULL), 0);
	if (punched < full)
		CU_ASSERT_TRUE(reserved >= NBYTES);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, NBYTES, 0, NULL), 0);
	CU_ASSERT_TRUE(qd_is_zero(buf, NBYTES / 2));
	qd_io_close(io);
	free(buf);
	scratch_close(&s);
}

static void beyond_the_largest_offset_is_past_the_end(void)
{
	struct scratch s;
	struct qd_io *io;
	char buf[8];
	size_t n = 99;

	scratch_open(&s);
	io = must_open(scratch_file(&s, "small", "abc", 3), &write_opts);
	memset(buf, 'x', sizeof(buf));
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 8, UINT64_MAX - 2, NULL), 0);
	CU_ASSERT_TRUE(qd_is_zero(buf, 8));
	CU_ASSERT_EQUAL(qd_io_read_upto(io, buf, 8, INT64_MAX - 3, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 0);
	CU_ASSERT_EQUAL(qd_io_write(io, buf, 8, INT64_MAX - 3, NULL), QD_E_IO);
	qd_io_close(io);
	scratch_close(&s);
}

static void zero_and_reserve_reach_past_the_end(void)
{
	struct scratch s;
	struct qd_io *io;
	uint8_t buf[9000];
	uint64_t size;

	scratch_open(&s);
	memset(buf, 'x', sizeof(buf));
	io = must_open(scratch_file(&s, "zero", buf, 5000), &write_opts);
	CU_ASSERT_EQUAL(qd_io_zero(io, 10, 100, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
	CU_ASSERT_EQUAL(size, 5000);
	CU_ASSERT_EQUAL(qd_io_zero(io, 4990, 4010, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 9000, 0, NULL), 0);
	CU_ASSERT_TRUE(buf[9] == 'x' && qd_is_zero(buf + 10, 100) && buf[110] == 'x');
	CU_ASSERT_TRUE(buf[4989] == 'x' && qd_is_zero(buf + 4990, 4010));
	CU_ASSERT_EQUAL(qd_io_reserve(io, 0, 100000, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
	CU_ASSERT_EQUAL(size, 100000);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 1, 4989, NULL), 0);
	CU_ASSERT_EQUAL(buf[0], 'x');
	CU_ASSERT_EQUAL(qd_io_allocated(io, &size, NULL), 0);
	CU_ASSERT_TRUE(size >= 100000);
	qd_io_close(io);
	scratch_close(&s);
}

static void one_file_under_two_names_is_the_same(void)
{
	struct qd_io *a, *b, *c;
	struct scratch s, t;

	scratch_open(&s);
	scratch_open(&t);
	a = must_open(scratch_file(&s, "a", "x", 1), &read_opts);
	CU_ASSERT_EQUAL(link(a->name, scratch_path(&s, "b")), 0);
	b = must_open(s.path, &read_opts);
	c = must_open(scratch_file(&s, "c", "x", 1), &read_opts);
	CU_ASSERT_TRUE(qd_io_same_file(a, b));
	CU_ASSERT_FALSE(qd_io_same_file(a, c));
	CU_ASSERT_EQUAL(symlink(a->name, scratch_path(&t, "link")), 0);
	CU_ASSERT_TRUE(qd_io_is_path(b, t.path));
	CU_ASSERT_FALSE(qd_io_is_path(c, t.path));
	CU_ASSERT_FALSE(qd_io_is_path(c, scratch_path(&t, "missing")));
	qd_io_close(a);
	qd_io_close(b);
	qd_io_close(c);
	scratch_close(&t);
	scratch_close(&s);
}

static void a_pipe_is_read_once_in_order(void)
{
	struct qd_io *io = NULL;
	uint64_t data, hole;
	struct qd_err err;
	char buf[8];
	int fd[2];

	CU_ASSERT_EQUAL_FATAL(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	CU_ASSERT_EQUAL_FATAL(qd_io_stream_open(fd[0], "standard input", &io, NULL), 0);
	CU_ASSERT_TRUE(io->is_stream && !io->writable);
	CU_ASSERT_EQUAL(write(fd[1], "abcdefghij", 10), 10);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 6, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "abcdef", 6), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 2, 0, &err), QD_E_IO);
	CU_ASSERT_EQUAL(err.sys_errno, ESPIPE);
	close(fd[1]);
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 8, 6, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "ghij\0\0\0\0", 8), 0);
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 8, 14, NULL), 0);
	CU_ASSERT_TRUE(qd_is_zero(buf, 8));
	CU_ASSERT_EQUAL(qd_io_size(io, &data, &err), QD_E_IO);
	CU_ASSERT_EQUAL(qd_io_next_data(io, 14, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 14 && hole == INT64_MAX);
	qd_io_close(io);
	CU_ASSERT_EQUAL(close(fd[0]), 0);
}

/* CUnit's assertions are for one thread: the reader's are enough. */
static void *write_late(void *fd)
{
	usleep(20000);
	return write(*(int *)fd, "late", 4) == 4 ? fd : NULL;
}

static void an_empty_pipe_is_waited_for(void)
{
	struct qd_io *io = NULL;
	pthread_t writer;
	void *result;
	char buf[4];
	int fd[2];

	CU_ASSERT_EQUAL_FATAL(pipe2(fd, O_CLOEXEC | O_NONBLOCK), 0);
	CU_ASSERT_EQUAL_FATAL(qd_io_stream_open(fd[0], "standard input", &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(pthread_create(&writer, NULL, write_late, &fd[1]), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 4, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "late", 4), 0);
	CU_ASSERT_EQUAL(pthread_join(writer, &result), 0);
	CU_ASSERT_PTR_EQUAL(result, &fd[1]);
	qd_io_close(io);
	close(fd[0]);
	close(fd[1]);
}

static void a_file_on_standard_input_is_a_file(void)
{
	struct qd_io *io = NULL;
	struct scratch s;
	uint64_t size;
	char buf[4];
	int fd;

	scratch_open(&s);
	fd = open(scratch_file(&s, "in", "abcd", 4), O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL_FATAL(qd_io_stream_open(fd, "standard input", &io, NULL), 0);
	CU_ASSERT_FALSE(io->is_stream);
	CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
	CU_ASSERT_EQUAL(size, 4);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 2, 2, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "cd", 2), 0);
	qd_io_close(io);
	CU_ASSERT_EQUAL(close(fd), 0);
	io = NULL;
	fd = open(s.dir, O_RDONLY | O_CLOEXEC);
	CU_ASSERT_EQUAL(qd_io_stream_open(fd, "standard input", &io, NULL), QD_E_INVALID);
	CU_ASSERT_PTR_NULL(io);
	close(fd);
	scratch_close(&s);
}

CU_ErrorCode suite_io_file(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(cache_modes_have_qemus_names),
		QD_TEST(every_cache_mode_reads_and_writes),
		QD_TEST(what_is_no_image_is_refused_by_name),
		QD_TEST(a_colon_in_a_name_is_a_colon),
		QD_TEST(reading_shares_and_writing_excludes),
		QD_TEST(holes_are_found_where_there_are_some),
		QD_TEST(punch_gives_back_and_keeps_the_rest),
		QD_TEST(zero_gives_back_and_reserve_takes),
		QD_TEST(beyond_the_largest_offset_is_past_the_end),
		QD_TEST(zero_and_reserve_reach_past_the_end),
		QD_TEST(one_file_under_two_names_is_the_same),
		QD_TEST(a_pipe_is_read_once_in_order),
		QD_TEST(an_empty_pipe_is_waited_for),
		QD_TEST(a_file_on_standard_input_is_a_file),
	};

	return QD_SUITE_ADD("io_file", tests);
}
