/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Images built by random sequences of calls, then walked: every reference is counted from
 * the bytes of the result, and the invariants B1 to B6 of build.h are judged by that.
 */
#include "image/build.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "image/image.h"
#include "space/refcount.h"
#include "suites.h"

#define COPIED (1ull << 63)
#define PACKED (1ull << 62)
#define OFFSET 0x00fffffffffffe00ull
#define MAX_GUEST 3000u
#define NRAW 3u

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

/* ---- the calls, and what they must lead to -------------------------------------------------- */

enum kind { NOTHING, ZERO, DATA, COMPRESSED, SHARED };

struct guest {
	enum kind kind;
	uint64_t owner;		/* whose cluster it names: its own number unless SHARED */
	uint64_t host_off;	/* of owners */
	uint64_t nbytes;	/* of compressed owners */
	uint64_t refs;		/* of owners: guest clusters that name it */
};

struct plan {
	struct qd_build_opts opts;
	uint64_t nguest;
	uint64_t virtual_size;
	struct guest guest[MAX_GUEST];
	uint64_t raw_off[NRAW];
	uint64_t raw_n[NRAW];
	unsigned fulls;		/* shares refused */
	unsigned shares;
	struct qd_build_stats stats;
	struct qd_io *io;
};

static void add_raw(struct plan *p, struct qd_build *b, unsigned i)
{
	p->raw_n[i] = i + 1;
	CU_ASSERT_EQUAL_FATAL(qd_build_add_raw(b, i + 1, &p->raw_off[i], NULL), 0);
}

static void add_data(struct plan *p, struct qd_build *b, uint64_t g)
{
	p->guest[g] = (struct guest){ .kind = DATA, .owner = g, .refs = 1 };
	CU_ASSERT_EQUAL_FATAL(qd_build_add_data(b, g, &p->guest[g].host_off, NULL), 0);
}

static void add_compressed(struct plan *p, struct qd_build *b, uint64_t g, uint64_t *seed)
{
	uint64_t size = 1ull << p->opts.cluster_bits;
	uint64_t nbytes = 1 + next_random(seed) % (next_random(seed) % 3 ? size / 4 : size - 1);

	p->guest[g] = (struct guest){ .kind = COMPRESSED, .owner = g, .nbytes = nbytes, .refs = 1 };
	CU_ASSERT_EQUAL_FATAL(qd_build_add_compressed(b, g, nbytes, &p->guest[g].host_off, NULL), 0);
}

/* A few owners are shared far more often than others, so that the cap is met. */
static uint64_t pick_owner(const struct plan *p, uint64_t g, uint64_t *seed)
{
	for (int tries = 0; tries < 50; tries++) {
		uint64_t o = next_random(seed) % (next_random(seed) % 2 && g > 40 ? 40 : g);

		if (p->guest[o].kind == DATA || p->guest[o].kind == COMPRESSED)
			return o;
	}
	return UINT64_MAX;
}

static void share(struct plan *p, struct qd_build *b, uint64_t g, uint64_t *seed)
{
	uint64_t o = g ? pick_owner(p, g, seed) : UINT64_MAX;
	struct guest *owner;
	bool full = false;

	if (o == UINT64_MAX) {
		add_data(p, b, g);
		return;
	}
	owner = &p->guest[o];
	CU_ASSERT_EQUAL_FATAL(qd_build_share(b, g, o, &full, NULL), 0);
	/* A compressed cluster may be refused earlier: others have references to its host clusters as well. */
	if (owner->kind == DATA)
		CU_ASSERT_EQUAL(full, owner->refs >= p->opts.max_share);
	CU_ASSERT_TRUE(full || owner->refs < p->opts.max_share);
	if (full) {
		p->fulls++;
		add_data(p, b, g);
		return;
	}
	owner->refs++;
	p->shares++;
	p->guest[g] = (struct guest){ .kind = SHARED, .owner = o };
}

static void check_entry(const struct plan *p, struct qd_build *b, uint64_t g)
{
	const struct guest *owner = &p->guest[p->guest[g].owner];
	uint64_t entry;

	if (p->guest[g].kind < DATA)
		return;
	CU_ASSERT_EQUAL_FATAL(qd_build_entry(b, g, &entry, NULL), 0);
	CU_ASSERT_TRUE(owner->kind == DATA ? entry == owner->host_off : (entry & PACKED) && !(entry & COPIED));
}

