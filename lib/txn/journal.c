/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Opening: each area is read once from end to end, and what is found is judged.
 *
 *	area   | g1 b1 | g1 b1 C | g1 b2 C | g1 b3 | ----- | g0 b7 | zeros ...
 *	        \_____________________________/ \____/          \___/
 *	         committed: in sequence, of one   residue of     of an older generation:
 *	         generation, each batch with      a commit cut   nothing
 *	         its COMMIT (C)                   short (J4)
 *
 * A redo area ends with the mark (J7):
 *
 *	none        the first batch: it counts if it is whole
 *	committed   generation g: batch g must be whole, or cluster 0 says that it is applied
 *	applied     generation g: a later batch counts if it is whole
 *
 * Whatever is newer than the log in use can only be the first batch of a log that was
 * being packed; anything else is damage (J3).
 */
#include "txn/journal.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "txn/journal_int.h"

/* ---- reading clusters ---- */

int journal_read(struct qd_journal *j, const struct journal_area *a, uint32_t number, uint8_t *cluster,
		 bool *ret_valid, struct qd_err *err)
{
	int rc = qd_io_read_padded(j->io, cluster, QD_JOURNAL_CLUSTER,
				   a->off + (uint64_t)number * QD_JOURNAL_CLUSTER, err);

	if (rc)
		return rc;
	*ret_valid = qd_journal_cluster_is_valid(cluster, &j->place.owner, a->kind, number);
	return 0;
}

int journal_each(struct qd_journal *j, const struct journal_area *a,
		 int (*fn)(void *ctx, const struct qd_journal_entry *entry, struct qd_err *err), void *ctx,
		 struct qd_err *err)
{
	uint8_t cluster[QD_JOURNAL_CLUSTER];
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < a->committed; i++) {
		struct qd_journal_entry e;
		size_t pos = QD_JOURNAL_HEADER;
		bool valid;

		rc = journal_read(j, a, i, cluster, &valid, err);
		if (rc == 0 && !valid)
			rc = qd_err_set(err, QD_E_CORRUPT, "journal cluster at 0x%" PRIx64
					" changed while it was in use",
					a->off + (uint64_t)i * QD_JOURNAL_CLUSTER);
		while (rc == 0 && (rc = qd_journal_entry_next(cluster, &pos, &e, err)) == 1)
			rc = fn(ctx, &e, err);
	}
	return rc;
}

int journal_refuse_damaged(const struct qd_journal *j, struct qd_err *err)
{
	return j->damaged ? qd_err_set(err, QD_E_CORRUPT, "the journal is damaged: %s", j->why) : 0;
}

/* ---- scanning an area ---- */

__attribute__((format(printf, 2, 3)))
static void complain(char *why, const char *fmt, ...)
{
	va_list ap;

	if (why[0])
		return;
	va_start(ap, fmt);
	vsnprintf(why, sizeof(((struct qd_journal *)0)->why), fmt, ap);
	va_end(ap);
}

static uint64_t place_of(const struct journal_area *a, uint32_t number)
{
	return a->off + (uint64_t)number * QD_JOURNAL_CLUSTER;
}

static bool belongs(const struct qd_journal *j, const struct journal_area *a,
		    const struct qd_journal_entry *e)
{
	bool of_log = e->type == QD_JOURNAL_HASH || e->type == QD_JOURNAL_REVOKE ||
		      e->type == QD_JOURNAL_COMPLETE;
	bool of_redo = e->type == QD_JOURNAL_WRITE || e->type == QD_JOURNAL_BARRIER ||
		       e->type == QD_JOURNAL_APPLIED;

	if (e->type == QD_JOURNAL_HASH && e->nbytes != QD_TABLE_RECORD_HEAD + j->digest_nbytes)
		return false;
	return a->kind == QD_JOURNAL_LOG ? !of_redo : !of_log;
}

/* crc: of the clusters up to this one. */
static void count_committed(const struct qd_journal *j, struct journal_area *a, uint32_t number, uint32_t crc)
{
	a->committed = number + 1;
	a->batches++;
	a->crc = crc;
	if (a->committed == j->place.closed_clusters)
		a->closed_crc = crc;
}

