/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Each cluster size has a sample of its own, behind a lock of its own:
 *
 *	slots    open addressing by key; nbytes 0: free (a compressed cluster has a byte at least)
 *	depth    read without the lock first: most contents of a large scan end there
 *
 * The lock is held while a content is compressed.  How many are is bounded (the sample, and
 * half as many again for each doubling of the contents), and so one compressor is enough.
 */
#include "ops/scan_compress.h"

#include <assert.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "image/codec.h"

#define SAMPLE_NBYTES (32u << 20)
#define SAMPLE_LEAST 64u
#define SAMPLE_MOST 4096u
#define ERRORS 3.0		/* standard errors of margin */

struct slot {
	uint64_t hi, lo;
	uint32_t nbytes;		/* compressed */
};

struct sample {
	pthread_mutex_t lock;
	uint64_t cluster_size;
	atomic_uint depth;
	unsigned most, nslots;		/* nslots: a power of two, twice `most` at least */
	unsigned n;
	struct slot *slots;		/* NULL: no content yet */
	struct qd_codec *codec;
	uint8_t *out;
};

struct qd_scan_compress {
	enum qd_compression type;
	struct sample samples[QD_SCAN_NSIZES_MAX];
};

int qd_scan_compress_new(const char *type, struct qd_scan_compress **ret_c, struct qd_err *err)
{
	bool zstd = strcmp(type, "zstd") == 0;
	struct qd_scan_compress *c;

	if (!zstd && strcmp(type, "zlib") != 0)
		return qd_err_set(err, QD_E_INVALID, "'%s', expected zlib or zstd", type);
	c = calloc(1, sizeof(*c));
	if (!c)
		return qd_err_nomem(err, "a sample of contents");
	c->type = zstd ? QD_COMPRESSION_ZSTD : QD_COMPRESSION_ZLIB;
	for (unsigned i = 0; i < QD_SCAN_NSIZES_MAX; i++) {
		pthread_mutex_init(&c->samples[i].lock, NULL);
		atomic_init(&c->samples[i].depth, 0);
		c->samples[i].cluster_size = (uint64_t)QD_SCAN_SIZE_MIN << i;
	}
	*ret_c = c;
	return 0;
}

void qd_scan_compress_free(struct qd_scan_compress *c)
{
	for (unsigned i = 0; c && i < QD_SCAN_NSIZES_MAX; i++) {
		struct sample *s = &c->samples[i];

		pthread_mutex_destroy(&s->lock);
		qd_codec_free(s->codec);
		free(s->slots);
		free(s->out);
	}
	free(c);
}

const char *qd_scan_compress_type(const struct qd_scan_compress *c)
{
	return c->type == QD_COMPRESSION_ZSTD ? "zstd" : "zlib";
}

static unsigned number_of(uint64_t cluster_size)
{
	unsigned i = 0;

	while ((uint64_t)QD_SCAN_SIZE_MIN << i < cluster_size)
		i++;
	assert(i < QD_SCAN_NSIZES_MAX);
	return i;
}

/* ---- the sample ---- */

static int prepare(const struct qd_scan_compress *c, struct sample *s, struct qd_err *err)
{
	uint64_t most = qd_min_u64(qd_max_u64(SAMPLE_NBYTES / s->cluster_size, SAMPLE_LEAST), SAMPLE_MOST);

	if (!s->codec) {
		int r = qd_codec_new(c->type, s->cluster_size, 0, &s->codec, err);

		if (r)
			return r;
	}
	s->most = (unsigned)most;
	s->nslots = 2 * s->most;		/* `most` is a power of two, as the cluster size is */
	if (!s->out)
		s->out = malloc(s->cluster_size);
	if (s->out)
		s->slots = calloc(s->nslots, sizeof(*s->slots));
	return s->slots ? 0 : qd_err_nomem(err, "a sample of contents");
}

static bool belongs(uint64_t lo, unsigned depth)
{
	return !(lo & ((1ull << depth) - 1));
}

/* Where the key is, or the free slot where it would be; there is always a free one. */
static struct slot *find(const struct sample *s, uint64_t hi, uint64_t lo)
{
	uint64_t at = hi ^ lo >> 32;

	for (;; at++) {
		struct slot *slot = &s->slots[at & (s->nslots - 1)];

		if (!slot->nbytes || (slot->hi == hi && slot->lo == lo))
			return slot;
	}
}