static void add_one(struct plan *p, struct qd_build *b, uint64_t g, uint64_t *seed)
{
	switch (next_random(seed) % 10) {
	case 0:
	case 1:
		break;
	case 2:
		if (p->opts.version < 3)
			break;
		p->guest[g].kind = ZERO;
		CU_ASSERT_EQUAL_FATAL(qd_build_add_zero(b, g, NULL), 0);
		break;
	case 3:
	case 4:
		add_data(p, b, g);
		break;
	case 5:
	case 6:
		add_compressed(p, b, g, seed);
		break;
	default:
		share(p, b, g, seed);
	}
}

/* B6: what is there before the end is no image; data may be written where the image's magic cannot be. */
static void expect_no_image_yet(struct qd_io *io)
{
	struct qd_image *img = NULL;

	CU_ASSERT_TRUE(qd_image_open(io, 0, &img, NULL) < 0);
}

static void carry_out(struct plan *p, uint64_t seed)
{
	static const char ext[] = "an extension";
	struct qd_build *b = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &p->io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(p->io, 0, &p->opts, &b, NULL), 0);
	for (uint64_t g = 0; g < p->nguest; g++) {
		/* Now and then a long stretch that is not mentioned. */
		if (next_random(&seed) % 200 == 0)
			g += next_random(&seed) % 500;
		if (g >= p->nguest)
			break;
		add_one(p, b, g, &seed);
		if (g == p->nguest / 2)
			add_raw(p, b, 0);
		if (g % 16 == 0)
			check_entry(p, b, next_random(&seed) % (g + 1));
	}
	if (!p->raw_n[0])
		add_raw(p, b, 0);
	add_raw(p, b, 1);
	add_raw(p, b, 2);
	CU_ASSERT_EQUAL_FATAL(qd_build_add_ext(b, 0x12345678, ext, sizeof(ext), NULL), 0);
	expect_no_image_yet(p->io);
	CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, p->virtual_size, 1ull << 7, &p->stats, NULL), 0);
	qd_build_free(b);
}

/* ---- walking the result ------------------------------------------------------------------------ */

struct walk {
	const struct plan *plan;
	const uint8_t *p;
	size_t nbytes;
	uint64_t size;		/* of a cluster */
	uint64_t nclusters;
	uint64_t *counts;	/* references found */
	uint8_t *whole;		/* cluster belongs to one thing alone, and not to streams */
	unsigned wrong;
};

static uint64_t get(const struct walk *w, uint64_t off, unsigned width)
{
	CU_ASSERT_TRUE_FATAL(off + width <= w->nbytes);
	return width == 4 ? qd_get_be32(w->p + off) : qd_get_be64(w->p + off);
}

static void complain(struct walk *w, const char *what, uint64_t where)
{
	if (w->wrong++ < 10)
		fprintf(stderr, "%s: %llu\n", what, (unsigned long long)where);
}

static void refer(struct walk *w, uint64_t cluster)
{
	if (cluster >= w->nclusters)
		complain(w, "reference past the end of the file", cluster);
	else
		w->counts[cluster]++;
}

/* Whole clusters that one structure has to itself. */
static void own(struct walk *w, uint64_t off, uint64_t nbytes)
{
	if (off % w->size)
		complain(w, "unaligned", off);
	for (uint64_t c = off / w->size; c * w->size < off + nbytes; c++) {
		refer(w, c);
		if (c < w->nclusters && w->whole[c]++)
			complain(w, "two things in one cluster", c);
	}
}

static void refer_stream(struct walk *w, uint64_t entry)
{
	uint64_t bits = w->plan->opts.cluster_bits, shift = 62 - (bits - 8);
	uint64_t off = entry & ((1ull << shift) - 1), sectors = ((entry & (PACKED - 1)) >> shift) + 1;
	uint64_t last = (off / 512 + sectors) * 512 - 1;

	for (uint64_t c = off / w->size; c <= last / w->size; c++)
		refer(w, c);
}

static uint32_t entry_width(const struct walk *w)
{
	return w->plan->opts.extended_l2 ? 16 : 8;
}