/* Entries of a cluster of the batch after the last committed one. */
static void scan_entries(const struct qd_journal *j, struct journal_area *a, uint32_t number,
			 const uint8_t *cluster, uint32_t crc)
{
	struct qd_journal_entry e;
	size_t pos = QD_JOURNAL_HEADER;
	bool complete = false, commit = false;
	struct qd_err err;
	int rc;

	while ((rc = qd_journal_entry_next(cluster, &pos, &e, &err)) == 1) {
		if (!belongs(j, a, &e))
			complain(a->why, "cluster at 0x%" PRIx64 ": an entry %s of %u bytes is out of place",
				 place_of(a, number), qd_journal_type_name(e.type), e.nbytes);
		complete = complete || e.type == QD_JOURNAL_COMPLETE;
		if (e.type == QD_JOURNAL_COMMIT)
			commit = qd_get_be64(e.payload) == a->batches + 1;
	}
	if (rc)
		complain(a->why, "cluster at 0x%" PRIx64 ": %.80s", place_of(a, number), err.msg);
	a->complete = a->complete || complete;
	if (commit)
		count_committed(j, a, number, crc);
}

/* A valid cluster; *in_row: all before it are of this generation, in order. */
static void scan_cluster(const struct qd_journal *j, struct journal_area *a, uint32_t number,
			 const uint8_t *cluster, bool *in_row, uint32_t *crc)
{
	struct qd_journal_header h;

	qd_journal_header_decode(cluster, &h);
	a->newest = qd_max_u64(a->newest, h.generation);
	if (h.batch > 1)
		a->newest_later = qd_max_u64(a->newest_later, h.generation);
	if (number == 0 && h.batch == 1)
		a->generation = h.generation;
	if (number == 0 && h.batch == 2 && a->kind == QD_JOURNAL_REDO)
		a->applied_generation = h.generation;
	if (h.generation != a->generation) {
		*in_row = false;
		return;
	}
	a->residue_end = number + 1;
	*crc = qd_crc32c(*crc, cluster, QD_JOURNAL_CLUSTER);
	if (h.batch != a->batches + 1)
		complain(a->why, "cluster at 0x%" PRIx64 ": batch %" PRIu64 " without all of the one before",
			 place_of(a, number), h.batch);
	else if (*in_row)
		scan_entries(j, a, number, cluster, *crc);
}

static int scan_area(struct qd_journal *j, struct journal_area *a, struct qd_err *err)
{
	uint8_t cluster[QD_JOURNAL_CLUSTER];
	uint32_t crc = QD_CRC32C_SEED;
	bool in_row = true;

	for (uint32_t i = 0; i < a->nclusters; i++) {
		bool valid;
		int rc = journal_read(j, a, i, cluster, &valid, err);

		if (rc)
			return rc;
		if (valid) {
			scan_cluster(j, a, i, cluster, &in_row, &crc);
			continue;
		}
		in_row = false;
		if (!qd_is_zero(cluster, sizeof(cluster)))
			a->torn_end = i + 1;
	}
	return 0;
}

/* ---- judging ---- */

static void choose_log(struct qd_journal *j)
{
	for (unsigned i = 0; i < 2; i++) {
		struct journal_area *a = &j->areas[i];

		if (a->committed && a->complete && (!j->log || a->generation > j->log->generation))
			j->log = a;
	}
}

/* J3 for an area of the log. */
static void judge_area(struct qd_journal *j, const struct journal_area *a)
{
	uint64_t generation = j->log ? j->log->generation : 0;

	if (a == j->log) {
		if (a->why[0])
			complain(j->why, "%s", a->why);
		if (a->newest > generation)
			complain(j->why, "log area %c holds clusters newer than its first one",
				 'A' + (int)a->index);
	} else if ((generation && a->newest == generation) || a->newest_later > generation ||
		   (a->generation > generation && a->why[0])) {
		complain(j->why, "log area %c holds clusters of a log whose start is gone",
			 'A' + (int)a->index);
	}
}

