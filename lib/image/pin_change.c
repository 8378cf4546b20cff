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
#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "format/snapshot.h"
#include "image/pin_int.h"

#define ENTRY_OFF_L1_OFF 0u	/* in an entry of the snapshot table */
#define ENTRY_OFF_L1_SIZE 8u

/* ---- a new snapshot table ---- */

static int release_run(struct qd_pin *p, const struct run *run, struct qd_err *err)
{
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < run->n; i++)
		rc = qd_pin_give_up(p, run->first + i, err);
	return rc;
}

/* Claims nbytes elsewhere for what lies in *run, which is given up; nbytes 0: nothing. */
static int move_run(struct qd_pin *p, struct run *run, uint64_t nbytes, struct qd_err *err)
{
	struct run new = { .n = qd_pin_clusters_of(p, nbytes) };
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
		if (qd_pin_id_number(img->snapshots[i].id, strlen(img->snapshots[i].id)) == id)
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
			return qd_err_set(err, QD_E_INVALID,
					  "the image has a snapshot named \"%s\" that qdedup "
					  "did not make: delete or rename it first", QD_PIN_NAME);
	if (p->count >= QD_MAX_SNAPSHOTS)
		return qd_err_set(err, QD_E_INVALID,
				  "the image has %" PRIu32 " snapshots, and one more for the "
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
		return qd_err_set(err, QD_E_INVALID,
				  "too many shared clusters for a pin of this cluster size");
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
	qd_pin_touch_l1(p, p->l1_entries, 0);
	qd_pin_touch_l1(p, (uint32_t)room - 1, 0);
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
	qd_pin_touch_l1(p, i, cluster << p->geom->cluster_bits);
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
		rc = qd_pin_get_table(p, p->at_l1, &table, err);
		if (rc)
			return rc;
		for (; p->at_slot < p->geom->l2_entries; p->at_slot++) {
			uint64_t bitmap, entry = qd_pin_slot(p, table, p->at_slot, &bitmap);

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
	qd_pin_set_slot(p, table, p->at_slot++, entry, bitmap);
	return 0;
}

/* ---- removing all of it ---- */

int qd_pin_delete(struct qd_pin *p, struct qd_err *err)
{
	int rc = 0;

	assert(p->exists);
	for (uint32_t i = 0; rc == 0 && i < p->l1_entries; i++)
		if (qd_entry_host_off(p->l1[i]))
			rc = qd_pin_give_up(p, qd_entry_host_off(p->l1[i]) >> p->geom->cluster_bits, err);
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
