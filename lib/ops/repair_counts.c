/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing refcounts.  Where the structures are sound, counts are changed in them.
 * Otherwise new ones are made behind the end of the file,
 *
 *	| everything else | refcount table | block 0 | block 1 | ...
 *
 * with all counts zero; the next check of the plan then says what each must be.
 *
 * A cluster with more references than a count can hold (mostly: refcount_bits=1) gets
 * copies, so that no one has more owners than can be counted.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

#include "space/refcount.h"

/* ---- counts in place ---- */

/* The block that counts this cluster; *ret_off 0: none. */
static int block_of(struct rep *r, uint64_t cluster, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t i = cluster / r->geom.block_entries, entry = 0;
	int rc = 0;

	if (i < ((uint64_t)r->header.reftable_clusters << r->geom.cluster_bits) / 8)
		rc = qd_plan_get64(r->plan, r->header.reftable_off + i * 8, &entry, err);
	if (rc == 0)
		*ret_off = entry & QD_REFTABLE_OFFSET_MASK;
	return rc;
}

/* Counts [first, end) of the block at off. */
static int set_counts(struct rep *r, uint64_t off, uint64_t first, uint64_t end, uint64_t value,
		      struct qd_err *err)
{
	uint32_t order = r->geom.refcount_order;
	uint64_t per_word = 64u >> order, from = first / per_word, to = (end - 1) / per_word + 1;
	size_t nbytes = (size_t)(to - from) * 8;
	uint8_t *buf = malloc(nbytes);
	int rc = buf ? 0 : qd_err_nomem(err, "a refcount block");

	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, nbytes, off + from * 8, err);
	for (uint64_t i = first; rc == 0 && i < end; i++)
		qd_refcount_set(buf, order, i - from * per_word, value);
	if (rc == 0)
		rc = qd_plan_write(r->plan, buf, nbytes, off + from * 8, QD_PLAN_REFCOUNT, err);
	free(buf);
	return rc;
}

static void tell_count(struct rep *r, const struct qd_finding *f)
{
	/* That new structures get their counts is no news. */
	if (r->told_rebuild)
		r->nplanned++;
	else
		qd_rep_plan(r, f->type == QD_F_REFCOUNT_LOW ? QD_REPAIR_SET : QD_REPAIR_FREE, f);
}

int qd_rep_fix_count(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	uint64_t value = f->type == QD_F_REFCOUNT_LOW || f->type == QD_F_REFCOUNT_HIGH ? f->value[1] : 0;
	uint64_t at = f->place.host_off >> r->geom.cluster_bits, end = at + f->nitems, next, block;
	int rc = 0;

	if (f->type != QD_F_REFCOUNT_LOW && r->check.blind)
		return 0;
	for (; rc == 0 && at < end && !r->rebuild; at = next) {
		uint64_t base = qd_align_down(at, r->geom.block_entries);

		next = qd_min_u64(end, base + r->geom.block_entries);
		rc = block_of(r, at, &block, err);
		if (rc == 0 && block)
			rc = set_counts(r, block, at - base, next - base, value, err);
		else if (rc == 0 && value)
			qd_rep_rebuild(r, f);
	}
	if (rc == 0 && !r->rebuild)
		tell_count(r, f);
	return rc;
}

/* ---- new structures ---- */

int qd_rep_new_refcounts(struct rep *r, struct qd_err *err)
{
	uint64_t others = qd_max_u64(r->check.image_end, qd_plan_end(r->plan)) >> r->geom.cluster_bits;
	uint64_t nblocks, table_clusters, off;
	uint8_t buf[12];
	int rc;

	qd_refcount_structure(&r->geom, others, &nblocks, &table_clusters);
	if (table_clusters > QD_MAX_REFTABLE_BYTES >> r->geom.cluster_bits)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the file is too large for a refcount table");
	rc = qd_plan_alloc(r->plan, table_clusters + nblocks, &off, err);
	for (uint64_t i = 0; rc == 0 && i < nblocks; i++)
		rc = qd_plan_put64(r->plan, off + i * 8, off + ((table_clusters + i) << r->geom.cluster_bits),
				   QD_PLAN_NEW, err);
	if (rc)
		return rc;
	qd_put_be64(buf, off);
	qd_put_be32(buf + 8, (uint32_t)table_clusters);
	r->rebuild = false;
	r->nplanned++;
	return qd_plan_write(r->plan, buf, sizeof(buf), QD_HEADER_OFF_REFTABLE_OFF, QD_PLAN_SWITCH, err);
}

/* ---- more references than a count can hold ---- */

/* Owners met so far of the clusters of all findings of the round. */
struct owners {
	struct rep *r;
	uint64_t *seen;		/* a number for each cluster, run after run */
	uint64_t *start;	/* of each run in `seen` */
	uint64_t ncopied;
};

/* The counter of a cluster, or NULL. */
static uint64_t *counter(const struct owners *o, uint64_t cluster)
{
	const struct rep *r = o->r;
	size_t low = 0, high = r->nfound;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		uint64_t first = r->found[mid].place.host_off >> r->geom.cluster_bits;

		if (cluster < first)
			high = mid;
		else if (cluster >= first + r->found[mid].nitems)
			low = mid + 1;
		else
			return &o->seen[o->start[mid] + (cluster - first)];
	}
	return NULL;
}

