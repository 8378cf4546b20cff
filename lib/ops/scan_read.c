/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Reading a view.
 *
 *	next     the next stretch of the disk that holds data	(scan_next.c)
 *	prepare  read it piece by piece, hash it, make records	(many at a time)
 *	commit   in order: records to the spill, counts
 *
 * Stretches and pieces begin at multiples of the largest cluster size, so no cluster lies in
 * two of them.  A piece stays in the processor's cache until all its sizes are hashed.
 *
 * A block (of the largest size) of which an overlay holds a part is read through the chain.
 */
#include "ops/scan_read.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/pipeline.h"

#define PIECE (128u << 10)
#define LARGE_PIECE (1u << 20)		/* at most, for digests that are faster many at a time */

/* ---- reading and hashing ---- */

/* Marks what the overlay itself holds. */
static int mark_own(const struct scan_reading *rd, struct scan_job *j, struct qd_err *err)
{
	uint64_t end = qd_min_u64(j->off + j->nbytes, rd->v->size);
	struct qd_map_run run;

	for (uint64_t off = j->off; off < end; off += run.nbytes) {
		uint64_t first, last;
		int r = qd_map_get(rd->disk->map, off, end - off, &run, err);

		if (r)
			return r;
		first = (off - j->off) / rd->s->unit;
		last = (off + run.nbytes - 1 - j->off) / rd->s->unit;
		if (run.kind == QD_MAP_UNALLOCATED)
			continue;
		for (uint64_t u = first; u <= last; u++)
			j->cells.cells[0][u] |= SCAN_OWN;
	}
	return 0;
}

static bool any_own(const struct scan_job *j, uint64_t off, uint64_t nbytes, uint64_t unit)
{
	const uint8_t *cell = j->cells.cells[0] + off / unit;

	for (uint64_t u = 0; u < nbytes / unit; u++)
		if (cell[u] & SCAN_OWN)
			return true;
	return false;
}

/* Passes on contents that an estimate of compression asks for. */
static int show_contents(const struct scan_reading *rd, const struct scan_job *j, uint64_t off,
			 uint64_t nbytes, struct qd_err *err)
{
	const struct scan *s = rd->s;

	for (unsigned k = 0; k < s->nsizes; k++) {
		size_t first = (size_t)(off / s->sizes[k]);

		for (size_t i = 0; i < nbytes / s->sizes[k]; i++) {
			const uint8_t *key = j->cells.keys[k] + (first + i) * s->key_nbytes;
			struct qd_scan_content c = { .cluster_size = s->sizes[k],
						     .data = j->buf + i * s->sizes[k] };
			int r;

			c.key_hi = qd_get_be64(key);
			c.key_lo = qd_get_be64(key + 8);
			if ((j->cells.cells[k][first + i] & (SCAN_DATA | SCAN_LATER)) != SCAN_DATA ||
			    (c.key_lo & s->opts->content_mask))
				continue;
			r = s->opts->content(s->opts->ctx, &c, err);
			if (r)
				return r;
		}
	}
	return 0;
}

static int read_range(const struct scan_reading *rd, struct scan_job *j, uint64_t off, size_t nbytes,
		      uint8_t *buf, struct qd_err *err)
{
	bool zero = false;
	int r;

	if (j->dense)
		r = qd_reader_read(j->reader, j->off + off, nbytes, buf, err);
	else
		r = qd_reader_read_sparse(j->reader, j->off + off, nbytes, buf, &zero, err);
	if (r || zero)
		return r;
	j->read_nbytes += qd_min_u64(nbytes, rd->v->size - (j->off + off));
	return qd_scan_cells_units(&j->cells, off, buf, nbytes, err);
}

/* What others do not read for us. */
static int read_ranges(const struct scan_reading *rd, struct scan_job *j, uint64_t off, size_t nbytes,
		       struct qd_err *err)
{
	uint64_t unit = rd->s->unit, n = nbytes / unit;
	const uint8_t *cell = j->cells.cells[0] + off / unit;

	for (uint64_t from = 0, to; from < n; from = to) {
		int r;

		for (to = from; to < n && (cell[to] & (SCAN_LATER | SCAN_KNOWN));)
			to++;
		from = to;
		while (to < n && !(cell[to] & (SCAN_LATER | SCAN_KNOWN)))
			to++;
		if (from == to)
			break;
		r = read_range(rd, j, off + from * unit, (size_t)((to - from) * unit), j->buf + from * unit,
			       err);
		if (r)
			return r;
	}
	return 0;
}

