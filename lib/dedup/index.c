/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Extendible hashing.
 *
 *	directory   2^depth bucket numbers, indexed by the fingerprint's top bits
 *	bucket      up to MAX_SLOTS slots, open addressing within; splits in two by the next bit
 *	slot        36 bits value + 1 (0: empty) | 44 bits tag: the fingerprint's top bits
 *
 * A slot's tag holds every bit that splitting or placing it needs, so the table grows
 * without the fingerprints.  Slots lie in two arrays, 8 and 2 bytes wide.
 *
 * In memory a bucket has just as many slots as its load asks for.  In the file each one
 * is a page of PAGE bytes, read and written as a whole: the host's page cache is what
 * makes that fast.
 *
 * Invariants
 *  I1  load: a bucket with more than GROW_NUM/GROW_DEN of its slots used grows, or splits.
 *  I2  both modes split at the same number of entries, so they find the same candidates.
 *  I3  the directory is never deeper than the number of buckets warrants (MAX_SLACK): what
 *      cannot be placed then is left out, which costs space in the image and nothing else.
 */
#include "dedup/index.h"

#include <assert.h>
#include <malloc.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/tmpfile.h"

#define PAGE 4096u
#define MAX_SLOTS 408u			/* 408 * 10 + 16 = 4096 */
#define MIN_SLOTS 16u
#define GROW_NUM 7u
#define GROW_DEN 8u
#define SPLIT_ENTRIES (MAX_SLOTS * GROW_NUM / GROW_DEN)
#define TAG_BITS 44u
#define VALUE_BITS 36u
#define VALUE_MASK ((1ull << VALUE_BITS) - 1)
#define MAX_SLACK 8u

struct bucket {
	uint16_t slots;
	uint16_t used;
	uint32_t depth;			/* top bits that all its tags share */
	uint64_t *low;			/* value + 1 | low 28 bits of the tag << 36 */
	uint16_t *high;			/* high 16 bits of the tag */
};

struct qd_index {
	struct bucket *buckets;		/* in the file mode: without arrays */
	uint64_t nbuckets;
	uint64_t room;			/* of `buckets` */
	uint32_t *dir;
	uint32_t depth;
	uint64_t entries;
	uint64_t slot_nbytes;		/* of all buckets in memory */
	uint64_t memory;
	const char *tmpdir;
	struct qd_io *file;		/* NULL: in memory */
	struct bucket page[2];		/* file mode: buckets being worked on */
};

static uint64_t tag_of(struct qd_fingerprint f)
{
	return f.hi >> (64 - TAG_BITS);
}

static uint64_t slot_tag(const struct bucket *b, unsigned i)
{
	return ((uint64_t)b->high[i] << (TAG_BITS - 16)) | (b->low[i] >> VALUE_BITS);
}

static unsigned home_of(const struct bucket *b, uint64_t tag)
{
	return (unsigned)(((tag & 0xffff) * b->slots) >> 16);
}

static int bucket_alloc(struct bucket *b, unsigned slots, struct qd_err *err)
{
	uint8_t *p = calloc(slots, sizeof(uint64_t) + sizeof(uint16_t));

	if (!p)
		return qd_err_nomem(err, "the index");
	*b = (struct bucket){ .slots = (uint16_t)slots, .low = (uint64_t *)(void *)p };
	b->high = (uint16_t *)(void *)(p + slots * sizeof(uint64_t));
	return 0;
}

static uint64_t bucket_nbytes(unsigned slots)
{
	return slots * (sizeof(uint64_t) + sizeof(uint16_t));
}

static void fill_slot(struct bucket *b, unsigned i, uint64_t tag, uint64_t value)
{
	b->low[i] = (value + 1) | (tag << VALUE_BITS);
	b->high[i] = (uint16_t)(tag >> (TAG_BITS - 16));
	b->used++;
}

static void bucket_put(struct bucket *b, uint64_t tag, uint64_t value)
{
	unsigned i = home_of(b, tag);

	while (b->low[i])
		i = i + 1 < b->slots ? i + 1 : 0;
	fill_slot(b, i, tag, value);
}

/* Moves the entries of `from` whose bit number `depth` is `bit` (or all, bit < 0) to `to`. */
static void bucket_copy(const struct bucket *from, struct bucket *to, int bit)
{
	for (unsigned i = 0; i < from->slots; i++) {
		uint64_t tag = slot_tag(from, i);

		if (from->low[i] && (bit < 0 || (int)((tag >> (TAG_BITS - 1 - from->depth)) & 1) == bit))
			bucket_put(to, tag, (from->low[i] & VALUE_MASK) - 1);
	}
}

