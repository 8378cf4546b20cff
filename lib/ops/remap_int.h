/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What remap.c (batches), remap_counts.c (refcounts), remap_walk.c (all L2 tables) and
 * remap_fit.c (sizes of batches) share.
 */
#ifndef QD_OPS_REMAP_INT_H
#define QD_OPS_REMAP_INT_H

#include "image/l2set.h"
#include "ops/remap.h"

/* Which number a key has; keys are not 0. */
struct remap_map {
	uint64_t *keys;		/* open addressing; 0: free */
	uint32_t *values;
	uint64_t nslots;	/* a power of two */
};

#define REMAP_NONE UINT32_MAX

struct qd_remap {
	struct qd_image *img;
	const struct qd_geom *geom;
	struct qd_remap_opts opts;
	struct qd_change *change;
	struct qd_pin *pin;
	struct qd_l2set tables;
	struct remap_map from;		/* entry -> index of its move */
	struct remap_map to;		/* entries that will be shared -> index of the first move there */
	const struct qd_move *moves;
	bool collecting;		/* nothing leaves the queue before it is logged */
	struct qd_remap_stats stats;
};

/* What a map knows the entry by; 0: it names no cluster. */
uint64_t remap_key(uint64_t entry);

/* Changed entries leave the queue with the whole page of the file. */
#define REMAP_PAGE 4096u

/* Room for n keys, none in it. */
int remap_map_init(struct remap_map *m, uint64_t n, struct qd_err *err);
void remap_map_free(struct remap_map *m);
void remap_map_set(struct remap_map *m, uint64_t key, uint32_t value);
uint32_t remap_map_get(const struct remap_map *m, uint64_t key);

/* The L2 tables of active layer and snapshots, the pin's left out, each once. */
int remap_list_tables(const struct qd_image *img, uint64_t memory, struct qd_l2set *set, struct qd_err *err);

/*
 * Calls fn for each table in the order of the file, with a copy of what stands in it; queue NULL:
 * what it holds has been written.
 */
int remap_walk_tables(const struct qd_image *img, struct qd_queue *queue, const struct qd_l2set *set,
		      int (*fn)(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err),
		      void *ctx, struct qd_err *err);

/* Step 1: those of the clusters that will be shared grow. */
int remap_raise_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err);

/*
 * Step 4: those of the old clusters fall.  Who reads them no longer stands on stable storage, or,
 * while a batch is collected, will before they are touched.
 */
int remap_lower_counts(struct qd_remap *r, const struct qd_move *moves, uint64_t n, struct qd_err *err);

/*
 * How many of the n moves, which both maps hold, make a batch whose records and queued writes have
 * room: an estimate on the safe side, at least 1.
 */
int remap_fit(struct qd_remap *r, uint64_t n, uint64_t *ret_n, struct qd_err *err);

#endif