/* [off, off + nbytes) of the stretch: a piece, whole blocks. */
static int read_piece(const struct scan_reading *rd, struct scan_job *j, uint64_t off, size_t nbytes,
		      struct qd_err *err)
{
	uint64_t before = j->read_nbytes;
	int r;

	if (rd->lower_size && !any_own(j, off, nbytes, rd->s->unit))
		return 0;
	if (j->later || j->nknown)
		r = read_ranges(rd, j, off, nbytes, err);
	else
		r = read_range(rd, j, off, nbytes, j->buf, err);
	if (r)
		return r;
	if (j->read_nbytes == before && !rd->lower_size && !j->nknown)
		return 0;	/* zeros by the tables; whose they are matters in an overlay only */
	if (j->read_nbytes == before)
		return qd_scan_cells_larger(&j->cells, off, NULL, nbytes, err);
	r = qd_scan_cells_larger(&j->cells, off, j->buf, nbytes, err);
	if (!r && rd->s->opts->content)
		r = show_contents(rd, j, off, nbytes, err);
	return r;
}

/* Counts what the cells say and turns them into records. */
static void make_records(const struct scan_reading *rd, struct scan_job *j)
{
	const struct scan *s = rd->s;
	uint8_t *to = j->records;

	for (unsigned k = 0; k < s->nsizes; k++) {
		size_t n = (size_t)(j->nbytes / s->sizes[k]);

		for (size_t i = 0; i < n && j->off + i * s->sizes[k] < rd->v->size; i++) {
			uint64_t off = j->off + i * s->sizes[k];
			uint64_t nbytes = qd_min_u64(s->sizes[k], rd->v->size - off);
			const uint8_t *key = j->cells.keys[k] + i * s->key_nbytes;
			uint8_t cell = j->cells.cells[k][i];

			/* What begins past the end of the backing file is zero, and nobody else counts it. */
			if (!(cell & SCAN_OWN) && off < rd->lower_size)
				j->inherited_nbytes[k] += nbytes;
			if ((cell & (SCAN_DATA | SCAN_OWN)) != (SCAN_DATA | SCAN_OWN))
				continue;
			j->data_nbytes[k] += nbytes;
			if (!scan_in_shard(s->opts, key))
				continue;
			memcpy(to, key, s->key_nbytes);
			qd_put_be64(to + s->key_nbytes, scan_place(k, rd->v->first_unit + off / s->unit));
			to += s->record_nbytes;
		}
	}
	j->nrecords = (size_t)(to - j->records) / s->record_nbytes;
}

static void mark_later(const struct scan_reading *rd, struct scan_job *j)
{
	uint64_t n = rd->share ? qd_scan_share_cluster(rd->share) / rd->s->unit : 0;

	for (size_t i = 0; i < j->nshared; i++) {
		uint8_t *cell = j->cells.cells[0] + j->shared[i].off / rd->s->unit;

		for (uint64_t u = 0; !j->shared[i].owner && u < n; u++)
			cell[u] |= SCAN_LATER;
		if (!j->shared[i].owner)
			j->reused_nbytes += n * rd->s->unit;
	}
}

static void mark_known(const struct scan_reading *rd, struct scan_job *j)
{
	const struct scan *s = rd->s;

	for (size_t i = 0; i < j->nknown; i++) {
		size_t u = (size_t)(j->known[i].off / s->unit);

		j->cells.cells[0][u] |= SCAN_KNOWN;
		if (j->known[i].zero)
			continue;
		j->cells.cells[0][u] |= SCAN_DATA;
		memcpy(j->cells.keys[0] + u * s->key_nbytes, j->known[i].key, s->key_nbytes);
	}
}

