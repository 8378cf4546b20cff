/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A hash of 0 stands for a free slot, so 0 itself is kept as another value.
 */
#include "dedup/sampler.h"

#include <assert.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#define NSLOTS (2 * QD_SAMPLER_CAPACITY)
#define FOR_ZERO 0x8000000000000000ull

int qd_sampler_init(struct qd_sampler *s, struct qd_err *err)
{
	*s = (struct qd_sampler){ .slots = calloc(NSLOTS, sizeof(uint64_t)) };
	return s->slots ? 0 : qd_err_nomem(err, "a sample");
}

void qd_sampler_free(struct qd_sampler *s)
{
	free(s->slots);
	s->slots = NULL;
}

static bool is_deep(uint64_t hash, uint32_t depth)
{
	return (hash & ((1ull << depth) - 1)) == 0;
}

static void put(struct qd_sampler *s, uint64_t hash)
{
	uint64_t i = hash >> 40;	/* the low bits are alike */

	while (s->slots[i % NSLOTS] && s->slots[i % NSLOTS] != hash)
		i++;
	s->n += s->slots[i % NSLOTS] == 0;
	s->slots[i % NSLOTS] = hash;
}

static void deepen(struct qd_sampler *s)
{
	static_assert(QD_SAMPLER_CAPACITY < NSLOTS, "a free slot ends every search");
	uint64_t kept[QD_SAMPLER_CAPACITY + 1];
	uint32_t n = 0;

	s->depth++;
	for (uint32_t i = 0; i < NSLOTS; i++)
		if (s->slots[i] && is_deep(s->slots[i], s->depth))
			kept[n++] = s->slots[i];
	memset(s->slots, 0, NSLOTS * sizeof(uint64_t));
	s->n = 0;
	for (uint32_t i = 0; i < n; i++)
		put(s, kept[i]);
}

void qd_sampler_add(struct qd_sampler *s, uint64_t hash)
{
	hash = hash ? hash : FOR_ZERO;
	if (!is_deep(hash, s->depth))
		return;
	put(s, hash);
	while (s->n > QD_SAMPLER_CAPACITY && s->depth < 63)
		deepen(s);
}

uint64_t qd_sampler_estimate(const struct qd_sampler *s)
{
	return (uint64_t)s->n << s->depth;
}
