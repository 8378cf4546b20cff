/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables that L1 entries have lost.
 *
 *	L1    | A | (lost) | C |		an entry that leads nowhere
 *	host       A   T    C			a table that nothing names: is it the lost one?
 *
 * A table does not say where it belongs, so T is taken only on evidence:
 *
 *	sure      its clusters are at the guest's offsets (external data file); the entry names
 *	          it but for bits beyond the end of the file; in another layer the same entry
 *	          names it, or a table that shares clusters with it at the same entries
 *	likely    nothing else is lost and nothing else is found, and T lies between its
 *	          neighbours as every table of the layer does, with no other entry in reach that
 *	          could have been cleared instead
 *
 * Wrong would be worse than nothing: a guest would see data where there was none.
 *
 * What is called a table but is mostly garbage may still hold entries that are right: they
 * name clusters with a refcount that nothing else accounts for.  They are kept, in a new
 * cluster, for the old one may be anything.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

#define MAX_LOOKED (4ull << 30)	/* bytes read in a round; then an entry finds what it nearly names */
#define MAX_LAYERS 64u		/* looked into for clusters in common */

enum fit { UNFIT, LIKELY, SURE };

struct lost {
	struct rep *r;
	uint32_t layer;
	uint64_t index;
	uint64_t entry;		/* what is there now */
	uint64_t l1_off;
	uint64_t nentries;
	/* what the rest of its L1 table says (look_around) */
	bool ambiguous;		/* some other entry may be the one that is lost */
	uint64_t below;		/* table of the nearest entry before it, 0: none */
	uint64_t above;		/* after it; UINT64_MAX: none */
};

/* ---- evidence ---- */

static bool is_table(const struct rep *r, uint64_t entry)
{
	uint64_t off = qd_entry_host_off(entry);

	return off >= r->geom.cluster_size && qd_is_aligned(off, r->geom.cluster_size) &&
	       off < r->file_size && !(entry & QD_L1_RESERVED);
}

/* Where in its L1 table the entry stands among those that are right. */
static int look_around(struct lost *l, struct qd_err *err)
{
	uint64_t nbytes = l->nentries * 8, last = 0, zeros = 0, around = 0;
	uint8_t *buf = malloc(nbytes);
	bool ascending = true, closed = false;
	int rc = buf ? qd_plan_read(l->r->plan, buf, nbytes, l->l1_off, err)
		     : qd_err_nomem(err, "an L1 table");

	l->below = 0;
	l->above = UINT64_MAX;
	for (uint64_t i = 0; rc == 0 && i < l->nentries; i++) {
		uint64_t entry = qd_get_be64(buf + i * 8), off = qd_entry_host_off(entry);

		if (i == l->index) {
			l->below = last;
			l->ambiguous = around != 0;
			around = 0;
		} else if (is_table(l->r, entry)) {
			ascending = ascending && off > last;
			last = off;
			if (i > l->index && !closed) {
				closed = true;
				l->above = off;
				l->ambiguous = l->ambiguous || around != 0;
			}
			around = 0;
		} else {
			zeros++;
			around++;
		}
	}
	if (!ascending) {
		l->below = 0;
		l->above = UINT64_MAX;
		l->ambiguous = zeros != 0;
	}
	free(buf);
	return rc;
}

/* COPIED in an L1 entry of the active layer says that its table has one owner. */
static bool is_copied_as(const struct lost *l, uint64_t table)
{
	uint64_t nowners = qd_rep_nowners(l->r, table >> l->r->geom.cluster_bits);

	return l->layer || nowners == 0 || (nowners == 1) == ((l->entry & QD_COPIED) != 0);
}

/* Without bits beyond the end of the file or within a cluster. */
static uint64_t nearly_named(const struct lost *l)
{
	uint64_t room = l->r->geom.cluster_size;

	while (room < l->r->file_size)
		room *= 2;
	return qd_align_down(qd_entry_host_off(l->entry) & (room - 1), l->r->geom.cluster_size);
}

/* Bits of one byte, of those, are what is wrong with the entry. */
static bool nearly_names(const struct lost *l, uint64_t table)
{
	uint64_t wrong = qd_entry_host_off(l->entry) ^ table;

	while (wrong && (wrong & 0xff) == 0)
		wrong >>= 8;
	return wrong < 0x100 && nearly_named(l) == table;
}

/* Do two tables name the same cluster in the same place? */
static bool have_common(const struct rep *r, const uint8_t *a, const uint8_t *b)
{
	for (uint64_t i = 0; i < r->geom.l2_entries; i++) {
		uint64_t x = qd_get_be64(a + i * r->geom.l2_entry_size);
		uint64_t y = qd_get_be64(b + i * r->geom.l2_entry_size);

		if (qd_rep_mapped_host(&r->geom, x) && qd_rep_mapped_host(&r->geom, x) == qd_rep_mapped_host(&r->geom, y))
			return true;
	}
	return false;
}