int qd_index_new(uint64_t memory, const char *tmpdir, struct qd_index **ret_index, struct qd_err *err)
{
	struct qd_index *ix = calloc(1, sizeof(*ix));

	if (!ix)
		return qd_err_nomem(err, "the index");
	ix->memory = memory;
	ix->tmpdir = tmpdir ? tmpdir : "/tmp";
	ix->room = 64;
	ix->buckets = calloc(ix->room, sizeof(*ix->buckets));
	ix->dir = calloc(1, sizeof(*ix->dir));
	if (!ix->buckets || !ix->dir || bucket_alloc(&ix->buckets[0], MIN_SLOTS, err)) {
		qd_index_free(ix);
		return qd_err_nomem(err, "the index");
	}
	ix->nbuckets = 1;
	ix->slot_nbytes = bucket_nbytes(MIN_SLOTS);
	*ret_index = ix;
	return 0;
}

void qd_index_free(struct qd_index *ix)
{
	if (!ix)
		return;
	for (uint64_t i = 0; ix->buckets && i < ix->nbuckets; i++)
		free(ix->buckets[i].low);
	free(ix->page[0].low);
	free(ix->page[1].low);
	free(ix->buckets);
	free(ix->dir);
	qd_io_close(ix->file);
	free(ix);
}

uint64_t qd_index_entries(const struct qd_index *ix)
{
	return ix->entries;
}

uint64_t qd_index_memory(const struct qd_index *ix)
{
	return ix->slot_nbytes + ix->room * sizeof(*ix->buckets) + (sizeof(*ix->dir) << ix->depth);
}

bool qd_index_spilled(const struct qd_index *ix)
{
	return ix->file != NULL;
}

/* --- the file mode --- */

static int page_write(struct qd_index *ix, uint64_t number, const struct bucket *b, struct qd_err *err)
{
	int r = qd_io_write(ix->file, b->low, (size_t)bucket_nbytes(MAX_SLOTS), number * PAGE, err);

	return r ? qd_err_prefix(err, r, "temporary file in %s (set TMPDIR to a directory with more room)", ix->tmpdir) :
		   0;
}

static int page_read(struct qd_index *ix, uint64_t number, struct bucket *page, struct qd_err *err)
{
	int r = qd_io_read(ix->file, page->low, (size_t)bucket_nbytes(MAX_SLOTS), number * PAGE, err);

	page->used = ix->buckets[number].used;
	page->depth = ix->buckets[number].depth;
	return r ? qd_err_prefix(err, r, "temporary file in %s", ix->tmpdir) : 0;
}

/* Every bucket becomes a page; from here on memory holds the directory and the counts only. */
static int spill(struct qd_index *ix, struct qd_err *err)
{
	int r = qd_tmpfile_open(ix->tmpdir, &ix->file, err);

	if (!r)
		r = bucket_alloc(&ix->page[0], MAX_SLOTS, err);
	if (!r)
		r = bucket_alloc(&ix->page[1], MAX_SLOTS, err);
	for (uint64_t i = 0; !r && i < ix->nbuckets; i++) {
		struct bucket *b = &ix->buckets[i];

		memset(ix->page[0].low, 0, (size_t)bucket_nbytes(MAX_SLOTS));
		ix->page[0].used = 0;
		bucket_copy(b, &ix->page[0], -1);
		r = page_write(ix, i, &ix->page[0], err);
		free(b->low);
		b->low = NULL;
		b->high = NULL;
		b->slots = MAX_SLOTS;
	}
	ix->slot_nbytes = 2 * bucket_nbytes(MAX_SLOTS);
#ifdef __GLIBC__
	malloc_trim(0);		/* thousands of small blocks: they would stay resident otherwise */
#endif
	return r;
}

/* --- both modes --- */

/* The bucket of a tag, in memory or read into a page. */
static int get_bucket(struct qd_index *ix, uint64_t tag, uint64_t *ret_number, struct bucket **ret_b,
		      struct qd_err *err)
{
	uint64_t number = ix->dir[ix->depth ? tag >> (TAG_BITS - ix->depth) : 0];

	*ret_number = number;
	if (!ix->file) {
		*ret_b = &ix->buckets[number];
		return 0;
	}
	*ret_b = &ix->page[0];
	return page_read(ix, number, &ix->page[0], err);
}

static int put_bucket(struct qd_index *ix, uint64_t number, const struct bucket *b, struct qd_err *err)
{
	if (!ix->file)
		return 0;
	ix->buckets[number].used = b->used;
	ix->buckets[number].depth = b->depth;
	return page_write(ix, number, b, err);
}

