/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots are filled from the first free one on, so that what a container gave up serves the
 * next one.
 *
 * Where no slot is left, an L2 table goes to the first free L1 entry; where no such
 * entry is left, the L1 table gets those that its last cluster has room for, or moves
 * to a larger run (always filling its clusters: no place of it is unaccounted for):
 *
 *	grows in place   zeros behind the last entry | l1_size of the snapshot table's entry (4 bytes)
 *	moves, is new    new L1, new snapshot table  | the header's 12 bytes
 *
 * "|": a barrier.  Each second step is one write within a sector.
 */
#include "image/pin.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "format/snapshot.h"

#define ENTRY_OFF_L1_OFF 0u	/* in an entry of the snapshot table */
#define ENTRY_OFF_L1_SIZE 8u

struct run {			/* clusters in a row; n 0: none */
	uint64_t first;
	uint64_t n;
};

struct qd_pin {
	struct qd_pin_image pi;
	const struct qd_geom *geom;
	bool exists;
	uint32_t id;
	uint8_t *table;			/* the snapshot table as it will be */
	size_t table_nbytes;
	size_t entry_off;		/* of the pin's entry in it, when it exists */
	size_t entry_nbytes;
	uint32_t count;			/* snapshots, the pin included */
	struct run table_at;		/* where it lies; n 0: nowhere yet */
	uint64_t *l1;			/* host-endian */
	uint32_t l1_entries;
	uint32_t l1_written;		/* entries that the file's table has */
	struct run l1_at;
	uint32_t l1_dirty_first, l1_dirty_end;
	bool relink;			/* the snapshot table or the L1 table lies elsewhere now */
	uint32_t at_l1;			/* no free slot before this one */
	uint64_t at_slot;
};

static uint64_t clusters_of(const struct qd_pin *p, uint64_t nbytes)
{
	return qd_div_up(nbytes, p->geom->cluster_size);
}

/* ---- opening ---- */

static uint32_t id_number(const char *id, size_t nbytes)
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
	p->table_at.n = clusters_of(p, img->snapshots_nbytes);
	rc = qd_queue_read(p->pi.queue, p->table, (size_t)img->snapshots_nbytes, img->header.snapshots_off, err);
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
	p->id = id_number(s->id, strlen(s->id));
	p->l1_entries = p->l1_written = s->l1_entries;
	p->l1_at.first = s->l1_off >> p->geom->cluster_bits;
	p->l1_at.n = clusters_of(p, (uint64_t)s->l1_entries * 8);
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

static void touch_l1(struct qd_pin *p, uint32_t index, uint64_t entry)
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

/* The L2 table's bytes, valid until the next use of the cache; the L1 entry names one. */
static int get_table(struct qd_pin *p, uint32_t index, uint8_t **ret_table, struct qd_err *err)
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

static uint64_t slot_entry(const struct qd_pin *p, const uint8_t *table, uint64_t slot, uint64_t *ret_bitmap)
{
	const uint8_t *at = table + slot * p->geom->l2_entry_size;

	*ret_bitmap = p->geom->extended_l2 ? qd_get_be64(at + 8) : 0;
	return qd_get_be64(at);
}

static void set_slot(struct qd_pin *p, uint8_t *table, uint64_t slot, uint64_t entry, uint64_t bitmap)
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
	int rc = get_table(p, index, &table, err);

	if (rc)
		return rc;
	memcpy(copy, table, (size_t)p->geom->cluster_size);
	w->left = 0;
	w->removed = false;
	for (uint64_t i = 0; rc == 0 && i < p->geom->l2_entries; i++) {
		uint64_t bitmap, entry = slot_entry(p, copy, i, &bitmap);
		bool remove = false;

		if (!entry && !bitmap)
			continue;
		w->left++;
		rc = w->fn(w->ctx, entry & ~QD_COPIED, bitmap, &remove, err);
		if (rc || !remove)
			continue;
		rc = get_table(p, index, &table, err);
		if (rc)
			return rc;
		set_slot(p, table, i, 0, 0);
		w->left--;
		w->removed = true;
		if (index < p->at_l1 || (index == p->at_l1 && i < p->at_slot)) {
			p->at_l1 = index;
			p->at_slot = i;
		}
	}
	return rc;
}

