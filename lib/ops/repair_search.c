/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Finding what was lost: when the pointer to a table is broken, the table itself is
 * mostly still there, in clusters that have a refcount and that nothing names any more.
 *
 * A cluster is taken for a table only if every entry of it makes sense; the one with the
 * most entries wins, and of equals the first.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

#include "format/snapshot.h"
#include "image/codec.h"

#define MAX_L2_LOOKS 256u	/* L2 tables looked into for one L1 table */
#define MAX_CANDIDATES 65536u	/* leaked clusters looked at */

static const struct qd_finding *find_run(const struct rep *r, const struct qd_finding *runs, size_t n,
					 uint64_t cluster)
{
	size_t low = 0, high = n;
	uint64_t off = cluster << r->geom.cluster_bits;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct qd_finding *f = &runs[mid];

		if (off < f->place.host_off)
			high = mid;
		else if (off >= f->place.host_off + (f->nitems << r->geom.cluster_bits))
			low = mid + 1;
		else
			return f;
	}
	return NULL;
}

bool qd_rep_is_leaked(const struct rep *r, uint64_t cluster)
{
	return find_run(r, r->leaks, r->nleaks, cluster) != NULL;
}

uint64_t qd_rep_nowners(const struct rep *r, uint64_t cluster)
{
	const struct qd_finding *f = find_run(r, r->leaks, r->nleaks, cluster);

	return f ? f->value[0] : 0;
}

bool qd_rep_is_made_up(const struct rep *r, uint64_t cluster)
{
	uint64_t nitems = 0;

	for (size_t i = 0; i < r->nfound; i++)
		nitems += r->found[i].nitems;
	return !r->rebuild && r->check.count[QD_F_REFCOUNT_LOW] <= nitems &&
	       find_run(r, r->lows, r->nlows, cluster);
}

static bool in_file(const struct rep *r, uint64_t off, uint64_t nbytes)
{
	return qd_range_within(off, nbytes, qd_align_up(r->file_size, r->geom.cluster_size));
}

bool qd_rep_has_data_file(const struct rep *r)
{
	return (r->header.incompatible & QD_INCOMPAT_DATA_FILE) != 0;
}

bool qd_rep_entry_is_possible(const struct rep *r, uint64_t entry)
{
	uint64_t off = qd_entry_host_off(entry);

	if (qd_rep_has_data_file(r))
		return !qd_l2_is_compressed(entry) && !(entry & QD_L2_RESERVED) &&
		       qd_is_aligned(off, r->geom.cluster_size);
	if (qd_l2_is_compressed(entry)) {
		struct qd_compressed z = qd_l2_compressed(&r->geom, entry);

		return !(entry & QD_COPIED) && in_file(r, z.host_off, 1);
	}
	return !(entry & QD_L2_RESERVED) && qd_is_aligned(off, r->geom.cluster_size) &&
	       (off == 0 || in_file(r, off, 1));
}

int qd_rep_is_compressed(struct rep *r, uint64_t entry, bool *ret_is, struct qd_err *err)
{
	struct qd_compressed z = qd_l2_compressed(&r->geom, entry);
	uint8_t *in = malloc(z.nbytes), *out = malloc(r->geom.cluster_size);
	struct qd_codec *codec = NULL;
	int rc = in && out ? 0 : qd_err_nomem(err, "a compressed cluster");

	*ret_is = false;
	/* As it was: the plan may have taken its cluster for a table and changed it. */
	if (rc == 0)
		rc = qd_plan_read_base(r->plan, in, z.nbytes, z.host_off, err);
	if (rc == 0)
		rc = qd_codec_new((enum qd_compression)r->header.compression_type, r->geom.cluster_size, 0,
				  &codec, err);
	if (rc == 0)
		*ret_is = qd_codec_decompress(codec, in, z.nbytes, out, NULL) == 0;
	qd_codec_free(codec);
	free(in);
	free(out);
	return rc;
}