static int resize(struct qd_index *ix, struct bucket *b, unsigned slots, struct qd_err *err)
{
	struct bucket bigger;
	int r = bucket_alloc(&bigger, slots, err);

	if (r)
		return r;
	bigger.depth = b->depth;
	bucket_copy(b, &bigger, -1);
	ix->slot_nbytes += bucket_nbytes(slots) - bucket_nbytes(b->slots);
	free(b->low);
	*b = bigger;
	return 0;
}

/* Slots that leave room to grow by a sixth before I1 is broken again. */
static unsigned roomy(unsigned used)
{
	unsigned slots = used * 4 / 3 + 1;

	return slots < MIN_SLOTS ? MIN_SLOTS : slots > MAX_SLOTS ? MAX_SLOTS : slots;
}

static int double_directory(struct qd_index *ix, struct qd_err *err)
{
	uint64_t n = 1ull << ix->depth;
	uint32_t *dir = malloc(2 * n * sizeof(*dir));

	if (!dir)
		return qd_err_nomem(err, "the index");
	for (uint64_t i = 0; i < n; i++)
		dir[2 * i] = dir[2 * i + 1] = ix->dir[i];
	free(ix->dir);
	ix->dir = dir;
	ix->depth++;
	return 0;
}

static int add_bucket(struct qd_index *ix, struct qd_err *err)
{
	struct bucket *all;

	if (ix->nbuckets < ix->room)
		return 0;
	all = realloc(ix->buckets, (ix->room + ix->room / 4 + 64) * sizeof(*all));
	if (!all)
		return qd_err_nomem(err, "the index");
	ix->buckets = all;
	ix->room += ix->room / 4 + 64;
	return 0;
}

/* The directory entries that led to `number` and have a 1 as bit number `depth` lead to the new bucket. */
static void redirect(struct qd_index *ix, uint64_t tag, uint32_t old_depth, uint64_t new_number)
{
	uint32_t below = ix->depth - old_depth - 1;
	uint64_t prefix = old_depth ? tag >> (TAG_BITS - old_depth) : 0;
	uint64_t first = ((prefix << 1) | 1) << below;

	for (uint64_t i = 0; i < 1ull << below; i++)
		ix->dir[first + i] = (uint32_t)new_number;
}

/* Splits the bucket's entries in two halves with room; memory mode. */
static int split_memory(struct qd_index *ix, struct bucket *b, struct bucket *ret_upper, struct qd_err *err)
{
	unsigned ones = 0;
	struct bucket lower, upper;
	int r;

	for (unsigned i = 0; i < b->slots; i++)
		ones += b->low[i] && ((slot_tag(b, i) >> (TAG_BITS - 1 - b->depth)) & 1);
	r = bucket_alloc(&lower, roomy(b->used - ones), err);
	if (r)
		return r;
	r = bucket_alloc(&upper, roomy(ones), err);
	if (r) {
		free(lower.low);
		return r;
	}
	bucket_copy(b, &lower, 0);
	bucket_copy(b, &upper, 1);
	lower.depth = upper.depth = b->depth + 1;
	ix->slot_nbytes += bucket_nbytes(lower.slots) + bucket_nbytes(upper.slots) - bucket_nbytes(b->slots);
	free(b->low);
	*b = lower;
	*ret_upper = upper;
	return 0;
}

/* The same for pages: `number` is in page[0]. */
static int split_file(struct qd_index *ix, uint64_t number, struct qd_err *err)
{
	struct bucket *from = &ix->page[0], *half = &ix->page[1];
	int r = 0;

	for (int bit = 0; !r && bit < 2; bit++) {
		uint64_t to = bit ? ix->nbuckets : number;

		memset(half->low, 0, (size_t)bucket_nbytes(MAX_SLOTS));
		half->used = 0;
		bucket_copy(from, half, bit);
		half->depth = from->depth + 1;
		ix->buckets[to] = (struct bucket){ .slots = MAX_SLOTS };
		r = put_bucket(ix, to, half, err);
	}
	return r;
}

static int split(struct qd_index *ix, uint64_t tag, uint64_t number, struct qd_err *err)
{
	uint32_t old_depth = ix->buckets[number].depth;
	int r = 0;

	if (old_depth == ix->depth)
		r = double_directory(ix, err);
	if (!r)
		r = add_bucket(ix, err);
	if (!r)
		r = ix->file ? split_file(ix, number, err) :
			       split_memory(ix, &ix->buckets[number], &ix->buckets[ix->nbuckets], err);
	if (r)
		return r;
	redirect(ix, tag, old_depth, ix->nbuckets);
	ix->nbuckets++;
	return 0;
}

