/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The redo log: what a queue is about to write, as one batch.
 *
 *	queue, section by section      pieces: within 512 bytes of the file
 *	[ABCDEFGH......]          -->  [..CD....] changed bytes only: WRITE, WRITE ...
 *	---- barrier ----              BARRIER
 *	[....XY..]                     [XY]
 *
 * A sector is on disk whole or not, and so is a WRITE within it.  What changed is meant
 * against what the sections before leave there.  Where several sections write to one
 * sector, pieces are cut at each other's ends: then two of them name the same bytes or
 * have none in common, and replay can tell for each what may be there.
 *
 * Zeros past the end of the file change nothing but its length: it is as long as all that is
 * written before anything is logged.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "txn/journal_int.h"

#define SECTOR 512u
#define WINDOW 4096u	/* bytes of the file read at a time: tables of small clusters lie far apart */
#define NEAR 16u	/* unchanged bytes that cost less than another entry */

struct piece {			/* within a sector */
	uint64_t off;
	uint32_t nbytes;
	uint32_t section;
	const uint8_t *data;	/* in the queue */
};

struct pieces {
	struct piece *all;
	size_t n, capacity;
	struct qd_err *err;
};

struct window {			/* what the file holds now */
	struct qd_io *target;
	uint8_t *buf;
	uint64_t off;
	bool filled;
};

/* What does not cross a sector, past the end of the file as zeros. */
static int read_old(struct window *w, void *buf, size_t nbytes, uint64_t off, struct qd_err *err)
{
	uint64_t start = qd_align_down(off, WINDOW);

	if (!w->filled || w->off != start) {
		int rc = qd_io_read_padded(w->target, w->buf, WINDOW, start, err);

		w->filled = rc == 0;
		w->off = start;
		if (rc)
			return rc;
	}
	memcpy(buf, w->buf + (off - start), nbytes);
	return 0;
}

static int append(struct pieces *p, const struct piece *piece)
{
	if (p->n == p->capacity) {
		size_t capacity = p->capacity ? p->capacity * 2 : 256;
		struct piece *all = realloc(p->all, capacity * sizeof(*all));

		if (!all)
			return qd_err_nomem(p->err, "a redo batch");
		p->all = all;
		p->capacity = capacity;
	}
	p->all[p->n++] = *piece;
	return 0;
}

static int collect_run(void *ctx, uint32_t section, const uint8_t *data, size_t nbytes, uint64_t off)
{
	struct pieces *p = ctx;
	int rc = 0;

	while (rc == 0 && nbytes > 0) {
		size_t n = (size_t)qd_min_u64(nbytes, SECTOR - off % SECTOR);
		struct piece piece = { .off = off, .nbytes = (uint32_t)n, .section = section, .data = data };

		rc = append(p, &piece);
		off += n;
		data += n;
		nbytes -= n;
	}
	return rc;
}

static int by_place(const void *pa, const void *pb)
{
	const struct piece *a = pa, *b = pb;

	if (a->off != b->off)
		return a->off < b->off ? -1 : 1;
	return a->section < b->section ? -1 : a->section > b->section;
}

static int by_section(const void *pa, const void *pb)
{
	const struct piece *a = pa, *b = pb;

	if (a->section != b->section)
		return a->section < b->section ? -1 : 1;
	return a->off < b->off ? -1 : a->off > b->off;
}

/* ---- cutting ---- */

/* The part [from, to) of a piece, bytes of the file. */
static struct piece part_of(const struct piece *p, uint64_t from, uint64_t to)
{
	struct piece part = { .off = from, .nbytes = (uint32_t)(to - from), .section = p->section,
			      .data = p->data + (from - p->off) };

	return part;
}

/* One sector, one section: what differs from the file. */
static int cut_unchanged(const struct piece *p, const uint8_t *old, struct pieces *out)
{
	uint32_t i = 0;
	int rc = 0;

	while (rc == 0 && i < p->nbytes) {
		uint32_t end, first;
		struct piece part;

		while (i < p->nbytes && p->data[i] == old[i])
			i++;
		if (i == p->nbytes)
			break;
		first = i;
		for (end = ++i; i < p->nbytes && i - end < NEAR; i++)
			if (p->data[i] != old[i])
				end = i + 1;
		part = part_of(p, p->off + first, p->off + end);
		rc = append(out, &part);
		i = end;
	}
	return rc;
}

/* The nearest end of a piece of the group within (at, limit], or limit. */
static uint64_t next_cut(const struct piece *group, size_t n, uint64_t at, uint64_t limit)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t end = group[i].off + group[i].nbytes;

		if (group[i].off > at && group[i].off < limit)
			limit = group[i].off;
		if (end > at && end < limit)
			limit = end;
	}
	return limit;
}

