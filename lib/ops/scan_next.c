/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Which stretch of a view is read next: what metadata says to be zero, unallocated or
 * inherited is passed by, a sample leaves out more.
 *
 * In an overlay only what its own table maps is looked for.
 *
 * This runs beside the other stages, one call at a time: what it counts is its own.
 */
#include <string.h>

#include "base/bytes.h"
#include "ops/scan_read.h"

#define LOOK_RAW (1ull << 40)	/* how far data is looked at in advance: in raw files it costs nothing */

static int pass(struct scan_reading *rd, uint64_t to, struct qd_err *err)
{
	uint64_t from = qd_min_u64(rd->pos, rd->v->size);

	rd->pos = to;
	return qd_progress_add(rd->s->opts->progress, qd_min_u64(to, rd->v->size) - from, err);
}

/* What of [from, to), in which nothing of the overlay lies, is in clusters that its backing file has. */
static void count_inherited(struct scan_reading *rd, uint64_t from, uint64_t to)
{
	uint64_t end = qd_min_u64(to, qd_min_u64(rd->lower_size, rd->v->size));

	for (unsigned k = 0; from < end && k < rd->s->nsizes; k++)
		rd->passed_inherited[k] += qd_min_u64(qd_align_up(end, rd->s->sizes[k]), rd->v->size) - from;
}

/* Finds data from pos on in a file without backing file; data == the size when there is none. */
static int look(struct scan_reading *rd, struct qd_err *err)
{
	uint64_t max = rd->disk->is_qcow2 ? rd->stretch : LOOK_RAW, nbytes;
	int r;

	if (rd->pos < rd->data_end)
		return 0;
	r = qd_disk_next_data(rd->disk, rd->pos, max, &rd->data, &nbytes, err);
	rd->data_end = rd->data + nbytes;
	return r;
}

static int skip_to_data(struct scan_reading *rd, struct qd_err *err)
{
	int r = look(rd, err);

	if (r || rd->data >= rd->v->size)
		return r ? r : pass(rd, rd->v->size, err);
	return pass(rd, qd_max_u64(rd->pos, qd_align_down(rd->data, rd->block)), err);
}

/* The same for an overlay: blocks that its table does not map at all are passed by. */
static int skip_to_own(struct scan_reading *rd, struct qd_err *err)
{
	struct qd_map_run run;

	while (rd->pos < rd->v->size) {
		uint64_t end;
		int r = qd_map_get(rd->disk->map, rd->pos, rd->v->size - rd->pos, &run, err);

		if (r)
			return r;
		end = rd->pos + run.nbytes;
		if (end < rd->v->size)
			end = qd_align_down(end, rd->block);
		if ((run.kind != QD_MAP_UNALLOCATED && run.kind != QD_MAP_ZERO) || end <= rd->pos)
			return 0;
		if (run.kind == QD_MAP_UNALLOCATED)
			count_inherited(rd, rd->pos, end);
		r = pass(rd, end, err);
		if (r)
			return r;
	}
	return 0;
}

/* What need not be read, or not here. */
static int find_keys(const struct scan_reading *rd, struct scan_job *j, struct qd_err *err)
{
	int r = 0;

	j->nshared = j->nknown = 0;
	j->later = false;
	if (rd->stored)
		r = qd_scan_stored_find(rd->stored, j->off, j->nbytes, j->known, &j->nknown, err);
	if (rd->share)
		r = qd_scan_share_find(rd->share, rd->disk, j->off, j->nbytes, j->shared, &j->nshared, err);
	for (size_t i = 0; i < j->nshared; i++)
		j->later |= !j->shared[i].owner;
	return r;
}

/* Which parts of stretches are read for an estimate: fixed by the name and the place. */
static bool is_sampled(const struct scan_reading *rd)
{
	uint64_t h[2] = { rd->pos / rd->stretch, 0 };

	h[1] = qd_fingerprint_of(rd->v->label, strlen(rd->v->label)).lo;
	return qd_fingerprint_of(h, sizeof(h)).lo % rd->s->opts->sample_n == 0;
}

/* How much of a stretch is data as the metadata has it: what a sample is weighed by. */
static int weigh(const struct scan_reading *rd, const struct scan_job *j, uint64_t *ret_nbytes,
		 struct qd_err *err)
{
	uint64_t pos = j->off, end = qd_min_u64(j->off + j->nbytes, rd->v->size), sum = 0;
	struct qd_map_run run;

	if (j->dense) {			/* known, and asking a host may take it long */
		*ret_nbytes = end - pos;
		return 0;
	}
	while (pos < end) {
		uint64_t data, nbytes;
		int r;

		if (rd->lower_size) {
			r = qd_map_get(rd->disk->map, pos, end - pos, &run, err);
			data = pos;
			nbytes = run.nbytes;
			if (!r && run.kind != QD_MAP_DATA && run.kind != QD_MAP_COMPRESSED) {
				pos += nbytes;
				continue;
			}
		} else {
			r = qd_disk_next_data(rd->disk, pos, end - pos, &data, &nbytes, err);
		}
		if (r)
			return r;
		if (!nbytes || data >= end)
			break;
		sum += qd_min_u64(nbytes, end - data);
		pos = data + nbytes;
	}
	*ret_nbytes = sum;
	return 0;
}

int qd_scan_next_job(void *ctx, void *job, struct qd_err *err)
{
	struct scan_reading *rd = ctx;
	struct scan_job *j = job;
	uint64_t nbytes = 0;
	int r;

	for (;;) {
		r = rd->lower_size ? skip_to_own(rd, err) : skip_to_data(rd, err);
		if (r || rd->pos >= rd->v->size)
			return r;
		j->off = rd->pos;
		/* Up to where it would end if all were data: a sample depends on places only. */
		j->nbytes = rd->stretch - rd->pos % rd->stretch;
		j->nbytes = qd_min_u64(j->nbytes, qd_align_up(rd->v->size, rd->block) - rd->pos);
		j->dense = !rd->lower_size && rd->data <= j->off &&
			   rd->data_end >= qd_min_u64(j->off + j->nbytes, rd->v->size);
		if (rd->s->opts->sample_n > 1)
			r = weigh(rd, j, &nbytes, err);
		if (r)
			return r;
		if (rd->s->opts->sample_n <= 1 || is_sampled(rd)) {
			rd->v->nsampled++;
			rd->v->sampled_nbytes += nbytes;
			rd->pos += j->nbytes;
			r = find_keys(rd, j, err);
			return r ? r : 1;
		}
		rd->v->skipped_nbytes += nbytes;
		r = pass(rd, rd->pos + j->nbytes, err);
		if (r)
			return r;
	}
}
