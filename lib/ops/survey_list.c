/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A window of the clusters: entries are appended as the L2 tables name them; when the array
 * is full it is sorted, equal ones are merged, and if that made too little room the upper
 * half goes and with it the upper half of the window.
 */
#include "ops/survey_int.h"

#include <assert.h>
#include <stddef.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "dedup/sort.h"
#include "format/entry.h"
#include "image/tables.h"

#define FIRST_CAPACITY 4096u
#define LEAST 1024u

uint64_t survey_host_off(const struct qd_geom *g, const struct qd_surveyed *c)
{
	return qd_l2_is_compressed(c->entry) ? qd_l2_compressed(g, c->entry).host_off : c->entry;
}

void survey_list_init(struct survey_list *l, const struct qd_image *img, uint64_t memory)
{
	*l = (struct survey_list){ .img = img };
	/* Sorting may take as much again. */
	l->most = qd_max_u64(memory / 2 / sizeof(struct qd_surveyed), LEAST);
}

void survey_list_free(struct survey_list *l)
{
	free(l->v);
	l->v = NULL;
}

/* ---- sorting ---- */

static int compare(const void *pa, const void *pb, void *ctx)
{
	const struct qd_surveyed *a = pa, *b = pb;
	uint64_t off_a = survey_host_off(ctx, a), off_b = survey_host_off(ctx, b);

	if (off_a != off_b)
		return off_a < off_b ? -1 : 1;
	return a->entry < b->entry ? -1 : a->entry > b->entry;
}

/*
 * The host offset in the highest bits, what else there is of a descriptor in the lowest: as a number with
 * the highest byte first this sorts like the above, when no offset needs more bits than a descriptor has.
 */
static void to_keys(struct survey_list *l)
{
	uint32_t shift = 64 - l->img->geom.csize_shift;

	for (uint64_t i = 0; i < l->n; i++) {
		uint64_t entry = l->v[i].entry;

		qd_put_be64((uint8_t *)&l->v[i].entry, entry << shift | entry >> (64 - shift));
	}
}

static void from_keys(struct survey_list *l)
{
	uint32_t shift = 64 - l->img->geom.csize_shift;

	for (uint64_t i = 0; i < l->n; i++) {
		uint64_t key = qd_get_be64((const uint8_t *)&l->v[i].entry);

		l->v[i].entry = key >> shift | key << (64 - shift);
	}
}

/* By bytes it is several times as fast as by comparing; the entry comes first in the record. */
static void sort_entries(struct survey_list *l)
{
	static_assert(offsetof(struct qd_surveyed, entry) == 0, "the key of a record is where it begins");
	static_assert(sizeof(struct qd_surveyed) <= QD_SORT_RECORD_MAX, "a record that can be sorted");

	if (l->img->file_size >> l->img->geom.csize_shift) {
		qsort_r(l->v, l->n, sizeof(*l->v), compare, (void *)(uintptr_t)&l->img->geom);
		return;
	}
	to_keys(l);
	qd_sort_records(l->v, l->n, sizeof(*l->v), 0);
	from_keys(l);
}

static bool is_sorted(struct survey_list *l)
{
	for (uint64_t i = 1; i < l->n; i++)
		if (compare(&l->v[i - 1], &l->v[i], (void *)(uintptr_t)&l->img->geom) > 0)
			return false;
	return true;
}

static uint32_t add_u32(uint32_t a, uint32_t b)
{
	return a > UINT32_MAX - b ? UINT32_MAX : a + b;
}

static void merge_into(struct qd_surveyed *to, const struct qd_surveyed *c)
{
	bool both = to->references && c->references;

	to->mixed = to->mixed || c->mixed || (both && to->bitmap != c->bitmap);
	to->several = to->several || c->several || (both && to->guest != c->guest);
	if (c->references && (!to->references || c->in_active > to->in_active ||
			      (c->in_active == to->in_active && c->guest < to->guest)))
		to->guest = c->guest;
	if (!to->references || (c->references && c->bitmap < to->bitmap))
		to->bitmap = c->bitmap;
	to->in_active = to->in_active || c->in_active;
	to->references = add_u32(to->references, c->references);
	to->places = add_u32(to->places, c->places);
	to->pins = (uint16_t)qd_min_u64((uint64_t)to->pins + c->pins, UINT16_MAX);
}