/* One sector, several sections. */
static int cut_each_other(const struct piece *group, size_t n, struct pieces *out)
{
	for (size_t i = 0; i < n; i++) {
		uint64_t end = group[i].off + group[i].nbytes, at = group[i].off;

		while (at < end) {
			uint64_t to = next_cut(group, n, at, end);
			struct piece part = part_of(&group[i], at, to);
			int rc = append(out, &part);

			if (rc)
				return rc;
			at = to;
		}
	}
	return 0;
}

/* One sector: first each section against those before it, then all against each other. */
static int cut_group(struct piece *group, size_t n, struct window *w, struct pieces *cut, struct pieces *out)
{
	uint64_t sector = qd_align_down(group[0].off, SECTOR);
	uint8_t now[SECTOR];
	bool several = false;
	int rc = read_old(w, now, SECTOR, sector, out->err);

	cut->n = 0;
	if (n > 1)
		qsort(group, n, sizeof(*group), by_section);
	for (size_t i = 0; rc == 0 && i < n; i++) {
		uint8_t *at = now + (group[i].off - sector);

		rc = cut_unchanged(&group[i], at, cut);
		memcpy(at, group[i].data, group[i].nbytes);
	}
	for (size_t i = 1; i < cut->n; i++)
		several = several || cut->all[i].section != cut->all[0].section;
	if (several)
		return rc ? rc : cut_each_other(cut->all, cut->n, out);
	for (size_t i = 0; rc == 0 && i < cut->n; i++)
		rc = append(out, &cut->all[i]);
	return rc;
}

static int cut_all(struct pieces *in, struct window *w, struct pieces *out)
{
	struct pieces cut = { .err = out->err };
	int rc = 0;

	if (in->n)
		qsort(in->all, in->n, sizeof(*in->all), by_place);
	for (size_t i = 0, end; rc == 0 && i < in->n; i = end) {
		for (end = i + 1; end < in->n && in->all[end].off / SECTOR == in->all[i].off / SECTOR;)
			end++;
		rc = cut_group(in->all + i, end - i, w, &cut, out);
	}
	if (out->n)
		qsort(out->all, out->n, sizeof(*out->all), by_section);
	free(cut.all);
	return rc;
}

/* ---- logging ---- */

static int log_piece(struct journal_batch *b, const struct piece *p, struct window *w, struct qd_err *err)
{
	uint8_t payload[QD_JOURNAL_WRITE_HEAD + QD_JOURNAL_MAX_WRITE], old[QD_JOURNAL_MAX_WRITE];
	int rc = 0;

	for (uint32_t done = 0; rc == 0 && done < p->nbytes;) {
		/* In equal parts of equal pieces: the same cuts in every section. */
		uint32_t n = (uint32_t)qd_min_u64(p->nbytes - done, QD_JOURNAL_MAX_WRITE);

		rc = read_old(w, old, n, p->off + done, err);
		if (rc)
			return rc;
		qd_put_be64(payload, p->off + done);
		qd_put_be32(payload + 8, qd_crc32c(QD_CRC32C_SEED, old, n));
		memcpy(payload + QD_JOURNAL_WRITE_HEAD, p->data + done, n);
		rc = journal_batch_add(b, QD_JOURNAL_WRITE, payload, QD_JOURNAL_WRITE_HEAD + n, err);
		done += n;
	}
	return rc;
}

static int build(struct qd_journal *j, const struct pieces *p, struct window *w, struct journal_batch *b,
		 struct qd_err *err)
{
	uint32_t limit = j->areas[2].nclusters;
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < p->n; i++) {
		if (i && p->all[i].section != p->all[i - 1].section)
			rc = journal_batch_add(b, QD_JOURNAL_BARRIER, NULL, 0, err);
		if (rc == 0)
			rc = log_piece(b, &p->all[i], w, err);
		if (rc == 0 && journal_batch_need(b, JOURNAL_COMMIT_BYTES) > limit)
			rc = qd_err_set(err, QD_E_INVALID,
					"the redo log has %" PRIu32 " clusters, too few for these writes", limit);
	}
	return rc;
}

static uint64_t count_writes(const struct pieces *p)
{
	uint64_t n = 0;

	for (size_t i = 0; i < p->n; i++)
		n += qd_div_up(p->all[i].nbytes, QD_JOURNAL_MAX_WRITE);
	return n;
}

/* The mark of the area's batch, which is whole. */
static void set_mark(struct qd_journal *j, uint64_t target_nbytes)
{
	const struct qd_journal_owner *o = &j->place.owner;
	const struct journal_area *a = &j->areas[2];

	j->mark = (struct qd_journal_mark){
		.identity_hi = o->identity_hi, .identity_lo = o->identity_lo, .container = o->container,
		.generation = a->generation, .nclusters = a->committed, .batch_crc = a->crc,
		.target_nbytes = target_nbytes,
	};
}

/* One sector: on disk whole or not. */
static int write_mark(struct qd_journal *j, enum qd_journal_mark_state state, struct qd_err *err)
{
	uint8_t sector[QD_JOURNAL_MARK];

	j->mark.state = state;
	qd_journal_mark_encode(&j->mark, sector);
	return qd_io_write(j->io, sector, sizeof(sector), journal_mark_off(j), err);
}

