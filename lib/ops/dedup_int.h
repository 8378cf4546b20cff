/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of dedup share; dedup.c tells the whole story.
 *
 *	dedup.c          refusals, the order of things, results
 *	dedup_plan.c     which cluster becomes which: reading and comparing
 *	dedup_room.c     how often a cluster may still be referenced
 *	dedup_index.c    the stored hash table, old and new
 *	dedup_upgrade.c  version 2 -> 3
 */
#ifndef QD_OPS_DEDUP_INT_H
#define QD_OPS_DEDUP_INT_H

#include <pthread.h>

#include "dedup/container.h"
#include "dedup/index.h"
#include "dedup/records.h"
#include "image/change.h"
#include "image/codec.h"
#include "ops/dedup.h"
#include "ops/known.h"
#include "ops/remap.h"
#include "ops/survey.h"

/* A cluster that others may be merged into, by its number. */
struct dedup_keeper {
	uint64_t entry;
	uint64_t bitmap;	/* of plain ones with extended L2 */
	uint64_t guest;
	uint32_t references;	/* as planned, the pin's left out */
	uint32_t counted;	/* its refcount when plain, as planned: references, places and pins */
	bool pinned;		/* as planned */
	bool in_active;
	bool partial;		/* extended L2: some subclusters are not there */
};

struct dedup {
	struct qd_io *io;
	const struct qd_dedup_opts *opts;
	struct qd_progress *progress;
	struct qd_dedup_result *result;
	uint64_t memory;
	uint64_t max_share;
	const struct qd_digest *digest;
	struct qd_image *img;
	const struct qd_geom *geom;

	/* the plan; index and keepers are used under the lock */
	pthread_mutex_t lock;
	struct qd_index *index;			/* fingerprint -> number of a keeper */
	struct qd_records *keepers;		/* struct dedup_keeper by number */
	struct qd_records *digests;		/* by number, with trust_hash */
	struct qd_records *moves;		/* struct qd_move, in the order of `from` */
	uint64_t nmoves;
	bool streams;				/* some cluster is compressed */
	uint64_t nunreadable;			/* clusters left alone: broken streams, several bitmaps */
	struct qd_records *room;		/* planned references of clusters that hold streams */
	struct qd_change *counts;		/* for reading refcounts */
	struct qd_codec *codec;
	uint8_t *stream;
	uint8_t *scratch;			/* a cluster to compare with */
	uint8_t *own;				/* a cluster that was known and is read after all */
	uint64_t pins_before;			/* slots of the pin in use */

	/* the stored table */
	struct qd_container *container;		/* what there was; NULL: not looked at */
	struct qd_table_maker *maker;		/* of the new one; NULL: none is wanted */
	bool container_unknown;			/* there may be one, nobody knows where */
	struct qd_known *known;			/* it, for the survey's questions; NULL: it is not asked */
	struct qd_known *compared;		/* likewise, for the new records */
	uint64_t nrecords;			/* of the new one: keepers */
	uint64_t nsame;				/* of those, as in the old one */
	uint64_t nstored;			/* records of the new one, when it is written */
	uint64_t record_nbytes;			/* of redo records for all moves, about */
	uint8_t zeros[QD_DIGEST_MAX];		/* the digest of a cluster of zeros */
};

/* dedup_plan.c */
int dedup_plan(struct dedup *d, struct qd_err *err);
void dedup_plan_free(struct dedup *d);
int dedup_add_move(struct dedup *d, const struct qd_move *move, struct qd_err *err);

/* dedup_room.c: may that keeper get so many references more?  If so, they are counted. */
int dedup_take_room(struct dedup *d, struct dedup_keeper *k, uint32_t references, bool *ret_full,
		    struct qd_err *err);

/* The references of a cluster that goes are given back; counts what becomes free. */
int dedup_give_up(struct dedup *d, const struct qd_surveyed *c, struct qd_err *err);

/* dedup_upgrade.c.  Asks whether it can be done, writing nothing; does it (open the image again). */
int dedup_check_upgrade(const struct dedup *d, struct qd_err *err);
int dedup_upgrade(struct dedup *d, struct qd_err *err);

/*
 * dedup_index.c, in this order: looks at what there is and chooses the digest; sets up
 * what the plan needs; the survey's question; a record of a cluster that stays, and another one in
 * its place when more refers to it; is there anything to write; writes (open the image again).
 */
int dedup_index_open(struct dedup *d, struct qd_err *err);
int dedup_index_begin(struct dedup *d, struct qd_err *err);
bool dedup_index_knows(void *ctx, struct qd_survey_content *x);
int dedup_record(struct dedup *d, const struct dedup_keeper *k, const uint8_t *digest, struct qd_err *err);
int dedup_record_again(struct dedup *d, const struct dedup_keeper *k, const uint8_t *digest, bool full,
		       struct qd_err *err);
bool dedup_index_needed(const struct dedup *d);
int dedup_index_check_room(struct dedup *d, struct qd_err *err);
int dedup_index_write(struct dedup *d, struct qd_err *err);
void dedup_index_close(struct dedup *d);

#endif