static int give_up(struct qd_pin *p, uint64_t cluster, struct qd_err *err)
{
	int rc = qd_alloc_forget(p->pi.alloc, cluster, err);

	return rc ? rc : qd_alloc_release(p->pi.alloc, cluster, err);
}

/* A table without slots in use is not needed any more. */
static int drop_table(struct qd_pin *p, uint32_t index, struct qd_err *err)
{
	uint64_t cluster = qd_entry_host_off(p->l1[index]) >> p->geom->cluster_bits;

	touch_l1(p, index, 0);
	return give_up(p, cluster, err);
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

/* ---- a new snapshot table ---- */

static int release_run(struct qd_pin *p, const struct run *run, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < run->n; i++)
		rc = give_up(p, run->first + i, err);
	return rc;
}

/* Claims nbytes elsewhere for what lies in *run, which is given up; nbytes 0: nothing. */
static int move_run(struct qd_pin *p, struct run *run, uint64_t nbytes, struct qd_err *err)
{
	struct run new = { .n = clusters_of(p, nbytes) };
	int rc = new.n ? qd_alloc_claim_run(p->pi.alloc, new.n, &new.first, err) : 0;

	if (rc == 0)
		rc = release_run(p, run, err);
	if (rc == 0)
		*run = new;
	return rc;
}

/* The table or what it says of the L1 table changes: all of it goes to a new place, once a commit. */
static int relink(struct qd_pin *p, struct qd_err *err)
{
	int rc;

	if (p->relink)
		return 0;
	rc = move_run(p, &p->table_at, p->table_nbytes, err);
	p->relink = rc == 0;
	return rc;
}

static bool id_is_taken(const struct qd_image *img, uint32_t id)
{
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (id_number(img->snapshots[i].id, strlen(img->snapshots[i].id)) == id)
			return true;
	return false;
}

int qd_pin_possible(const struct qd_pin *p, struct qd_err *err)
{
	const struct qd_image *img = p->pi.img;

	if (p->exists)
		return 0;
	for (uint32_t i = 0; i < img->nsnapshots; i++)
		if (!strcmp(img->snapshots[i].name, QD_PIN_NAME))
			return qd_err_set(err, QD_E_INVALID, "the image has a snapshot named \"%s\" that qdedup "
					  "did not make: delete or rename it first", QD_PIN_NAME);
	if (p->count >= QD_MAX_SNAPSHOTS)
		return qd_err_set(err, QD_E_INVALID, "the image has %" PRIu32 " snapshots, and one more for the "
				  "pin is too many", p->count);
	return 0;
}

static int make_pin(struct qd_pin *p, struct qd_err *err)
{
	char id[16];
	struct qd_snapshot_entry e = {
		.disk_size = QD_PIN_DISK_SIZE, .icount = UINT64_MAX,
		.id = id, .name = QD_PIN_NAME, .name_len = sizeof(QD_PIN_NAME) - 1,
	};
	uint32_t number = 1;
	uint8_t *table;
	int rc = qd_pin_possible(p, err);

	if (rc)
		return rc;
	while (id_is_taken(p->pi.img, number))
		number++;
	e.id_len = (uint16_t)snprintf(id, sizeof(id), "%" PRIu32, number);
	table = realloc(p->table, p->table_nbytes + qd_snapshot_encoded_size(&e));
	if (!table)
		return qd_err_nomem(err, "the snapshot table");
	p->table = table;
	p->entry_off = p->table_nbytes;
	p->entry_nbytes = qd_snapshot_encode(&e, p->table + p->table_nbytes);
	p->table_nbytes += p->entry_nbytes;
	if (p->table_nbytes > QD_SNAPSHOT_MAX_TABLE) {
		p->table_nbytes = p->entry_off;
		return qd_err_set(err, QD_E_INVALID, "the snapshot table has no room for the pin");
	}
	rc = relink(p, err);
	if (rc) {
		p->table_nbytes = p->entry_off;
		return rc;
	}
	p->count++;
	p->id = number;
	p->exists = true;
	return 0;
}

