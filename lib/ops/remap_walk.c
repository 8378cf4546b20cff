/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * All L2 tables of an image but the pin's, read in large pieces; and the map from an entry
 * to its move.
 */
#include "ops/remap_int.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define WINDOW (2u << 20)		/* a read at most: the largest table */
#define MAX_GAP (16u << 10)		/* bytes between two tables worth reading over; fewer than a table of 512 covers */

/* ---- the map ---- */

int remap_map_init(struct remap_map *m, uint64_t n, struct qd_err *err)
{
	for (m->nslots = 16; m->nslots < 2 * n; m->nslots *= 2)
		;
	m->keys = calloc(m->nslots, sizeof(*m->keys));
	m->values = malloc(m->nslots * sizeof(*m->values));
	if (m->keys && m->values)
		return 0;
	remap_map_free(m);
	return qd_err_nomem(err, "a batch");
}

void remap_map_free(struct remap_map *m)
{
	free(m->keys);
	free(m->values);
	*m = (struct remap_map){ .keys = NULL };
}

static uint64_t slot_of(const struct remap_map *m, uint64_t key)
{
	uint64_t i = (key * 0x9e3779b97f4a7c15ull) >> 16 & (m->nslots - 1);

	while (m->keys[i] && m->keys[i] != key)
		i = (i + 1) & (m->nslots - 1);
	return i;
}

void remap_map_set(struct remap_map *m, uint64_t key, uint32_t value)
{
	uint64_t i = slot_of(m, key);

	m->keys[i] = key;
	m->values[i] = value;
}

uint32_t remap_map_get(const struct remap_map *m, uint64_t key)
{
	uint64_t i = slot_of(m, key);

	return m->keys[i] ? m->values[i] : REMAP_NONE;
}

/* ---- the tables ---- */

static int no_matter(void *ctx, const struct qd_l2ref *first, const struct qd_l2ref *second)
{
	(void)ctx;
	(void)first;
	(void)second;
	return 0;
}

static int add_layer(const struct qd_image *img, struct qd_l2set *set, const uint64_t *l1,
		     uint32_t l1_entries, struct qd_err *err)
{
	size_t first = set->n;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l1_entries; i++) {
		struct qd_l2ref ref = { .l1_index = i, .nrefs = 1, .class = QD_L2_SNAPSHOT };

		ref.cluster = qd_entry_host_off(l1[i]) >> img->geom.cluster_bits;
		if (ref.cluster)
			rc = qd_l2set_add(set, &ref, err);
	}
	return rc ? rc : qd_l2set_end_layer(set, first, no_matter, NULL);
}

int remap_list_tables(const struct qd_image *img, uint64_t memory, struct qd_l2set *set, struct qd_err *err)
{
	const struct qd_snapshot *pin = qd_image_find_pin(img);
	int rc;

	qd_l2set_init(set, memory);
	rc = add_layer(img, set, img->l1, img->header.l1_entries, err);
	for (uint32_t i = 0; rc == 0 && i < img->nsnapshots; i++) {
		const struct qd_snapshot *s = &img->snapshots[i];
		uint64_t *l1 = NULL;

		if (s == pin)
			continue;
		rc = qd_image_load_l1(img, s->l1_off, s->l1_entries, &l1, err);
		if (rc == 0)
			rc = add_layer(img, set, l1, s->l1_entries, err);
		free(l1);
	}
	if (rc == 0)
		qd_l2set_finish(set);
	return rc;
}

/* One past the last table that a read beginning with table `first` covers. */
static size_t window_end(const struct qd_l2set *set, size_t first, uint64_t size)
{
	size_t end = first + 1;

	while (end < set->n && (set->v[end].cluster - set->v[first].cluster + 1) * size <= WINDOW &&
	       (set->v[end].cluster - set->v[end - 1].cluster - 1) * size <= MAX_GAP)
		end++;
	return end;
}

int remap_walk_tables(const struct qd_image *img, struct qd_queue *queue, const struct qd_l2set *set,
		      int (*fn)(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err),
		      void *ctx, struct qd_err *err)
{
	uint64_t size = img->geom.cluster_size;
	uint8_t *buf = malloc(WINDOW);
	int rc = 0;

	if (!buf)
		return qd_err_nomem(err, "L2 tables");
	for (size_t i = 0, end; rc == 0 && i < set->n; i = end) {
		uint64_t first = set->v[i].cluster, nbytes;

		end = window_end(set, i, size);
		nbytes = (set->v[end - 1].cluster - first + 1) * size;
		rc = queue ? qd_queue_read(queue, buf, nbytes, first * size, err) :
			     qd_io_read(img->io, buf, nbytes, first * size, err);
		for (size_t k = i; rc == 0 && k < end; k++)
			rc = fn(ctx, set->v[k].cluster * size, buf + (set->v[k].cluster - first) * size, err);
	}
	free(buf);
	return rc;
}