/* J7: the mark comes when the batch is on stable storage, and may wait for its own flush. */
static int write_batch(struct qd_journal *j, struct journal_batch *b, uint64_t nwrites,
		       uint64_t target_nbytes, struct qd_err *err)
{
	struct journal_area *a = &j->areas[2];
	int rc = journal_batch_write(j, b, a, a->newest + 1, 0, 1, err);

	if (rc)
		return rc;
	set_mark(j, target_nbytes);
	rc = write_mark(j, QD_JOURNAL_MARK_COMMITTED, err);
	if (rc)
		return rc;
	j->pending = true;
	j->pending_writes = nwrites;
	return 0;
}

/*
 * Grows the target to hold all writes, so that replay need not let a journal grow it.
 */
static int reach(const struct pieces *p, struct qd_io *target, uint64_t *ret_nbytes, bool *ret_grown,
		 struct qd_err *err)
{
	uint64_t size = 0, end = 0;
	int rc = qd_io_size(target, &size, err);

	for (size_t i = 0; i < p->n; i++)
		end = qd_max_u64(end, p->all[i].off + p->all[i].nbytes);
	*ret_grown = rc == 0 && end > size && !target->is_device;
	if (*ret_grown)
		rc = qd_io_truncate(target, end, err);
	*ret_nbytes = qd_max_u64(size, end);
	return rc;
}

/*
 * Commits the batch, all of which is in `queued`, zeros that change nothing included; what the target
 * was grown by is on stable storage first.
 */
static int commit(struct qd_journal *j, struct journal_batch *b, const struct pieces *queued, uint64_t nwrites,
		  struct qd_io *target, struct qd_err *err)
{
	uint64_t nbytes = 0;
	bool grown = false;
	int rc = reach(queued, target, &nbytes, &grown, err);

	if (rc == 0 && (grown || target != j->io))
		rc = qd_io_flush(target, err);
	return rc ? rc : write_batch(j, b, nwrites, nbytes, err);
}

int qd_journal_redo_log(struct qd_journal *j, struct qd_queue *queue, struct qd_io *target,
			struct qd_err *err)
{
	struct pieces in = { .err = err }, out = { .err = err };
	struct journal_batch b = { .clusters = NULL };
	struct window w = { .target = target };
	int rc;

	if (j->pending)
		return qd_err_set(err, QD_E_INVALID, "the redo log holds writes that are not applied: "
				  "run qdedup journal replay");
	w.buf = malloc(WINDOW);
	rc = w.buf ? qd_queue_walk(queue, collect_run, &in, err) : qd_err_nomem(err, "a redo batch");
	if (rc == 0)
		rc = cut_all(&in, &w, &out);
	if (rc == 0 && out.n)
		rc = build(j, &out, &w, &b, err);
	if (rc == 0 && out.n)
		rc = commit(j, &b, &in, count_writes(&out), target, err);
	free(in.all);
	free(out.all);
	free(w.buf);
	journal_batch_free(&b);
	return rc;
}

int qd_journal_redo_applied(struct qd_journal *j, struct qd_err *err)
{
	struct journal_batch b = { .clusters = NULL };
	struct journal_area *a = &j->areas[2];
	uint8_t number[8];
	int rc;

	if (!j->pending)
		return 0;
	if (j->mark.generation != a->generation)	/* a crash came before it was written */
		set_mark(j, 0);
	qd_put_be64(number, 1);
	rc = write_mark(j, QD_JOURNAL_MARK_APPLIED, err);
	if (rc == 0)
		rc = qd_io_flush(j->io, err);
	if (rc == 0)
		rc = journal_batch_add(&b, QD_JOURNAL_APPLIED, number, sizeof(number), err);
	/* Torn or lost, the mark says the same. */
	if (rc == 0)
		rc = journal_batch_write_unflushed(j, &b, a, a->generation, 0, 2, err);
	journal_batch_free(&b);
	if (rc)
		return rc;
	a->committed = 0;
	j->pending = false;
	j->pending_writes = 0;
	return 0;
}

uint64_t qd_journal_redo_area(const struct qd_journal *j)
{
	return (uint64_t)j->areas[2].nclusters * QD_JOURNAL_CLUSTER;
}

uint64_t qd_journal_redo_room(const struct qd_journal *j)
{
	uint64_t payload = QD_JOURNAL_CLUSTER - QD_JOURNAL_HEADER - JOURNAL_COMMIT_BYTES;

	/*
	 * Changes of a byte each, NEAR apart, are the worst: 15 bytes of entry for 17 queued.  So are
	 * 8 bytes each in a queue of single words: 22 for 8.  A cluster ends with up to an entry unused.
	 */
	return j->areas[2].nclusters * (payload - 254) / 22 * 8;
}
