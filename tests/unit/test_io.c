/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The transfer loops and fallbacks, on memory and on an io that is as unhelpful as the
 * contract allows: it moves three bytes at a time, is interrupted at every other call,
 * and fails for good at one chosen byte.
 */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "suites.h"

struct grudging {
	struct qd_io io;
	struct qd_io *mem;
	unsigned ncalls;
	int fail_errno;		/* 0: never */
	uint64_t fail_at;	/* byte whose transfer fails */
};

static struct grudging *grudging_of(struct qd_io *io)
{
	return (struct grudging *)(void *)io;
}

/* How much to move now, or a negative errno. */
static ssize_t ration(struct grudging *g, size_t nbytes, uint64_t off)
{
	if (g->ncalls++ % 2 == 0)
		return -EINTR;
	if (g->fail_errno && off == g->fail_at)
		return -g->fail_errno;
	if (nbytes > 3)
		nbytes = 3;
	if (g->fail_errno && off < g->fail_at && off + nbytes > g->fail_at)
		nbytes = (size_t)(g->fail_at - off);
	return (ssize_t)nbytes;
}

static ssize_t grudging_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct grudging *g = grudging_of(io);
	ssize_t n = ration(g, nbytes, off);

	return n > 0 ? g->mem->ops->pread(g->mem, buf, (size_t)n, off) : n;
}

static ssize_t grudging_pwritev(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct grudging *g = grudging_of(io);
	uint8_t flat[16];
	size_t nbytes = 0;
	ssize_t n;

	for (int i = 0; i < niov; i++)
		for (size_t k = 0; k < iov[i].iov_len && nbytes < sizeof(flat); k++)
			flat[nbytes++] = ((const uint8_t *)iov[i].iov_base)[k];
	n = ration(g, nbytes, off);
	if (n > 0)
		n = g->mem->ops->pwritev(g->mem, &(struct iovec){ flat, (size_t)n }, 1, off);
	return n;
}

static int grudging_flush(struct qd_io *io)
{
	struct grudging *g = grudging_of(io);

	return g->ncalls++ % 2 == 0 ? -EINTR : -g->fail_errno;
}

static int grudging_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	return grudging_of(io)->mem->ops->size(grudging_of(io)->mem, ret_nbytes);
}

static int grudging_truncate(struct qd_io *io, uint64_t nbytes)
{
	struct grudging *g = grudging_of(io);

	return g->ncalls++ % 2 == 0 ? -EINTR : g->mem->ops->truncate(g->mem, nbytes);
}

static const struct qd_io_ops grudging_ops = {
	.pread = grudging_pread,
	.pwritev = grudging_pwritev,
	.flush = grudging_flush,
	.size = grudging_size,
	.truncate = grudging_truncate,
};

static char grudging_name[] = "disk.img";

static struct grudging new_grudging(const void *data, size_t nbytes)
{
	struct grudging g = {
		.io = { .ops = &grudging_ops, .name = grudging_name, .writable = true, .align = 1 },
	};

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(data, nbytes, true, &g.mem, NULL), 0);
	return g;
}

static bool mem_holds(struct qd_io *mem, const void *data, size_t nbytes)
{
	size_t have;
	const uint8_t *p = qd_io_mem_data(mem, &have);

	return have == nbytes && memcmp(p, data, nbytes) == 0;
}

