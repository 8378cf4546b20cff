/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Uses are gathered up to a bound, sorted and handed out; neighbouring tables are read
 * in one go, gaps of a few clusters included.
 */
#include "image/tables.h"

#include <inttypes.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define MAX_USES (1u << 21)		/* 32 MiB of them */
#define WINDOW (2u << 20)		/* a read at most: the largest table */
#define MAX_GAP (64u << 10)		/* bytes between two tables worth reading over */

struct walk {
	const struct qd_image *img;
	qd_tables_fn fn;
	void *ctx;
	struct qd_table_use *uses;
	uint64_t nuses;
	uint64_t capacity;
	uint8_t *window;
	uint64_t bad;
};

static int compare_uses(const void *pa, const void *pb)
{
	const struct qd_table_use *a = pa, *b = pb;

	if (a->l2_off != b->l2_off)
		return a->l2_off < b->l2_off ? -1 : 1;
	if (a->layer != b->layer)
		return a->layer < b->layer ? -1 : 1;
	return a->l1_index < b->l1_index ? -1 : a->l1_index > b->l1_index;
}

/* One past the last use of the table that use `first` names. */
static uint64_t group_end(const struct walk *w, uint64_t first)
{
	uint64_t end = first + 1;

	while (end < w->nuses && w->uses[end].l2_off == w->uses[first].l2_off)
		end++;
	return end;
}

/* One past the last use that a window starting with use `first` covers. */
static uint64_t window_end(const struct walk *w, uint64_t first)
{
	uint64_t start = w->uses[first].l2_off, size = w->img->geom.cluster_size;
	uint64_t end = first + 1;

	while (end < w->nuses && w->uses[end].l2_off + size - start <= WINDOW &&
	       w->uses[end].l2_off - w->uses[end - 1].l2_off <= size + MAX_GAP)
		end++;
	return end;
}

static int hand_out_window(struct walk *w, uint64_t first, uint64_t end, struct qd_err *err)
{
	uint64_t start = w->uses[first].l2_off;
	uint64_t nbytes = w->uses[end - 1].l2_off + w->img->geom.cluster_size - start;
	int r = qd_io_read(w->img->io, w->window, nbytes, start, err);

	if (r)
		return qd_err_prefix(err, r, "L2 table");
	while (!r && first < end) {
		uint64_t next = group_end(w, first);

		r = w->fn(w->ctx, w->uses[first].l2_off, w->window + (w->uses[first].l2_off - start), &w->uses[first],
			  next - first, err);
		first = next;
	}
	return r;
}

static int hand_out(struct walk *w, struct qd_err *err)
{
	int r = 0;

	if (w->nuses)
		qsort(w->uses, w->nuses, sizeof(*w->uses), compare_uses);
	for (uint64_t first = 0; !r && first < w->nuses;) {
		uint64_t end = window_end(w, first);

		r = hand_out_window(w, first, end, err);
		first = end;
	}
	w->nuses = 0;
	return r;
}

static int grow(struct walk *w, struct qd_err *err)
{
	uint64_t capacity = w->capacity ? w->capacity * 2 : 4096;
	struct qd_table_use *uses = realloc(w->uses, capacity * sizeof(*uses));

	if (!uses)
		return qd_err_nomem(err, "the list of L2 tables");
	w->uses = uses;
	w->capacity = capacity;
	return 0;
}

static int add_use(struct walk *w, uint64_t l1_entry, uint32_t l1_index, enum qd_layer_kind layer,
		   struct qd_err *err)
{
	uint64_t off = qd_entry_host_off(l1_entry), size = w->img->geom.cluster_size;
	int r = 0;

	if ((l1_entry & QD_L1_RESERVED) || !qd_is_aligned(off, size) ||
	    !qd_range_within(off, size, w->img->file_size)) {
		w->bad++;
		return 0;
	}
	if (w->nuses == MAX_USES)
		r = hand_out(w, err);
	else if (w->nuses == w->capacity)
		r = grow(w, err);
	if (!r)
		w->uses[w->nuses++] = (struct qd_table_use){ .l2_off = off, .l1_index = l1_index, .layer = layer };
	return r;
}

static int add_layer(struct walk *w, const uint64_t *l1, uint32_t l1_entries, enum qd_layer_kind layer,
		     struct qd_err *err)
{
	int r = 0;

	for (uint32_t i = 0; !r && i < l1_entries; i++)
		if (l1[i] & ~QD_COPIED)
			r = add_use(w, l1[i], i, layer, err);
	return r;
}

static int add_snapshot(struct walk *w, const struct qd_snapshot *s, struct qd_err *err)
{
	bool is_pin = s == qd_image_find_pin(w->img);
	uint64_t *l1 = NULL;
	int r = qd_image_load_l1(w->img, s->l1_off, s->l1_entries, &l1, err);

	if (r == QD_E_CORRUPT) {
		qd_err_clear(err);
		w->bad++;
		return 0;
	}
	if (!r)
		r = add_layer(w, l1, s->l1_entries, is_pin ? QD_LAYER_PIN : QD_LAYER_SNAPSHOT, err);
	free(l1);
	return r;
}

/* Snapshots have L1 tables of their own; a crafted image whose tables overlap could name petabytes. */
static int check_l1_sizes(const struct qd_image *img, struct qd_err *err)
{
	uint64_t nbytes = 0;

	for (uint32_t i = 0; i < img->nsnapshots; i++)
		nbytes += (uint64_t)img->snapshots[i].l1_entries * 8;
	if (nbytes > img->file_size)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the L1 tables of the %" PRIu32 " snapshots have %" PRIu64
				  " bytes together, expected at most the size of the file",
				  img->nsnapshots, nbytes);
	return 0;
}

int qd_tables_walk(const struct qd_image *img, qd_tables_fn fn, void *ctx, uint64_t *ret_bad,
		   struct qd_err *err)
{
	struct walk w = { .img = img, .fn = fn, .ctx = ctx };
	int r = check_l1_sizes(img, err);

	if (r)
		return r;
	w.window = malloc(WINDOW);
	if (!w.window)
		return qd_err_nomem(err, "L2 tables");
	r = add_layer(&w, img->l1, img->header.l1_entries, QD_LAYER_ACTIVE, err);
	for (uint32_t i = 0; !r && i < img->nsnapshots; i++)
		r = add_snapshot(&w, &img->snapshots[i], err);
	if (!r)
		r = hand_out(&w, err);
	if (!r)
		*ret_bad = w.bad;
	free(w.window);
	free(w.uses);
	return r;
}
