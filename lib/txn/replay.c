/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Replay: bringing the writes of the pending batch to their places.
 *
 *	for every WRITE: what is in the file now?
 *	    bytes of before the batch (CRC)          nothing of the batch has reached them
 *	    what a WRITE of the batch puts there     all up to that one have
 *	    anything else                            somebody else wrote: refused (J6)
 *
 * Then, section by section with flushes between, those WRITEs that come after what is
 * there.  So a replay that is cut short is one more crash of the same kind, and the next
 * replay ends in the same bytes.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "txn/journal_int.h"

#define HEADER_TABLES 36u	/* bytes of the image: from l1_size ... */
#define HEADER_END 112u	/* ... to the last field of a header that we write */

struct redo {
	uint64_t off;
	uint32_t crc;			/* of the bytes before the batch */
	uint32_t section;
	uint32_t order;
	uint32_t at;			/* its bytes, among those of the batch */
	uint8_t nbytes;
	bool there;			/* it, or a later one of the same place, is in the file */
};

struct batch {
	struct redo *all;
	size_t n, capacity;
	uint8_t *bytes;			/* an area's at most */
	size_t nbytes, bytes_capacity;
	uint32_t section;
};

static const uint8_t *bytes_of(const struct batch *b, const struct redo *r)
{
	return b->bytes + r->at;
}

static int make_room(struct batch *b, size_t nbytes, struct qd_err *err)
{
	if (b->n == b->capacity) {
		size_t capacity = b->capacity ? b->capacity * 2 : 64;
		struct redo *all = realloc(b->all, capacity * sizeof(*all));

		if (!all)
			return qd_err_nomem(err, "a redo batch");
		b->all = all;
		b->capacity = capacity;
	}
	if (b->nbytes + nbytes > b->bytes_capacity) {
		size_t capacity = b->bytes_capacity ? b->bytes_capacity * 2 : 4096;
		uint8_t *bytes = realloc(b->bytes, capacity);

		if (!bytes)
			return qd_err_nomem(err, "a redo batch");
		b->bytes = bytes;
		b->bytes_capacity = capacity;
	}
	return 0;
}

static int take_entry(void *ctx, const struct qd_journal_entry *e, struct qd_err *err)
{
	struct batch *b = ctx;
	size_t nbytes = (size_t)e->nbytes - QD_JOURNAL_WRITE_HEAD;
	int rc;

	b->section += e->type == QD_JOURNAL_BARRIER;
	if (e->type != QD_JOURNAL_WRITE)
		return 0;
	rc = make_room(b, nbytes, err);
	if (rc)
		return rc;
	b->all[b->n] = (struct redo){
		.off = qd_get_be64(e->payload), .crc = qd_get_be32(e->payload + 8), .section = b->section,
		.order = (uint32_t)b->n, .at = (uint32_t)b->nbytes, .nbytes = (uint8_t)nbytes,
	};
	memcpy(b->bytes + b->nbytes, e->payload + QD_JOURNAL_WRITE_HEAD, nbytes);
	b->nbytes += nbytes;
	b->n++;
	return 0;
}

static int by_place(const void *pa, const void *pb)
{
	const struct redo *a = pa, *b = pb;

	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	return a->order < b->order ? -1 : a->order > b->order;
}

static int by_order(const void *pa, const void *pb)
{
	const struct redo *a = pa, *b = pb;

	return a->order < b->order ? -1 : a->order > b->order;
}

/* ---- checking ---- */

/* The WRITEs of one place, in order. */
static int check_group(const struct batch *b, struct redo *group, size_t n, struct qd_io *target,
		       struct qd_err *err)
{
	uint8_t now[QD_JOURNAL_MAX_WRITE];
	size_t there = 0;
	int rc = qd_io_read_padded(target, now, group[0].nbytes, group[0].off, err);

	if (rc)
		return rc;
	for (size_t i = 0; i < n; i++)
		if (memcmp(now, bytes_of(b, &group[i]), group[i].nbytes) == 0)
			there = i + 1;
	for (size_t i = 0; i < there; i++)
		group[i].there = true;
	if (there || qd_crc32c(QD_CRC32C_SEED, now, group[0].nbytes) == group[0].crc)
		return 0;
	return qd_err_set(err, QD_E_CORRUPT, "journal: the %u bytes at 0x%" PRIx64 " are neither what the "
			  "operation found there nor what it writes: somebody else wrote since",
			  group[0].nbytes, group[0].off);
}

