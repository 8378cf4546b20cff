/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Private anonymous mappings: the kernel gives a page when it is first written, and
 * mremap grows without copying.
 */
#include "base/bigarray.h"

#include <inttypes.h>
#include <sys/mman.h>

#include "base/bytes.h"

#define GRAIN (1u << 16)

int qd_bigarray_need(struct qd_bigarray *a, uint64_t nbytes, const char *what, struct qd_err *err)
{
	uint64_t want = qd_max_u64(nbytes, a->nbytes + a->nbytes / 2);
	void *p;

	if (nbytes <= a->nbytes)
		return 0;
	if (nbytes > SIZE_MAX / 4)
		return qd_err_set(err, QD_E_NOMEM, "%s: %" PRIu64 " bytes are more than this machine can address", what,
				  nbytes);
	want = qd_align_up(want, GRAIN);
	if (a->p)
		p = mremap(a->p, a->nbytes, (size_t)want, MREMAP_MAYMOVE);
	else
		p = mmap(NULL, (size_t)want, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
	if (p == MAP_FAILED)
		return qd_err_nomem(err, what);
	a->p = p;
	a->nbytes = (size_t)want;
	return 0;
}

void qd_bigarray_free(struct qd_bigarray *a)
{
	if (a->p)
		munmap(a->p, a->nbytes);
	*a = (struct qd_bigarray){ 0 };
}
