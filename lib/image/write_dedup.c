/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing with deduplication: what becomes of a cluster whose new content is known.
 *
 *	reads the same already        nothing
 *	all zeros                     a zero entry
 *	some cluster holds it         a reference to that one, bytes compared
 *	else                          a new cluster; never the old one, which keeps its bytes
 *	                              and its hash until the commit
 *
 * A cluster that gets its second reference was somebody's own: the entry of that owner
 * loses COPIED, on stable storage before the new reference is, and the pin gets a
 * reference.  Whose it was is a hint of the index, and looked at.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/write_int.h"

#define COMPARE_BYTES 65536u

/* ---- the owner ---- */

static int remember_cleared(struct qd_writer *w, uint64_t owner_off, uint64_t host_off, struct qd_err *err)
{
	struct cleared *c;

	if (w->ncleared == w->cleared_capacity) {
		size_t capacity = w->cleared_capacity ? w->cleared_capacity * 2 : 64;

		c = realloc(w->cleared, capacity * sizeof(*c));
		if (!c)
			return qd_err_nomem(err, "a writer");
		w->cleared = c;
		w->cleared_capacity = capacity;
	}
	w->cleared[w->ncleared++] = (struct cleared){ .place_off = writer_entry_off(w, owner_off),
						      .host_off = host_off };
	return 0;
}

/*
 * The one entry that refers to the cluster loses COPIED.  *ret_found false: it is not where the
 * candidate says, and the cluster cannot be shared.
 */
static int disown(struct qd_writer *w, const struct qd_write_candidate *c, bool *ret_found,
		  struct qd_err *err)
{
	uint64_t owner_off = c->guest << w->geom->cluster_bits;
	struct place place;
	int rc;

	*ret_found = false;
	if (c->of_snapshot) {
		*ret_found = true;
		return 0;
	}
	if (owner_off >> w->geom->cluster_bits != c->guest || owner_off >= w->size)
		return 0;
	rc = writer_lookup(w, owner_off, &place, err);
	if (rc || qd_l2_is_compressed(place.entry) || qd_entry_host_off(place.entry) != c->entry ||
	    (place.entry & QD_L2_ZERO))
		return rc;
	*ret_found = true;
	if (!(place.entry & QD_COPIED))
		return 0;
	place.entry &= ~QD_COPIED;
	rc = writer_store(w, owner_off, &place, err);
	return rc ? rc : remember_cleared(w, owner_off, c->entry, err);
}

/* Behind raised refcounts and before any new reference: what is on disk there loses COPIED. */
int writer_queue_cleared(struct qd_writer *w, struct qd_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < w->ncleared; i++) {
		const struct cleared *c = &w->cleared[i];
		uint8_t entry[8];

		rc = qd_io_read_padded(w->io, entry, sizeof(entry), c->place_off, err);
		if (rc || qd_get_be64(entry) != (c->host_off | QD_COPIED))
			continue;
		qd_put_be64(entry, c->host_off);
		rc = qd_queue_write(w->queue, entry, sizeof(entry), c->place_off, err);
	}
	if (rc == 0 && w->ncleared)
		rc = qd_queue_barrier(w->queue, err);
	w->ncleared = 0;
	return rc;
}

/* ---- candidates ---- */

static int holds(struct qd_writer *w, uint64_t entry, const uint8_t *content, bool *ret_same,
		 struct qd_err *err)
{
	uint8_t buf[COMPARE_BYTES];
	uint64_t size = w->geom->cluster_size;
	int rc;

	*ret_same = false;
	if (qd_l2_is_compressed(entry)) {
		rc = writer_unpack(w, entry, err);
		if (rc == 0)
			*ret_same = memcmp(w->plain, content, size) == 0;
		return rc;
	}
	for (uint64_t at = 0; at < size; at += sizeof(buf)) {
		size_t n = (size_t)qd_min_u64(size - at, sizeof(buf));

		rc = qd_io_read_padded(w->io, buf, n, entry + at, err);
		if (rc || memcmp(buf, content + at, n))
			return rc;
	}
	*ret_same = true;
	return 0;
}

/* *ret_lowest, *ret_highest: of the refcounts of the clusters it refers to; 0 when it lies past the end. */
static int counts_of(struct qd_writer *w, uint64_t entry, uint64_t *ret_lowest, uint64_t *ret_highest,
		     struct qd_err *err)
{
	uint64_t first, last, count;
	int rc = 0;