int qd_rep_looks_like_l2(struct rep *r, uint64_t off, bool *ret_does, uint64_t *ret_used, struct qd_err *err)
{
	uint8_t *buf = malloc(r->geom.cluster_size);
	uint64_t used = 0, mapped = 0;
	bool good = true;
	int rc = buf ? qd_plan_read(r->plan, buf, r->geom.cluster_size, off, err) :
		       qd_err_nomem(err, "an L2 table");

	for (uint64_t i = 0; rc == 0 && good && i < r->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(buf + i * r->geom.l2_entry_size);
		uint64_t host = qd_l2_is_compressed(entry) ? qd_l2_compressed(&r->geom, entry).host_off :
							     qd_entry_host_off(entry);

		used += entry != 0;
		mapped += host != 0 || (qd_rep_has_data_file(r) && (entry & QD_COPIED));
		good = qd_rep_entry_is_possible(r, entry);
	}
	free(buf);
	*ret_does = rc == 0 && good && (used == 0 || mapped != 0);
	*ret_used = used;
	return rc;
}

int qd_rep_looks_like_l1(struct rep *r, uint64_t off, uint64_t nentries, uint64_t *ret_used,
			 struct qd_err *err)
{
	uint64_t used = 0, entries = 1, nbytes = nentries * 8;
	unsigned looks = 0;
	bool good =
		off != 0 && nentries && qd_is_aligned(off, r->geom.cluster_size) && in_file(r, off, nbytes);
	uint8_t *buf;
	int rc;

	*ret_used = 0;
	if (!good || nbytes > QD_MAX_L1_BYTES)
		return 0;
	buf = malloc(nbytes);
	if (!buf)
		return qd_err_nomem(err, "an L1 table");
	rc = qd_plan_read(r->plan, buf, nbytes, off, err);
	for (uint64_t i = 0; rc == 0 && good && i < nentries; i++) {
		uint64_t entry = qd_get_be64(buf + i * 8), table = qd_entry_host_off(entry);

		if (entry == 0)
			continue;
		good = !(entry & QD_L1_RESERVED) && table != 0 && table != off &&
		       qd_is_aligned(table, r->geom.cluster_size) && in_file(r, table, r->geom.cluster_size);
		if (good && looks++ < MAX_L2_LOOKS)
			rc = qd_rep_looks_like_l2(r, table, &good, &entries, err);
		used += entries != 0;
	}
	free(buf);
	if (rc == 0 && good)
		*ret_used = used;
	return rc;
}

static bool is_somebodys_l1(const struct rep *r, uint64_t off)
{
	bool is = off == r->header.l1_off;

	for (uint32_t i = 0; i < r->nsnaps; i++)
		is = is || off == r->snaps[i].l1_off;
	return is;
}

/* One byte of the offset wrong that was zero: for when refcounts do not tell what is lost. */
static int search_near(struct rep *r, uint64_t hint, uint64_t nentries, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t used;

	for (unsigned shift = 8; shift < 64 && *ret_off == 0; shift += 8) {
		uint64_t off = hint & ~((uint64_t)0xff << shift);
		int rc;

		if (is_somebodys_l1(r, off))
			continue;
		rc = qd_rep_looks_like_l1(r, off, nentries, &used, err);
		if (rc)
			return rc;
		*ret_off = used ? off : 0;
	}
	return 0;
}

int qd_rep_search_l1(struct rep *r, uint64_t hint, uint64_t nentries, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t best = 0, used, candidates = 0;
	int rc;

	*ret_off = 0;
	hint = qd_align_down(hint, r->geom.cluster_size);
	rc = qd_rep_looks_like_l1(r, hint, nentries, &best, err);
	if (rc || best) {
		*ret_off = best ? hint : 0;
		return rc;
	}
	for (size_t i = 0; i < r->nleaks; i++) {
		for (uint64_t k = 0; k < r->leaks[i].nitems && candidates++ < MAX_CANDIDATES; k++) {
			uint64_t off = r->leaks[i].place.host_off + (k << r->geom.cluster_bits);

			if (is_somebodys_l1(r, off))
				continue;
			rc = qd_rep_looks_like_l1(r, off, nentries, &used, err);
			if (rc)
				return rc;
			if (used > best) {
				best = used;
				*ret_off = off;
			}
		}
	}
	return *ret_off ? 0 : search_near(r, hint, nentries, ret_off, err);
}

