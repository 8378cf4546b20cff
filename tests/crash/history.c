/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "history.h"

#include <stdlib.h>
#include <string.h>

#define BLOCK 256u

struct change {
	size_t nops;		/* when it began, or when it was settled */
	bool settled;		/* nothing but the remark */
	uint64_t off;
	uint64_t nbytes;
	uint8_t *data;
};

struct history {
	uint64_t size;
	uint8_t *first;
	uint8_t *now;
	uint8_t *base;		/* scratch of history_allows */
	struct change *v;
	size_t n;
	size_t capacity;
};

static uint8_t *need(void *p)
{
	if (!p)
		abort();
	return p;
}

static uint8_t *copy_of(const uint8_t *bytes, uint64_t nbytes)
{
	uint8_t *p = need(calloc(1, nbytes ? nbytes : 1));

	if (bytes)
		memcpy(p, bytes, nbytes);
	return p;
}

struct history *history_new(const uint8_t *first, uint64_t size)
{
	struct history *h = (void *)need(calloc(1, sizeof(*h)));

	h->size = size;
	h->first = copy_of(first, size);
	h->now = copy_of(first, size);
	h->base = copy_of(NULL, size);
	return h;
}

void history_free(struct history *h)
{
	if (!h)
		return;
	for (size_t i = 0; i < h->n; i++)
		free(h->v[i].data);
	free(h->v);
	free(h->first);
	free(h->now);
	free(h->base);
	free(h);
}

const uint8_t *history_now(const struct history *h)
{
	return h->now;
}

static void add(struct history *h, struct change c)
{
	if (h->n == h->capacity) {
		h->capacity = h->capacity ? h->capacity * 2 : 64;
		h->v = (void *)need(realloc(h->v, h->capacity * sizeof(*h->v)));
	}
	h->v[h->n++] = c;
}

void history_change(struct history *h, size_t nops, uint64_t off, uint64_t nbytes, const uint8_t *data)
{
	struct change c = { .nops = nops, .off = off, .nbytes = nbytes, .data = copy_of(data, nbytes) };

	memcpy(h->now + off, c.data, nbytes);
	add(h, c);
}

void history_settled(struct history *h, size_t nops)
{
	add(h, (struct change){ .nops = nops, .settled = true });
}

/* Is this byte what one of the changes [from, end) made of it? */
static bool is_of_change(const struct history *h, size_t from, size_t end, uint64_t at, uint8_t byte)
{
	for (size_t i = from; i < end; i++) {
		const struct change *c = &h->v[i];

		if (!c->settled && at >= c->off && at - c->off < c->nbytes && c->data[at - c->off] == byte)
			return true;
	}
	return false;
}

bool history_allows(const struct history *h, size_t nops, const uint8_t *disk, uint64_t *ret_at)
{
	size_t settled = 0, end = 0;

	for (size_t i = 0; i < h->n; i++) {
		if (h->v[i].settled && h->v[i].nops <= nops)
			settled = i + 1;
		else if (!h->v[i].settled && h->v[i].nops < nops)
			end = i + 1;
	}
	memcpy(h->base, h->first, h->size);
	for (size_t i = 0; i < settled; i++)
		if (!h->v[i].settled)
			memcpy(h->base + h->v[i].off, h->v[i].data, h->v[i].nbytes);
	for (uint64_t block = 0; block < h->size; block += BLOCK) {
		uint64_t stop = h->size - block < BLOCK ? h->size : block + BLOCK;

		if (memcmp(h->base + block, disk + block, stop - block) == 0)
			continue;
		for (uint64_t at = block; at < stop; at++) {
			*ret_at = at;
			if (h->base[at] != disk[at] && !is_of_change(h, settled, end, at, disk[at]))
				return false;
		}
	}
	return true;
}
