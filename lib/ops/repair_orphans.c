/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * L2 tables that may be lost: what L1 entries without a table are given back from.
 *
 *	leaked, or refcount too high | - T1 - - T2 D - T3 |
 *	orphans                          T1     T2     T3	one pass over the file, once a round
 *	named by the layer looked at      -      x      -	one pass over its L1 table
 *
 * Invariants
 *  O1  a cluster is read once a round, its first bytes alone unless they can be entries of a
 *      table: there are as many candidates as a lost table had clusters, for each lost one.
 *  O2  the list is ascending, and the same whatever entry it is for.
 */
#include "ops/repair_int.h"

#include <stdlib.h>
#include <string.h>

#define MAX_CANDIDATES (1u << 22)	/* clusters looked at */
#define FIRST_BYTES 512u

/* Can these be entries of an L2 table, in use, of clusters that nothing else accounts for? */
static bool are_entries(const struct rep *r, const uint8_t *bytes, uint64_t nbytes, uint64_t *mapped)
{
	for (uint64_t at = 0; at < nbytes; at += r->geom.l2_entry_size) {
		uint64_t entry = qd_get_be64(bytes + at), host = qd_rep_mapped_host(&r->geom, entry);

		if (!qd_rep_entry_is_possible(r, entry))
			return false;
		if (!qd_rep_has_data_file(r) && host && !qd_rep_is_leaked(r, host >> r->geom.cluster_bits))
			return false;
		*mapped += host != 0;
	}
	return true;
}

static int is_orphan(const struct rep *r, uint64_t off, uint8_t *buf, bool *ret_is, struct qd_err *err)
{
	uint64_t cluster = r->geom.cluster_size, mapped = 0;
	int rc = qd_plan_read(r->plan, buf, FIRST_BYTES, off, err);

	*ret_is = rc == 0 && are_entries(r, buf, FIRST_BYTES, &mapped);
	if (!*ret_is || cluster == FIRST_BYTES) {
		*ret_is = *ret_is && (mapped || qd_rep_has_data_file(r));
		return rc;
	}
	rc = qd_plan_read(r->plan, buf + FIRST_BYTES, cluster - FIRST_BYTES, off + FIRST_BYTES, err);
	*ret_is = rc == 0 && are_entries(r, buf + FIRST_BYTES, cluster - FIRST_BYTES, &mapped) &&
		  (mapped || qd_rep_has_data_file(r));
	return rc;
}

static int append(struct qd_rep_orphans *o, uint64_t off, struct qd_err *err)
{
	if (o->n == o->capacity) {
		size_t capacity = o->capacity ? o->capacity * 2 : 64;
		struct qd_rep_orphan *v = realloc(o->v, capacity * sizeof(*v));

		if (!v)
			return qd_err_nomem(err, "tables without an owner");
		o->v = v;
		o->capacity = capacity;
	}
	o->v[o->n++] = (struct qd_rep_orphan){ .off = off };
	return 0;
}

struct range {
	uint64_t data, hole;	/* of the file: the data last looked up is [data, hole) */
};

/* Only zeros: no table in use, and in a file whose clusters were never written there are many. */
static int is_hole(const struct rep *r, uint64_t off, struct range *x, bool *ret_is, struct qd_err *err)
{
	int rc = 0;

	*ret_is = false;
	if (qd_rep_has_data_file(r))
		return 0;
	if (off >= x->hole)
		rc = qd_plan_next_data_base(r->plan, off, &x->data, &x->hole, err);
	*ret_is = rc == 0 && off + r->geom.cluster_size <= x->data;
	return rc;
}

static int list(struct rep *r, struct qd_err *err)
{
	uint8_t *buf = malloc(r->geom.cluster_size);
	struct range range = { 0, 0 };
	uint64_t candidates = 0;
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	for (size_t i = 0; i < r->nleaks; i++)
		candidates += r->leaks[i].nitems;
	for (size_t i = 0; rc == 0 && candidates <= MAX_CANDIDATES && i < r->nleaks; i++) {
		for (uint64_t k = 0; rc == 0 && k < r->leaks[i].nitems; k++) {
			uint64_t off = r->leaks[i].place.host_off + (k << r->geom.cluster_bits);
			bool is;

			rc = is_hole(r, off, &range, &is, err);
			if (rc || is)
				continue;
			rc = is_orphan(r, off, buf, &is, err);
			if (rc == 0 && is)
				rc = append(&r->orphans, off, err);
		}
	}
	free(buf);
	r->orphans.listed = rc == 0;
	return rc;
}

struct qd_rep_orphan *qd_rep_orphan_at(struct rep *r, uint64_t off)
{
	size_t low = 0, high = r->orphans.n;

	while (low < high) {
		size_t middle = low + (high - low) / 2;

		if (r->orphans.v[middle].off < off)
			low = middle + 1;
		else
			high = middle;
	}
	return low < r->orphans.n && r->orphans.v[low].off == off ? &r->orphans.v[low] : NULL;
}

/* Which of them the layer's L1 table names, answers of this round included. */
static int mark_named(struct rep *r, uint32_t layer, uint64_t l1_off, uint64_t nentries, struct qd_err *err)
{
	struct qd_rep_orphans *o = &r->orphans;
	uint8_t *l1 = malloc(nentries * 8);
	int rc = l1 ? qd_plan_read(r->plan, l1, nentries * 8, l1_off, err) : qd_err_nomem(err, "an L1 table");

	for (size_t i = 0; i < o->n; i++)
		o->v[i].named = false;
	for (uint64_t i = 0; rc == 0 && i < nentries; i++) {
		struct qd_rep_orphan *orphan = qd_rep_orphan_at(r, qd_entry_host_off(qd_get_be64(l1 + i * 8)));

		if (orphan)
			orphan->named = true;
	}
	free(l1);
	o->layer = layer;
	o->layer_known = rc == 0;
	o->nlooked += nentries * 8;
	return rc;
}

int qd_rep_list_orphans(struct rep *r, uint32_t layer, uint64_t l1_off, uint64_t nentries, struct qd_err *err)
{
	int rc = r->orphans.listed ? 0 : list(r, err);

	if (rc == 0 && !(r->orphans.layer_known && r->orphans.layer == layer))
		rc = mark_named(r, layer, l1_off, nentries, err);
	return rc;
}

void qd_rep_forget_orphans(struct rep *r)
{
	free(r->orphans.v);
	memset(&r->orphans, 0, sizeof(r->orphans));
}