typedef void (*entry_fn)(struct walk *w, uint64_t index, uint64_t entry, uint64_t bitmap);

static void each_entry(struct walk *w, uint64_t l1_off, uint64_t l1_entries, entry_fn fn)
{
	uint64_t per_table = w->size / entry_width(w);

	for (uint64_t i = 0; i < l1_entries; i++) {
		uint64_t table = get(w, l1_off + i * 8, 8) & OFFSET;

		for (uint64_t k = 0; table && k < per_table; k++) {
			uint64_t off = table + k * entry_width(w);

			fn(w, i * per_table + k, get(w, off, 8), entry_width(w) == 16 ? get(w, off + 8, 8) : 0);
		}
	}
}

static void count_entry(struct walk *w, uint64_t index, uint64_t entry, uint64_t bitmap)
{
	(void)index, (void)bitmap;
	if (entry & PACKED)
		refer_stream(w, entry);
	else if (entry & OFFSET)
		refer(w, (entry & OFFSET) / w->size);
}

static void own_tables(struct walk *w, uint64_t l1_off, uint64_t l1_entries, bool active)
{
	own(w, l1_off, l1_entries * 8);
	for (uint64_t i = 0; i < l1_entries; i++) {
		uint64_t e = get(w, l1_off + i * 8, 8);

		if (e & OFFSET)
			own(w, e & OFFSET, w->size);
		if (active && (e & OFFSET) && !(e & COPIED))
			complain(w, "L1 entry without COPIED", i);
	}
}

static bool has_pin(const struct walk *w)
{
	return get(w, 60, 4) != 0;
}

static uint64_t snapshots_off(const struct walk *w)
{
	return get(w, 64, 8);
}

/* Everything the header leads to; streams' clusters are counted and not owned. */
static void count_all(struct walk *w)
{
	uint64_t reftable = get(w, 48, 8), nreftable = get(w, 56, 4);

	own(w, 0, w->size);
	own_tables(w, get(w, 40, 8), get(w, 36, 4), true);
	each_entry(w, get(w, 40, 8), get(w, 36, 4), count_entry);
	if (has_pin(w)) {
		own(w, snapshots_off(w), 40);
		own_tables(w, get(w, snapshots_off(w), 8), get(w, snapshots_off(w) + 8, 4), false);
		each_entry(w, get(w, snapshots_off(w), 8), get(w, snapshots_off(w) + 8, 4), count_entry);
	}
	own(w, reftable, nreftable * w->size);
	for (uint64_t i = 0; i < nreftable * w->size / 8; i++)
		if (get(w, reftable + i * 8, 8))
			own(w, get(w, reftable + i * 8, 8), w->size);
	for (unsigned i = 0; i < NRAW; i++)
		own(w, w->plan->raw_off[i], w->plan->raw_n[i] * w->size);
	for (uint64_t g = 0; g < w->plan->nguest; g++)
		if (w->plan->guest[g].kind == DATA && w->whole[w->plan->guest[g].host_off / w->size]++)
			complain(w, "data where something else is", g);
}

/* B2, B5 */
static void check_counts(struct walk *w)
{
	uint32_t order = w->plan->opts.refcount_order;
	uint64_t reftable = get(w, 48, 8), per_block = w->size * 8 >> order;

	for (uint64_t c = 0; c < w->nclusters; c++) {
		uint64_t block = get(w, reftable + c / per_block * 8, 8);
		uint64_t stored = block ? qd_refcount_get(w->p + block, order, c % per_block) : 0;

		if (stored != w->counts[c])
			complain(w, "stored refcount differs from the references", c);
		if (!w->counts[c])
			complain(w, "leaked", c);
	}
	/* Nothing is counted past the end of the file. */
	for (uint64_t c = w->nclusters; c % per_block; c++)
		if (qd_refcount_get(w->p + get(w, reftable + c / per_block * 8, 8), order, c % per_block))
			complain(w, "count past the end", c);
}

static uint64_t stream_entry(const struct walk *w, const struct guest *g)
{
	uint64_t shift = 62 - (w->plan->opts.cluster_bits - 8);

	return PACKED | ((g->host_off + g->nbytes - 1) / 512 - g->host_off / 512) << shift | g->host_off;
}

