/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A batch: entries packed into clusters in memory, then written in one go.
 *
 *	| header | entry entry ... END 0xff | header | ... entry COMMIT END 0xff |
 *
 * An entry that does not fit the last cluster starts a new one.
 */
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "txn/journal_int.h"

#define FIRST_CAPACITY 4u

void journal_batch_free(struct journal_batch *b)
{
	free(b->clusters);
	free(b->used);
	*b = (struct journal_batch){ .clusters = NULL };
}

static uint8_t *last_cluster(const struct journal_batch *b)
{
	return b->clusters + (size_t)(b->nclusters - 1) * QD_JOURNAL_CLUSTER;
}

static void close_last(struct journal_batch *b)
{
	if (b->nclusters == 0)
		return;
	qd_journal_entry_append(last_cluster(b), &b->pos, QD_JOURNAL_END, NULL, 0);
	b->used[b->nclusters - 1] = (uint16_t)b->pos;
}

static int grow(struct journal_batch *b, struct qd_err *err)
{
	uint32_t capacity = b->capacity ? b->capacity * 2 : FIRST_CAPACITY;
	uint8_t *clusters = realloc(b->clusters, (size_t)capacity * QD_JOURNAL_CLUSTER);
	uint16_t *used;

	if (!clusters)
		return qd_err_nomem(err, "journal clusters");
	b->clusters = clusters;
	used = realloc(b->used, capacity * sizeof(*used));
	if (!used)
		return qd_err_nomem(err, "journal clusters");
	b->used = used;
	b->capacity = capacity;
	return 0;
}

static int open_next(struct journal_batch *b, struct qd_err *err)
{
	int rc = b->nclusters == b->capacity ? grow(b, err) : 0;

	if (rc)
		return rc;
	close_last(b);
	b->nclusters++;
	b->pos = QD_JOURNAL_HEADER;
	return 0;
}

int journal_batch_add(struct journal_batch *b, enum qd_journal_type type, const void *payload, size_t nbytes,
		      struct qd_err *err)
{
	int rc = 0;

	if (b->nclusters == 0 || b->pos + 2 + nbytes > QD_JOURNAL_CLUSTER)
		rc = open_next(b, err);
	if (rc)
		return rc;
	qd_journal_entry_append(last_cluster(b), &b->pos, type, payload, nbytes);
	b->entries++;
	return 0;
}

uint32_t journal_batch_need(const struct journal_batch *b, size_t extra)
{
	return b->nclusters + (b->nclusters == 0 || b->pos + extra > QD_JOURNAL_CLUSTER);
}

static void close_all(struct journal_batch *b, const struct qd_journal_header *template)
{
	struct qd_journal_header h = *template;

	close_last(b);
	for (uint32_t i = 0; i < b->nclusters; i++, h.sequence++) {
		h.used = b->used[i];
		qd_journal_cluster_close(&h, b->clusters + (size_t)i * QD_JOURNAL_CLUSTER);
	}
}

int journal_clear_residue(struct qd_journal *j, struct journal_area *a, uint32_t first, struct qd_err *err)
{
	uint32_t end = first ? a->residue_end : 0;	/* at the start: a new generation hides valid ones */
	int rc;

	end = end > a->torn_end ? end : a->torn_end;
	if (end <= first)
		return 0;
	rc = qd_io_fill_zeros(j->io, a->off + (uint64_t)first * QD_JOURNAL_CLUSTER,
			      (uint64_t)(end - first) * QD_JOURNAL_CLUSTER, err);
	if (rc == 0)
		rc = qd_io_flush(j->io, err);
	if (rc)
		return rc;
	a->torn_end = 0;
	a->residue_end = first;
	return 0;
}

static int put(struct qd_journal *j, struct journal_batch *b, struct journal_area *a, uint64_t generation,
	       uint32_t first, uint64_t number, bool flush, struct qd_err *err)
{
	const struct qd_journal_owner *o = &j->place.owner;
	struct qd_journal_header h = {
		.identity_hi = o->identity_hi, .identity_lo = o->identity_lo, .container = o->container,
		.generation = generation, .batch = number, .sequence = first, .kind = (uint8_t)a->kind,
	};
	uint8_t payload[8];
	int rc;

	rc = journal_clear_residue(j, a, first, err);
	if (rc)
		return rc;
	qd_put_be64(payload, number);
	rc = journal_batch_add(b, QD_JOURNAL_COMMIT, payload, sizeof(payload), err);
	if (rc)
		return rc;
	close_all(b, &h);
	rc = qd_io_write(j->io, b->clusters, (size_t)b->nclusters * QD_JOURNAL_CLUSTER,
			 a->off + (uint64_t)first * QD_JOURNAL_CLUSTER, err);
	if (rc == 0 && flush)
		rc = qd_io_flush(j->io, err);
	if (rc)
		return rc;
	a->crc = qd_crc32c(first ? a->crc : QD_CRC32C_SEED, b->clusters,
			   (size_t)b->nclusters * QD_JOURNAL_CLUSTER);
	a->generation = generation;
	a->newest = qd_max_u64(a->newest, generation);
	a->committed = a->residue_end = first + b->nclusters;
	a->batches = number;
	return 0;
}

int journal_batch_write(struct qd_journal *j, struct journal_batch *b, struct journal_area *a,
			uint64_t generation, uint32_t first, uint64_t number, struct qd_err *err)
{
	return put(j, b, a, generation, first, number, true, err);
}

int journal_batch_write_unflushed(struct qd_journal *j, struct journal_batch *b, struct journal_area *a,
				  uint64_t generation, uint32_t first, uint64_t number, struct qd_err *err)
{
	return put(j, b, a, generation, first, number, false, err);
}