static void short_and_interrupted_transfers_are_completed(void)
{
	struct grudging g = new_grudging("0123456789abcdef", 16);
	char buf[17] = "";

	CU_ASSERT_EQUAL(qd_io_read(&g.io, buf, 14, 1, NULL), 0);
	CU_ASSERT_STRING_EQUAL(buf, "123456789abcde");
	CU_ASSERT_EQUAL(qd_io_write(&g.io, "ABCDEFGHIJ", 10, 3, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "012ABCDEFGHIJdef", 16));
	CU_ASSERT_EQUAL(qd_io_flush(&g.io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_truncate(&g.io, 4, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "012A", 4));
	qd_io_close(g.mem);
}

static void vectors_of_any_shape_arrive_in_order(void)
{
	struct grudging g = new_grudging(NULL, 0);
	struct iovec iov[1000], before[1000];
	uint8_t want[4000];
	size_t nbytes = 0;

	/* Lengths 0 to 7, more entries than one call takes. */
	for (size_t i = 0; i < 1000; i++) {
		iov[i].iov_base = want + nbytes;
		iov[i].iov_len = i * 5 % 8;
		for (size_t k = 0; k < iov[i].iov_len; k++)
			want[nbytes++] = (uint8_t)(i * 7 + k);
	}
	CU_ASSERT_EQUAL_FATAL(nbytes, 3500);
	memcpy(before, iov, sizeof(iov));
	CU_ASSERT_EQUAL(qd_io_writev(&g.io, iov, 1000, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(before, iov, sizeof(iov)), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, want, nbytes));
	CU_ASSERT_EQUAL(qd_io_truncate(g.mem, 0, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_writev(g.mem, iov, 1000, 0, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, want, nbytes));
	CU_ASSERT_EQUAL(qd_io_writev(&g.io, iov, 0, 0, NULL), 0);
	qd_io_close(g.mem);
}

static void a_bad_byte_is_named_by_offset_and_length(void)
{
	struct grudging g = new_grudging(NULL, 4096);
	struct qd_err err;
	char buf[4096];

	g.fail_errno = EIO;
	g.fail_at = 0x205;
	CU_ASSERT_EQUAL(qd_io_read(&g.io, buf, 0x200, 0x100, &err), QD_E_IO);
	CU_ASSERT_EQUAL(err.sys_errno, EIO);
	CU_ASSERT_STRING_EQUAL(err.msg, "cannot read 0xfb bytes at 0x205: Input/output error");
	CU_ASSERT_STRING_EQUAL(err.file, "disk.img");
	g.fail_errno = ENOSPC;
	CU_ASSERT_EQUAL(qd_io_write(&g.io, buf, 0x200, 0x100, &err), QD_E_IO);
	CU_ASSERT_STRING_EQUAL(err.msg, "cannot write 0xfb bytes at 0x205: No space left on device");
	CU_ASSERT_EQUAL(qd_io_flush(&g.io, &err), QD_E_IO);
	CU_ASSERT_STRING_EQUAL(err.msg, "cannot flush: No space left on device");
	qd_io_close(g.mem);
}

static void a_read_past_the_end_says_where_the_file_ends(void)
{
	struct qd_err err;
	struct qd_io *io;
	char buf[8];
	size_t n;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new("abcdef", 6, false, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 4, 4, &err), QD_E_IO);
	CU_ASSERT_STRING_EQUAL(err.msg, "cannot read 0x4 bytes at 0x4: the file ends at 0x6");
	CU_ASSERT_STRING_EQUAL(err.file, "(memory)");
	CU_ASSERT_EQUAL(qd_io_read_upto(io, buf, 4, 4, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_EQUAL(qd_io_read_upto(io, buf, 4, 6, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 0);
	memset(buf, 'x', sizeof(buf));
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 4, 4, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(buf, "ef\0\0xxxx", 8), 0);
	CU_ASSERT_EQUAL(qd_io_read_padded(io, buf, 8, UINT64_MAX - 2, NULL), 0);
	CU_ASSERT_TRUE(qd_is_zero(buf, 8));
	CU_ASSERT_EQUAL(qd_io_read(io, buf, 0, 100, NULL), 0);
	qd_io_close(io);
}

static void nothing_is_written_past_the_largest_offset(void)
{
	struct qd_err err;
	struct qd_io *io;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, "x", 1, INT64_MAX, &err), QD_E_IO);
	CU_ASSERT_EQUAL(err.sys_errno, EFBIG);
	CU_ASSERT_EQUAL(qd_io_write(io, "xx", 2, UINT64_MAX, &err), QD_E_IO);
	CU_ASSERT_EQUAL(qd_io_zero(io, 1, UINT64_MAX, &err), QD_E_IO);
	CU_ASSERT_EQUAL(qd_io_reserve(io, 1, UINT64_MAX, &err), QD_E_IO);
	CU_ASSERT_EQUAL(qd_io_truncate(io, UINT64_MAX, &err), QD_E_IO);
	CU_ASSERT_EQUAL(qd_io_write(io, "x", 1, UINT64_C(1) << 50, &err), QD_E_IO);
	CU_ASSERT_EQUAL(err.sys_errno, ENOSPC);
	CU_ASSERT_TRUE(mem_holds(io, "", 0));
	qd_io_close(io);
}

static void a_read_only_file_refuses_every_change(void)
{
	struct qd_err err;
	struct qd_io *io;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new("abc", 3, false, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, "x", 1, 0, &err), QD_E_INVALID);
	CU_ASSERT_STRING_EQUAL(err.msg, "opened for reading only");
	CU_ASSERT_EQUAL(qd_io_truncate(io, 0, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(qd_io_punch(io, 0, 1, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(qd_io_zero(io, 0, 1, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(qd_io_reserve(io, 0, 9, NULL), QD_E_INVALID);
	CU_ASSERT_TRUE(mem_holds(io, "abc", 3));
	qd_io_close(io);
}

/* 3 MiB is more than one vector of zero pages. */
static void zero_is_written_where_the_host_has_none(void)
{
	enum { OLD = 4000, OFF = 1234, NBYTES = (3 << 20) + 17 };
	struct grudging g;
	struct qd_io *io;
	const uint8_t *p;
	uint8_t old[OLD];
	size_t n;

	memset(old, 'x', sizeof(old));
	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(old, OLD, true, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_zero(io, OFF, NBYTES, NULL), 0);
	p = qd_io_mem_data(io, &n);
	CU_ASSERT_EQUAL_FATAL(n, OFF + NBYTES);
	CU_ASSERT_EQUAL(memcmp(p, old, OFF), 0);
	CU_ASSERT_TRUE(qd_is_zero(p + OFF, NBYTES));
	CU_ASSERT_EQUAL(qd_io_zero(io, 0, 0, NULL), 0);
	CU_ASSERT_EQUAL(p[0], 'x');
	qd_io_close(io);

	g = new_grudging(old, OLD);
	CU_ASSERT_EQUAL(qd_io_zero(&g.io, 5, 10, NULL), 0);
	p = qd_io_mem_data(g.mem, &n);
	CU_ASSERT_EQUAL(n, OLD);
	CU_ASSERT_TRUE(p[4] == 'x' && qd_is_zero(p + 5, 10) && p[15] == 'x');
	qd_io_close(g.mem);
}

static void punch_and_reserve_without_the_host_keep_the_content(void)
{
	struct grudging g = new_grudging("abcdef", 6);

	CU_ASSERT_EQUAL(qd_io_punch(&g.io, 1, 3, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "abcdef", 6));
	CU_ASSERT_EQUAL(qd_io_reserve(&g.io, 2, 3, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "abcdef", 6));
	CU_ASSERT_EQUAL(qd_io_reserve(&g.io, 4, 6, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "abcdef\0\0\0\0", 10));
	CU_ASSERT_EQUAL(qd_io_reserve(&g.io, 12, 2, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(g.mem, "abcdef\0\0\0\0\0\0\0\0", 14));
	qd_io_close(g.mem);
}

static void all_is_data_where_the_host_cannot_tell(void)
{
	struct grudging g = new_grudging(NULL, 100);
	uint64_t data = 0, hole = 0, nbytes = 0;

	CU_ASSERT_EQUAL(qd_io_next_data(&g.io, 30, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 30 && hole == 100);
	CU_ASSERT_EQUAL(qd_io_next_data(&g.io, 100, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 100 && hole == 100);
	CU_ASSERT_EQUAL(qd_io_next_data(&g.io, UINT64_MAX, &data, &hole, NULL), 0);
	CU_ASSERT_TRUE(data == 100 && hole == 100);
	CU_ASSERT_EQUAL(qd_io_allocated(&g.io, &nbytes, NULL), 0);
	CU_ASSERT_EQUAL(nbytes, 100);
	qd_io_close(g.mem);
}

static void memory_grows_shrinks_and_forgets(void)
{
	const uint8_t *p;
	struct qd_io *io;
	size_t n;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new("abcdef", 6, true, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, "z", 1, 9, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(io, "abcdef\0\0\0z", 10));
	CU_ASSERT_EQUAL(qd_io_truncate(io, 2, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_truncate(io, 5, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(io, "ab\0\0\0", 5));
	CU_ASSERT_EQUAL(qd_io_punch(io, 1, 100, NULL), 0);
	CU_ASSERT_TRUE(mem_holds(io, "a\0\0\0\0", 5));
	CU_ASSERT_EQUAL(qd_io_write(io, "y", 1, 100000, NULL), 0);
	p = qd_io_mem_data(io, &n);
	CU_ASSERT_EQUAL_FATAL(n, 100001);
	CU_ASSERT_TRUE(p[0] == 'a' && qd_is_zero(p + 1, 99999) && p[100000] == 'y');
	qd_io_close(io);
	qd_io_close(NULL);
}

CU_ErrorCode suite_io(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(short_and_interrupted_transfers_are_completed),
		QD_TEST(vectors_of_any_shape_arrive_in_order),
		QD_TEST(a_bad_byte_is_named_by_offset_and_length),
		QD_TEST(a_read_past_the_end_says_where_the_file_ends),
		QD_TEST(nothing_is_written_past_the_largest_offset),
		QD_TEST(a_read_only_file_refuses_every_change),
		QD_TEST(zero_is_written_where_the_host_has_none),
		QD_TEST(punch_and_reserve_without_the_host_keep_the_content),
		QD_TEST(all_is_data_where_the_host_cannot_tell),
		QD_TEST(memory_grows_shrinks_and_forgets),
	};

	return QD_SUITE_ADD("io", tests);
}