/* B3, and that each guest cluster names what it was told to. */
static void check_active(struct walk *w, uint64_t index, uint64_t entry, uint64_t bitmap)
{
	bool extended = w->plan->opts.extended_l2;
	uint64_t expected = 0, expected_bitmap = 0;
	const struct guest *g, *owner;

	if (index >= w->plan->nguest || w->plan->guest[index].kind == NOTHING) {
		if (entry || bitmap)
			complain(w, "an entry nobody asked for", index);
		return;
	}
	g = &w->plan->guest[index];
	owner = &w->plan->guest[g->owner];
	if (g->kind == ZERO) {
		expected = !extended;
		expected_bitmap = 0xffffffffull << 32;
	} else if (owner->kind == COMPRESSED) {
		expected = stream_entry(w, owner);
	} else {
		expected = owner->host_off | (w->counts[owner->host_off / w->size] == 1 ? COPIED : 0);
		expected_bitmap = 0xffffffff;
	}
	if (entry != expected || (extended && bitmap != expected_bitmap))
		complain(w, "wrong entry", index);
}

/* B4: the pin names what is shared, once each, in the order of the owners. */
static void check_pin(struct walk *w)
{
	uint64_t off = snapshots_off(w), l1_off, next = 0, nshared = 0, per_table = w->size / entry_width(w);

	for (uint64_t g = 0; g < w->plan->nguest; g++)
		nshared += w->plan->guest[g].refs > 1;
	CU_ASSERT_EQUAL(has_pin(w), w->plan->opts.pin && nshared > 0);
	CU_ASSERT_EQUAL(w->plan->stats.shared_clusters, nshared);
	if (!has_pin(w))
		return;
	CU_ASSERT_EQUAL(get(w, 60, 4), 1);
	CU_ASSERT_EQUAL(get(w, off + 48, 8), QD_PIN_DISK_SIZE);
	CU_ASSERT_EQUAL(get(w, off + 8, 4), (nshared + per_table - 1) / per_table);
	l1_off = get(w, off, 8);
	for (uint64_t g = 0; g < w->plan->nguest; g++) {
		const struct guest *owner = &w->plan->guest[g];
		uint64_t table, entry;

		if (owner->refs < 2)
			continue;
		table = get(w, l1_off + next / per_table * 8, 8) & OFFSET;
		entry = get(w, table + next % per_table * entry_width(w), 8);
		if (entry != (owner->kind == DATA ? owner->host_off : stream_entry(w, owner)))
			complain(w, "the pin misses a shared cluster", g);
		next++;
	}
	for (; next % per_table; next++) {
		uint64_t table = get(w, l1_off + next / per_table * 8, 8) & OFFSET;

		if (get(w, table + next % per_table * entry_width(w), 8))
			complain(w, "the pin has too much", next);
	}
}

static int compare_streams(const void *pa, const void *pb)
{
	const struct guest *const *a = pa, *const *b = pb;

	return ((*a)->host_off > (*b)->host_off) - ((*a)->host_off < (*b)->host_off);
}

/* Streams lie one behind the other: in no cluster of anything else, and not in each other. */
static void check_streams(struct walk *w)
{
	static const struct guest *all[MAX_GUEST];
	uint64_t n = 0;

	for (uint64_t g = 0; g < w->plan->nguest; g++)
		if (w->plan->guest[g].kind == COMPRESSED)
			all[n++] = &w->plan->guest[g];
	qsort(all, n, sizeof(*all), compare_streams);
	for (uint64_t i = 0; i < n; i++) {
		uint64_t end = all[i]->host_off + all[i]->nbytes;

		if (i + 1 < n && end > all[i + 1]->host_off)
			complain(w, "streams overlap", i);
		for (uint64_t c = all[i]->host_off / w->size; c <= (end - 1) / w->size; c++)
			if (c >= w->nclusters || w->whole[c])
				complain(w, "a stream in somebody else's cluster", c);
	}
}

