/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A reader without any tolerance: what is not right in every respect is not there.
 */
#include "guest.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"

struct reader {
	const uint8_t *image;
	uint64_t nbytes;
	struct qd_header header;
	struct qd_geom geom;
	struct guest *g;
	uint32_t layer;
};

/* FNV-1a by words. */
static uint64_t digest(const uint8_t *p, uint64_t n, uint64_t h)
{
	for (; n >= 8; p += 8, n -= 8)
		h = (h ^ qd_get_be64(p)) * 0x100000001b3ull;
	for (; n; p++, n--)
		h = (h ^ *p) * 0x100000001b3ull;
	return h;
}

/* A compressed cluster's last sector may end past the file, which reads as zeros there. */
static uint64_t digest_padded(const struct reader *r, uint64_t off, uint64_t n, uint64_t h)
{
	uint8_t *buf = calloc(1, n);

	if (!buf)
		abort();
	if (off < r->nbytes)
		memcpy(buf, r->image + off, qd_min_u64(n, r->nbytes - off));
	h = digest(buf, n, h);
	free(buf);
	return h;
}

static void add(struct reader *r, uint64_t number, uint64_t value)
{
	struct guest *g = r->g;

	if (g->n == g->capacity) {
		g->capacity = g->capacity ? g->capacity * 2 : 64;
		g->v = realloc(g->v, g->capacity * sizeof(*g->v));
		if (!g->v)
			abort();
	}
	g->v[g->n++] = (struct guest_cluster){ r->layer, number, value };
}

static void read_entry(struct reader *r, uint64_t number, uint64_t entry, uint64_t bitmap)
{
	uint64_t off = qd_entry_host_off(entry), h = 0xcbf29ce484222325ull ^ bitmap;
	struct qd_compressed z;

	if (qd_l2_is_compressed(entry)) {
		z = qd_l2_compressed(&r->geom, entry);
		if (bitmap == 0 && qd_range_within(z.host_off, z.nbytes, qd_align_up(r->nbytes, 512)))
			add(r, number, digest_padded(r, z.host_off, z.nbytes, h));
		return;
	}
	if (off == 0 || (!r->geom.extended_l2 && (entry & QD_L2_ZERO)))
		return;
	if (!qd_is_aligned(off, r->geom.cluster_size) || off >= r->nbytes || (bitmap >> 32 & bitmap))
		return;
	if (!qd_is_zero(r->image + off, qd_min_u64(r->geom.cluster_size, r->nbytes - off)))
		add(r, number, digest(r->image + off,
				      qd_min_u64(r->geom.cluster_size, r->nbytes - off), h));
}

static void read_l2(struct reader *r, uint64_t l1_index, uint64_t off)
{
	const uint8_t *p = r->image + off;

	for (uint64_t i = 0; i < r->geom.l2_entries; i++, p += r->geom.l2_entry_size) {
		uint64_t entry = qd_get_be64(p);

		if (entry)
			read_entry(r, (l1_index << r->geom.l2_bits) + i, entry,
				   r->geom.extended_l2 ? qd_get_be64(p + 8) : 0);
	}
}

static void read_l1(struct reader *r, uint64_t off, uint64_t nentries)
{
	if (!qd_is_aligned(off, r->geom.cluster_size) || !qd_range_within(off, nentries * 8, r->nbytes))
		return;
	for (uint64_t i = 0; i < nentries; i++) {
		uint64_t table = qd_entry_host_off(qd_get_be64(r->image + off + i * 8));

		if (table && qd_is_aligned(table, r->geom.cluster_size) &&
		    qd_range_within(table, r->geom.cluster_size, r->nbytes))
			read_l2(r, i, table);
	}
}

static void read_snapshots(struct reader *r)
{
	uint64_t off = r->header.snapshots_off;

	for (uint32_t i = 0; i < r->header.snapshot_count && qd_range_within(off, 64, r->nbytes); i++) {
		const uint8_t *p = r->image + off;

		r->layer = i + 1;
		read_l1(r, qd_get_be64(p), qd_get_be32(p + 8));
		off += qd_align_up(40ull + qd_get_be32(p + 36) + qd_get_be16(p + 12) + qd_get_be16(p + 14), 8);
	}
}

bool guest_read(const uint8_t *image, size_t nbytes, struct guest *g)
{
	struct reader r = { .image = image, .nbytes = nbytes, .g = g };

	*g = (struct guest){ .n = 0 };
	if (qd_header_decode_raw(image, nbytes, &r.header, NULL) || r.header.cluster_bits < 9 ||
	    r.header.cluster_bits > 21 || r.header.refcount_order > 6)
		return false;
	qd_geom_init(&r.header, &r.geom);
	read_l1(&r, r.header.l1_off, r.header.l1_entries);
	read_snapshots(&r);
	return true;
}

void guest_free(struct guest *g)
{
	free(g->v);
	*g = (struct guest){ .n = 0 };
}

static const struct guest_cluster *find(const struct guest *g, const struct guest_cluster *c)
{
	size_t low = 0, high = g->n;

	while (low < high) {
		size_t mid = low + (high - low) / 2;
		const struct guest_cluster *m = &g->v[mid];

		if (m->layer < c->layer || (m->layer == c->layer && m->number < c->number))
			low = mid + 1;
		else if (m->layer == c->layer && m->number == c->number)
			return m;
		else
			high = mid;
	}
	return NULL;
}

const struct guest_cluster *guest_missing(const struct guest *wanted, const struct guest *only,
					  const struct guest *got)
{
	for (size_t i = 0; i < wanted->n; i++) {
		const struct guest_cluster *c = &wanted->v[i], *other = only ? find(only, c) : c;

		if (!other || other->digest != c->digest)
			continue;
		other = find(got, c);
		if (!other || other->digest != c->digest)
			return c;
	}
	return NULL;
}
