/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L1 and L2 tables under change.
 *
 * Nothing an entry says is believed before it was looked at: reserved bits, alignment,
 * within the file, subcluster bitmaps.  COPIED alone does not make a cluster ours, the
 * refcount must agree, and no structure of the image may lie there.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/write_int.h"

static uint64_t l1_index_of(const struct qd_writer *w, uint64_t guest_off)
{
	return guest_off >> (w->geom->cluster_bits + w->geom->l2_bits);
}

bool writer_has_no_table(const struct qd_writer *w, uint64_t guest_off)
{
	return qd_entry_host_off(w->l1[l1_index_of(w, guest_off)]) == 0;
}

static size_t place_in_table(const struct qd_writer *w, uint64_t guest_off)
{
	uint64_t index = (guest_off >> w->geom->cluster_bits) & (w->geom->l2_entries - 1);

	return (size_t)(index * w->geom->l2_entry_size);
}

static bool is_cluster(const struct qd_writer *w, uint64_t off)
{
	return qd_is_aligned(off, w->geom->cluster_size) &&
	       qd_range_within(off, w->geom->cluster_size, qd_alloc_end(w->alloc));
}

/* The table's bytes, valid until the next use of the cache; the L1 entry names one. */
static int get_table(struct qd_writer *w, uint64_t l1_index, uint8_t **ret_table, struct qd_err *err)
{
	uint64_t entry = w->l1[l1_index];

	if ((entry & QD_L1_RESERVED) || !is_cluster(w, qd_entry_host_off(entry)))
		return qd_err_set(err, QD_E_CORRUPT, "L1 entry %" PRIu64 ": 0x%" PRIx64
				  " has reserved bits, is unaligned or lies past the end of the file",
				  l1_index, entry);
	return qd_cache_get(w->cache, QD_CACHE_L2, qd_entry_host_off(entry), ret_table, err);
}

/* ---- looking ---- */

static int check_bitmap(const struct qd_writer *w, uint64_t guest_off, const struct place *p,
			struct qd_err *err)
{
	uint32_t alloc = (uint32_t)p->bitmap, zero = (uint32_t)(p->bitmap >> 32);

	if (!w->geom->extended_l2 || (!(alloc & zero) && (!alloc || qd_entry_host_off(p->entry))))
		return 0;
	return qd_err_set(err, QD_E_CORRUPT,
			  "L2 entry of guest offset 0x%" PRIx64 ": invalid subcluster bitmap 0x%016" PRIx64,
			  guest_off, p->bitmap);
}

static int check_compressed(const struct qd_writer *w, uint64_t guest_off, uint64_t entry, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(w->geom, entry);

	/* The last sector named need not be there in full. */
	if (c.host_off && qd_range_within(c.host_off, 1, qd_alloc_end(w->alloc)) &&
	    qd_align_down(c.host_off + c.nbytes - 1, w->geom->cluster_size) < qd_alloc_end(w->alloc))
		return 0;
	return qd_err_set(err, QD_E_CORRUPT,
			  "L2 entry of guest offset 0x%" PRIx64 ": compressed cluster at 0x%" PRIx64
			  " lies past the end of the file", guest_off, c.host_off);
}

static int check_place(const struct qd_writer *w, uint64_t guest_off, const struct place *p,
		       struct qd_err *err)
{
	uint64_t reserved = QD_L2_RESERVED, off = qd_entry_host_off(p->entry);

	if (qd_l2_is_compressed(p->entry))
		return check_compressed(w, guest_off, p->entry, err);
	if (w->geom->extended_l2 || w->img->header.version == 2)
		reserved |= QD_L2_ZERO;
	if ((p->entry & reserved) || (off && !is_cluster(w, off)))
		return qd_err_set(err, QD_E_CORRUPT, "L2 entry of guest offset 0x%" PRIx64 ": 0x%" PRIx64
				  " has reserved bits, is unaligned or lies past the end of the file",
				  guest_off, p->entry);
	return check_bitmap(w, guest_off, p, err);
}

int writer_lookup(struct qd_writer *w, uint64_t guest_off, struct place *ret_place, struct qd_err *err)
{
	struct place p = { 0, 0 };
	uint8_t *table;
	int rc;

	if (!writer_has_no_table(w, guest_off)) {
		rc = get_table(w, l1_index_of(w, guest_off), &table, err);
		if (rc)
			return rc;
		table += place_in_table(w, guest_off);
		p.entry = qd_get_be64(table);
		if (w->geom->extended_l2)
			p.bitmap = qd_get_be64(table + 8);
		rc = check_place(w, guest_off, &p, err);
		if (rc)
			return rc;
	}
	*ret_place = p;
	return 0;
}

unsigned writer_nsubs(const struct qd_writer *w)
{
	return w->geom->extended_l2 ? 32 : 1;
}