static void judge_closed(struct qd_journal *j)
{
	const struct qd_journal_place *p = &j->place;
	uint64_t generation = j->log ? j->log->generation : 0;

	if (p->no_log && j->log)
		complain(j->why, "the index in a file of its own has a log");
	else if (generation < p->closed_generation || (!j->log && p->closed_clusters))
		complain(j->why, "the log of generation %" PRIu64 ", which was closed, is gone",
			 p->closed_generation);
	else if (generation == p->closed_generation && j->log && j->log->committed < p->closed_clusters)
		complain(j->why, "the log has %" PRIu32 " clusters, and had %" PRIu32 " when it was closed",
			 j->log->committed, p->closed_clusters);
	else if (generation == p->closed_generation && p->closed_clusters &&
		 j->log->closed_crc != p->closed_crc)
		complain(j->why, "the log is not the one that was closed");
}

/* Is the area's batch the one that the mark calls committed? */
static bool is_marked(const struct qd_journal *j)
{
	const struct journal_area *a = &j->areas[2];

	return a->generation == j->mark.generation && a->committed == j->mark.nclusters &&
	       a->crc == j->mark.batch_crc && !a->why[0];
}

/*
 * J7.  An area that a new batch is being written over may hold anything: only what was
 * committed is judged.
 */
static void judge_redo(struct qd_journal *j, char *why)
{
	struct journal_area *a = &j->areas[2];
	const struct qd_journal_mark *m = &j->mark;
	bool is_new = a->committed && a->generation > m->generation;

	if (j->mark_bad)
		complain(why, "the mark of the redo log at 0x%" PRIx64 " is not valid", journal_mark_off(j));
	else if (!m->generation && a->applied_generation)
		complain(why, "the mark of the redo log at 0x%" PRIx64 " is gone", journal_mark_off(j));
	else if (m->state == QD_JOURNAL_MARK_COMMITTED && a->applied_generation != m->generation &&
		 !is_marked(j))
		complain(why, "the redo log has lost writes of an operation that was cut short: "
			 "its batch %" PRIu64 " of %" PRIu32 " clusters is not whole", m->generation,
			 m->nclusters);
	if (is_new && a->why[0])
		complain(why, "%s", a->why);
	a->newest = qd_max_u64(a->newest, m->generation);
	j->pending = is_new || (m->state == QD_JOURNAL_MARK_COMMITTED && is_marked(j));
	if (!j->pending)
		a->committed = 0;
}

uint64_t journal_mark_off(const struct qd_journal *j)
{
	return place_of(&j->areas[2], j->areas[2].nclusters);
}

static int scan_mark(struct qd_journal *j, struct qd_err *err)
{
	uint8_t cluster[QD_JOURNAL_CLUSTER];
	int rc = qd_io_read_padded(j->io, cluster, sizeof(cluster), journal_mark_off(j), err);

	if (rc || qd_is_zero(cluster, sizeof(cluster)))
		return rc;
	j->mark_bad = !qd_journal_mark_decode(cluster, &j->place.owner, &j->mark) ||
		      !qd_is_zero(cluster + QD_JOURNAL_MARK, sizeof(cluster) - QD_JOURNAL_MARK);
	return 0;
}

/* ---- counting ---- */

int journal_count(struct qd_journal *j, struct qd_err *err)
{
	struct journal_last *last = NULL;
	uint8_t cluster[QD_JOURNAL_CLUSTER];
	size_t n = 0;
	int rc;

	j->log_used = j->entries = j->live = 0;
	if (!j->log || j->damaged)
		return 0;
	for (uint32_t i = 0; i < j->log->committed; i++) {
		struct qd_journal_header h;
		bool valid;

		rc = journal_read(j, j->log, i, cluster, &valid, err);
		if (rc)
			return rc;
		qd_journal_header_decode(cluster, &h);
		j->log_used += h.used;
	}
	rc = journal_last_entries(j, &last, &n, err);
	free(last);
	j->live = n;
	return rc;
}

static int count_write(void *ctx, const struct qd_journal_entry *e, struct qd_err *err)
{
	struct qd_journal *j = ctx;

	(void)err;
	j->pending_writes += e->type == QD_JOURNAL_WRITE;
	return 0;
}

