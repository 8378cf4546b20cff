/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Asking the kernel about processors and memory.  The affinity mask counts, not the
 * processors of the machine: a container or taskset may leave us only a few.
 */
#include "base/host.h"

#include <errno.h>
#include <sched.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/bytes.h"

#define MEMORY_MAX (UINT64_C(1) << 30)
#define MEMORY_UNKNOWN (UINT64_C(256) << 20)

unsigned qd_cpu_count(void)
{
	cpu_set_t set;
	long n;

	if (sched_getaffinity(0, sizeof(set), &set) == 0)
		return (unsigned)CPU_COUNT(&set);
	/* More processors than cpu_set_t has bits. */
	n = sysconf(_SC_NPROCESSORS_ONLN);
	return n > 0 ? (unsigned)n : 1;
}

uint64_t qd_default_memory(void)
{
	long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);

	if (pages <= 0 || page_size <= 0)
		return MEMORY_UNKNOWN;
	return qd_min_u64((uint64_t)pages * (uint64_t)page_size / 4, MEMORY_MAX);
}

int qd_draw_number(uint64_t *ret_number, struct qd_err *err)
{
	uint64_t n = 0;

	while (n == 0)
		if (getrandom(&n, sizeof(n), 0) != (ssize_t)sizeof(n))
			return qd_err_sys(err, errno, "cannot draw a number");
	*ret_number = n;
	return 0;
}