static void sort(struct survey_list *l)
{
	uint64_t kept = 0;

	if (!is_sorted(l))
		sort_entries(l);
	for (uint64_t i = 0; i < l->n; i++) {
		if (kept && l->v[kept - 1].entry == l->v[i].entry)
			merge_into(&l->v[kept - 1], &l->v[i]);
		else
			l->v[kept++] = l->v[i];
	}
	l->n = l->sorted = kept;
}

/* Gives up what lies at or behind the middle cluster's host offset. */
static int narrow(struct survey_list *l, struct qd_err *err)
{
	const struct qd_geom *g = &l->img->geom;
	uint64_t keep = l->n / 2;

	while (keep && survey_host_off(g, &l->v[keep - 1]) == survey_host_off(g, &l->v[keep]))
		keep--;
	if (!keep)
		return qd_err_set(err, QD_E_NOMEM, "too many compressed clusters begin at one place");
	l->hi = survey_host_off(g, &l->v[keep]);
	l->n = l->sorted = keep;
	return 0;
}

static int make_room(struct survey_list *l, struct qd_err *err)
{
	struct qd_surveyed *v;
	uint64_t capacity;

	if (l->capacity < l->most) {
		capacity = qd_min_u64(l->most, l->capacity ? l->capacity * 2 : FIRST_CAPACITY);
		v = realloc(l->v, capacity * sizeof(*v));
		if (!v)
			return qd_err_nomem(err, "the list of clusters");
		l->v = v;
		l->capacity = capacity;
		return 0;
	}
	sort(l);
	return l->n <= l->most / 4 * 3 ? 0 : narrow(l, err);
}

/* ---- entries ---- */

static int add(struct survey_list *l, const struct qd_surveyed *c, struct qd_err *err)
{
	uint64_t off = survey_host_off(&l->img->geom, c);

	if (off >= l->img->file_size ||
	    (!qd_l2_is_compressed(c->entry) && !qd_is_aligned(off, l->img->geom.cluster_size))) {
		l->bad++;
		return 0;
	}
	if (off < l->lo || off >= l->hi)
		return 0;
	if (l->n == l->capacity) {
		int rc = make_room(l, err);

		if (rc)
			return rc;
		if (off >= l->hi)
			return 0;
	}
	l->v[l->n++] = *c;
	return 0;
}

/* The entry of one guest cluster; false: it names no host cluster. */
static bool decode(const struct qd_geom *g, const uint8_t *p, struct qd_surveyed *c, bool *ret_reads)
{
	uint64_t entry = qd_get_be64(p);

	*ret_reads = true;
	if (qd_l2_is_compressed(entry)) {
		c->entry = entry & ~QD_COPIED;
		return true;
	}
	c->entry = qd_entry_host_off(entry);
	if (!c->entry)
		return false;
	if (g->extended_l2) {
		c->bitmap = qd_get_be64(p + 8);
		*ret_reads = (c->bitmap & UINT32_MAX) != 0;
	} else {
		*ret_reads = !(entry & QD_L2_ZERO);
	}
	return true;
}

static int add_entries(void *ctx, uint64_t l2_off, const uint8_t *entries, const struct qd_table_use *uses,
		       uint64_t nuses, struct qd_err *err)
{
	struct survey_list *l = ctx;
	const struct qd_geom *g = &l->img->geom;
	uint32_t layers = 0, pins = 0;
	bool active = false;
	int rc = 0;

	(void)l2_off;
	for (uint64_t i = 0; i < nuses; i++) {
		layers += uses[i].layer != QD_LAYER_PIN;
		pins += uses[i].layer == QD_LAYER_PIN;
		active |= uses[i].layer == QD_LAYER_ACTIVE;
	}
	for (uint64_t i = 0; rc == 0 && i < g->l2_entries; i++) {
		struct qd_surveyed c = { .guest = uses[0].l1_index * g->l2_entries + i };
		bool reads;

		if (!decode(g, entries + i * g->l2_entry_size, &c, &reads))
			continue;
		c.references = reads ? layers : 0;
		c.places = reads ? 0 : layers;
		c.pins = (uint16_t)pins;
		c.in_active = active && reads;
		rc = add(l, &c, err);
	}
	return rc;
}

int survey_list_fill(struct survey_list *l, uint64_t lo, struct qd_err *err)
{
	uint64_t bad = 0;
	int rc;

	l->n = l->sorted = 0;
	l->bad = 0;
	l->lo = lo;
	l->hi = UINT64_MAX;
	rc = qd_tables_walk(l->img, add_entries, l, &bad, err);
	if (rc)
		return rc;
	l->bad += bad;
	sort(l);
	return 0;
}
