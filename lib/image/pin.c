/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading the pin, and slots that are cleared.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "format/snapshot.h"
#include "image/pin_int.h"

uint64_t qd_pin_clusters_of(const struct qd_pin *p, uint64_t nbytes)
{
	return qd_div_up(nbytes, p->geom->cluster_size);
}

/* ---- opening ---- */

uint32_t qd_pin_id_number(const char *id, size_t nbytes)
{
	uint64_t n = 0;

	if (nbytes == 0 || nbytes > 10 || id[0] == '0')
		return 0;
	for (size_t i = 0; i < nbytes; i++) {
		if (id[i] < '0' || id[i] > '9')
			return 0;
		n = n * 10 + (uint64_t)(id[i] - '0');
	}
	return n > UINT32_MAX ? 0 : (uint32_t)n;
}

/* The table's bytes; what does not end on 8 bytes at the file's end is filled up. */
static int read_table(struct qd_pin *p, struct qd_err *err)
{
	const struct qd_image *img = p->pi.img;
	int rc;

	p->count = img->header.snapshot_count;
	p->table_nbytes = (size_t)qd_align_up(img->snapshots_nbytes, 8);
	p->table = calloc(1, p->table_nbytes + 8);
	if (!p->table)
		return qd_err_nomem(err, "the snapshot table");
	if (!p->count)
		return 0;
	p->table_at.first = img->header.snapshots_off >> p->geom->cluster_bits;
	p->table_at.n = qd_pin_clusters_of(p, img->snapshots_nbytes);
	rc = qd_queue_read(p->pi.queue, p->table, (size_t)img->snapshots_nbytes, img->header.snapshots_off,
			   err);
	return rc ? qd_err_prefix(err, rc, "snapshot table") : 0;
}

/* Where snapshot number `number` stands in the table. */
static int find_entry(const struct qd_pin *p, uint32_t number, size_t *ret_off, size_t *ret_nbytes,
		      struct qd_err *err)
{
	struct qd_snapshot_entry e;
	size_t off = 0, used = 0;

	for (uint32_t i = 0; i <= number; i++) {
		int rc;

		off += used;
		rc = qd_snapshot_decode(p->table + off, p->table_nbytes - off, 0, &e, &used, err);
		if (rc)
			return rc;
	}
	*ret_off = off;
	*ret_nbytes = used;
	return 0;
}

static int open_pin(struct qd_pin *p, const struct qd_snapshot *s, struct qd_err *err)
{
	const struct qd_image *img = p->pi.img;
	int rc = find_entry(p, (uint32_t)(s - img->snapshots), &p->entry_off, &p->entry_nbytes, err);

	if (rc == 0)
		rc = qd_image_load_l1(img, s->l1_off, s->l1_entries, &p->l1, err);
	if (rc)
		return qd_err_prefix(err, rc, "snapshot \"%s\"", QD_PIN_NAME);
	p->exists = true;
	p->id = qd_pin_id_number(s->id, strlen(s->id));
	p->l1_entries = p->l1_written = s->l1_entries;
	p->l1_at.first = s->l1_off >> p->geom->cluster_bits;
	p->l1_at.n = qd_pin_clusters_of(p, (uint64_t)s->l1_entries * 8);
	return 0;
}

int qd_pin_open(const struct qd_pin_image *pi, struct qd_pin **ret_pin, struct qd_err *err)
{
	const struct qd_snapshot *s = qd_image_find_pin(pi->img);
	struct qd_pin *p = calloc(1, sizeof(*p));
	int rc;

	if (!p)
		return qd_err_nomem(err, "the pin");
	p->pi = *pi;
	p->geom = &pi->img->geom;
	rc = read_table(p, err);
	if (rc == 0 && s)
		rc = open_pin(p, s, err);
	if (rc) {
		qd_pin_free(p);
		return rc;
	}
	*ret_pin = p;
	return 0;
}

void qd_pin_free(struct qd_pin *p)
{
	if (!p)
		return;
	free(p->table);
	free(p->l1);
	free(p);
}

bool qd_pin_exists(const struct qd_pin *p)
{
	return p->exists;
}

uint32_t qd_pin_id(const struct qd_pin *p)
{
	return p->id;
}

/* ---- tables ---- */

void qd_pin_touch_l1(struct qd_pin *p, uint32_t index, uint64_t entry)
{
	p->l1[index] = entry;
	if (p->l1_dirty_first == p->l1_dirty_end) {
		p->l1_dirty_first = index;
		p->l1_dirty_end = index + 1;
		return;
	}
	p->l1_dirty_first = (uint32_t)qd_min_u64(p->l1_dirty_first, index);
	p->l1_dirty_end = (uint32_t)qd_max_u64(p->l1_dirty_end, index + 1u);
}

