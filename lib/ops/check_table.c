/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One L2 table: what its entries say by themselves, what they refer to, and, when the
 * counts have become verdicts, which of them contradict those.
 *
 * An entry that is plain, aligned and within the file takes the short way through
 * qd_chk_count_table; nearly all do.
 *
 *	compressed   COPIED never; sectors within the file; refers to each cluster it touches
 *	standard     no reserved bits; aligned; within the file; refers to one cluster; in an
 *	             external data file the host offset is the guest's
 *	extended     a subcluster is not both allocated and zero, nor allocated nowhere
 */
#include "ops/check_int.h"

#define PREFETCH 24u		/* entries ahead */

static uint64_t guest_off(const struct qd_chk_table *t, uint64_t i)
{
	const struct qd_geom *g = &t->c->geom;

	return (((uint64_t)t->ref->l1_index << g->l2_bits) + i) << g->cluster_bits;
}

static void found(const struct qd_chk_table *t, enum qd_finding_type type, uint64_t i, uint64_t entry,
		  uint64_t v1, uint64_t v2)
{
	struct qd_finding f = {
		.type = type,
		.nitems = 1,
		.value = { entry, v1, v2 },
		.label = qd_chk_label(t->c, t->ref->layer),
		.place = { QD_AT_GUEST, t->ref->layer, i, guest_off(t, i),
			   qd_entry_host_off(entry) },
	};

	qd_chk_list_add(t->found, &f);
}

static unsigned flags_of(const struct qd_chk_table *t, uint64_t entry)
{
	if (t->nactive == 0)
		return t->flags;
	return t->flags | ((entry & QD_COPIED) ? QD_COUNT_COPIED : QD_COUNT_CLEAR);
}

static inline void note_run(struct qd_chk_table *t, uint64_t off)
{
	t->allocated++;
	t->fragmented += t->contiguous != 0 && off != t->contiguous;
	t->contiguous = off + t->c->geom.cluster_size;
}

static uint64_t bitmap_of(const struct qd_chk_table *t, uint64_t i)
{
	return t->c->geom.extended_l2 ? qd_get_be64(t->bytes + i * 16 + 8) : 0;
}

static void look_at_bitmap(const struct qd_chk_table *t, uint64_t i, uint64_t entry, bool allocated)
{
	uint64_t bitmap = bitmap_of(t, i);
	uint64_t bad = allocated ? (bitmap >> 32) & bitmap : bitmap & UINT32_MAX;

	if (bad)
		found(t, QD_F_SUBCLUSTERS, i, entry, bitmap, 0);
}

static void look_at_compressed(const struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
	struct qd_compressed z = qd_l2_compressed(&t->c->geom, entry);

	if (entry & QD_COPIED)
		found(t, QD_F_COMPRESSED_COPIED, i, entry, 0, 0);
	if (t->c->data_file)
		found(t, QD_F_COMPRESSED_DATA_FILE, i, entry, 0, 0);
	else if (bitmap_of(t, i))
		found(t, QD_F_COMPRESSED_SUBCLUSTERS, i, entry, bitmap_of(t, i), 0);
	else if (!qd_chk_in_file(t->c, z.host_off, z.nbytes))
		found(t, QD_F_COMPRESSED_PAST_END, i, entry, 0, 0);
}

/* Has the entry a cluster of its own?  With a data file, offset 0 is one when COPIED says so. */
static bool is_allocated(const struct chk *c, uint64_t entry)
{
	return qd_entry_host_off(entry) != 0 || (c->data_file && (entry & QD_COPIED));
}

