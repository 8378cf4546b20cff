/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/convert_hint.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dedup/digest.h"

#define WORDS 5u		/* of a piece of QD_HINT_MIN bytes, spread over it */
#define STRIDE ((QD_HINT_MIN - 8) / (WORDS - 1))
#define MAX_SIZE (QD_HINT_MIN << (QD_HINT_NSIZES - 1))
#define REFCOUNT_BYTES 2u
#define ENTRY_BYTES 8u

/* ---- choosing ---- */

static unsigned rate_for(uint64_t disk_nbytes)
{
	if (disk_nbytes == 0)
		return 32;
	return disk_nbytes <= 64u << 20 ? 1 : disk_nbytes <= 256u << 20 ? 8 : 64;
}

int qd_hint_init(struct qd_hint *h, uint64_t cluster_size, uint64_t disk_nbytes, struct qd_err *err)
{
	int rc = 0;

	*h = (struct qd_hint){ .cluster_size = cluster_size, .rate = rate_for(disk_nbytes) };
	for (uint64_t size = QD_HINT_MIN; rc == 0 && size < cluster_size && size <= MAX_SIZE; size *= 2)
		rc = qd_sampler_init(&h->samplers[h->nsizes++], err);
	return rc;
}

void qd_hint_free(struct qd_hint *h)
{
	for (unsigned i = 0; i < QD_HINT_NSIZES; i++)
		qd_sampler_free(&h->samplers[i]);
	h->nsizes = 0;
}

void qd_hint_sample_free(struct qd_hint_sample *s)
{
	for (unsigned i = 0; i < QD_HINT_NSIZES; i++)
		free(s->hashes[i]);
}

static uint64_t stir(uint64_t h, uint64_t word)
{
	h = (h ^ word) * 0x9e3779b97f4a7c15ull;
	return h ^ h >> 29;
}

/* 0 only for zeros. */
static uint64_t look_of(const uint8_t *piece)
{
	uint64_t h = 0, word;

	for (unsigned i = 0; i < WORDS; i++) {
		memcpy(&word, piece + (size_t)i * STRIDE, sizeof(word));
		h = stir(h, word);
	}
	return h || qd_is_zero(piece, QD_HINT_MIN) ? h : 1;
}

static int choose(struct qd_hint_sample *s, unsigned k, const uint8_t *piece, size_t nbytes, struct qd_err *err)
{
	if (s->n[k] == s->capacity[k]) {
		uint32_t capacity = s->capacity[k] ? s->capacity[k] * 2 : 64;
		uint64_t *hashes = realloc(s->hashes[k], capacity * sizeof(*hashes));

		if (!hashes)
			return qd_err_nomem(err, "a sample");
		s->hashes[k] = hashes;
		s->capacity[k] = capacity;
	}
	s->hashes[k][s->n[k]++] = qd_fingerprint_of(piece, nbytes).lo;
	return 0;
}

int qd_hint_look(const struct qd_hint *h, const uint8_t *data, struct qd_hint_sample *s, struct qd_err *err)
{
	uint64_t looks[1u << QD_HINT_NSIZES], n = qd_min_u64(h->cluster_size, 2 * MAX_SIZE) / QD_HINT_MIN;
	int rc = 0;

	for (uint64_t at = 0; rc == 0 && h->nsizes && at < h->cluster_size; at += n * QD_HINT_MIN) {
		for (uint64_t i = 0; i < n; i++)
			looks[i] = look_of(data + at + i * QD_HINT_MIN);
		for (unsigned k = 0; rc == 0 && k < h->nsizes; k++) {
			size_t size = (size_t)QD_HINT_MIN << k;

			for (uint64_t i = 0; rc == 0 && i < n >> k; i++) {
				if (looks[i] && (looks[i] >> 40) % h->rate == 0)
					rc = choose(s, k, data + at + i * size, size, err);
				if (i % 2)	/* two pieces are one of the next size */
					looks[i / 2] = looks[i - 1] | looks[i] ? stir(looks[i - 1], looks[i]) | 1 : 0;
			}
		}
	}
	return rc;
}

void qd_hint_take(struct qd_hint *h, struct qd_hint_sample *s)
{
	for (unsigned k = 0; k < h->nsizes; k++) {
		for (uint32_t i = 0; i < s->n[k]; i++)
			qd_sampler_add(&h->samplers[k], s->hashes[k][i]);
		s->n[k] = 0;
	}
}

/* ---- answering ---- */

static uint64_t root_of(uint64_t n)
{
	uint64_t r = 0;

	while ((r + 1) * (r + 1) <= n)
		r++;
	return r;
}

/* At most so many different pieces: the estimate, and two standard errors of both choices. */
static uint64_t at_most(const struct qd_hint *h, const struct qd_sampler *s)
{
	uint64_t n = qd_sampler_estimate(s), off = 0;

	if (h->rate > 1)
		off = 2 * (n / qd_max_u64(root_of(n), 1));
	if (s->depth)
		off += n / 25;
	return (n + off) * h->rate;
}

static uint64_t total(uint64_t size, uint64_t references, uint64_t distinct, uint32_t record_nbytes)
{
	uint64_t shared = qd_min_u64(distinct, references - qd_min_u64(references, distinct));

	return distinct * (size + REFCOUNT_BYTES + record_nbytes) + (references + shared) * ENTRY_BYTES;
}

uint64_t qd_hint_answer(const struct qd_hint *h, const struct qd_hint_image *image, uint64_t *ret_saved)
{
	uint64_t now = total(h->cluster_size, image->references, image->distinct, image->record_nbytes);
	uint64_t best = now - now / 100 * QD_HINT_GAIN_PERCENT, answer = 0;

	for (unsigned k = 0; k < h->nsizes; k++) {
		uint64_t size = (uint64_t)QD_HINT_MIN << k, factor = h->cluster_size / size;
		uint64_t distinct = qd_min_u64(at_most(h, &h->samplers[k]), image->distinct * factor);
		uint64_t then = total(size, image->references * factor, distinct, image->record_nbytes);

		if (then >= best)
			continue;
		best = then;
		answer = size;
		*ret_saved = now - then;
	}
	return answer;
}