/* ---- adding ---- */

/* More L1 entries, all zero. */
static int grow_l1(struct qd_pin *p, struct qd_err *err)
{
	uint64_t per_cluster = p->geom->cluster_size / 8, room = p->l1_at.n * per_cluster, *l1;
	bool moves = room == p->l1_entries;
	int rc = 0;

	if (moves)
		room = qd_max_u64(1, p->l1_at.n + qd_div_up(p->l1_at.n, 2)) * per_cluster;
	room = qd_min_u64(room, QD_MAX_L1_BYTES / 8);
	if (room <= p->l1_entries)
		return qd_err_set(err, QD_E_INVALID, "too many shared clusters for a pin of this cluster size");
	l1 = realloc(p->l1, room * sizeof(*l1));
	if (!l1)
		return qd_err_nomem(err, "the pin's L1 table");
	memset(l1 + p->l1_entries, 0, (room - p->l1_entries) * sizeof(*l1));
	p->l1 = l1;
	if (moves)
		rc = relink(p, err);
	if (rc == 0 && moves)
		rc = move_run(p, &p->l1_at, room * 8, err);
	if (rc)
		return rc;
	touch_l1(p, p->l1_entries, 0);
	touch_l1(p, (uint32_t)room - 1, 0);
	p->l1_entries = (uint32_t)room;
	return 0;
}

/* A new L2 table at the first free L1 entry: the next slots are there. */
static int add_table(struct qd_pin *p, struct qd_err *err)
{
	uint64_t cluster = 0;
	uint8_t *table;
	uint32_t i = 0;
	int rc = 0;

	while (i < p->l1_entries && p->l1[i] & ~QD_COPIED)
		i++;
	if (i == p->l1_entries)
		rc = grow_l1(p, err);
	if (rc == 0)
		rc = qd_alloc_claim(p->pi.alloc, &cluster, err);
	if (rc)
		return rc;
	rc = qd_cache_add(p->pi.cache, QD_CACHE_PIN, cluster << p->geom->cluster_bits, &table, err);
	if (rc) {
		qd_alloc_release(p->pi.alloc, cluster, NULL);
		return rc;
	}
	touch_l1(p, i, cluster << p->geom->cluster_bits);
	p->at_l1 = i;
	p->at_slot = 0;
	return 0;
}

/* The first free slot from (at_l1, at_slot) on; *ret_table NULL: none. */
static int find_slot(struct qd_pin *p, uint8_t **ret_table, struct qd_err *err)
{
	*ret_table = NULL;
	for (; p->at_l1 < p->l1_entries; p->at_l1++, p->at_slot = 0) {
		uint8_t *table;
		int rc;

		if (!qd_entry_host_off(p->l1[p->at_l1]))
			continue;
		rc = get_table(p, p->at_l1, &table, err);
		if (rc)
			return rc;
		for (; p->at_slot < p->geom->l2_entries; p->at_slot++) {
			uint64_t bitmap, entry = slot_entry(p, table, p->at_slot, &bitmap);

			if (!entry && !bitmap) {
				*ret_table = table;
				return 0;
			}
		}
	}
	return 0;
}

int qd_pin_add(struct qd_pin *p, uint64_t entry, uint64_t bitmap, struct qd_err *err)
{
	uint8_t *table = NULL;
	int rc = p->exists ? 0 : make_pin(p, err);

	assert(!(entry & QD_COPIED));
	if (rc == 0)
		rc = find_slot(p, &table, err);
	if (rc == 0 && !table) {
		rc = add_table(p, err);
		if (rc == 0)
			rc = find_slot(p, &table, err);
	}
	if (rc)
		return rc;
	assert(table);
	set_slot(p, table, p->at_slot++, entry, bitmap);
	return 0;
}

/* ---- removing all of it ---- */