static void look_at_standard(const struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry);
	uint64_t reserved = QD_L2_RESERVED | (c->geom.extended_l2 ? QD_L2_ZERO : 0);

	if (entry & reserved)
		found(t, QD_F_L2_ENTRY_RESERVED, i, entry, 0, 0);
	if (c->header.version < 3 && (entry & QD_L2_ZERO))
		found(t, QD_F_L2_ENTRY_ZERO, i, entry, 0, 0);
	look_at_bitmap(t, i, entry, is_allocated(c, entry));
	if (!is_allocated(c, entry))
		return;
	if (c->data_file && off != guest_off(t, i))
		found(t, QD_F_L2_ENTRY_DATA_FILE, i, entry, guest_off(t, i), 0);
	else if (!qd_is_aligned(off, c->geom.cluster_size))
		found(t, QD_F_L2_ENTRY_UNALIGNED, i, entry, 0, 0);
	else if (!c->data_file && off >> c->geom.cluster_bits >= c->nclusters)
		found(t, QD_F_L2_ENTRY_PAST_END, i, entry, 0, 0);
	else if (c->data_file && t->nactive && !(entry & QD_COPIED))
		found(t, QD_F_COPIED_CLEAR, i, entry, 0, 0);
}

static void count_compressed(struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
	struct chk *c = t->c;
	struct qd_compressed z = qd_l2_compressed(&c->geom, entry);
	uint64_t first, last;

	if (c->data_file || bitmap_of(t, i))
		return;
	t->allocated++;
	t->compressed++;
	t->fragmented++;
	if (!qd_chk_in_file(c, z.host_off, z.nbytes))
		return;
	qd_compressed_clusters(&c->geom, z, &first, &last);
	for (uint64_t k = first; k <= last; k++)
		qd_counts_add(c->counts, k, 0, t->nrefs);
}

static void count_standard(struct qd_chk_table *t, uint64_t entry)
{
	struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry);

	if (!is_allocated(c, entry))
		return;
	note_run(t, off);
	if (!c->data_file && qd_is_aligned(off, c->geom.cluster_size) &&
	    off >> c->geom.cluster_bits < c->nclusters)
		qd_counts_add(c->counts, off >> c->geom.cluster_bits, flags_of(t, entry), t->nrefs);
}

static bool is_impossible(const struct chk *c, uint64_t entry)
{
	if (qd_l2_is_compressed(entry))
		return (entry & QD_COPIED) != 0;
	return (entry & QD_L2_RESERVED) != 0 ||
	       !qd_is_aligned(qd_entry_host_off(entry), c->geom.cluster_size);
}

struct qd_chk_l2_look qd_chk_look_at_l2(const struct chk *c, const uint8_t *bytes)
{
	struct qd_chk_l2_look l = { .used = 0 };

	for (uint64_t i = 0; i < c->geom.l2_entries; i++) {
		uint64_t entry = qd_get_be64(bytes + i * c->geom.l2_entry_size);

		uint64_t off = qd_l2_is_compressed(entry) ? qd_l2_compressed(&c->geom, entry).host_off :
							    qd_entry_host_off(entry);

		l.used += entry != 0;
		l.mapped += off != 0 && off < c->file_size;
		l.impossible += is_impossible(c, entry);
	}
	return l;
}

/* Everything that is not plain. */
static void count_odd(struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
		if (qd_l2_is_compressed(entry)) {
		if (t->local)
			look_at_compressed(t, i, entry);
		count_compressed(t, i, entry);
	} else {
		if (t->local)
			look_at_standard(t, i, entry);
		count_standard(t, entry);
	}
	t->impossible += is_impossible(t->c, entry);
}

/* Eight entries for eight neighbours that nothing names yet, as most of a fresh image are. */
static inline bool count_eight(struct qd_chk_table *t, const uint8_t *p, uint64_t entry)
{
	struct chk *c = t->c;
	uint64_t off = entry & QD_OFFSET_MASK, cluster = off >> c->geom.cluster_bits, differ = 0;

	if (cluster % 8 != 0 || t->nrefs != 1 || cluster + 8 > c->nclusters)
		return false;
	for (uint64_t k = 1; k < 8; k++)
		differ |= qd_get_be64(p + k * 8) ^ (entry + (k << c->geom.cluster_bits));
	if (differ || !qd_counts_add_eight(c->counts, cluster, flags_of(t, entry)))
		return false;
	note_run(t, off);
	t->allocated += 7;
	t->contiguous += 7ull << c->geom.cluster_bits;
	return true;
}