static int is_claimed(const struct lost *l, uint64_t table, const uint8_t *bytes, bool *ret_is,
		      struct qd_err *err)
{
	struct rep *r = l->r;
	uint64_t off, nentries, entry;
	uint8_t *buf = malloc(r->geom.cluster_size);
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	*ret_is = false;
	for (uint32_t layer = 0; rc == 0 && !*ret_is && layer <= r->nsnaps && layer < MAX_LAYERS; layer++) {
		if (layer == l->layer || !qd_rep_l1_of(r, layer, &off, &nentries) || l->index >= nentries)
			continue;
		rc = qd_plan_get64(r->plan, off + l->index * 8, &entry, err);
		if (rc || !is_table(r, entry))
			continue;
		*ret_is = qd_entry_host_off(entry) == table;
		if (!*ret_is)
			rc = qd_plan_read(r->plan, buf, r->geom.cluster_size, qd_entry_host_off(entry), err);
		if (rc == 0 && !*ret_is)
			*ret_is = have_common(r, bytes, buf);
	}
	free(buf);
	return rc;
}

/* In an external data file clusters are at the guest's offsets: does the table say this index? */
static bool is_at_home(const struct lost *l, const uint8_t *bytes)
{
	const struct qd_geom *g = &l->r->geom;
	uint64_t mapped = 0;

	for (uint64_t i = 0; i < g->l2_entries; i++) {
		uint64_t entry = qd_get_be64(bytes + i * g->l2_entry_size);

		if (!qd_entry_host_off(entry) && !(entry & QD_COPIED))
			continue;
		if (qd_entry_host_off(entry) != ((l->index << g->l2_bits) + i) << g->cluster_bits)
			return false;
		mapped++;
	}
	return mapped != 0;
}

/* The active layer's entries are COPIED where the refcount is 1; a snapshot's are not. */
static bool is_active(const struct rep *r, const uint8_t *bytes)
{
	for (uint64_t i = 0; i < r->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(bytes + i * r->geom.l2_entry_size),
			 host = qd_entry_host_off(entry);

		if (!qd_l2_is_compressed(entry) && host && !(entry & QD_COPIED) &&
		    qd_rep_nowners(r, host >> r->geom.cluster_bits) == 1)
			return false;
	}
	return true;
}

/* COPIED is never set in a snapshot's table: the active layer has written there since. */
static bool is_never_shared(const struct rep *r, const uint8_t *bytes)
{
	for (uint64_t i = 0; i < r->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(bytes + i * r->geom.l2_entry_size),
			 host = qd_entry_host_off(entry);

		if (!qd_l2_is_compressed(entry) && host && (entry & QD_COPIED) &&
		    qd_rep_nowners(r, host >> r->geom.cluster_bits) == 1)
			return true;
	}
	return false;
}

static int judge(const struct lost *l, uint64_t table, const uint8_t *bytes, enum fit *ret_fit,
		 struct qd_err *err)
{
	bool is;
	int rc;

	if (qd_rep_has_data_file(l->r)) {
		*ret_fit = is_at_home(l, bytes) ? SURE : UNFIT;
		return 0;
	}
	*ret_fit = nearly_names(l, table) && is_copied_as(l, table) ? SURE
		   : l->layer && is_never_shared(l->r, bytes) ? UNFIT
		   : !l->ambiguous && (l->layer || is_active(l->r, bytes)) && table > l->below &&
				   table < l->above
			   ? LIKELY
			   : UNFIT;
	if (*ret_fit == SURE || (l->layer && is_never_shared(l->r, bytes)))
		return 0;
	rc = is_claimed(l, table, bytes, &is, err);
	if (rc == 0 && is)
		*ret_fit = SURE;
	return rc;
}

/* ---- the search ---- */

/* By how many layers, this round's answers included: no more than its refcount says. */
static int count_names(const struct lost *l, uint64_t table, uint64_t *ret_n, struct qd_err *err)
{
	struct rep *r = l->r;
	uint64_t off, nentries, entry;
	int rc = 0;

	*ret_n = 0;
	for (uint32_t layer = 0; rc == 0 && layer <= r->nsnaps && layer < MAX_LAYERS; layer++) {
		if (layer == l->layer || !qd_rep_l1_of(r, layer, &off, &nentries) || l->index >= nentries)
			continue;
		rc = qd_plan_get64(r->plan, off + l->index * 8, &entry, err);
		*ret_n += rc == 0 && qd_entry_host_off(entry) == table;
	}
	return rc;
}

/* Orphans, and those of them that are sure to be the one. */
struct found {
	uint64_t norphans;
	uint64_t nsure;
	uint64_t likely;
	uint64_t sure;
};

static int look_at(const struct lost *l, uint64_t off, uint8_t *buf, struct found *found, struct qd_err *err)
{
	uint64_t names;
	enum fit fit;
	int rc = qd_plan_read(l->r->plan, buf, l->r->geom.cluster_size, off, err);

	if (rc)
		return rc;
	l->r->orphans.nlooked += l->r->geom.cluster_size;
	rc = count_names(l, off, &names, err);
	if (rc || names >= qd_rep_nowners(l->r, off >> l->r->geom.cluster_bits))
		return rc;
	rc = judge(l, off, buf, &fit, err);
	found->norphans++;
	if (fit == LIKELY)
		found->likely = off;
	if (fit == SURE)
		found->sure = off;
	found->nsure += fit == SURE;
	return rc;
}