/*
 * What a batch may write to (J8): nothing beyond the end of the file, which the batch had grown
 * before it was committed; nothing of the container; of the header what tells of tables and
 * features.
 */
static bool is_allowed(const struct qd_journal *j, const struct redo *r, uint64_t target_nbytes)
{
	const struct qd_journal_place *p = &j->place;
	uint64_t end = r->off + r->nbytes;

	if (end > target_nbytes)
		return false;
	if (p->own_nbytes && r->off < p->own_off + p->own_nbytes && p->own_off < end)
		return false;
	return r->off >= p->head_nbytes || (r->off >= HEADER_TABLES && end <= HEADER_END);
}

static int check_shape(const struct redo *r, const struct redo *next, struct qd_err *err)
{
	uint64_t end;

	if (!qd_add_u64(r->off, r->nbytes, &end) || end > INT64_MAX || r->off / 512 != (end - 1) / 512)
		return qd_err_set(err, QD_E_CORRUPT, "journal: a write of %u bytes at 0x%" PRIx64
				  " does not lie in one sector", r->nbytes, r->off);
	if (next && next->off < end && (next->off != r->off || next->nbytes != r->nbytes))
		return qd_err_set(err, QD_E_CORRUPT, "journal: the writes at 0x%" PRIx64 " and 0x%" PRIx64
				  " overlap in part", r->off, next->off);
	return 0;
}

/* b: by place. */
static int check_places(const struct qd_journal *j, const struct batch *b, struct qd_io *target,
			struct qd_err *err)
{
	uint64_t nbytes = 0;
	int rc = qd_io_size(target, &nbytes, err);

	if (j->mark.generation == j->areas[2].generation)
		nbytes = qd_min_u64(nbytes, j->mark.target_nbytes);
	for (size_t i = 0; rc == 0 && i < b->n; i++) {
		const struct redo *r = &b->all[i];

		rc = check_shape(r, i + 1 < b->n ? r + 1 : NULL, err);
		if (rc == 0 && !is_allowed(j, r, nbytes))
			rc = qd_err_set(err, QD_E_CORRUPT, "journal: a write of %u bytes at 0x%" PRIx64
					" is not to metadata of the image", r->nbytes, r->off);
	}
	return rc;
}

static int check_all(const struct qd_journal *j, struct batch *b, struct qd_io *target, struct qd_err *err)
{
	int rc;

	if (b->n)
		qsort(b->all, b->n, sizeof(*b->all), by_place);
	rc = check_places(j, b, target, err);
	for (size_t i = 0, end; rc == 0 && i < b->n; i = end) {
		for (end = i + 1; end < b->n && b->all[end].off == b->all[i].off;)
			end++;
		rc = check_group(b, b->all + i, end - i, target, err);
	}
	if (b->n)
		qsort(b->all, b->n, sizeof(*b->all), by_order);
	return rc;
}

/* ---- applying ---- */

static int apply(const struct batch *b, struct qd_io *target, struct qd_err *err)
{
	bool unflushed = true;		/* what is there already may be in a cache only */
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < b->n; i++) {
		const struct redo *r = &b->all[i];

		if (i && r->section != b->all[i - 1].section && unflushed) {
			rc = qd_io_flush(target, err);
			unflushed = false;
		}
		if (rc == 0 && !r->there) {
			rc = qd_io_write(target, bytes_of(b, r), r->nbytes, r->off, err);
			unflushed = true;
		}
	}
	return rc ? rc : qd_io_flush(target, err);
}

int qd_journal_replay(struct qd_journal *j, struct qd_io *target, bool dry_run, uint64_t *ret_nwrites,
		      struct qd_err *err)
{
	struct batch b = { .all = NULL };
	uint64_t nwrites = 0;
	int rc = j->redo_damaged ? journal_refuse_damaged(j, err) : 0;

	if (rc == 0 && j->pending) {
		rc = journal_each(j, &j->areas[2], take_entry, &b, err);
		if (rc == 0)
			rc = check_all(j, &b, target, err);
		for (size_t i = 0; i < b.n; i++)
			nwrites += !b.all[i].there;
		if (rc == 0 && !dry_run)
			rc = apply(&b, target, err);
		if (rc == 0 && !dry_run)
			rc = qd_journal_redo_applied(j, err);
	}
	free(b.all);
	free(b.bytes);
	if (rc == 0)
		*ret_nwrites = nwrites;
	return rc;
}