static bool is_one_too_many(const struct owners *o, uint64_t cluster)
{
	uint64_t *seen = counter(o, cluster);

	return seen && ++*seen > o->r->geom.refcount_max;
}

/* An L2 table of its own for the L1 entry at `at`. */
static int copy_table(struct owners *o, uint64_t at, uint64_t table, struct qd_err *err)
{
	struct rep *r = o->r;
	size_t size = (size_t)r->geom.cluster_size;
	uint8_t *buf = malloc(size);
	uint64_t to = 0;
	int rc = buf ? 0 : qd_err_nomem(err, "an L2 table");

	if (rc == 0)
		rc = qd_plan_read(r->plan, buf, size, table, err);
	for (uint64_t i = 0; rc == 0 && i < r->geom.l2_entries; i++) {
		uint8_t *p = buf + i * r->geom.l2_entry_size;

		qd_put_be64(p, qd_get_be64(p) & ~QD_COPIED);
	}
	if (rc == 0)
		rc = qd_plan_alloc(r->plan, 1, &to, err);
	if (rc == 0)
		rc = qd_plan_write(r->plan, buf, size, to, QD_PLAN_NEW, err);
	if (rc == 0)
		rc = qd_plan_put64(r->plan, at, to, QD_PLAN_SWITCH, err);
	o->ncopied += rc == 0;
	free(buf);
	return rc;
}

static int look_at_table(struct owners *o, uint64_t table, struct qd_err *err)
{
	struct rep *r = o->r;
	size_t size = (size_t)r->geom.cluster_size, step = r->geom.l2_entry_size;
	uint8_t *buf = malloc(size);
	int rc = buf ? qd_plan_read(r->plan, buf, size, table, err) : qd_err_nomem(err, "an L2 table");

	for (uint64_t i = 0; rc == 0 && i < r->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(buf + i * step), first, last;
		bool many = false;

		if (qd_l2_is_compressed(entry)) {
			qd_compressed_clusters(&r->geom, qd_l2_compressed(&r->geom, entry), &first, &last);
			for (uint64_t k = first; k <= last; k++)
				many = is_one_too_many(o, k) || many;
		} else if (qd_entry_host_off(entry)) {
			many = is_one_too_many(o, qd_entry_host_off(entry) >> r->geom.cluster_bits);
		}
		if (!many)
			continue;
		o->ncopied++;
		rc = qd_rep_copy_owner(r, table + i * step, entry, err);
	}
	free(buf);
	return rc;
}

/* Tables first: only when each has few enough owners is it known who owns the data. */
static int walk(struct owners *o, bool tables, struct qd_err *err)
{
	struct rep *r = o->r;
	uint64_t l1_off, n, entry, table;
	int rc = 0;

	for (uint32_t layer = 0; rc == 0 && layer <= r->nsnaps; layer++) {
		if (!qd_rep_l1_of(r, layer, &l1_off, &n))
			continue;
		for (uint64_t i = 0; rc == 0 && i < n; i++) {
			rc = qd_plan_get64(r->plan, l1_off + i * 8, &entry, err);
			table = qd_entry_host_off(entry);
			if (rc || table == 0)
				continue;
			if (!tables)
				rc = look_at_table(o, table, err);
			else if (is_one_too_many(o, table >> r->geom.cluster_bits))
				rc = copy_table(o, l1_off + i * 8, table, err);
		}
	}
	return rc;
}

/* What memory has no number for is left to the next round. */
static uint64_t cut_findings(struct rep *r)
{
	uint64_t most = qd_max_u64(1024, REP_MEMORY_FINDINGS(r->opts->memory) / 2 / sizeof(uint64_t)), n = 0;

	for (size_t i = 0; i < r->nfound; i++) {
		if (n == most) {
			r->nfound = i;
			r->overflow = true;
			break;
		}
		r->found[i].nitems = qd_min_u64(r->found[i].nitems, most - n);
		n += r->found[i].nitems;
	}
	return n;
}

int qd_rep_fix_overflow(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	struct owners o = { .r = r };
	uint64_t n = cut_findings(r), at = 0;
	int rc = 0;

	(void)f;
	o.start = calloc(r->nfound, sizeof(*o.start));
	for (size_t i = 0; o.start && i < r->nfound; i++) {
		o.start[i] = at;
		at += r->found[i].nitems;
	}
	o.seen = calloc(n ? n : 1, sizeof(*o.seen));
	if (!o.start || !o.seen)
		rc = qd_err_nomem(err, "reference counts");
	if (rc == 0)
		rc = walk(&o, true, err);
	if (rc == 0 && o.ncopied == 0)
		rc = walk(&o, false, err);
	for (size_t i = 0; rc == 0 && o.ncopied && i < r->nfound; i++)
		qd_rep_plan(r, QD_REPAIR_COPY, &r->found[i]);
	/* All findings of the round have been dealt with. */
	r->nfound = 0;
	free(o.start);
	free(o.seen);
	return rc;
}
