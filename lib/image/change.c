/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What image/write.c does for guest data, this does for metadata alone.
 */
#include "image/change.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/pending.h"

#define GUARD_BYTES (64u << 20)
#define MEMORY_MIN (4u << 20)

int qd_change_refuse(const struct qd_image *img, struct qd_err *err)
{
	uint64_t incompatible = img->header.incompatible;
	int rc = qd_image_require_plain(img, err);

	if (rc)
		return rc;
	if (incompatible & QD_INCOMPAT_CORRUPT)
		return qd_err_set(err, QD_E_CORRUPT, "the image is marked corrupt and is not changed: "
				  "run qdedup check --repair");
	if (incompatible & QD_INCOMPAT_DIRTY)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the image was not closed cleanly (dirty bit) and is not "
				  "changed: run qdedup check --repair");
	if (incompatible & QD_INCOMPAT_DATA_FILE)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "changing an image with an external data file in place is not supported");
	return 0;
}

/* ---- the guard ---- */

static int guard_bytes(struct qd_change *c, uint64_t off, uint64_t nbytes, enum qd_struct_kind kind,
		       uint32_t id, struct qd_err *err)
{
	uint64_t size = c->img->geom.cluster_size;

	if (nbytes == 0)
		return 0;
	return qd_extents_add(&c->guard, off / size, qd_div_up(nbytes, size), kind, id, err);
}

/*
 * What a table names that cannot be true is for its reader to refuse.  All have number 0, so that
 * neighbours make one extent.
 */
static int guard_l2(struct qd_change *c, const uint64_t *l1, uint32_t l1_entries, struct qd_err *err)
{
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < l1_entries; i++)
		if (qd_entry_host_off(l1[i]))
			rc = guard_bytes(c, qd_entry_host_off(l1[i]), 1, QD_STRUCT_L2, 0, err);
	return rc;
}

static int guard_pin(struct qd_change *c, struct qd_err *err)
{
	const struct qd_snapshot *pin = qd_image_find_pin(c->img);
	uint64_t *l1 = NULL;
	int rc;

	if (!pin)
		return 0;
	rc = qd_image_load_l1(c->img, pin->l1_off, pin->l1_entries, &l1, err);
	if (rc == 0)
		rc = guard_l2(c, l1, pin->l1_entries, err);
	free(l1);
	return rc;
}

static int fill_guard(struct qd_change *c, struct qd_err *err)
{
	const struct qd_image *img = c->img;
	const struct qd_header *h = &img->header;
	int rc = guard_bytes(c, 0, img->geom.cluster_size, QD_STRUCT_HEADER, 0, err);

	if (rc == 0)
		rc = guard_bytes(c, h->l1_off, (uint64_t)h->l1_entries * 8, QD_STRUCT_L1, 0, err);
	if (rc == 0 && h->snapshot_count)
		rc = guard_bytes(c, h->snapshots_off, img->snapshots_nbytes, QD_STRUCT_SNAPSHOT_TABLE, 0,
				 err);
	for (uint32_t i = 0; rc == 0 && i < img->nsnapshots; i++)
		rc = guard_bytes(c, img->snapshots[i].l1_off, (uint64_t)img->snapshots[i].l1_entries * 8,
				 QD_STRUCT_SNAPSHOT_L1, i, err);
	if (rc == 0)
		rc = guard_l2(c, img->l1, h->l1_entries, err);
	return rc ? rc : guard_pin(c, err);
}

/* Where two structures lie in one place, writing to one of them destroys the other. */
static int refuse_overlap(void *ctx, const struct qd_extent *earlier, const struct qd_extent *later,
			  uint64_t nclusters)
{
	(void)nclusters;
	return qd_err_set(ctx, QD_E_CORRUPT, "the %s and the %s lie in the same place, and the image is not "
			  "changed: run qdedup check", qd_struct_name(earlier->kind),
			  qd_struct_name(later->kind));
}

/* ---- opening ---- */

static int open_space(struct qd_change *c, uint64_t memory, struct qd_err *err)
{
	struct qd_alloc_image ai = {
		.geom = &c->img->geom, .io = c->img->io, .file_size = c->img->file_size,
		.reftable_off = c->img->header.reftable_off,
		.reftable_clusters = c->img->header.reftable_clusters,
		.guard = &c->guard,
	};
	int rc = qd_queue_new(c->img->io, memory / 2, &c->queue, err);

	if (rc == 0)
		rc = qd_cache_new(c->queue, c->img->geom.cluster_size, memory / 2, &c->cache, err);
	if (rc == 0)
		rc = fill_guard(c, err);
	ai.queue = c->queue;
	ai.cache = c->cache;
	if (rc == 0)
		rc = qd_alloc_open(&ai, &c->alloc, err);
	return rc ? rc : qd_extents_overlaps(&c->guard, refuse_overlap, err);
}

int qd_change_open(struct qd_image *img, uint64_t memory, struct qd_change **ret_change, struct qd_err *err)
{
	struct qd_change *c = NULL;
	int rc = qd_change_refuse(img, err);

	if (rc == 0) {
		c = calloc(1, sizeof(*c));
		if (!c)
			return qd_err_nomem(err, "a change");
		c->img = img;
		qd_extents_init(&c->guard, GUARD_BYTES);
		rc = open_space(c, qd_max_u64(memory, MEMORY_MIN), err);
	}
	if (rc) {
		qd_change_free(c);
		return rc;
	}
	*ret_change = c;
	return 0;
}

void qd_change_free(struct qd_change *c)
{
	if (!c)
		return;
	qd_alloc_free(c->alloc);
	qd_extents_free(&c->guard);
	qd_cache_free(c->cache);
	qd_queue_free(c->queue);
	free(c);
}

/* ---- the dirty bit ---- */

static int write_incompatible(struct qd_change *c, uint64_t bits, struct qd_err *err)
{
	uint8_t word[8];
	int rc;

	if (c->img->header.version < 3)
		return qd_queue_flush(c->queue, err);
	qd_put_be64(word, bits);
	rc = qd_queue_write(c->queue, word, sizeof(word), QD_HEADER_OFF_INCOMPATIBLE, err);
	return rc ? rc : qd_queue_flush(c->queue, err);
}

int qd_change_begin(struct qd_change *c, struct qd_err *err)
{
	int rc;

	if (c->begun)
		return 0;
	rc = qd_pending_cross_out(c->img, err);
	if (rc == 0)
		rc = write_incompatible(c, c->img->header.incompatible | QD_INCOMPAT_DIRTY, err);
	c->begun = rc == 0;
	return rc;
}

int qd_change_end(struct qd_change *c, struct qd_err *err)
{
	int rc;

	if (!c->begun)
		return 0;
	rc = qd_queue_flush(c->queue, err);
	if (rc == 0)
		rc = write_incompatible(c, c->img->header.incompatible & ~QD_INCOMPAT_DIRTY, err);
	c->begun = rc != 0;
	return rc;
}

/* ---- commits ---- */

int qd_change_tables(struct qd_change *c, struct qd_err *err)
{
	int rc = qd_alloc_write(c->alloc, err);

	if (rc == 0)
		rc = qd_cache_write(c->cache, QD_CACHE_L2, err);
	if (rc == 0)
		rc = qd_cache_write(c->cache, QD_CACHE_PIN, err);
	return rc ? rc : qd_queue_barrier(c->queue, err);
}

int qd_change_settle(struct qd_change *c, struct qd_err *err)
{
	int rc = qd_alloc_settle(c->alloc, err);

	if (rc == 0)
		rc = qd_alloc_write(c->alloc, err);
	return rc ? rc : qd_queue_flush(c->queue, err);
}
