/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L2 cache is a set of slots under one mutex.  A slot holds a piece of an L2 table,
 * 64 KiB or all of a smaller one: a chain of 200 files with clusters of 2 MiB needs a
 * few of each.  A piece is pinned while a lookup scans it, so that scanning happens
 * outside the lock; a slot is reused only when nobody pins it, the least recently used
 * first.
 *
 *	piece number --hash--> bucket of nways slots --> { piece number, entries, pins, last use }
 *
 * Entries are kept as they stand in the file (big-endian) and decoded where used.
 */
#include "image/map.h"

#include <inttypes.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define WAYS 8u
#define MIN_SLOTS 2u
#define MAX_PIECE (64u << 10)	/* bytes */

struct slot {
	uint64_t piece;		/* its number: guest offset / piece_span */
	uint8_t *entries;	/* NULL: never used */
	uint32_t pins;
	bool loaded;		/* entries are those of the piece */
	uint64_t last_use;
};

struct qd_map {
	const struct qd_image *img;
	uint64_t *l1;
	uint64_t l1_entries;
	uint64_t virtual_size;
	uint64_t data_size;
	size_t piece_nbytes;
	uint64_t piece_span;		/* guest bytes */
	uint64_t pieces;		/* in an L2 table */
	struct slot *slots;		/* nsets * nways */
	uint64_t nsets;
	uint64_t nways;
	uint64_t clock;
	pthread_mutex_t lock;
	pthread_cond_t unpinned;
};

static uint64_t count_slots(const struct qd_map *map)
{
	return map->nsets * map->nways;
}

int qd_map_set_cache(struct qd_map *map, uint64_t cache_nbytes, struct qd_err *err)
{
	uint64_t nslots = qd_min_u64(cache_nbytes / map->piece_nbytes, map->l1_entries * map->pieces);
	struct slot *slots;

	nslots = qd_max_u64(nslots, MIN_SLOTS);
	slots = calloc(nslots, sizeof(*slots));
	if (!slots)
		return qd_err_nomem(err, "a cluster map");
	free(map->slots);
	map->slots = slots;
	map->nways = qd_min_u64(nslots, WAYS);
	map->nsets = nslots / map->nways;
	return 0;
}

int qd_map_new(const struct qd_image *img, const uint64_t *l1, uint32_t l1_entries,
	       uint64_t virtual_size, uint64_t cache_nbytes, struct qd_map **ret_map,
	       struct qd_err *err)
{
	struct qd_map *map = calloc(1, sizeof(*map));

	if (!map)
		return qd_err_nomem(err, "a cluster map");
	map->img = img;
	map->l1_entries = l1_entries;
	map->virtual_size = virtual_size;
	map->data_size = img->file_size;
	map->piece_nbytes = (size_t)qd_min_u64(img->geom.cluster_size, MAX_PIECE);
	map->pieces = img->geom.cluster_size / map->piece_nbytes;
	map->piece_span = map->piece_nbytes / img->geom.l2_entry_size << img->geom.cluster_bits;
	map->l1 = malloc(l1_entries ? l1_entries * sizeof(*l1) : 1);
	pthread_mutex_init(&map->lock, NULL);
	pthread_cond_init(&map->unpinned, NULL);
	if (!map->l1 || qd_map_set_cache(map, cache_nbytes, err)) {
		qd_map_free(map);
		return qd_err_nomem(err, "a cluster map");
	}
	if (l1_entries)
		memcpy(map->l1, l1, l1_entries * sizeof(*l1));
	*ret_map = map;
	return 0;
}

void qd_map_free(struct qd_map *map)
{
	if (!map)
		return;
	if (map->slots)
		for (uint64_t i = 0; i < count_slots(map); i++)
			free(map->slots[i].entries);
	pthread_cond_destroy(&map->unpinned);
	pthread_mutex_destroy(&map->lock);
	free(map->slots);
	free(map->l1);
	free(map);
}

void qd_map_set_data_size(struct qd_map *map, uint64_t nbytes)
{
	map->data_size = nbytes;
}

