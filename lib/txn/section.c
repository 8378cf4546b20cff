/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hash table holds pointers to pages, so that growing it moves no data.
 */
#include "txn/section.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define PAGE_MASK (QD_PAGE_SIZE - 1u)
#define FIRST_SLOTS 16u

static size_t home(const struct qd_section *s, uint64_t number)
{
	return (size_t)((number * 0x9e3779b97f4a7c15ull) >> 20) & (s->nslots - 1);
}

/* The slot of the page, or the free one where it would go; s has slots. */
static struct qd_page **find_slot(const struct qd_section *s, uint64_t number)
{
	size_t i = home(s, number);

	while (s->slots[i] && s->slots[i]->number != number)
		i = (i + 1) & (s->nslots - 1);
	return &s->slots[i];
}

static struct qd_page *find_page(const struct qd_section *s, uint64_t number)
{
	return s->nslots ? *find_slot(s, number) : NULL;
}

void qd_section_free(struct qd_section *s)
{
	for (size_t i = 0; i < s->nslots; i++)
		free(s->slots[i]);
	free(s->slots);
	*s = (struct qd_section){ .slots = NULL };
}

static int grow(struct qd_section *s, struct qd_err *err)
{
	struct qd_section larger = { .nslots = s->nslots ? s->nslots * 2 : FIRST_SLOTS, .npages = s->npages };

	larger.slots = calloc(larger.nslots, sizeof(void *));
	if (!larger.slots)
		return qd_err_nomem(err, "the write queue");
	for (size_t i = 0; i < s->nslots; i++)
		if (s->slots[i])
			*find_slot(&larger, s->slots[i]->number) = s->slots[i];
	free(s->slots);
	*s = larger;
	return 0;
}

/* The page, made now if need be; NULL when out of memory. */
static struct qd_page *touch_page(struct qd_section *s, uint64_t number, struct qd_err *err)
{
	struct qd_page *p = find_page(s, number);

	if (p)
		return p;
	if (s->npages >= s->nslots / 2 && grow(s, err))
		return NULL;
	p = malloc(sizeof(*p));
	if (!p) {
		qd_err_nomem(err, "the write queue");
		return NULL;
	}
	p->number = number;
	memset(p->there, 0, sizeof(p->there));
	*find_slot(s, number) = p;
	s->npages++;
	return p;
}

static bool is_there(const struct qd_page *p, unsigned i)
{
	return p->there[i / 64] >> (i % 64) & 1;
}

static void set_there(struct qd_page *p, unsigned first, unsigned end)
{
	for (unsigned i = first; i < end;) {
		if (i % 64 == 0 && end - i >= 64) {
			p->there[i / 64] = UINT64_MAX;
			i += 64;
		} else {
			p->there[i / 64] |= 1ull << (i % 64);
			i++;
		}
	}
}

int qd_section_write(struct qd_section *s, const uint8_t *buf, size_t nbytes, uint64_t off,
		     struct qd_err *err)
{
	while (nbytes > 0) {
		unsigned at = (unsigned)(off & PAGE_MASK);
		unsigned n = (unsigned)qd_min_u64(nbytes, QD_PAGE_SIZE - at);
		struct qd_page *p = touch_page(s, off >> QD_PAGE_BITS, err);

		if (!p)
			return QD_E_NOMEM;
		memcpy(p->data + at, buf, n);
		set_there(p, at, at + n);
		buf += n;
		nbytes -= n;
		off += n;
	}
	return 0;
}

/* The next run of bytes that are there, from *first on; false when there is none before `end`. */
static bool next_run(const struct qd_page *p, unsigned end, unsigned *first, unsigned *ret_run_end)
{
	unsigned i = *first;

	while (i < end && !is_there(p, i))
		i += i % 64 == 0 && p->there[i / 64] == 0 ? 64 : 1;
	if (i >= end)
		return false;
	*first = i;
	while (i < end && is_there(p, i))
		i += i % 64 == 0 && p->there[i / 64] == UINT64_MAX && end - i >= 64 ? 64 : 1;
	*ret_run_end = i;
	return true;
}

void qd_section_overlay(const struct qd_section *s, uint8_t *buf, size_t nbytes, uint64_t off)
{
	while (nbytes > 0) {
		unsigned at = (unsigned)(off & PAGE_MASK), run_end;
		unsigned n = (unsigned)qd_min_u64(nbytes, QD_PAGE_SIZE - at);
		const struct qd_page *p = find_page(s, off >> QD_PAGE_BITS);

		for (unsigned i = at; p && next_run(p, at + n, &i, &run_end); i = run_end)
			memcpy(buf + (i - at), p->data + i, run_end - i);
		buf += n;
		nbytes -= n;
		off += n;
	}
}

static int compare_pages(const void *pa, const void *pb)
{
	const struct qd_page *a = *(const struct qd_page *const *)pa, *b = *(const struct qd_page *const *)pb;

	return a->number < b->number ? -1 : a->number > b->number;
}

int qd_section_walk(struct qd_section *s,
		    int (*fn)(void *ctx, const uint8_t *data, size_t nbytes, uint64_t off), void *ctx,
		    struct qd_err *err)
{
	const struct qd_page **pages = calloc(s->npages ? s->npages : 1, sizeof(void *));
	size_t n = 0;
	int rc = 0;

	if (!pages)
		return qd_err_nomem(err, "the write queue");
	for (size_t i = 0; i < s->nslots; i++)
		if (s->slots[i])
			pages[n++] = s->slots[i];
	qsort(pages, n, sizeof(void *), compare_pages);
	for (size_t k = 0; rc == 0 && k < n; k++) {
		unsigned run_end;

		for (unsigned i = 0; rc == 0 && next_run(pages[k], QD_PAGE_SIZE, &i, &run_end); i = run_end)
			rc = fn(ctx, pages[k]->data + i, run_end - i, (pages[k]->number << QD_PAGE_BITS) + i);
	}
	free(pages);
	return rc;
}

uint64_t qd_section_memory(const struct qd_section *s)
{
	return s->npages * sizeof(struct qd_page) + s->nslots * sizeof(void *);
}