static void check_header(struct walk *w)
{
	uint64_t references = 0, owners = 0;
	struct qd_image *img = NULL;
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(w->p, w->nbytes, false, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &img, NULL), 0);
	CU_ASSERT_EQUAL(img->header.version, w->plan->opts.version);
	CU_ASSERT_EQUAL(img->header.virtual_size, w->plan->virtual_size);
	CU_ASSERT_EQUAL(img->header.autoclear, w->plan->opts.version == 2 ? 0 : 1ull << 7);
	CU_ASSERT_EQUAL(img->header.refcount_order, w->plan->opts.refcount_order);
	CU_ASSERT_PTR_NOT_NULL(qd_image_find_ext(img, 0x12345678));
	CU_ASSERT_EQUAL(qd_image_find_pin(img) != NULL, has_pin(w));
	for (uint64_t g = 0; g < w->plan->nguest; g++) {
		references += w->plan->guest[g].kind >= DATA;
		owners += w->plan->guest[g].kind == DATA || w->plan->guest[g].kind == COMPRESSED;
	}
	CU_ASSERT_EQUAL(w->plan->stats.references, references);
	CU_ASSERT_EQUAL(w->plan->stats.data_clusters, owners);
	CU_ASSERT_EQUAL(w->plan->stats.file_size, w->nbytes);
	qd_image_close(img);
}

static void judge(const struct plan *p)
{
	struct walk w = { .plan = p, .size = 1ull << p->opts.cluster_bits };

	w.p = qd_io_mem_data(p->io, &w.nbytes);
	CU_ASSERT_EQUAL_FATAL(w.nbytes % w.size, 0);
	w.nclusters = w.nbytes / w.size;
	w.counts = calloc(w.nclusters, sizeof(*w.counts));
	w.whole = calloc(w.nclusters, 1);
	CU_ASSERT_TRUE_FATAL(w.counts && w.whole);
	check_header(&w);
	count_all(&w);
	check_counts(&w);
	each_entry(&w, get(&w, 40, 8), get(&w, 36, 4), check_active);
	check_pin(&w);
	check_streams(&w);
	CU_ASSERT_EQUAL(w.wrong, 0);
	free(w.counts);
	free(w.whole);
}

/* ---- tests ------------------------------------------------------------------------------------ */

static struct plan *new_plan(const struct qd_build_opts *opts, uint64_t nguest)
{
	struct plan *p = calloc(1, sizeof(*p));

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	p->opts = *opts;
	if (!p->opts.max_share)
		p->opts.max_share = qd_build_share_default(opts->refcount_order);
	p->nguest = nguest;
	p->virtual_size = nguest << opts->cluster_bits;
	return p;
}

static void free_plan(struct plan *p)
{
	qd_io_close(p->io);
	free(p);
}

/* B1: the same calls give the same bytes, however few L2 tables are held. */
static void build_and_judge(const struct qd_build_opts *opts, uint64_t nguest, uint64_t seed, unsigned *fulls,
			    unsigned *shares)
{
	const uint8_t *first = NULL, *again;
	size_t nfirst = 0, nagain;
	struct plan *plans[3];

	for (unsigned i = 0; i < 3; i++) {
		struct qd_build_opts o = *opts;

		o.memory = i == 0 ? 1u << 24 : i == 1 ? 0 : 3ull << o.cluster_bits;
		plans[i] = new_plan(&o, nguest);
		carry_out(plans[i], seed);
		judge(plans[i]);
		again = qd_io_mem_data(plans[i]->io, &nagain);
		if (i == 0) {
			first = again;
			nfirst = nagain;
		}
		CU_ASSERT_TRUE(nagain == nfirst && !memcmp(first, again, nfirst));
	}
	*fulls += plans[0]->fulls;
	*shares += plans[0]->shares;
	for (unsigned i = 0; i < 3; i++)
		free_plan(plans[i]);
}

static void every_refcount_width_keeps_the_invariants(void)
{
	for (uint32_t order = 0; order <= 6; order++) {
		for (int pin = 0; pin <= 1; pin++) {
			struct qd_build_opts o = { .version = 3, .cluster_bits = 9, .refcount_order = order, .pin = pin };
			unsigned fulls = 0, shares = 0;

			build_and_judge(&o, MAX_GUEST, order, &fulls, &shares);
			o.max_share = qd_build_share_limit(order, pin);
			if (o.max_share)
				build_and_judge(&o, MAX_GUEST, order, &fulls, &shares);
			/* Narrow counts reach their cap, those of 1 bit cannot share at all. */
			CU_ASSERT_EQUAL(order <= 2, fulls > 0);
			CU_ASSERT_EQUAL(order >= 1, shares > 0);
		}
	}
}

