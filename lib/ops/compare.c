/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Both disks are walked in step; what both know to be zeros is never read.
 *
 *	next     the next range that one of them has data in
 *	prepare  read both, compare                      (many at a time)
 *	commit   in order: the first difference ends it
 *
 * A disk reads as zeros past its end, so a difference of sizes needs no code of its own.
 *
 * Strict comparison walks the extents first, without reading, for the first place
 * where they tell different things; content is then compared only up to there.
 */
#include "ops/compare.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/host.h"
#include "base/pipeline.h"
#include "ops/extent.h"

#define JOB_SIZE (1u << 20)
#define PIECE (128u << 10)	/* read and compared at once: both buffers stay in the processor's cache */
#define SECTOR 512u

struct job {
	uint64_t off;
	uint64_t nbytes;
	uint64_t difference;		/* byte offset; UINT64_MAX: none */
	struct qd_reader *reader[2];
	uint8_t *buf[2];
};

struct comparing {
	struct qd_disk *disk[2];
	uint64_t pos;			/* everything before has been handed out */
	uint64_t end;
	uint64_t next_data[2];		/* the first data of each at or after pos; UINT64_MAX: not looked up */
	uint64_t data_end[2];
	uint64_t difference;
	struct qd_progress *progress;
};

/* Finds [next_data, data_end) of one disk; both are `end` when there is no more. */
static int look_up(struct comparing *c, unsigned side, struct qd_err *err)
{
	const struct qd_disk *disk = c->disk[side];
	uint64_t off = c->end, nbytes = 0;
	int r = 0;

	if (c->next_data[side] != UINT64_MAX && c->data_end[side] > c->pos)
		return 0;
	if (c->pos < disk->virtual_size)
		r = qd_disk_next_data(disk, c->pos, JOB_SIZE, &off, &nbytes, err);
	if (r)
		return r;
	c->next_data[side] = nbytes ? off : c->end;
	c->data_end[side] = nbytes ? off + nbytes : UINT64_MAX;
	return 0;
}

static int next_job(void *ctx, void *job, struct qd_err *err)
{
	struct comparing *c = ctx;
	struct job *j = job;
	uint64_t start;
	int r = look_up(c, 0, err);

	if (!r)
		r = look_up(c, 1, err);
	if (r)
		return r;
	start = qd_max_u64(c->pos, qd_min_u64(c->next_data[0], c->next_data[1]));
	r = qd_progress_add(c->progress, qd_min_u64(start, c->end) - c->pos, err);
	if (r || start >= c->end)
		return r;
	j->off = start;
	j->nbytes = qd_min_u64(JOB_SIZE, c->end - start);
	c->pos = start + j->nbytes;
	return 1;
}

static uint64_t first_difference(const uint8_t *a, const uint8_t *b, size_t nbytes)
{
	size_t i = 0;

	while (i < nbytes && a[i] == b[i])
		i++;
	return i;
}

/* Where one side is zeros by metadata its buffer was not filled. */
static uint64_t compare_piece(const struct job *j, const bool zero[2], size_t nbytes)
{
	if (zero[0] && zero[1])
		return nbytes;
	for (unsigned side = 0; side < 2; side++)
		if (zero[side]) {
			if (qd_is_zero(j->buf[!side], nbytes))
				return nbytes;
			memset(j->buf[side], 0, nbytes);
		}
	if (!memcmp(j->buf[0], j->buf[1], nbytes))
		return nbytes;
	return first_difference(j->buf[0], j->buf[1], nbytes);
}

static int compare_job(void *ctx, void *job, struct qd_err *err)
{
	struct job *j = job;

	(void)ctx;
	j->difference = UINT64_MAX;
	for (uint64_t done = 0; done < j->nbytes;) {
		size_t n = (size_t)qd_min_u64(PIECE, j->nbytes - done);
		bool zero[2];
		uint64_t same;

		for (unsigned side = 0; side < 2; side++) {
			int r = qd_reader_read_sparse(j->reader[side], j->off + done, n, j->buf[side], &zero[side], err);

			if (r)
				return r;
		}
		same = compare_piece(j, zero, n);
		if (same < n) {
			j->difference = j->off + done + same;
			return 0;
		}
		done += n;
	}
	return 0;
}

static int take_job(void *ctx, void *job, struct qd_err *err)
{
	struct comparing *c = ctx;
	const struct job *j = job;

	if (j->difference != UINT64_MAX) {
		c->difference = j->difference;
		return qd_err_set(err, QD_E_CANCELLED, "they differ");	/* qd_compare knows better */
	}
	return qd_progress_add(c->progress, j->nbytes, err);
}

static void free_jobs(struct job *jobs, unsigned n)
{
	for (unsigned i = 0; jobs && i < n; i++) {
		for (unsigned side = 0; side < 2; side++) {
			qd_reader_free(jobs[i].reader[side]);
			free(jobs[i].buf[side]);
		}
	}
	free(jobs);
}

