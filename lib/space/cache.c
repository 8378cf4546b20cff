/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Slots in a hash table by host offset, and in a list by use:
 *
 *	newest <-> ... <-> oldest      eviction starts at the oldest and passes over dirty ones
 */
#include "space/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define MIN_SLOTS 8u

struct slot {
	uint64_t host_off;
	enum qd_cache_class class;
	bool dirty;
	struct slot *chain;		/* of the bucket */
	struct slot *newer, *older;
	uint8_t data[];
};

struct bucket {
	struct slot *first;
};

struct qd_cache {
	struct qd_queue *queue;
	uint64_t cluster_size;
	struct bucket *buckets;
	uint64_t nbuckets;		/* a power of two */
	uint64_t nslots;
	uint64_t max_slots;
	uint64_t ndirty;
	struct slot *newest, *oldest;
};

int qd_cache_new(struct qd_queue *queue, uint64_t cluster_size, uint64_t limit, struct qd_cache **ret_cache,
		 struct qd_err *err)
{
	struct qd_cache *c = calloc(1, sizeof(*c));

	if (!c)
		return qd_err_nomem(err, "the metadata cache");
	c->queue = queue;
	c->cluster_size = cluster_size;
	c->max_slots = qd_max_u64(limit / cluster_size, MIN_SLOTS);
	for (c->nbuckets = MIN_SLOTS; c->nbuckets < c->max_slots; c->nbuckets *= 2)
		;
	c->buckets = calloc(c->nbuckets, sizeof(*c->buckets));
	if (!c->buckets) {
		free(c);
		return qd_err_nomem(err, "the metadata cache");
	}
	*ret_cache = c;
	return 0;
}

void qd_cache_free(struct qd_cache *c)
{
	if (!c)
		return;
	while (c->newest) {
		struct slot *s = c->newest;

		c->newest = s->older;
		free(s);
	}
	free(c->buckets);
	free(c);
}

static struct slot **bucket_of(struct qd_cache *c, uint64_t host_off)
{
	uint64_t number = host_off / c->cluster_size;

	return &c->buckets[(number * 0x9e3779b97f4a7c15ull >> 20) & (c->nbuckets - 1)].first;
}

static void unlink_use(struct qd_cache *c, struct slot *s)
{
	*(s->newer ? &s->newer->older : &c->newest) = s->older;
	*(s->older ? &s->older->newer : &c->oldest) = s->newer;
}

static void make_newest(struct qd_cache *c, struct slot *s)
{
	s->newer = NULL;
	s->older = c->newest;
	*(c->newest ? &c->newest->newer : &c->oldest) = s;
	c->newest = s;
}

static struct slot *find(struct qd_cache *c, uint64_t host_off)
{
	struct slot *s = *bucket_of(c, host_off);

	while (s && s->host_off != host_off)
		s = s->chain;
	return s;
}

static void remove_slot(struct qd_cache *c, struct slot *s)
{
	struct slot **link = bucket_of(c, s->host_off);

	while (*link != s)
		link = &(*link)->chain;
	*link = s->chain;
	unlink_use(c, s);
	c->nslots--;
	if (s->dirty)
		c->ndirty--;
	free(s);
}

static void evict(struct qd_cache *c)
{
	struct slot *s = c->oldest;

	while (c->nslots >= c->max_slots && s) {
		struct slot *newer = s->newer;

		if (!s->dirty)
			remove_slot(c, s);
		s = newer;
	}
}

/* A slot of its own for host_off, which has none; its bytes are not set. */
static struct slot *new_slot(struct qd_cache *c, enum qd_cache_class class, uint64_t host_off)
{
	struct slot **bucket = bucket_of(c, host_off), *s;

	evict(c);
	s = malloc(sizeof(*s) + c->cluster_size);
	if (!s)
		return NULL;
	s->host_off = host_off;
	s->class = class;
	s->dirty = false;
	s->chain = *bucket;
	*bucket = s;
	make_newest(c, s);
	c->nslots++;
	return s;
}

int qd_cache_get(struct qd_cache *c, enum qd_cache_class class, uint64_t host_off, uint8_t **ret_data,
		 struct qd_err *err)
{
	struct slot *s = find(c, host_off);
	int rc;

	if (s && s->class != class)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the cluster at 0x%llx is an L2 table and a refcount block at once",
				  (unsigned long long)host_off);
	if (s) {
		unlink_use(c, s);
		make_newest(c, s);
		*ret_data = s->data;
		return 0;
	}
	s = new_slot(c, class, host_off);
	if (!s)
		return qd_err_nomem(err, "a metadata cluster");
	rc = qd_queue_read(c->queue, s->data, c->cluster_size, host_off, err);
	if (rc) {
		remove_slot(c, s);
		return rc;
	}
	*ret_data = s->data;
	return 0;
}

int qd_cache_add(struct qd_cache *c, enum qd_cache_class class, uint64_t host_off, uint8_t **ret_data,
		 struct qd_err *err)
{
	struct slot *s;

	qd_cache_drop(c, host_off);
	s = new_slot(c, class, host_off);
	if (!s)
		return qd_err_nomem(err, "a metadata cluster");
	memset(s->data, 0, c->cluster_size);
	qd_cache_touch(c);
	*ret_data = s->data;
	return 0;
}

void qd_cache_touch(struct qd_cache *c)
{
	if (c->newest->dirty)
		return;
	c->newest->dirty = true;
	c->ndirty++;
}

void qd_cache_drop(struct qd_cache *c, uint64_t host_off)
{
	struct slot *s = find(c, host_off);

	if (s)
		remove_slot(c, s);
}

int qd_cache_write(struct qd_cache *c, enum qd_cache_class class, struct qd_err *err)
{
	for (struct slot *s = c->newest; s && c->ndirty; s = s->older) {
		int rc;

		if (!s->dirty || s->class != class)
			continue;
		rc = qd_queue_write(c->queue, s->data, c->cluster_size, s->host_off, err);
		if (rc)
			return rc;
		s->dirty = false;
		c->ndirty--;
	}
	return 0;
}

bool qd_cache_is_full(const struct qd_cache *c)
{
	return c->ndirty >= c->max_slots / 2;
}
