/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts as they will be.  A plain cluster's is known from the keeper itself; of host
 * clusters that hold compressed streams, several of which may lie in one, what is planned
 * is kept by host cluster.
 */
#include "base/bytes.h"
#include "format/entry.h"
#include "ops/dedup_int.h"

struct room {			/* references of a host cluster, planned */
	uint64_t more;
	uint64_t less;
};

/* What was planned is done before anything falls: `less` does not make room. */
static int has_room(struct dedup *d, uint64_t cluster, uint64_t need, bool *ret_has, struct qd_err *err)
{
	struct room room;
	uint64_t count = 0;
	int rc = qd_records_get(d->room, cluster, &room, err);

	if (rc == 0)
		rc = qd_alloc_count(d->counts->alloc, cluster, &count, err);
	if (rc == 0)
		*ret_has = need <= d->geom->refcount_max && count <= d->geom->refcount_max - need &&
			   room.more <= d->geom->refcount_max - need - count;
	return rc;
}

static int add_room(struct dedup *d, uint64_t cluster, uint64_t more, uint64_t less, struct room *ret_room,
		    struct qd_err *err)
{
	int rc = qd_records_get(d->room, cluster, ret_room, err);

	if (rc)
		return rc;
	ret_room->more += more;
	ret_room->less += less;
	return qd_records_put(d->room, cluster, ret_room, err);
}

static int take_compressed(struct dedup *d, const struct dedup_keeper *k, uint64_t need, bool *ret_full,
			   struct qd_err *err)
{
	uint64_t first, last;
	struct room room;
	bool has = true;
	int rc = 0;

	qd_l2_clusters(d->geom, k->entry, &first, &last);
	for (uint64_t c = first; rc == 0 && has && c <= last; c++)
		rc = has_room(d, c, need, &has, err);
	*ret_full = !has;
	for (uint64_t c = first; rc == 0 && has && c <= last; c++)
		rc = add_room(d, c, need, 0, &room, err);
	return rc;
}

int dedup_take_room(struct dedup *d, struct dedup_keeper *k, uint32_t references, bool *ret_full,
		    struct qd_err *err)
{
	uint64_t need = (uint64_t)references + (!k->pinned && !d->opts->no_pin);
	int rc = 0;

	/* The cap is for more references, not for a pin of those that are there. */
	*ret_full = references && (uint64_t)k->references + references > d->max_share;
	if (*ret_full)
		return 0;
	if (qd_l2_is_compressed(k->entry))
		rc = take_compressed(d, k, need, ret_full, err);
	else
		*ret_full = k->counted + need > qd_min_u64(d->geom->refcount_max, UINT32_MAX);
	if (rc || *ret_full)
		return rc;
	k->references += references;
	k->counted += (uint32_t)need;
	return 0;
}

int dedup_give_up(struct dedup *d, const struct qd_surveyed *c, struct qd_err *err)
{
	uint64_t first, last, count = 0, less = (uint64_t)c->references + c->places + c->pins;
	struct room room;
	int rc = 0;

	if (!qd_l2_is_compressed(c->entry)) {
		d->result->freed_nbytes += d->geom->cluster_size;
		return 0;
	}
	qd_l2_clusters(d->geom, c->entry, &first, &last);
	for (uint64_t k = first; rc == 0 && k <= last; k++) {
		rc = add_room(d, k, 0, less, &room, err);
		if (rc == 0)
			rc = qd_alloc_count(d->counts->alloc, k, &count, err);
		if (rc == 0 && room.less == count + room.more)
			d->result->freed_nbytes += d->geom->cluster_size;
	}
	return rc;
}
