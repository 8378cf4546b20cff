/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of compact share.
 *
 *	compact.c          rounds of planning and moving, the truncation at the end
 *	compact_map.c      what lies where: clusters in use, runs, single tables
 *	compact_walk.c     all tables, and who names them
 *	compact_data.c     moving clusters of data
 *	compact_streams.c  which compressed clusters move
 *	compact_pack.c     moving them, packed anew (compact_pack.h)
 *	compact_meta.c     moving tables
 *	compact_index.c    the hash table: taken out before, put back after, moves followed
 *	compact_names.c    what moved compressed clusters were called (compact_names.h)
 */
#ifndef QD_OPS_COMPACT_INT_H
#define QD_OPS_COMPACT_INT_H

#include "image/change.h"
#include "image/image.h"
#include "ops/compact.h"
#include "ops/remap.h"
#include "ops/survey.h"
#include "space/compact_plan.h"

/* A table of one cluster that moves by itself. */
enum compact_kind { COMPACT_L2, COMPACT_BLOCK, COMPACT_BITMAP };

struct compact_single {
	uint64_t cluster;
	uint64_t where;		/* BLOCK: its index; BITMAP: byte of the file that names it; L2: unused */
	enum compact_kind kind;
};

/* What a run is, in the order in which runs move: who is named before who names. */
enum compact_run_kind { COMPACT_NAMED, COMPACT_NAMING, COMPACT_REFTABLE };

struct compact_run {
	enum compact_run_kind kind;
	uint64_t pointer;	/* byte of the file where its offset stands (8 bytes, above the low 9 bits) */
};

struct compact_move {
	uint64_t from;
	uint64_t to;
};

struct compact_map {
	struct qd_bits used;
	struct compact_single *singles;		/* those that move, by ascending cluster */
	uint64_t nsingles, singles_capacity;
	struct qd_compact_run *runs;		/* and, number by number, */
	struct compact_run *infos;		/* what they are */
	uint64_t nruns, runs_capacity;
	struct compact_move *moves;		/* of single clusters, by ascending from */
	uint64_t nmoves, moves_capacity;
	uint64_t ndata, ntables;		/* single clusters that should move, in this round or later */
	bool cut;				/* there are more than this round takes */
	uint64_t end;				/* clusters of the file, when all is moved */
};

struct compact_index;

struct compact {
	const struct qd_compact_opts *opts;
	uint64_t memory;			/* bytes */
	struct qd_io *io;
	struct qd_progress *progress;
	struct qd_compact_result *res;
	struct compact_index *index;		/* NULL: there is nothing to keep */
	uint64_t slack;				/* free clusters that are not worth a run */
	bool no_streams;			/* no cluster is compressed, nor will be */
};

/* ---- compact.c ---- */

/* The image as it is on disk by now; io is given back by compact_close. */
int compact_open(const struct compact *c, struct qd_image **ret_img, struct qd_err *err);
void compact_close(struct qd_image *img);

/* ---- compact_map.c ---- */

int compact_map_make(const struct compact *c, struct qd_image *img, struct qd_alloc *alloc,
		     struct compact_map *map, struct qd_err *err);
void compact_map_free(struct compact_map *map);

/* The move of that cluster, or NULL; the table in a cluster that moves, NULL when it holds data. */
const struct compact_move *compact_map_move(const struct compact_map *map, uint64_t from);
const struct compact_single *compact_map_single(const struct compact_map *map, uint64_t cluster);

/* ---- compact_walk.c ---- */

struct compact_walk {
	int (*single)(void *ctx, const struct compact_single *s, struct qd_err *err);
	int (*run)(void *ctx, uint64_t first, uint64_t nclusters, const struct compact_run *info,
		   struct qd_err *err);		/* NULL: runs are left out */
};

int compact_walk(struct qd_image *img, const struct qd_alloc *alloc, const struct compact_walk *fns,
		 void *ctx, struct qd_err *err);

/* ---- the movers: each opens the image anew and leaves it clean ---- */

int compact_move_data(struct compact *c, const struct compact_map *map, struct qd_err *err);

/*
 * Streams behind cluster `end`, and in the first round all, when they are packed badly; dry_run only
 * counts them.  *ret_nstreams may be more than one round moves: then *ret_cut.
 */
int compact_move_streams(struct compact *c, uint64_t end, bool dry_run, uint64_t *ret_nstreams, bool *ret_cut,
			 struct qd_err *err);
int compact_move_tables(struct compact *c, const struct compact_map *map, struct qd_err *err);
int compact_move_runs(struct compact *c, const struct compact_map *map, struct qd_err *err);

/* Copies nclusters within the file. */
int compact_copy(const struct compact *c, const struct qd_geom *g, uint64_t from, uint64_t to,
		 uint64_t nclusters, struct qd_err *err);

/* ---- compact_index.c ---- */

/* Takes the container out of the image and keeps its records. */
int compact_index_take(struct compact *c, struct qd_err *err);

/* An entry (as in struct qd_surveyed) has a new name. */
int compact_index_moved(struct compact *c, uint64_t from, uint64_t to, struct qd_err *err);

/* Puts a container with the records back. */
int compact_index_put(struct compact *c, struct qd_err *err);

void compact_index_free(struct compact *c);

#endif