static int prepare_job(void *ctx, void *job, struct qd_err *err)
{
	const struct scan_reading *rd = ctx;
	struct scan_job *j = job;
	int r = 0;

	j->read_nbytes = j->reused_nbytes = 0;
	memset(j->data_nbytes, 0, sizeof(j->data_nbytes));
	memset(j->inherited_nbytes, 0, sizeof(j->inherited_nbytes));
	qd_scan_cells_clear(&j->cells, !rd->lower_size);
	if (rd->lower_size)
		r = mark_own(rd, j, err);
	if (!r) {
		mark_later(rd, j);
		mark_known(rd, j);
	}
	for (uint64_t off = 0; !r && off < j->nbytes; off += rd->piece)
		r = read_piece(rd, j, off, (size_t)qd_min_u64(rd->piece, j->nbytes - off), err);
	if (!r && !j->later)
		make_records(rd, j);
	return r;
}

/* Leaves the keys of shared clusters, and fetches those that others have left. */
static int exchange_keys(const struct scan_reading *rd, struct scan_job *j, struct qd_err *err)
{
	int r = 0;

	for (size_t i = 0; !r && i < j->nshared; i++)
		if (j->shared[i].owner)
			r = qd_scan_share_put(rd->share, &j->cells, &j->shared[i], err);
	for (size_t i = 0; !r && i < j->nshared; i++)
		if (!j->shared[i].owner)
			r = qd_scan_share_get(rd->share, &j->cells, &j->shared[i], err);
	if (!r && j->later && !rd->s->named)
		r = qd_scan_cells_larger(&j->cells, 0, NULL, j->nbytes, err);
	if (!r && j->later)
		make_records(rd, j);
	return r;
}

static int commit_job(void *ctx, void *job, struct qd_err *err)
{
	struct scan_reading *rd = ctx;
	struct scan_job *j = job;
	int r = exchange_keys(rd, j, err);

	if (!r)
		r = qd_spill_add(rd->s->spill, j->records, j->nrecords, err);
	if (r) {
		rd->fatal = true;
		return r;
	}
	for (unsigned k = 0; k < rd->s->nsizes; k++) {
		rd->v->data_nbytes[k] += j->data_nbytes[k];
		rd->v->inherited_nbytes[k] += j->inherited_nbytes[k];
		rd->v->sampled_inherited[k] += j->inherited_nbytes[k];
	}
	rd->s->images[rd->v->image].read_nbytes += j->read_nbytes;
	rd->s->images[rd->v->image].reused_nbytes += j->reused_nbytes;
	return qd_progress_add(rd->s->opts->progress, qd_min_u64(j->nbytes, rd->v->size - j->off), err);
}

/* ---- jobs ---- */

static void free_jobs(struct scan_job *jobs, unsigned n)
{
	for (unsigned i = 0; jobs && i < n; i++) {
		qd_reader_free(jobs[i].reader);
		free(jobs[i].buf);
		free(jobs[i].records);
		free(jobs[i].shared);
		free(jobs[i].known);
		qd_scan_cells_free(&jobs[i].cells);
	}
	free(jobs);
}

static int new_jobs(const struct scan_reading *rd, unsigned n, struct scan_job **ret_jobs, struct qd_err *err)
{
	const struct scan *s = rd->s;
	size_t clusters = (size_t)(rd->stretch / s->unit) * (s->nsizes > 1 ? 2 : 1);
	struct scan_job *jobs = calloc(n, sizeof(*jobs));
	int r = jobs ? 0 : qd_err_nomem(err, "buffers");

	for (unsigned i = 0; !r && i < n; i++) {
		jobs[i].buf = aligned_alloc(4096, rd->piece);
		jobs[i].records = malloc(clusters * s->record_nbytes);
		r = jobs[i].buf && jobs[i].records ? qd_reader_new(rd->disk, &jobs[i].reader, err) :
						     qd_err_nomem(err, "buffers");
		if (!r && rd->share) {
			jobs[i].shared = calloc((size_t)(rd->stretch / qd_scan_share_cluster(rd->share)),
						sizeof(*jobs[i].shared));
			r = jobs[i].shared ? 0 : qd_err_nomem(err, "buffers");
		}
		if (!r && rd->stored) {
			jobs[i].known = calloc((size_t)(rd->stretch / s->unit), sizeof(*jobs[i].known));
			r = jobs[i].known ? 0 : qd_err_nomem(err, "buffers");
		}
		if (!r)
			r = qd_scan_cells_init(&jobs[i].cells, s, rd->stretch, err);
	}
	if (r)
		free_jobs(jobs, n);
	else
		*ret_jobs = jobs;
	return r;
}

