/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A section of the queue: bytes at places, the last one written to each place.
 *
 *	page of 4 KiB (by number)   data    ....XXXXXXXX........XX......
 *	                            there   000011111111000000001100 0000    a bit per byte
 *
 * Small writes to one page cost no more than their bytes; a page that is written whole
 * has all bits set.  Pages are found by a hash table and sorted when the section leaves.
 */
#ifndef QD_TXN_SECTION_H
#define QD_TXN_SECTION_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QD_PAGE_BITS 12u
#define QD_PAGE_SIZE (1u << QD_PAGE_BITS)

struct qd_page {
	uint64_t number;			/* off >> QD_PAGE_BITS */
	uint64_t there[QD_PAGE_SIZE / 64];	/* bit n: byte n was written */
	uint8_t data[QD_PAGE_SIZE];
};

struct qd_section {
	struct qd_page **slots;	/* open addressing; NULL: free */
	size_t nslots;		/* a power of two, or 0 */
	size_t npages;
};

void qd_section_free(struct qd_section *s);

/* QD_E_NOMEM leaves the section with a part of the write: the caller gives it up. */
int qd_section_write(struct qd_section *s, const uint8_t *buf, size_t nbytes, uint64_t off,
		     struct qd_err *err);

/* Puts the section's bytes over those in buf. */
void qd_section_overlay(const struct qd_section *s, uint8_t *buf, size_t nbytes, uint64_t off);

/*
 * Calls fn(ctx, data, nbytes, off) for each run of bytes within a page, by ascending off;
 * runs that touch follow each other.  A value other than 0 ends the walk and is returned.
 */
int qd_section_walk(struct qd_section *s,
		    int (*fn)(void *ctx, const uint8_t *data, size_t nbytes, uint64_t off), void *ctx,
		    struct qd_err *err);

/* Bytes of memory that it takes. */
uint64_t qd_section_memory(const struct qd_section *s);


#endif
