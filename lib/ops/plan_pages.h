/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pages of a plan: planned bytes by page number, each word with its step.  As many as
 * the limit allows are in memory, the others in an unnamed temporary file.
 *
 *	slots (hash by number)  -->  frame 0 | frame 1 | ...          in memory
 *	                        -->  record 0 | record 1 | ...        in the file
 *
 * A slot takes 16 bytes for each page of 4 KiB, and up to three times that while their
 * table grows; they count towards the limit as long as that leaves a few frames.
 *
 * Reading is for any number of threads while nobody writes.
 */
#ifndef QD_OPS_PLAN_PAGES_H
#define QD_OPS_PLAN_PAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

#define QD_PLAN_PAGE_BITS 12u
#define QD_PLAN_PAGE (1u << QD_PLAN_PAGE_BITS)
#define QD_PLAN_WORDS (QD_PLAN_PAGE / 8)

struct qd_plan_page {
	uint8_t step[QD_PLAN_WORDS];
	uint8_t data[QD_PLAN_PAGE];
};

struct qd_plan_pages;

/* limit: bytes of memory.  tmpdir (NULL: /tmp) must stay valid. */
int qd_plan_pages_new(uint64_t limit, const char *tmpdir, struct qd_plan_pages **ret_pages,
		      struct qd_err *err);
void qd_plan_pages_free(struct qd_plan_pages *p);

size_t qd_plan_pages_count(const struct qd_plan_pages *p);

/* The steps of the page's words, bit by bit (1 << step); 0: there is no such page. */
unsigned qd_plan_pages_steps(const struct qd_plan_pages *p, uint64_t number);

/* A copy of the page, which must be there. */
int qd_plan_pages_get(const struct qd_plan_pages *p, uint64_t number, struct qd_plan_page *ret_page,
		      struct qd_err *err);

/* Bytes [from, from + nbytes) of the page's data into buf, if there is such a page. */
int qd_plan_pages_overlay(const struct qd_plan_pages *p, uint64_t number, size_t from, void *buf,
			  size_t nbytes, struct qd_err *err);

/*
 * The page, to be written to with that step; good until the next call.  *ret_new: it was
 * not there and is all zeros.
 */
int qd_plan_pages_touch(struct qd_plan_pages *p, uint64_t number, unsigned step,
			struct qd_plan_page **ret_page, bool *ret_new, struct qd_err *err);

/* The numbers of all pages, ascending; the caller frees them. */
int qd_plan_pages_numbers(const struct qd_plan_pages *p, uint64_t **ret_numbers, struct qd_err *err);

#endif