/* ---- opening ---- */

int qd_journal_place_of(const struct qd_table_ext *ext, uint64_t container_off,
			struct qd_journal_place *ret_place, struct qd_err *err)
{
	struct qd_journal_place p = {
		.log_nbytes = ext->log_nbytes, .redo_nbytes = ext->redo_nbytes,
		.owner = { ext->identity_hi, ext->journal_id, ext->generation },
		.closed_generation = ext->log_generation, .closed_clusters = ext->log_clusters,
		.closed_crc = ext->log_crc, .head_nbytes = 1ull << ext->cluster_bits,
	};

	if (!qd_range_within(ext->journal_off, 2 * p.log_nbytes + p.redo_nbytes, ext->container_nbytes) ||
	    !qd_add_u64(container_off, ext->journal_off, &p.off))
		return qd_err_set(err, QD_E_CORRUPT, "the journal at 0x%" PRIx64 " does not lie within the "
				  "container", ext->journal_off);
	p.no_log = (ext->flags & QD_TABLE_EXTERNAL) != 0;
	if (!p.no_log) {
		p.own_off = container_off;
		p.own_nbytes = ext->container_nbytes;
	}
	*ret_place = p;
	return 0;
}

static int check_place(const struct qd_journal_place *p, struct qd_err *err)
{
	uint64_t end;

	if (p->log_nbytes == 0 || p->redo_nbytes < 2 * QD_JOURNAL_CLUSTER ||
	    !qd_is_aligned(p->log_nbytes, QD_JOURNAL_CLUSTER) ||
	    !qd_is_aligned(p->redo_nbytes, QD_JOURNAL_CLUSTER) || p->log_nbytes > QD_JOURNAL_MAX_AREA ||
	    p->redo_nbytes > QD_JOURNAL_MAX_AREA ||
	    !qd_add_u64(p->off, 2 * p->log_nbytes + p->redo_nbytes, &end) || end > INT64_MAX)
		return qd_err_set(err, QD_E_CORRUPT,
				  "the journal's areas of %" PRIu64 " and %" PRIu64 " bytes are not multiples of "
				  "%u up to %u", p->log_nbytes, p->redo_nbytes, QD_JOURNAL_CLUSTER,
				  QD_JOURNAL_MAX_AREA);
	return 0;
}

static void lay_out(struct qd_journal *j)
{
	const struct qd_journal_place *p = &j->place;

	for (uint32_t i = 0; i < 3; i++) {
		struct journal_area *a = &j->areas[i];

		a->index = i;
		a->kind = i < 2 ? QD_JOURNAL_LOG : QD_JOURNAL_REDO;
		a->off = p->off + i * p->log_nbytes;
		a->nclusters = (uint32_t)((i < 2 ? p->log_nbytes : p->redo_nbytes) / QD_JOURNAL_CLUSTER);
	}
	j->areas[2].nclusters--;	/* the mark's */
}

static int scan(struct qd_journal *j, struct qd_err *err)
{
	char redo_why[sizeof(j->why)] = "";
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 3; i++)
		rc = scan_area(j, &j->areas[i], err);
	if (rc == 0)
		rc = scan_mark(j, err);
	if (rc)
		return rc;
	choose_log(j);
	judge_area(j, &j->areas[0]);
	judge_area(j, &j->areas[1]);
	judge_closed(j);
	judge_redo(j, redo_why);
	j->redo_damaged = redo_why[0] != '\0';
	if (j->redo_damaged)
		complain(j->why, "%s", redo_why);
	j->damaged = j->why[0] != '\0';
	if (j->pending && !j->redo_damaged)
		rc = journal_each(j, &j->areas[2], count_write, j, err);
	return rc ? rc : journal_count(j, err);
}

int qd_journal_open(struct qd_io *io, const struct qd_journal_place *place, uint32_t digest_nbytes,
		    struct qd_journal **ret_journal, struct qd_err *err)
{
	int rc = check_place(place, err);
	struct qd_journal *j;