/* As many as there is memory and work for, two for each thread at most. */
static unsigned count_jobs(const struct scan_reading *rd)
{
	const struct scan *s = rd->s;
	uint64_t clusters = rd->stretch / s->unit * (s->nsizes > 1 ? 2 : 1);
	uint64_t each = rd->piece + clusters * s->record_nbytes + qd_scan_cells_memory(s, rd->stretch) +
			(rd->stored ? rd->stretch / s->unit * sizeof(struct scan_known) : 0);

	uint64_t most = qd_min_u64(s->threads * 2ull, qd_div_up(rd->v->size, rd->stretch));

	return (unsigned)qd_max_u64(1, qd_min_u64(most, s->memory / 16 * 3 / each));
}

static int read_all(struct scan_reading *rd, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = {
		.next = qd_scan_next_job, .prepare = prepare_job, .commit = commit_job,
	};
	struct scan_view *v = rd->v;
	unsigned njobs = count_jobs(rd);
	struct scan_job *jobs = NULL;
	int r = new_jobs(rd, njobs, &jobs, err);

	if (r)
		return r;
	r = qd_pipeline_run(&ops, rd, jobs, sizeof(*jobs), njobs,
			    (unsigned)qd_min_u64(rd->s->threads, njobs), err);
	for (unsigned k = 0; k < rd->s->nsizes; k++) {
		v->inherited_nbytes[k] += rd->passed_inherited[k];
		v->zero_nbytes[k] = v->size - v->data_nbytes[k] - v->inherited_nbytes[k];
	}
	free_jobs(jobs, njobs);
	return r;
}

/* Looks for stored hashes; else, with the first view of an image, for shared clusters. */
static int find_shortcuts(struct scan_reading *rd, const struct qd_disk *disk, struct qd_err *err)
{
	struct scan_image *image = &rd->s->images[rd->v->image];
	int r = qd_scan_stored_open(rd->s, disk, &rd->stored, err);

	if (r || rd->stored)
		return r;
	if (!image->shares)
		r = qd_scan_share_new(rd->s, rd->v->image, disk, &image->share, err);
	image->shares = true;
	rd->share = image->share;
	if (r || !rd->share)
		return r;
	rd->block = qd_max_u64(rd->block, qd_scan_share_cluster(rd->share));
	rd->stretch = qd_max_u64(rd->stretch, rd->block);
	return 0;
}

/* With the last one that is over. */
static void end_view(struct scan_image *image)
{
	if (--image->nviews)
		return;
	qd_scan_share_free(image->share);
	image->share = NULL;
}

/* An overlay's pieces stay small: one of which it holds a part is read through the chain. */
static size_t choose_piece(const struct scan_reading *rd)
{
	const struct scan *s = rd->s;
	uint64_t piece = PIECE, batch = (uint64_t)QD_DIGEST_BATCH * s->unit;
	uint64_t largest = s->sizes[s->nsizes - 1];

	if (s->digest->algorithm && !rd->lower_size)
		piece = qd_max_u64(piece, qd_min_u64(qd_min_u64(batch, LARGE_PIECE), s->memory / 64));
	return (size_t)qd_max_u64(qd_align_down(piece, largest), largest);
}

int qd_scan_read_view(struct scan *s, struct scan_view *v, bool *ret_fatal, struct qd_err *err)
{
	struct scan_reading rd = { .s = s, .v = v, .block = s->sizes[s->nsizes - 1] };
	struct qd_disk *disk = NULL;
	int r = qd_scan_open_view(s, v, &disk, err);

	if (!r) {
		rd.disk = disk;
		rd.stretch = s->stretch;
		r = find_shortcuts(&rd, disk, err);
		rd.lower_size = disk->backing ? disk->backing->virtual_size : 0;
		rd.piece = choose_piece(&rd);
		if (!r && disk->virtual_size != v->size)
			r = qd_err_set(err, QD_E_IO, "the disk has changed while it was looked at");
		if (!r)
			r = read_all(&rd, err);
	}
	qd_scan_stored_close(rd.stored);
	if (disk != v->disk)
		qd_disk_close(disk);
	end_view(&s->images[v->image]);
	*ret_fatal = rd.fatal;
	return r && !rd.fatal ? qd_err_file(err, r, s->images[v->image].name) : r;
}