/* One entry; *ret_good says whether it can be one. */
static int read_snapshot(struct rep *r, uint64_t off, struct qd_rep_snapshot *s, bool *ret_good,
			 struct qd_err *err)
{
	uint8_t buf[QD_SNAPSHOT_FIXED + 16];
	uint64_t extra, size = 0, vm_state;
	int rc = qd_plan_read(r->plan, buf, sizeof(buf), off, err);

	if (rc)
		return rc;
	extra = qd_get_be32(buf + 36);
	s->entry_off = off;
	s->l1_off = qd_get_be64(buf);
	s->l1_entries = qd_get_be32(buf + 8);
	s->nbytes = QD_SNAPSHOT_FIXED + extra + qd_get_be16(buf + 12) + qd_get_be16(buf + 14);
	*ret_good = extra <= QD_SNAPSHOT_MAX_EXTRA && in_file(r, off, s->nbytes) &&
		    (s->l1_off || s->l1_entries || qd_get_be16(buf + 12) || qd_get_be16(buf + 14));
	s->nbytes = qd_align_up(s->nbytes, 8);
	vm_state = extra >= 8 ? qd_get_be64(buf + 40) : qd_get_be32(buf + 32);
	size = extra >= 16 ? qd_get_be64(buf + 48) : r->header.virtual_size;
	if (!qd_add_u64(size, vm_state, &s->mapped_size))
		s->mapped_size = UINT64_MAX;
	return 0;
}

int qd_rep_read_snapshots(struct rep *r, uint64_t off, uint32_t count, struct qd_rep_snapshot *snaps,
			  uint32_t *ret_count, struct qd_err *err)
{
	bool good = true;

	*ret_count = 0;
	for (uint32_t i = 0; i < count; i++) {
		struct qd_rep_snapshot s;
		int rc = read_snapshot(r, off, &s, &good, err);

		if (rc)
			return rc;
		if (!good)
			break;
		if (snaps)
			snaps[i] = s;
		*ret_count = i + 1;
		off += s.nbytes;
	}
	return 0;
}

/* Stricter than what a table that the header names has to be. */
static int are_snapshots(struct rep *r, uint64_t off, uint32_t count, bool *ret_are, struct qd_err *err)
{
	*ret_are = off != 0 && count != 0;
	for (uint32_t i = 0; *ret_are && i < count; i++) {
		struct qd_rep_snapshot s;
		uint64_t needed;
		int rc = read_snapshot(r, off, &s, ret_are, err);

		if (rc)
			return rc;
		needed = qd_geom_l1_entries(&r->geom, s.mapped_size);
		*ret_are = *ret_are && qd_is_aligned(s.l1_off, r->geom.cluster_size) &&
			   in_file(r, s.l1_off, (uint64_t)s.l1_entries * 8) &&
			   (s.l1_off ? s.l1_entries >= needed : s.l1_entries == 0);
		off += s.nbytes;
	}
	return 0;
}

int qd_rep_search_snapshots(struct rep *r, uint64_t hint, uint32_t count, uint64_t *ret_off,
			    struct qd_err *err)
{
	uint64_t candidates = 0;
	bool are;
	int rc;

	*ret_off = 0;
	hint = qd_align_down(hint, r->geom.cluster_size);
	if (in_file(r, hint, 1)) {
		rc = are_snapshots(r, hint, count, &are, err);
		if (rc || are) {
			*ret_off = are ? hint : 0;
			return rc;
		}
	}
	for (size_t i = 0; i < r->nleaks; i++) {
		for (uint64_t k = 0; k < r->leaks[i].nitems && candidates++ < MAX_CANDIDATES; k++) {
			uint64_t off = r->leaks[i].place.host_off + (k << r->geom.cluster_bits);

			rc = are_snapshots(r, off, count, &are, err);
			if (rc || are) {
				*ret_off = are ? off : 0;
				return rc;
			}
		}
	}
	return 0;
}