static int new_jobs(const struct comparing *c, unsigned n, struct job **ret_jobs, struct qd_err *err)
{
	struct job *jobs = calloc(n, sizeof(*jobs));
	int r = jobs ? 0 : qd_err_nomem(err, "buffers");

	for (unsigned i = 0; !r && i < n; i++) {
		for (unsigned side = 0; !r && side < 2; side++) {
			jobs[i].buf[side] = aligned_alloc(4096, PIECE);
			r = jobs[i].buf[side] ? qd_reader_new(c->disk[side], &jobs[i].reader[side], err) :
						qd_err_nomem(err, "buffers");
		}
	}
	if (r)
		free_jobs(jobs, n);
	else
		*ret_jobs = jobs;
	return r;
}

/* c->difference is UINT64_MAX afterwards when [0, end) is the same on both. */
static int compare_content(struct comparing *c, uint64_t end, unsigned threads, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = {
		.next = next_job, .prepare = compare_job, .commit = take_job,
	};
	unsigned njobs = threads * 2;
	struct job *jobs = NULL;
	int r = new_jobs(c, njobs, &jobs, err);

	c->end = end;
	c->difference = c->next_data[0] = c->next_data[1] = UINT64_MAX;
	if (!r)
		r = qd_pipeline_run(&ops, c, jobs, sizeof(*jobs), njobs, threads, err);
	if (r == QD_E_CANCELLED && c->difference != UINT64_MAX) {
		qd_err_clear(err);
		r = 0;
	}
	free_jobs(jobs, jobs ? njobs : 0);
	return r;
}

/* What strict comparison looks at, as QEMU's bits: data, zero, allocated somewhere, has an offset. */
static unsigned tells(const struct qd_extent *e)
{
	/* Past the end of a backing file an overlay counts as allocated. */
	bool allocated = e->present || e->layer->backing;

	return (unsigned)e->data | (unsigned)e->zero << 1 | (unsigned)allocated << 2 | (unsigned)e->has_offset << 3;
}

static int find_allocation_difference(struct comparing *c, uint64_t end, uint64_t *ret_off, struct qd_err *err)
{
	struct qd_extent_walk *walk[2] = { NULL, NULL };
	struct qd_extent e[2] = { 0 };
	uint64_t pos = 0;
	int r = 0;

	for (unsigned side = 0; !r && side < 2; side++)
		r = qd_extent_walk_new(c->disk[side], &walk[side], err);
	while (!r && pos < end) {
		for (unsigned side = 0; !r && side < 2; side++)
			if (e[side].start + e[side].nbytes <= pos)
				r = qd_extent_next(walk[side], pos, end - pos, &e[side], err);
		if (r || tells(&e[0]) != tells(&e[1]))
			break;
		pos = qd_min_u64(e[0].start + e[0].nbytes, e[1].start + e[1].nbytes);
	}
	if (!r)
		*ret_off = pos;
	qd_extent_walk_free(walk[0]);
	qd_extent_walk_free(walk[1]);
	return r;
}

static int compare_disks(struct comparing *c, const struct qd_compare_opts *opts, struct qd_compare_result *res,
			 struct qd_err *err)
{
	uint64_t end = qd_max_u64(res->size[0], res->size[1]), differs = end;
	unsigned threads = opts->threads ? opts->threads : qd_cpu_count();
	int r = 0;

	if (opts->strict && res->size[0] != res->size[1]) {
		res->verdict = QD_COMPARE_SIZE;
		return 0;
	}
	if (opts->strict)
		r = find_allocation_difference(c, end, &differs, err);
	if (r)
		return r;
	qd_progress_set_total(c->progress, differs);
	r = compare_content(c, differs, threads, err);
	if (r)
		return r;
	if (c->difference != UINT64_MAX) {
		res->verdict = QD_COMPARE_CONTENT;
		res->byte_offset = c->difference;
		res->offset = qd_align_down(c->difference, SECTOR);
	} else if (differs < end) {
		res->verdict = QD_COMPARE_ALLOCATION;
		res->offset = differs;
	}
	return 0;
}

int qd_compare(const char *path_a, const char *path_b, const struct qd_compare_opts *opts,
	       struct qd_progress *progress, struct qd_compare_result *ret_result, struct qd_err *err)
{
	const char *path[2] = { path_a, path_b };
	struct qd_compare_result res = { .verdict = QD_COMPARE_IDENTICAL };
	struct comparing c = { .progress = progress };
	int r = 0;

	for (unsigned side = 0; !r && side < 2; side++) {
		struct qd_disk_opts disk_opts = {
			.format = opts->format[side],
			.cache = opts->cache,
			.no_lock = opts->force_share,
			.untrusted = opts->untrusted,
			.map_cache_nbytes = opts->memory / 4,
		};

		r = qd_disk_open(path[side], &disk_opts, &c.disk[side], err);
		if (!r)
			res.size[side] = c.disk[side]->virtual_size;
	}
	if (!r)
		r = compare_disks(&c, opts, &res, err);
	if (!r)
		*ret_result = res;
	qd_disk_close(c.disk[0]);
	qd_disk_close(c.disk[1]);
	return r;
}