	*ret_lowest = *ret_highest = 0;
	qd_l2_clusters(w->geom, entry, &first, &last);
	if (last >= qd_alloc_end(w->alloc) >> w->geom->cluster_bits)
		return 0;
	*ret_lowest = UINT64_MAX;
	for (uint64_t c = first; rc == 0 && c <= last; c++) {
		rc = qd_alloc_count(w->alloc, c, &count, err);
		*ret_lowest = qd_min_u64(*ret_lowest, count);
		*ret_highest = qd_max_u64(*ret_highest, count);
	}
	return rc;
}

/* May one more reference go there, and a pin's? */
static int may_share(struct qd_writer *w, const struct qd_write_candidate *c, bool pinned, bool *ret_may,
		     struct qd_err *err)
{
	uint64_t lowest, highest;
	bool compressed = qd_l2_is_compressed(c->entry);
	int rc = counts_of(w, c->entry, &lowest, &highest, err);

	*ret_may = false;
	if (rc || lowest == 0 || highest + 2 > w->geom->refcount_max)
		return rc;
	if (!compressed && highest - pinned >= w->hook->max_share)
		return w->hook->full(w->hook->ctx, c->entry, err);
	*ret_may = true;
	if (!compressed && highest == 1)
		rc = disown(w, c, ret_may, err);
	return rc;
}

static int take_references(struct qd_writer *w, uint64_t entry, bool pinned, struct qd_err *err)
{
	uint64_t first, last;
	int rc = 0;

	qd_l2_clusters(w->geom, entry, &first, &last);
	for (uint64_t c = first; rc == 0 && c <= last; c++)
		rc = qd_alloc_share(w->alloc, c, pinned ? 1 : 2, err);
	if (rc || pinned)
		return rc;
	rc = qd_pin_add(w->pin, entry, 0, err);
	return rc ? rc : w->hook->pinned(w->hook->ctx, entry, err);
}

static int try_candidate(struct qd_writer *w, const struct part *p, const struct qd_write_candidate *c,
			 const uint8_t *content, bool *ret_done, struct qd_err *err)
{
	struct place new = { .entry = c->entry };
	bool pinned = w->hook->is_pinned(w->hook->ctx, c->entry), good = false;
	int rc = holds(w, c->entry, content, &good, err);

	*ret_done = false;
	if (rc == 0 && good)
		rc = writer_begin(w, true, err);
	if (rc == 0 && good)
		rc = may_share(w, c, pinned, &good, err);
	if (rc || !good)
		return rc;
	*ret_done = true;
	rc = take_references(w, c->entry, pinned, err);
	if (rc == 0)
		rc = writer_store(w, p->guest_off, &new, err);
	return rc ? rc : writer_release(w, &p->place, err);
}

/* ---- a cluster ---- */

/* w->cluster: the whole cluster as it will be.  *ret_same: as it is. */
static int compose(struct qd_writer *w, const struct part *p, const uint8_t *src, bool *ret_same,
		   struct qd_err *err)
{
	uint64_t size = w->geom->cluster_size, n = p->to - p->from;
	int rc = writer_read_cluster(w, p, 0, size, w->cluster, err);

	if (rc)
		return rc;
	*ret_same = memcmp(w->cluster + p->from, src, n) == 0;
	memcpy(w->cluster + p->from, src, n);
	return 0;
}

static int store_new(struct qd_writer *w, const struct part *p, struct qd_err *err)
{
	struct place new = { 0, 0 };
	uint64_t cluster = 0, host_off;
	int rc = writer_begin(w, true, err);

	if (rc == 0)
		rc = qd_alloc_claim(w->alloc, &cluster, err);
	if (rc)
		return rc;
	host_off = cluster << w->geom->cluster_bits;
	rc = writer_write_host(w, host_off, w->cluster, w->geom->cluster_size, err);
	new.entry = host_off | QD_COPIED;
	if (rc == 0)
		rc = writer_store(w, p->guest_off, &new, err);
	if (rc) {
		qd_alloc_release(w->alloc, cluster, NULL);
		return rc;
	}
	rc = w->hook->stored(w->hook->ctx, host_off, p->guest_off >> w->geom->cluster_bits, err);
	return rc ? rc : writer_release(w, &p->place, err);
}

int writer_write_dedup(struct qd_writer *w, struct part *p, const uint8_t *src, struct qd_err *err)
{
	struct qd_write_candidate found[QD_WRITE_CANDIDATES];
	bool done = false;
	unsigned n = 0;
	int rc = compose(w, p, src, &done, err);

	if (rc || done)
		return rc;
	if (qd_is_zero(w->cluster, w->geom->cluster_size))
		return writer_zero_cluster(w, p, err);
	rc = w->hook->find(w->hook->ctx, w->cluster, found, &n, err);
	for (unsigned i = 0; rc == 0 && !done && i < n; i++)
		rc = try_candidate(w, p, &found[i], w->cluster, &done, err);
	return rc || done ? rc : store_new(w, p, err);
}
