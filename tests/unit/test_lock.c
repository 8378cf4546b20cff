/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The bytes we lock and the bytes we respect, one by one, against a stand-in for QEMU:
 * another open file description of the same file.  (Against QEMU itself: tests/cli.)
 */
#include <errno.h>
#include <fcntl.h>
#include <linux/filter.h>
#include <linux/seccomp.h>
#include <stddef.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/lock.h"
#include "scratch.h"
#include "suites.h"

static struct scratch scratch;

static int open_file(int flags)
{
	int fd = open(scratch_path(&scratch, "image"), flags | O_CLOEXEC);

	CU_ASSERT_TRUE_FATAL(fd >= 0);
	return fd;
}

static void set_up(void)
{
	scratch_open(&scratch);
	scratch_file(&scratch, "image", "x", 1);
}

static int ofd_lock(int fd, int cmd, short type, off_t byte)
{
	struct flock fl = { .l_type = type, .l_whence = SEEK_SET, .l_start = byte, .l_len = 1 };

	CU_ASSERT_EQUAL(fcntl(fd, cmd, &fl), 0);
	return fl.l_type;
}

/* The bytes of 100..104 and 200..204 that somebody holds, as two masks. */
static void held_bytes(int fd, unsigned *ret_uses, unsigned *ret_refuses)
{
	*ret_uses = *ret_refuses = 0;
	for (int bit = 0; bit < 5; bit++) {
		if (ofd_lock(fd, F_OFD_GETLK, F_WRLCK, 100 + bit) != F_UNLCK)
			*ret_uses |= 1u << bit;
		if (ofd_lock(fd, F_OFD_GETLK, F_WRLCK, 200 + bit) != F_UNLCK)
			*ret_refuses |= 1u << bit;
	}
}

static void each_mode_holds_its_bytes_and_no_others(void)
{
	unsigned uses, refuses;
	int fd, other;

	set_up();
	other = open_file(O_RDWR);
	fd = open_file(O_RDONLY);
	CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, NULL), 0);
	held_bytes(other, &uses, &refuses);
	CU_ASSERT_EQUAL(uses, 0x01);
	CU_ASSERT_EQUAL(refuses, 0x0a);
	close(fd);
	fd = open_file(O_RDWR);
	CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_EXCLUSIVE, NULL), 0);
	held_bytes(other, &uses, &refuses);
	CU_ASSERT_EQUAL(uses, 0x0b);
	CU_ASSERT_EQUAL(refuses, 0x0f);
	close(fd);
	held_bytes(other, &uses, &refuses);
	CU_ASSERT_TRUE(uses == 0 && refuses == 0);
	close(other);
	scratch_close(&scratch);
}

/* For every single byte another may hold: which of our modes must give way? */
static void every_byte_of_another_counts(void)
{
	int other;

	set_up();
	other = open_file(O_RDONLY);
	for (int bit = 0; bit < 5; bit++) {
		/* We refuse what they use, and use what they refuse. */
		const struct { off_t byte; bool stops_shared, stops_exclusive; } rows[] = {
			{ 100 + bit, bit == 1 || bit == 3, bit <= 3 },
			{ 200 + bit, bit == 0, bit == 0 || bit == 1 || bit == 3 },
		};

		for (int i = 0; i < 2; i++) {
			int fd = open_file(O_RDWR);

			ofd_lock(other, F_OFD_SETLK, F_RDLCK, rows[i].byte);
			CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, NULL),
					rows[i].stops_shared ? QD_E_BUSY : 0);
			close(fd);
			fd = open_file(O_RDWR);
			CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_EXCLUSIVE, NULL),
					rows[i].stops_exclusive ? QD_E_BUSY : 0);
			close(fd);
			ofd_lock(other, F_OFD_SETLK, F_UNLCK, rows[i].byte);
		}
	}
	close(other);
	scratch_close(&scratch);
}

static void nothing_is_held_after_a_refusal(void)
{
	unsigned uses, refuses;
	struct qd_err err;
	int fd, other;

	set_up();
	other = open_file(O_RDONLY);
	fd = open_file(O_RDWR);
	ofd_lock(other, F_OFD_SETLK, F_RDLCK, 101);
	CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_SHARED, &err), QD_E_BUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "in use"));
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "--force-share"));
	CU_ASSERT_EQUAL(qd_lock_fd(fd, QD_LOCK_EXCLUSIVE, &err), QD_E_BUSY);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "in use"));
	CU_ASSERT_PTR_NULL(strstr(err.msg, "--force-share"));
	held_bytes(other, &uses, &refuses);
	CU_ASSERT_TRUE(uses == 0 && refuses == 0);
	close(fd);
	close(other);
	scratch_close(&scratch);
}

/* From now on this process's F_OFD_SETLK fails like this; false where the kernel has no seccomp. */
static bool break_locks(unsigned sys_errno)
{
	struct sock_filter code[] = {
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, nr)),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, SYS_fcntl, 0, 3),
		BPF_STMT(BPF_LD | BPF_W | BPF_ABS, offsetof(struct seccomp_data, args[1])),
		BPF_JUMP(BPF_JMP | BPF_JEQ | BPF_K, F_OFD_SETLK, 0, 1),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ERRNO | sys_errno),
		BPF_STMT(BPF_RET | BPF_K, SECCOMP_RET_ALLOW),
	};
	struct sock_fprog prog = { .len = sizeof(code) / sizeof(code[0]), .filter = code };

	return prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0 &&
	       prctl(PR_SET_SECCOMP, SECCOMP_MODE_FILTER, &prog) == 0;
}

/* What qd_lock_fd returns, negated, when locking fails with sys_errno; 77 when that cannot be tried. */
static int lock_with_broken_locks(unsigned sys_errno)
{
	int fd = open_file(O_RDWR), status = 0;
	pid_t pid = fork();

	if (pid == 0)
		_exit(break_locks(sys_errno) ? -qd_lock_fd(fd, QD_LOCK_EXCLUSIVE, NULL) : 77);
	CU_ASSERT_EQUAL(waitpid(pid, &status, 0), pid);
	CU_ASSERT_TRUE(WIFEXITED(status));
	close(fd);
	return WEXITSTATUS(status);
}

static void where_there_are_no_locks_all_is_well(void)
{
	static const struct { unsigned sys_errno; int result; } rows[] = {
		{ ENOLCK, 0 }, { EINVAL, 0 }, { EOPNOTSUPP, 0 }, { ENOSYS, 0 },
		{ EIO, -QD_E_IO }, { EAGAIN, -QD_E_BUSY }, { EACCES, -QD_E_BUSY },
	};

	set_up();
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		int result = lock_with_broken_locks(rows[i].sys_errno);

		CU_ASSERT_TRUE(result == 77 || result == rows[i].result);
	}
	scratch_close(&scratch);
}

CU_ErrorCode suite_lock(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(each_mode_holds_its_bytes_and_no_others),
		QD_TEST(every_byte_of_another_counts),
		QD_TEST(nothing_is_held_after_a_refusal),
		QD_TEST(where_there_are_no_locks_all_is_well),
	};

	return QD_SUITE_ADD("lock", tests);
}