void qd_chk_count_table(struct qd_chk_table *t)
{
	struct chk *c = t->c;
	const uint64_t n = c->geom.l2_entries, bits = c->geom.cluster_bits, nclusters = c->nclusters;
	const uint64_t allowed = t->plain_mask;
	const size_t step = c->geom.l2_entry_size;
	const uint8_t *p = t->bytes;

	for (uint64_t i = 0; i < n; i++, p += step) {
		uint64_t entry = qd_get_be64(p), off = entry & QD_OFFSET_MASK;

		if (i + PREFETCH < n)
			qd_counts_prefetch(c->counts,
					   (qd_get_be64(p + PREFETCH * step) & QD_OFFSET_MASK) >> bits);
		if ((entry & ~allowed) == 0 && off != 0 && off >> bits < nclusters) {
			if (step == 16) {
				look_at_bitmap(t, i, entry, true);
			} else if (i + 8 <= n && count_eight(t, p, entry)) {
				i += 7;
				p += 7 * 8;
				continue;
			}
			note_run(t, off);
			qd_counts_add(c->counts, off >> bits, flags_of(t, entry), t->nrefs);
		} else if (entry || (step == 16 && qd_get_be64(p + 8))) {
			count_odd(t, i, entry);
		}
	}
}

/* The verdict on a cluster; 0 outside the window. */
static unsigned verdict(const struct chk *c, uint64_t cluster)
{
	struct qd_counts_chunk *chunk = qd_counts_peek(c->counts, cluster >> QD_COUNTS_CHUNK_BITS);

	return chunk ? chunk->byte[cluster & (QD_COUNTS_CHUNK - 1)] : CHK_VERDICT_UNKNOWN;
}

static void report_overlap(const struct qd_chk_table *t, enum qd_finding_type type, uint64_t i,
			   uint64_t entry, uint64_t cluster)
{
	const struct qd_extent *e = qd_extents_find(&t->c->extents, cluster);

	if (e)
		found(t, type, i, entry, e->kind, e->id);
	else
		found(t, type, i, entry, QD_STRUCT_L2,
		      t->c->l2.v[qd_l2set_lower_bound(&t->c->l2, cluster)].l1_index);
}

static void report_compressed(const struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	struct qd_compressed z = qd_l2_compressed(&c->geom, entry);
	uint64_t first, last;

	if (c->data_file || bitmap_of(t, i) || !qd_chk_in_file(c, z.host_off, z.nbytes))
		return;
	qd_compressed_clusters(&c->geom, z, &first, &last);
	for (uint64_t k = first; k <= last; k++) {
		if (verdict(c, k) & CHK_VERDICT_META) {
			report_overlap(t, QD_F_COMPRESSED_OVERLAP, i, entry, k);
			return;
		}
	}
}

static void report_standard(const struct qd_chk_table *t, uint64_t i, uint64_t entry)
{
	const struct chk *c = t->c;
	uint64_t off = qd_entry_host_off(entry), cluster = off >> c->geom.cluster_bits;
	bool sole, copied = (entry & QD_COPIED) != 0;
	unsigned v;

	if (off == 0 || c->data_file || !qd_is_aligned(off, c->geom.cluster_size) || cluster >= c->nclusters)
		return;
	v = verdict(c, cluster);
	sole = v & CHK_VERDICT_SOLE;
	if (v & CHK_VERDICT_META)
		report_overlap(t, QD_F_L2_ENTRY_OVERLAP, i, entry, cluster);
	else if (!(v & CHK_VERDICT_UNKNOWN) && t->nactive && sole != copied)
		found(t, copied ? QD_F_COPIED_SET : QD_F_COPIED_CLEAR, i, entry, 0, 0);
}

uint64_t qd_chk_report_table(const struct qd_chk_table *t, uint64_t first)
{
	const size_t step = t->c->geom.l2_entry_size;
	uint64_t i;

	for (i = first; i < t->c->geom.l2_entries && !qd_chk_list_is_full(t->found); i++) {
		uint64_t entry = qd_get_be64(t->bytes + i * step);

		if (entry == 0)
			continue;
		if (qd_l2_is_compressed(entry))
			report_compressed(t, i, entry);
		else
			report_standard(t, i, entry);
	}
	return i;
}
