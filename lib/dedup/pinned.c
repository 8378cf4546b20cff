/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The pin, read: neighbouring L2 tables in one go, and the sorted set of its entries.
 */
#include "dedup/pinned.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "dedup/container.h"
#include "format/entry.h"

#define WINDOW (2u << 20)		/* bytes read at once; the largest table */

struct qd_pinned {
	struct qd_bigarray array;	/* uint64_t, ascending */
	uint64_t n;
};

static bool is_table(const struct qd_image *img, uint64_t l1_entry)
{
	uint64_t off = qd_entry_host_off(l1_entry);

	return !(l1_entry & QD_L1_RESERVED) && qd_is_aligned(off, img->geom.cluster_size) &&
	       qd_range_within(off, img->geom.cluster_size, img->file_size);
}

/* Tables from l1[i] on that lie one behind the other, as many as a window holds. */
static uint32_t tables_in_row(const struct qd_image *img, const uint64_t *l1, uint32_t nl1, uint32_t i)
{
	uint64_t size = img->geom.cluster_size, off = qd_entry_host_off(l1[i]);
	uint32_t n = 1;

	while (i + n < nl1 && (n + 1) * size <= WINDOW && is_table(img, l1[i + n]) &&
	       qd_entry_host_off(l1[i + n]) == off + n * size)
		n++;
	return n;
}

static int walk_slots(const struct qd_geom *g, const uint8_t *p, uint64_t nbytes,
		      int (*fn)(void *ctx, uint64_t entry, struct qd_err *err), void *ctx, struct qd_err *err)
{
	int r = 0;

	for (uint64_t at = 0; !r && at < nbytes; at += g->l2_entry_size) {
		uint64_t entry = qd_get_be64(p + at) & ~QD_COPIED;

		if (entry)
			r = fn(ctx, entry, err);
	}
	return r;
}

int qd_pinned_walk(const struct qd_image *img, int (*fn)(void *ctx, uint64_t entry, struct qd_err *err), void *ctx,
		   uint64_t *ret_bad, struct qd_err *err)
{
	const struct qd_snapshot *pin = qd_image_find_pin(img);
	uint64_t *l1 = NULL;
	uint8_t *window = NULL;
	uint32_t n = 1;
	int r;

	*ret_bad = 0;
	if (!pin)
		return 0;
	r = qd_image_load_l1(img, pin->l1_off, pin->l1_entries, &l1, err);
	if (r == QD_E_CORRUPT)
		*ret_bad = 1;
	if (r)
		return r == QD_E_CORRUPT ? 0 : r;
	window = malloc(WINDOW);
	if (!window)
		r = qd_err_nomem(err, "the pin");
	for (uint32_t i = 0; !r && i < pin->l1_entries; i += n) {
		n = 1;
		if (!(l1[i] & ~QD_COPIED))
			continue;
		if (!is_table(img, l1[i])) {
			++*ret_bad;
			continue;
		}
		n = tables_in_row(img, l1, pin->l1_entries, i);
		r = qd_io_read(img->io, window, (size_t)(n * img->geom.cluster_size), qd_entry_host_off(l1[i]), err);
		if (!r)
			r = walk_slots(&img->geom, window, n * img->geom.cluster_size, fn, ctx, err);
	}
	free(window);
	free(l1);
	return r;
}

/* --- the set --- */

struct loading {
	struct qd_pinned *p;
	const struct qd_table_ext *ext;	/* NULL: nothing is left out */
	uint64_t limit;			/* entries */
	bool unordered;
};

static int keep(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct loading *l = ctx;
	struct qd_pinned *p = l->p;
	uint64_t *entries;
	int r;

	if (l->ext && qd_table_ext_holds(l->ext, entry))
		return 0;
	if (p->n == l->limit)
		return qd_err_set(err, QD_E_NOMEM, "the pin references more clusters than the memory limit allows to hold (%"
				  PRIu64 "): allow more with --memory", l->limit);
	r = qd_bigarray_need(&p->array, (p->n + 1) * 8, "the pin", err);
	if (r)
		return r;
	entries = p->array.p;
	l->unordered |= p->n && entries[p->n - 1] > entry;
	entries[p->n++] = entry;
	return 0;
}

static int compare_entries(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

int qd_pinned_load(const struct qd_image *img, const struct qd_table_ext *ext, uint64_t memory,
		   struct qd_pinned **ret_pinned, struct qd_err *err)
{
	struct qd_pinned *p = calloc(1, sizeof(*p));
	struct loading l = { .p = p, .ext = ext, .limit = qd_max_u64(memory / 8, 1024) };
	uint64_t bad;
	int r;

	if (!p)
		return qd_err_nomem(err, "the pin");
	r = qd_pinned_walk(img, keep, &l, &bad, err);
	if (r) {
		qd_pinned_free(p);
		return r;
	}
	if (l.unordered)
		qsort(p->array.p, (size_t)p->n, 8, compare_entries);
	*ret_pinned = p;
	return 0;
}

void qd_pinned_free(struct qd_pinned *p)
{
	if (!p)
		return;
	qd_bigarray_free(&p->array);
	free(p);
}

bool qd_pinned_has(const struct qd_pinned *p, uint64_t entry)
{
	const uint64_t *entries = p->array.p;
	uint64_t lo = 0, hi = p->n;

	entry &= ~QD_COPIED;
	while (lo < hi) {
		uint64_t mid = lo + (hi - lo) / 2;

		if (entries[mid] < entry)
			lo = mid + 1;
		else
			hi = mid;
	}
	return lo < p->n && entries[lo] == entry;
}

uint64_t qd_pinned_count(const struct qd_pinned *p)
{
	return p->n;
}