enum sub_kind writer_sub_kind(const struct qd_writer *w, const struct place *p, unsigned sub)
{
	if (!w->geom->extended_l2) {
		if (p->entry & QD_L2_ZERO)
			return SUB_ZERO;
		return qd_entry_host_off(p->entry) ? SUB_DATA : SUB_UNALLOCATED;
	}
	if (p->bitmap >> (32 + sub) & 1)
		return SUB_ZERO;
	return p->bitmap >> sub & 1 ? SUB_DATA : SUB_UNALLOCATED;
}

/* ---- owning ---- */

static int check_own(struct qd_writer *w, uint64_t entry, bool *ret_own, struct qd_err *err)
{
	uint64_t off = qd_entry_host_off(entry), count = 0;
	int rc = qd_alloc_count(w->alloc, off >> w->geom->cluster_bits, &count, err);

	if (rc)
		return rc;
	if (count == 0)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the cluster at 0x%" PRIx64 " is in use, but its refcount is 0; "
				  "qdedup check tells more", off);
	*ret_own = count == 1 && (entry & QD_COPIED);
	return 0;
}

int writer_is_own(struct qd_writer *w, const struct place *p, bool *ret_own, struct qd_err *err)
{
	int rc;

	*ret_own = false;
	if (qd_l2_is_compressed(p->entry) || !qd_entry_host_off(p->entry))
		return 0;
	rc = check_own(w, p->entry, ret_own, err);
	if (rc == 0 && *ret_own)
		rc = qd_alloc_guard(w->alloc, qd_entry_host_off(p->entry) >> w->geom->cluster_bits, err);
	return rc;
}

int writer_release(struct qd_writer *w, const struct place *p, struct qd_err *err)
{
	uint64_t first, last;
	int rc = 0;

	if (qd_l2_is_compressed(p->entry))
		w->plain_entry = 0;
	else if (!qd_entry_host_off(p->entry))
		return 0;
	qd_l2_clusters(w->geom, p->entry, &first, &last);
	for (uint64_t c = first; rc == 0 && c <= last; c++)
		rc = qd_alloc_release(w->alloc, c, err);
	return rc;
}

static void set_l1(struct qd_writer *w, uint64_t index, uint64_t entry)
{
	w->l1[index] = entry;
	if (w->l1_dirty_first == w->l1_dirty_end) {
		w->l1_dirty_first = index;
		w->l1_dirty_end = index + 1;
	} else {
		w->l1_dirty_first = qd_min_u64(w->l1_dirty_first, index);
		w->l1_dirty_end = qd_max_u64(w->l1_dirty_end, index + 1);
	}
}

/* A new table with the old one's entries, or none. */
static int replace_table(struct qd_writer *w, uint64_t index, struct qd_err *err)
{
	uint64_t old = qd_entry_host_off(w->l1[index]), cluster = 0;
	size_t size = (size_t)w->geom->cluster_size;
	uint8_t *table;
	int rc = 0;

	memset(w->table, 0, size);
	if (old) {
		rc = get_table(w, index, &table, err);
		if (rc == 0)
			memcpy(w->table, table, size);
	}
	if (rc == 0)
		rc = qd_alloc_claim(w->alloc, &cluster, err);
	if (rc)
		return rc;
	rc = qd_cache_add(w->cache, QD_CACHE_L2, cluster << w->geom->cluster_bits, &table, err);
	if (rc) {
		qd_alloc_release(w->alloc, cluster, NULL);
		return rc;
	}
	memcpy(table, w->table, size);
	set_l1(w, index, cluster << w->geom->cluster_bits | QD_COPIED);
	return old ? qd_alloc_release(w->alloc, old >> w->geom->cluster_bits, err) : 0;
}

static int own_table(struct qd_writer *w, uint64_t index, struct qd_err *err)
{
	bool own = false;
	int rc = 0;

	if (qd_entry_host_off(w->l1[index]))
		rc = check_own(w, w->l1[index], &own, err);
	return rc || own ? rc : replace_table(w, index, err);
}

int writer_store(struct qd_writer *w, uint64_t guest_off, const struct place *p, struct qd_err *err)
{
	uint64_t index = l1_index_of(w, guest_off);
	uint8_t *table;
	int rc = own_table(w, index, err);

	if (rc == 0)
		rc = get_table(w, index, &table, err);
	if (rc)
		return rc;
	table += place_in_table(w, guest_off);
	qd_put_be64(table, p->entry);
	if (w->geom->extended_l2)
		qd_put_be64(table + 8, p->bitmap);
	qd_cache_touch(w->cache);
	return 0;
}

uint64_t writer_entry_off(const struct qd_writer *w, uint64_t guest_off)
{
	return qd_entry_host_off(w->l1[l1_index_of(w, guest_off)]) + place_in_table(w, guest_off);
}

int writer_queue_l1(struct qd_writer *w, struct qd_err *err)
{
	for (uint64_t i = w->l1_dirty_first; i < w->l1_dirty_end; i++) {
		uint8_t bytes[8];
		int rc;

		qd_put_be64(bytes, w->l1[i]);
		rc = qd_queue_write(w->queue, bytes, sizeof(bytes), w->img->header.l1_off + i * 8, err);
		if (rc)
			return rc;
	}
	w->l1_dirty_first = w->l1_dirty_end = 0;
	return 0;
}