static int deepen(struct sample *s, struct qd_err *err)
{
	struct slot *old = s->slots, *slots = calloc(s->nslots, sizeof(*slots));
	unsigned depth = atomic_load_explicit(&s->depth, memory_order_relaxed) + 1;

	if (!slots)
		return qd_err_nomem(err, "a sample of contents");
	s->slots = slots;
	s->n = 0;
	for (unsigned i = 0; i < s->nslots; i++) {
		if (!old[i].nbytes || !belongs(old[i].lo, depth))
			continue;
		*find(s, old[i].hi, old[i].lo) = old[i];
		s->n++;
	}
	free(old);
	atomic_store_explicit(&s->depth, depth, memory_order_relaxed);
	return 0;
}

static int add(struct sample *s, const struct qd_scan_content *content, struct qd_err *err)
{
	struct slot *slot = find(s, content->key_hi, content->key_lo);
	size_t nbytes = 0;
	int r;

	if (slot->nbytes)
		return 0;
	r = qd_codec_compress(s->codec, content->data, s->out, &nbytes, err);
	if (r)
		return r;
	slot->hi = content->key_hi;
	slot->lo = content->key_lo;
	slot->nbytes = (uint32_t)(nbytes ? nbytes : s->cluster_size);
	s->n++;
	while (!r && s->n > s->most && atomic_load_explicit(&s->depth, memory_order_relaxed) < 63)
		r = deepen(s, err);
	return r;
}

int qd_scan_compress_add(struct qd_scan_compress *c, const struct qd_scan_content *content,
			 struct qd_err *err)
{
	struct sample *s = &c->samples[number_of(content->cluster_size)];
	int r = 0;

	if (!belongs(content->key_lo, atomic_load_explicit(&s->depth, memory_order_relaxed)))
		return 0;
	pthread_mutex_lock(&s->lock);
	if (!s->slots)
		r = prepare(c, s, err);
	if (!r && belongs(content->key_lo, atomic_load_explicit(&s->depth, memory_order_relaxed)))
		r = add(s, content, err);
	pthread_mutex_unlock(&s->lock);
	return r;
}

/* ---- the estimate ---- */

/* Square root by Newton's method: libm is not linked for this alone. */
static double root(double v)
{
	double x = v > 1 ? v : 1;

	for (unsigned i = 0; v > 0 && i < 200; i++) {
		double next = (x + v / x) / 2;

		if (next >= x)
			break;
		x = next;
	}
	return v > 0 ? x : 0;
}

/*
 * Variance of the compressed size.  Whole numbers up to its end, so that it does not depend on
 * the order of the slots; n * squares is below 2^54 at every cluster size.
 */
static double variance_of(const struct sample *s, uint64_t *ret_sum)
{
	uint64_t sum = 0, squares = 0, n = s->n;

	for (unsigned i = 0; i < s->nslots; i++) {
		sum += s->slots[i].nbytes;
		squares += (uint64_t)s->slots[i].nbytes * s->slots[i].nbytes;
	}
	*ret_sum = sum;
	return n > 1 ? (double)(n * squares - sum * sum) / ((double)n * (double)(n - 1)) : 0;
}

static uint64_t within(double v, uint64_t low, uint64_t high)
{
	return v <= (double)low ? low : v >= (double)high ? high : (uint64_t)v;
}

struct qd_scan_compressed qd_scan_compress_get(const struct qd_scan_compress *c,
					       const struct qd_scan_size *size)
{
	const struct sample *s = &c->samples[number_of(size->cluster_size)];
	uint64_t plain = size->unique * size->cluster_size;
	struct qd_scan_compressed e = { .cluster_size = size->cluster_size, .ratio = 1,
					.data_nbytes = plain };
	double variance, margin = 0, all = (double)size->unique;

	if (s->slots && s->n) {
		variance = variance_of(s, &e.packed_nbytes);
		e.sampled = s->n;
		e.sampled_nbytes = e.sampled * size->cluster_size;
		e.ratio = (double)e.sampled_nbytes / (double)e.packed_nbytes;
		e.data_nbytes = size->unique == s->n ? e.packed_nbytes :
				within(all * (double)e.packed_nbytes / s->n, 0, plain);
		if (size->unique > s->n)	/* less for the part that is known */
			margin = ERRORS * all * root(variance / s->n * (1 - s->n / all));
	}
	e.data_low = within((double)e.data_nbytes - margin, 0, e.data_nbytes);
	e.data_high = within((double)e.data_nbytes + margin, e.data_nbytes, plain);
	e.total_nbytes = e.data_nbytes + size->metadata_nbytes;
	e.saved_nbytes = plain - e.data_nbytes;
	return e;
}