	if (rc)
		return rc;
	if (digest_nbytes == 0 || digest_nbytes > 32)
		return qd_err_set(err, QD_E_CORRUPT, "hashes of %" PRIu32 " bytes, expected 1..32",
				  digest_nbytes);
	j = calloc(1, sizeof(*j));
	if (!j)
		return qd_err_nomem(err, "a journal");
	j->io = io;
	j->place = *place;
	j->digest_nbytes = digest_nbytes;
	lay_out(j);
	rc = scan(j, err);
	if (rc) {
		qd_journal_close(j);
		return rc;
	}
	*ret_journal = j;
	return 0;
}

void qd_journal_close(struct qd_journal *j)
{
	if (!j)
		return;
	journal_batch_free(&j->adds);
	free(j);
}

void qd_journal_state(const struct qd_journal *j, struct qd_journal_state *ret_state)
{
	struct qd_journal_state s = { .health = QD_JOURNAL_SOUND };

	if (j->damaged)
		s.health = QD_JOURNAL_DAMAGED;
	else if (j->pending)
		s.health = QD_JOURNAL_PENDING;
	snprintf(s.why, sizeof(s.why), "%s", j->why);
	s.redo_damaged = j->redo_damaged;
	s.log_size = j->areas[0].nclusters;
	if (j->log) {
		s.log_generation = j->log->generation;
		s.log_area = j->log->index;
		s.log_clusters = j->log->committed;
		s.log_crc = j->log->crc;
	}
	s.log_used = j->log_used;
	s.entries = j->entries;
	s.live = j->live;
	s.redo_generation = j->areas[2].generation;
	s.pending_writes = j->pending_writes;
	*ret_state = s;
}

/* ---- walking everything ---- */

static int walk_entries(struct qd_journal_item *item, const uint8_t *cluster,
			int (*fn)(void *ctx, const struct qd_journal_item *item, struct qd_err *err),
			void *ctx, struct qd_err *err)
{
	uint64_t start = item->off;
	size_t pos = QD_JOURNAL_HEADER;
	int rc = 0;

	while (rc == 0 && qd_journal_entry_next(cluster, &pos, &item->entry, NULL) == 1) {
		item->off = start + item->entry.off;
		rc = fn(ctx, item, err);
	}
	return rc;
}

static int walk_area(struct qd_journal *j, const struct journal_area *a,
		     int (*fn)(void *ctx, const struct qd_journal_item *item, struct qd_err *err), void *ctx,
		     struct qd_err *err)
{
	uint8_t cluster[QD_JOURNAL_CLUSTER];
	bool counts = a->kind == QD_JOURNAL_REDO || a == j->log;
	int rc = 0;

	for (uint32_t i = 0; rc == 0 && i < a->nclusters; i++) {
		struct qd_journal_item item = { .off = place_of(a, i), .kind = a->kind, .area = a->index,
						.number = i };

		rc = journal_read(j, a, i, cluster, &item.valid, err);
		if (rc || qd_is_zero(cluster, sizeof(cluster)))
			continue;
		qd_journal_header_decode(cluster, &item.header);
		item.committed = counts && i < a->committed;
		rc = fn(ctx, &item, err);
		if (rc == 0 && item.valid)
			rc = walk_entries(&item, cluster, fn, ctx, err);
	}
	return rc;
}

static int walk_mark(struct qd_journal *j,
		     int (*fn)(void *ctx, const struct qd_journal_item *item, struct qd_err *err), void *ctx,
		     struct qd_err *err)
{
	struct qd_journal_item item = { .off = journal_mark_off(j), .kind = QD_JOURNAL_REDO, .area = 2,
					.number = j->areas[2].nclusters, .is_mark = true };

	if (!j->mark_bad && !j->mark.generation)
		return 0;
	item.valid = !j->mark_bad;
	item.mark = j->mark;
	item.committed = item.valid;
	return fn(ctx, &item, err);
}

int qd_journal_walk(struct qd_journal *j, int (*fn)(void *ctx, const struct qd_journal_item *item,
						    struct qd_err *err), void *ctx, struct qd_err *err)
{
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 3; i++)
		rc = walk_area(j, &j->areas[i], fn, ctx, err);
	return rc ? rc : walk_mark(j, fn, ctx, err);
}