static void every_kind_of_image_keeps_the_invariants(void)
{
	static const struct qd_build_opts all[] = {
		{ .version = 2, .cluster_bits = 9, .refcount_order = 4, .pin = true },
		{ .version = 2, .cluster_bits = 12, .refcount_order = 4 },
		{ .version = 3, .cluster_bits = 10, .refcount_order = 4, .pin = true, .max_share = 3 },
		{ .version = 3, .cluster_bits = 12, .refcount_order = 1, .pin = true },
		{ .version = 3, .cluster_bits = 14, .refcount_order = 4, .pin = true, .extended_l2 = true },
		{ .version = 3, .cluster_bits = 14, .refcount_order = 6, .extended_l2 = true },
		{ .version = 3, .cluster_bits = 16, .refcount_order = 3, .pin = true },
		{ .version = 3, .cluster_bits = 9, .refcount_order = 4, .pin = true, .lazy_refcounts = true,
		  .backing_name = "base", .backing_format = "raw", .compression = QD_COMPRESSION_ZSTD },
	};
	unsigned fulls = 0, shares = 0;

	for (size_t i = 0; i < sizeof(all) / sizeof(all[0]); i++)
		for (uint64_t seed = 0; seed < 2; seed++)
			build_and_judge(&all[i], all[i].cluster_bits > 12 ? 700 : MAX_GUEST, 100 * i + seed, &fulls, &shares);
	CU_ASSERT_TRUE(fulls > 0 && shares > 1000);
}

/* Two references: plain counts of 1 and 3 with the pin, the smallest case in which COPIED must go. */
static void one_share_clears_copied_on_both_sides(void)
{
	for (uint64_t memory = 0; memory <= 1u << 20; memory += 1u << 20) {
		struct qd_build_opts o = { .version = 3, .cluster_bits = 9, .refcount_order = 4, .pin = true, .memory = memory };
		struct plan *p = new_plan(&o, 400);
		struct qd_build *b = NULL;
		bool full = true;

		CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &p->io, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_build_new(p->io, 0, &p->opts, &b, NULL), 0);
		add_data(p, b, 3);
		add_data(p, b, 4);
		/* Other tables come between, so that the owner's has been written already. */
		add_data(p, b, 200);
		CU_ASSERT_EQUAL_FATAL(qd_build_share(b, 399, 3, &full, NULL), 0);
		CU_ASSERT_FALSE(full);
		p->guest[399] = (struct guest){ .kind = SHARED, .owner = 3 };
		p->guest[3].refs++;
		for (unsigned i = 0; i < NRAW; i++)
			add_raw(p, b, i);
		CU_ASSERT_EQUAL_FATAL(qd_build_add_ext(b, 0x12345678, "", 0, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, p->virtual_size, 1ull << 7, &p->stats, NULL), 0);
		qd_build_free(b);
		judge(p);
		free_plan(p);
	}
}

static void limits_follow_from_the_width(void)
{
	static const struct { uint64_t with_pin, without, def; } rows[] = {
		{ 0, 1, 0 }, { 2, 3, 2 }, { 14, 15, 7 }, { 254, 255, 127 }, { 65534, 65535, 32767 },
	};

	for (uint32_t order = 0; order < 5; order++) {
		CU_ASSERT_EQUAL(qd_build_share_limit(order, true), rows[order].with_pin);
		CU_ASSERT_EQUAL(qd_build_share_limit(order, false), rows[order].without);
		CU_ASSERT_EQUAL(qd_build_share_default(order), rows[order].def);
	}
	for (uint32_t order = 5; order <= 6; order++) {
		CU_ASSERT_TRUE(qd_build_share_limit(order, true) < qd_build_share_limit(order, false));
		CU_ASSERT_TRUE(qd_build_share_default(order) <= qd_build_share_limit(order, true));
		CU_ASSERT_TRUE(qd_build_share_default(order) >= 32767);
	}
}