/* I3 */
static bool may_split(const struct qd_index *ix, const struct bucket *b)
{
	uint32_t warranted = 64 - (uint32_t)__builtin_clzll(ix->nbuckets) + MAX_SLACK;

	return b->depth < ix->depth || (ix->depth < warranted && ix->depth < TAG_BITS - 16);
}

int qd_index_find(struct qd_index *ix, struct qd_fingerprint f, uint64_t ret_values[QD_INDEX_CANDIDATES],
		  unsigned *ret_n, struct qd_err *err)
{
	uint64_t tag = tag_of(f), number, low = (tag << VALUE_BITS) & ~VALUE_MASK;
	uint16_t high = (uint16_t)(tag >> (TAG_BITS - 16));
	struct bucket *b = NULL;
	unsigned n = 0, i;
	int r = get_bucket(ix, tag, &number, &b, err);

	if (r)
		return r;
	for (i = home_of(b, tag); b->low[i] && n < QD_INDEX_CANDIDATES; i = i + 1 < b->slots ? i + 1 : 0)
		if ((b->low[i] & ~VALUE_MASK) == low && b->high[i] == high)
			ret_values[n++] = (b->low[i] & VALUE_MASK) - 1;
	*ret_n = n;
	return 0;
}

static unsigned count_tag(const struct bucket *b, uint64_t tag)
{
	unsigned n = 0;

	for (unsigned i = home_of(b, tag); b->low[i]; i = i + 1 < b->slots ? i + 1 : 0)
		n += slot_tag(b, i) == tag;
	return n;
}

/* Makes room for one more entry of `tag`; *ret_b is NULL when it is to be left out. */
static int make_room(struct qd_index *ix, uint64_t tag, uint64_t *ret_number, struct bucket **ret_b,
		     struct qd_err *err)
{
	for (;;) {
		struct bucket *b = NULL;
		int r = get_bucket(ix, tag, ret_number, &b, err);

		if (r)
			return r;
		*ret_b = b;
		if (b->used >= SPLIT_ENTRIES) {
			if (!may_split(ix, b) || count_tag(b, tag) >= QD_INDEX_CANDIDATES) {
				*ret_b = NULL;
				return 0;
			}
			r = split(ix, tag, *ret_number, err);
		} else if ((b->used + 1u) * GROW_DEN > b->slots * GROW_NUM && b->slots < MAX_SLOTS) {
			r = resize(ix, b, roomy(b->used), err);
		} else {
			return 0;
		}
		if (r)
			return r;
	}
}

/* Puts the entry behind those of its home slot; false when there are enough of its tag already. */
static bool put_counted(struct bucket *b, uint64_t tag, uint64_t value)
{
	unsigned i = home_of(b, tag), equal = 0;

	for (; b->low[i]; i = i + 1 < b->slots ? i + 1 : 0)
		equal += slot_tag(b, i) == tag;
	if (equal >= QD_INDEX_CANDIDATES)
		return false;
	fill_slot(b, i, tag, value);
	return true;
}

int qd_index_insert(struct qd_index *ix, struct qd_fingerprint f, uint64_t value, struct qd_err *err)
{
	uint64_t tag = tag_of(f), number;
	struct bucket *b = NULL;
	int r;

	assert(value <= QD_INDEX_VALUE_MAX);
	if (!ix->file && qd_index_memory(ix) > ix->memory) {
		r = spill(ix, err);
		if (r)
			return r;
	}
	r = make_room(ix, tag, &number, &b, err);
	if (r || !b || !put_counted(b, tag, value))
		return r;
	ix->entries++;
	return put_bucket(ix, number, b, err);
}

void qd_index_prefetch(const struct qd_index *ix, struct qd_fingerprint f)
{
	uint64_t tag = tag_of(f);
	const struct bucket *b = &ix->buckets[ix->dir[ix->depth ? tag >> (TAG_BITS - ix->depth) : 0]];

	if (b->low)
		__builtin_prefetch(&b->low[home_of(b, tag)]);
}

int qd_index_replace(struct qd_index *ix, struct qd_fingerprint f, uint64_t old_value, uint64_t new_value,
		     struct qd_err *err)
{
	uint64_t tag = tag_of(f), number;
	struct bucket *b = NULL;
	int r = get_bucket(ix, tag, &number, &b, err);

	assert(new_value <= QD_INDEX_VALUE_MAX);
	if (r)
		return r;
	for (unsigned i = home_of(b, tag); b->low[i]; i = i + 1 < b->slots ? i + 1 : 0)
		if (slot_tag(b, i) == tag && (b->low[i] & VALUE_MASK) == old_value + 1) {
			b->low[i] = (b->low[i] & ~VALUE_MASK) | (new_value + 1);
			return put_bucket(ix, number, b, err);
		}
	return 0;
}