int qd_pin_delete(struct qd_pin *p, struct qd_err *err)
{
	int rc = 0;

	assert(p->exists);
	for (uint32_t i = 0; rc == 0 && i < p->l1_entries; i++)
		if (qd_entry_host_off(p->l1[i]))
			rc = give_up(p, qd_entry_host_off(p->l1[i]) >> p->geom->cluster_bits, err);
	if (rc == 0)
		rc = release_run(p, &p->l1_at, err);
	if (rc)
		return rc;
	memmove(p->table + p->entry_off, p->table + p->entry_off + p->entry_nbytes,
		p->table_nbytes - p->entry_off - p->entry_nbytes);
	p->table_nbytes -= p->entry_nbytes;
	p->count--;
	p->exists = false;
	p->id = 0;
	p->l1_at = (struct run){ 0, 0 };
	p->l1_entries = p->l1_written = p->l1_dirty_first = p->l1_dirty_end = 0;
	p->at_l1 = 0;
	p->at_slot = 0;
	return relink(p, err);
}

/* ---- writing ---- */

static int queue_l1(struct qd_pin *p, uint32_t first, uint32_t end, struct qd_err *err)
{
	size_t nbytes = (size_t)(end - first) * 8;
	uint8_t *bytes;
	int rc;

	if (first == end)
		return 0;
	bytes = malloc(nbytes);
	if (!bytes)
		return qd_err_nomem(err, "the pin's L1 table");
	for (uint32_t i = first; i < end; i++)
		qd_put_be64(bytes + (size_t)(i - first) * 8, p->l1[i]);
	rc = qd_queue_write(p->pi.queue, bytes, nbytes,
			    (p->l1_at.first << p->geom->cluster_bits) + (uint64_t)first * 8, err);
	free(bytes);
	return rc;
}

static void fill_entry(struct qd_pin *p)
{
	uint8_t *at = p->table + p->entry_off;

	qd_put_be64(at + ENTRY_OFF_L1_OFF, p->l1_at.first << p->geom->cluster_bits);
	qd_put_be32(at + ENTRY_OFF_L1_SIZE, p->l1_entries);
}

/* Everything at its new place, then the header's 12 bytes. */
static int write_relinked(struct qd_pin *p, struct qd_err *err)
{
	uint64_t off = p->table_at.first << p->geom->cluster_bits;
	uint8_t head[12];
	int rc = queue_l1(p, 0, p->l1_entries, err);

	if (p->exists)
		fill_entry(p);
	if (rc == 0)
		rc = qd_queue_write(p->pi.queue, p->table, p->table_nbytes, off, err);
	if (rc == 0)
		rc = qd_queue_barrier(p->pi.queue, err);
	qd_put_be32(head, p->count);
	qd_put_be64(head + 4, p->count ? off : 0);
	if (rc == 0)
		rc = qd_queue_write(p->pi.queue, head, sizeof(head), QD_HEADER_OFF_SNAPSHOT_COUNT, err);
	return rc;
}

/* In the L1 table that the file has. */
static int write_in_place(struct qd_pin *p, struct qd_err *err)
{
	uint64_t off = (p->table_at.first << p->geom->cluster_bits) + p->entry_off + ENTRY_OFF_L1_SIZE;
	int rc = queue_l1(p, p->l1_dirty_first, p->l1_dirty_end, err);

	if (rc || p->l1_entries == p->l1_written)
		return rc;
	fill_entry(p);
	rc = qd_queue_barrier(p->pi.queue, err);
	if (rc == 0)
		rc = qd_queue_write(p->pi.queue, p->table + p->entry_off + ENTRY_OFF_L1_SIZE, 4, off, err);
	return rc;
}

int qd_pin_write(struct qd_pin *p, struct qd_err *err)
{
	int rc = p->relink ? write_relinked(p, err) : write_in_place(p, err);

	if (rc)
		return rc;
	p->relink = false;
	p->l1_written = p->l1_entries;
	p->l1_dirty_first = p->l1_dirty_end = 0;
	return 0;
}