static void an_empty_image_is_metadata_alone(void)
{
	for (uint32_t bits = 9; bits <= 21; bits += 3) {
		struct qd_build_opts o = { .version = 3, .cluster_bits = bits, .refcount_order = 4, .pin = true };
		struct qd_build *b = NULL;
		struct qd_io *io = NULL;
		struct qd_image *img = NULL;
		struct qd_build_stats stats;

		CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 1 << 20, &o, &b, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, 1 << 20, 0, &stats, NULL), 0);
		qd_build_free(b);
		CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &img, NULL), 0);
		CU_ASSERT_EQUAL(img->nsnapshots, 0);
		CU_ASSERT_EQUAL(stats.data_clusters + stats.references + stats.shared_clusters, 0);
		CU_ASSERT_EQUAL(img->file_size, stats.file_size);
		CU_ASSERT_TRUE(stats.file_size <= 5ull << bits);
		qd_image_close(img);
	}
	qd_build_free(NULL);
}

/* Where the data lies in a file of its own, at its guest offset, nothing is counted for it. */
static void an_external_data_file_takes_the_data(void)
{
	struct qd_build_opts o = { .version = 3, .cluster_bits = 9, .refcount_order = 4, .data_file_name = "data",
				   .data_file_raw = true };
	struct qd_build_stats stats;
	struct qd_build *b = NULL;
	struct qd_image *img = NULL;
	struct qd_io *io = NULL;
	uint64_t off;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 1 << 16, &o, &b, NULL), 0);
	for (uint64_t g = 0; g < 128; g++) {
		CU_ASSERT_EQUAL(qd_build_add_data(b, g, &off, NULL), 0);
		CU_ASSERT_EQUAL(off, g * 512);
	}
	CU_ASSERT_EQUAL_FATAL(qd_build_finish(b, 1 << 16, 0, &stats, NULL), 0);
	qd_build_free(b);
	CU_ASSERT_EQUAL_FATAL(qd_image_open(io, 0, &img, NULL), 0);
	CU_ASSERT_STRING_EQUAL(img->data_file_name, "data");
	CU_ASSERT_EQUAL(img->header.incompatible, QD_INCOMPAT_DATA_FILE);
	CU_ASSERT_EQUAL(img->header.autoclear, QD_AUTOCLEAR_DATA_FILE_RAW);
	CU_ASSERT_EQUAL(img->file_size, 6 * 512);	/* header, two L2 tables, L1, refcount block and table; no data */
	qd_image_close(img);
}

static void what_does_not_fit_is_refused(void)
{
	struct qd_build_opts o = { .version = 3, .cluster_bits = 9, .refcount_order = 4 };
	struct qd_err err = { .code = 0 };
	char name[1100];
	struct qd_build_stats stats;
	struct qd_build *b = NULL;
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, 0, true, &io, NULL), 0);
	CU_ASSERT_EQUAL(qd_build_new(io, (128ull << 30) + 1, &o, &b, &err), QD_E_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "larger clusters"));
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 0, &o, &b, NULL), 0);
	CU_ASSERT_EQUAL(qd_build_finish(b, (128ull << 30) + 1, 0, &stats, &err), QD_E_INVALID);
	qd_build_free(b);
	memset(name, 'n', sizeof(name) - 1);
	name[sizeof(name) - 1] = '\0';
	o.backing_name = name;
	CU_ASSERT_EQUAL_FATAL(qd_build_new(io, 512, &o, &b, NULL), 0);
	CU_ASSERT_EQUAL(qd_build_finish(b, 512, 0, &stats, &err), QD_E_INVALID);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "1099 bytes"));
	qd_build_free(b);
	expect_no_image_yet(io);
	qd_io_close(io);
}

CU_ErrorCode suite_build(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_refcount_width_keeps_the_invariants),
		QD_TEST(every_kind_of_image_keeps_the_invariants),
		QD_TEST(one_share_clears_copied_on_both_sides),
		QD_TEST(limits_follow_from_the_width),
		QD_TEST(an_empty_image_is_metadata_alone),
		QD_TEST(an_external_data_file_takes_the_data),
		QD_TEST(what_does_not_fit_is_refused),
	};

	return QD_SUITE_ADD("build", tests);
}