/* The slot that holds the piece, or the unpinned one to reuse, or NULL. Called locked. */
static struct slot *pick_slot(struct qd_map *map, uint64_t piece, bool *ret_hit)
{
	struct slot *set = &map->slots[(piece % map->nsets) * map->nways];
	struct slot *victim = NULL;

	for (uint64_t i = 0; i < map->nways; i++) {
		struct slot *s = &set[i];

		if (s->loaded && s->piece == piece) {
			*ret_hit = true;
			return s;
		}
		if (!s->pins && (!victim || s->last_use < victim->last_use))
			victim = s;
	}
	*ret_hit = false;
	return victim;
}

static int load_piece(struct qd_map *map, struct slot *s, uint64_t piece, struct qd_err *err)
{
	uint64_t l1_index = piece / map->pieces, size = map->img->geom.cluster_size;
	uint64_t off = qd_entry_host_off(map->l1[l1_index]);
	int r;

	if (map->l1[l1_index] & QD_L1_RESERVED)
		return qd_err_set(err, QD_E_CORRUPT, "L1 entry %" PRIu64 ": reserved bits set in 0x%" PRIx64, l1_index,
				  map->l1[l1_index]);
	if (!qd_is_aligned(off, size) || !qd_range_within(off, size, map->img->file_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "L1 entry %" PRIu64 ": L2 table at 0x%" PRIx64
				  " is unaligned or past the end of the file (0x%" PRIx64 ")",
				  l1_index, off, map->img->file_size);
	if (!s->entries) {
		s->entries = malloc(map->piece_nbytes);
		if (!s->entries)
			return qd_err_nomem(err, "an L2 table");
	}
	r = qd_io_read(map->img->io, s->entries, map->piece_nbytes, off + piece % map->pieces * map->piece_nbytes, err);
	return r ? qd_err_prefix(err, r, "L2 table %" PRIu64, l1_index) : 0;
}

/* Returns the slot pinned; the caller releases it. */
static int get_piece(struct qd_map *map, uint64_t piece, struct slot **ret_slot, struct qd_err *err)
{
	struct slot *s;
	bool hit;
	int r = 0;

	pthread_mutex_lock(&map->lock);
	while (!(s = pick_slot(map, piece, &hit)))
		pthread_cond_wait(&map->unpinned, &map->lock);
	if (!hit) {
		s->loaded = false;
		r = load_piece(map, s, piece, err);
		if (!r) {
			s->loaded = true;
			s->piece = piece;
		}
	}
	if (!r) {
		s->pins++;
		s->last_use = ++map->clock;
		*ret_slot = s;
	}
	pthread_mutex_unlock(&map->lock);
	return r;
}

static void put_piece(struct qd_map *map, struct slot *s)
{
	pthread_mutex_lock(&map->lock);
	if (--s->pins == 0)
		pthread_cond_broadcast(&map->unpinned);
	pthread_mutex_unlock(&map->lock);
}

/* What one (sub)cluster is. */
struct unit {
	enum qd_map_kind kind;
	uint64_t host_off;	/* of the unit's first byte */
	uint64_t entry;
};

static int check_standard(const struct qd_map *map, uint64_t guest_off, uint64_t entry, struct qd_err *err)
{
	const struct qd_geom *g = &map->img->geom;
	uint64_t reserved = QD_L2_RESERVED;
	uint64_t off = qd_entry_host_off(entry);

	if (g->extended_l2 || map->img->header.version == 2)
		reserved |= QD_L2_ZERO;
	if (entry & reserved)
		return qd_err_set(err, QD_E_CORRUPT,
				  "L2 entry of guest offset 0x%" PRIx64 ": reserved bits set in 0x%" PRIx64, guest_off,
				  entry);
	if (!qd_is_aligned(off, g->cluster_size))
		return qd_err_set(err, QD_E_CORRUPT,
				  "L2 entry of guest offset 0x%" PRIx64 ": host offset 0x%" PRIx64
				  " is not a multiple of the cluster size",
				  guest_off, off);
	return 0;
}

static bool has_offset(const struct qd_map *map, uint64_t entry)
{
	/* With an external data file, offset 0 is as good as any; COPIED tells that there is a cluster. */
	return qd_entry_host_off(entry) != 0 ||
	       ((map->img->header.incompatible & QD_INCOMPAT_DATA_FILE) && (entry & QD_COPIED));
}

static enum qd_map_kind subcluster_kind(const struct qd_map *map, uint64_t entry, uint64_t bitmap, unsigned sub)
{
	bool alloc = (bitmap >> sub) & 1, zero = (bitmap >> (32 + sub)) & 1;

	if (zero)
		return QD_MAP_ZERO;
	return alloc && has_offset(map, entry) ? QD_MAP_DATA : QD_MAP_UNALLOCATED;
}

static int check_bitmap(const struct qd_map *map, uint64_t guest_off, uint64_t entry, uint64_t bitmap,
			struct qd_err *err)
{
	uint32_t alloc = (uint32_t)bitmap, zero = (uint32_t)(bitmap >> 32);

	if ((alloc & zero) || (alloc && !has_offset(map, entry)))
		return qd_err_set(err, QD_E_CORRUPT,
				  "L2 entry of guest offset 0x%" PRIx64 ": invalid subcluster bitmap 0x%016" PRIx64,
				  guest_off, bitmap);
	return 0;
}

/* Decodes the unit at guest_off, which lies in the piece given. */
static int decode_unit(const struct qd_map *map, const uint8_t *piece, uint64_t guest_off,
		       struct unit *ret_unit, struct qd_err *err)
{
	const struct qd_geom *g = &map->img->geom;
	uint64_t index = (guest_off & (map->piece_span - 1)) >> g->cluster_bits;
	const uint8_t *p = piece + index * g->l2_entry_size;
	uint64_t in_cluster = guest_off & (g->cluster_size - 1);
	uint64_t entry = qd_get_be64(p);
	int r;

	ret_unit->entry = entry;
	ret_unit->host_off = 0;
	if (qd_l2_is_compressed(entry)) {
		if (map->img->header.incompatible & QD_INCOMPAT_DATA_FILE)
			return qd_err_set(err, QD_E_CORRUPT,
					  "L2 entry of guest offset 0x%" PRIx64
					  ": compressed, which an image with an external data file cannot hold", guest_off);
		ret_unit->kind = QD_MAP_COMPRESSED;
		return 0;
	}
	r = check_standard(map, guest_off, entry, err);
	if (r)
		return r;
	if (g->extended_l2) {
		uint64_t bitmap = qd_get_be64(p + 8);

		r = check_bitmap(map, guest_off, entry, bitmap, err);
		if (r)
			return r;
		ret_unit->kind = subcluster_kind(map, entry, bitmap, (unsigned)(in_cluster >> g->subcluster_bits));
	} else if (entry & QD_L2_ZERO) {
		ret_unit->kind = QD_MAP_ZERO;
	} else {
		ret_unit->kind = has_offset(map, entry) ? QD_MAP_DATA : QD_MAP_UNALLOCATED;
	}
	if (has_offset(map, entry))
		ret_unit->host_off = qd_entry_host_off(entry) + in_cluster;
	return 0;
}

static int check_data_end(const struct qd_map *map, const struct qd_map_run *run, struct qd_err *err)
{
	uint64_t last = run->host_off + run->nbytes - 1;
	uint64_t last_cluster = qd_align_down(last, map->img->geom.cluster_size);

	/*
	 * The file may end within its last cluster; a sparse raw data file may be shorter
	 * than what was written last.
	 */
	if (last_cluster >= map->data_size && !(map->img->header.incompatible & QD_INCOMPAT_DATA_FILE))
		return qd_err_set(err, QD_E_CORRUPT,
				  "guest offset 0x%" PRIx64 ": data cluster at 0x%" PRIx64
				  " lies past the end of the file (0x%" PRIx64 ")",
				  run->guest_off + (last_cluster > run->host_off ? last_cluster - run->host_off : 0),
				  last_cluster, map->data_size);
	return 0;
}

/* True when `next` continues the run, nbytes having been gathered. */
static bool continues(const struct qd_map_run *run, const struct unit *next, uint64_t nbytes)
{
	if (next->kind != run->kind || run->kind == QD_MAP_COMPRESSED)
		return false;
	if (!run->host_off || !next->host_off)
		return run->kind != QD_MAP_DATA && run->host_off == next->host_off;
	return next->host_off == run->host_off + nbytes;
}

/* Extends the run within one piece; the run's kind is already known if run->nbytes > 0. */
static int scan_piece(const struct qd_map *map, const uint8_t *piece, uint64_t end, struct qd_map_run *run,
		      bool *ret_more, struct qd_err *err)
{
	const struct qd_geom *g = &map->img->geom;
	uint64_t unit_size = 1ull << g->subcluster_bits;
	uint64_t pos = run->guest_off + run->nbytes;
	struct unit u = { 0 };
	int r;

	while (pos < end) {
		r = decode_unit(map, piece, pos, &u, err);
		if (r)
			return r;
		if (!run->nbytes) {
			run->kind = u.kind;
			run->host_off = u.host_off;
			run->entry = u.entry;
			if (u.kind == QD_MAP_COMPRESSED)
				unit_size = g->cluster_size;
		} else if (!continues(run, &u, run->nbytes)) {
			*ret_more = false;
			return 0;
		}
		run->nbytes += qd_min_u64(end - pos, unit_size - (pos & (unit_size - 1)));
		pos = run->guest_off + run->nbytes;
		if (run->kind == QD_MAP_COMPRESSED)
			break;
	}
	*ret_more = (run->kind == QD_MAP_UNALLOCATED || run->kind == QD_MAP_ZERO) && !run->host_off;
	return 0;
}

static uint64_t l1_get(const struct qd_map *map, uint64_t l1_index)
{
	return l1_index < map->l1_entries ? map->l1[l1_index] : 0;
}

/* Skips L1 entries without a table; where the L1 table is shorter than the disk, all the rest in one go. */
static void scan_empty(const struct qd_map *map, uint64_t l2_span, uint64_t end, struct qd_map_run *run)
{
	uint64_t pos = run->guest_off + run->nbytes;
	uint64_t l1_index = pos / l2_span;

	while (pos < end && l1_index < map->l1_entries && !qd_entry_host_off(map->l1[l1_index])) {
		l1_index++;
		pos = l1_index * l2_span;
	}
	if (l1_index >= map->l1_entries)
		pos = end;
	run->nbytes = qd_min_u64(pos, end) - run->guest_off;
}

int qd_map_get(struct qd_map *map, uint64_t guest_off, uint64_t max_nbytes, struct qd_map_run *ret_run,
	       struct qd_err *err)
{
	const struct qd_geom *g = &map->img->geom;
	uint64_t l2_span = g->l2_entries << g->cluster_bits;
	uint64_t end = guest_off + qd_min_u64(max_nbytes, map->virtual_size - guest_off);
	struct qd_map_run run = { .guest_off = guest_off };
	bool more = true;
	int r;

	while (more && guest_off + run.nbytes < end) {
		uint64_t pos = guest_off + run.nbytes;
		uint64_t l1_index = pos / l2_span;
		struct slot *s;

		if (!qd_entry_host_off(l1_get(map, l1_index))) {
			if (run.nbytes && run.kind != QD_MAP_UNALLOCATED)
				break;
			scan_empty(map, l2_span, end, &run);
			continue;
		}
		r = get_piece(map, pos / map->piece_span, &s, err);
		if (r)
			return r;
		r = scan_piece(map, s->entries, qd_min_u64(end, (pos / map->piece_span + 1) * map->piece_span), &run,
			       &more, err);
		put_piece(map, s);
		if (r)
			return r;
	}
	if (run.kind == QD_MAP_DATA) {
		r = check_data_end(map, &run, err);
		if (r)
			return r;
	}
	*ret_run = run;
	return 0;
}