int qd_pin_get_table(struct qd_pin *p, uint32_t index, uint8_t **ret_table, struct qd_err *err)
{
	uint64_t entry = p->l1[index], off = qd_entry_host_off(entry), size = p->geom->cluster_size, count = 0;
	int rc;

	if ((entry & QD_L1_RESERVED) || !qd_is_aligned(off, size) ||
	    !qd_range_within(off, size, qd_alloc_end(p->pi.alloc)))
		return qd_err_set(err, QD_E_CORRUPT, "snapshot \"%s\": L1 entry %" PRIu32 ": 0x%" PRIx64
				  " has reserved bits, is unaligned or lies past the end of the file; "
				  "qdedup check tells more", QD_PIN_NAME, index, entry);
	rc = qd_alloc_count(p->pi.alloc, off >> p->geom->cluster_bits, &count, err);
	if (rc == 0 && count != 1)
		rc = qd_err_set(err, QD_E_CORRUPT, "snapshot \"%s\": the L2 table at 0x%" PRIx64
				" has a refcount of %" PRIu64 ", expected 1; qdedup check tells more",
				QD_PIN_NAME, off, count);
	return rc ? rc : qd_cache_get(p->pi.cache, QD_CACHE_PIN, off, ret_table, err);
}

uint64_t qd_pin_slot(const struct qd_pin *p, const uint8_t *table, uint64_t slot, uint64_t *ret_bitmap)
{
	const uint8_t *at = table + slot * p->geom->l2_entry_size;

	*ret_bitmap = p->geom->extended_l2 ? qd_get_be64(at + 8) : 0;
	return qd_get_be64(at);
}

void qd_pin_set_slot(struct qd_pin *p, uint8_t *table, uint64_t slot, uint64_t entry, uint64_t bitmap)
{
	uint8_t *at = table + slot * p->geom->l2_entry_size;

	qd_put_be64(at, entry);
	if (p->geom->extended_l2)
		qd_put_be64(at + 8, bitmap);
	qd_cache_touch(p->pi.cache);
}

/* ---- walking ---- */

struct walk {
	int (*fn)(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove, struct qd_err *err);
	void *ctx;
	uint64_t left;		/* slots in use of this table, after the walk */
	bool removed;
};

/* fn may use the cache: the table is looked up again where it is changed. */
static int walk_table(struct qd_pin *p, uint32_t index, uint8_t *copy, struct walk *w, struct qd_err *err)
{
	uint8_t *table;
	int rc = qd_pin_get_table(p, index, &table, err);

	if (rc)
		return rc;
	memcpy(copy, table, (size_t)p->geom->cluster_size);
	w->left = 0;
	w->removed = false;
	for (uint64_t i = 0; rc == 0 && i < p->geom->l2_entries; i++) {
		uint64_t bitmap, entry = qd_pin_slot(p, copy, i, &bitmap);
		bool remove = false;

		if (!entry && !bitmap)
			continue;
		w->left++;
		rc = w->fn(w->ctx, entry & ~QD_COPIED, bitmap, &remove, err);
		if (rc || !remove)
			continue;
		rc = qd_pin_get_table(p, index, &table, err);
		if (rc)
			return rc;
		qd_pin_set_slot(p, table, i, 0, 0);
		w->left--;
		w->removed = true;
		if (index < p->at_l1 || (index == p->at_l1 && i < p->at_slot)) {
			p->at_l1 = index;
			p->at_slot = i;
		}
	}
	return rc;
}

int qd_pin_give_up(struct qd_pin *p, uint64_t cluster, struct qd_err *err)
{
	int rc = qd_alloc_forget(p->pi.alloc, cluster, err);

	return rc ? rc : qd_alloc_release(p->pi.alloc, cluster, err);
}

/* A table without slots in use is not needed any more. */
static int drop_table(struct qd_pin *p, uint32_t index, struct qd_err *err)
{
	uint64_t cluster = qd_entry_host_off(p->l1[index]) >> p->geom->cluster_bits;

	qd_pin_touch_l1(p, index, 0);
	return qd_pin_give_up(p, cluster, err);
}

int qd_pin_walk(struct qd_pin *p, int (*fn)(void *ctx, uint64_t entry, uint64_t bitmap, bool *remove,
					    struct qd_err *err), void *ctx, struct qd_err *err)
{
	struct walk w = { .fn = fn, .ctx = ctx };
	uint8_t *copy = malloc((size_t)p->geom->cluster_size);
	int rc = 0;

	if (!copy)
		return qd_err_nomem(err, "the pin");
	for (uint32_t i = 0; rc == 0 && i < p->l1_entries; i++) {
		if (!qd_entry_host_off(p->l1[i]))
			continue;
		rc = walk_table(p, i, copy, &w, err);
		if (rc == 0 && w.removed && w.left == 0)
			rc = drop_table(p, i, err);
	}
	free(copy);
	return rc;
}