static int look_at_all(const struct lost *l, struct found *found, struct qd_err *err)
{
	const struct qd_rep_orphans *o = &l->r->orphans;
	uint8_t *buf = malloc(l->r->geom.cluster_size);
	uint64_t near = nearly_named(l);
	bool all = o->nlooked < MAX_LOOKED;
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	for (size_t i = 0; rc == 0 && i < o->n && all; i++)
		if (!o->v[i].named)
			rc = look_at(l, o->v[i].off, buf, found, err);
	if (rc == 0 && !all && qd_rep_orphan_at(l->r, near) && !qd_rep_orphan_at(l->r, near)->named)
		rc = look_at(l, near, buf, found, err);
	free(buf);
	return rc;
}

/* *ret_off 0: none is known. */
static int search(struct lost *l, bool only_one, uint64_t *ret_off, struct qd_err *err)
{
	struct found found = { .norphans = 0 };
	int rc = qd_rep_list_orphans(l->r, l->layer, l->l1_off, l->nentries, err);

	if (rc == 0 && l->r->orphans.n)
		rc = look_at_all(l, &found, err);
	if (rc)
		return rc;
	if (found.nsure == 1)
		*ret_off = found.sure;
	else if (only_one && found.norphans == 1)
		*ret_off = found.likely;
	if (*ret_off)
		qd_rep_orphan_at(l->r, *ret_off)->named = true;
	return 0;
}

int qd_rep_search_l2(struct rep *r, const struct qd_finding *f, uint64_t entry, bool only_one,
		     uint64_t *ret_off, struct qd_err *err)
{
	struct lost l = { .r = r, .layer = f->place.layer, .index = f->place.index, .entry = entry };
	int rc = 0;

	*ret_off = 0;
	if (!qd_rep_l1_of(r, l.layer, &l.l1_off, &l.nentries) || l.nentries * 8 > QD_MAX_L1_BYTES)
		return 0;
	l.ambiguous = true;
	if (only_one)
		rc = look_around(&l, err);
	return rc ? rc : search(&l, only_one, ret_off, err);
}

/* ---- what is left of a table ---- */

/* Counts that are too low as well mean that there is no telling from refcounts. */
static bool is_right(const struct rep *r, uint64_t entry, uint64_t guest_off)
{
	uint64_t host = qd_rep_mapped_host(&r->geom, entry);

	if (!qd_rep_entry_is_possible(r, entry))
		return false;
	if (qd_rep_has_data_file(r))
		return host == guest_off;
	return host == 0 || r->rebuild || r->check.count[QD_F_REFCOUNT_LOW] ||
	       qd_rep_is_leaked(r, host >> r->geom.cluster_bits);
}

static bool is_bitmap_right(uint64_t entry, uint64_t bitmap)
{
	if (qd_l2_is_compressed(entry))
		return bitmap == 0;
	return qd_entry_host_off(entry) ? !(bitmap >> 32 & bitmap) : !(bitmap & UINT32_MAX);
}

/* Leaves what is right; returns how many entries name a cluster. */
static uint64_t keep_what_is_right(const struct rep *r, uint8_t *buf, uint64_t first_guest_off)
{
	const struct qd_geom *g = &r->geom;
	bool over_backing = r->header.backing_name_off != 0;
	uint64_t n = 0;

	for (uint64_t i = 0; i < g->l2_entries; i++) {
		uint8_t *p = buf + i * g->l2_entry_size;
		uint64_t entry = qd_get_be64(p), bitmap = g->extended_l2 ? qd_get_be64(p + 8) : 0;
		bool right = is_right(r, entry, first_guest_off + (i << g->cluster_bits));

		if (g->extended_l2)
			right = right && is_bitmap_right(entry, bitmap);
		if (!right && g->extended_l2) {
			qd_put_be64(p, 0);
			qd_put_be64(p + 8, over_backing ? (uint64_t)UINT32_MAX << 32 : 0);
		} else if (!right) {
			qd_put_be64(p, over_backing && r->header.version >= 3 ? QD_L2_ZERO : 0);
		}
		n += right && qd_rep_mapped_host(g, entry) != 0;
	}
	return n;
}

int qd_rep_salvage_l2(struct rep *r, const struct qd_finding *f, uint64_t entry, uint64_t *ret_off,
		      struct qd_err *err)
{
	uint64_t n = 0, to = 0, off = qd_entry_host_off(entry);
	uint8_t *buf = malloc(r->geom.cluster_size);
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	*ret_off = 0;
	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, r->geom.cluster_size, off, err);
	if (rc == 0)
		n = keep_what_is_right(r, buf, f->place.guest_off);
	if (rc == 0 && n)
		rc = qd_plan_alloc(r->plan, 1, &to, err);
	if (rc == 0 && n)
		rc = qd_plan_write(r->plan, buf, r->geom.cluster_size, to, QD_PLAN_NEW, err);
	free(buf);
	*ret_off = to;
	return rc;
}
