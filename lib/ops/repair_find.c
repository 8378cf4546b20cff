/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check of a plan, and what becomes of its findings: those of the lowest level are
 * kept until it ends, then they are answered.
 *
 * They may be more than memory holds.  Then those which were kept are answered, and the
 * next round finds the others; but counts and COPIED flags, of which a large image can
 * have hundreds of millions wrong, are answered while a second check is still running.
 * It never looks again at what that changes: each count is compared once, and a flag is
 * judged with the clusters of one window (check.c) and not with those of a later one.
 */
#include "ops/repair_int.h"

#include <stdlib.h>

enum qd_rep_level qd_rep_level_of(enum qd_finding_type type)
{
	switch (type) {
	case QD_F_HEADER_LENGTH:
	case QD_F_HEADER_COMPRESSION:
	case QD_F_HEADER_DATA_FILE:
	case QD_F_HEADER_EXTENSION:
		return REP_HEADER;
	case QD_F_REFTABLE_SIZE ... QD_F_SNAPSHOT_EXTRA:
	case QD_F_BITMAP_EXTENSION ... QD_F_L1_PAST_END:
	case QD_F_OVERLAP:
		return REP_ROOTS;
	case QD_F_L1_ENTRY_RESERVED ... QD_F_L2_GARBAGE:
		return REP_L1;
	case QD_F_L2_ENTRY_RESERVED ... QD_F_COMPRESSED_SUBCLUSTERS:
		return REP_L2;
	case QD_F_REFCOUNT_OVERFLOW:
		return REP_OVERFLOW;
	case QD_F_REFCOUNT_LOW:
	case QD_F_REFCOUNT_HIGH:
	case QD_F_LEAK:
	case QD_F_REFCOUNT_PAST_END:
		return REP_COUNTS;
	case QD_F_L1_COPIED_SET:
	case QD_F_L1_COPIED_CLEAR:
	case QD_F_COPIED_SET:
	case QD_F_COPIED_CLEAR:
		return REP_COPIED;
	default:
		return REP_NEVER;
	}
}

static bool append(struct qd_finding **v, size_t *n, size_t *capacity, size_t most,
		   const struct qd_finding *f)
{
	if (*n == *capacity) {
		size_t grown = *capacity ? (size_t)qd_min_u64(*capacity * 2, most) : 64;
		struct qd_finding *w = realloc(*v, grown * sizeof(*w));

		if (!w)
			return false;
		*v = w;
		*capacity = grown;
	}
	(*v)[*n] = *f;
	(*v)[(*n)++].label = NULL;
	return true;
}

/* Of each of the three lists. */
static size_t most_findings(const struct rep *r)
{
	return (size_t)qd_max_u64(1024, REP_MEMORY_FINDINGS(r->opts->memory) / 3 / sizeof(struct qd_finding));
}

static enum qd_rep_level level_of_finding(const struct qd_finding *f)
{
	/* A backing file's name is not made up; but one without length is none. */
	return f->type == QD_F_HEADER_BACKING && f->value[1] == 0 ? REP_HEADER : qd_rep_level_of(f->type);
}

static void take_finding(void *ctx, const struct qd_finding *f, uint64_t cluster_size)
{
	struct rep *r = ctx;
	enum qd_rep_level level = level_of_finding(f);
	size_t most = most_findings(r);

	(void)cluster_size;
	if ((f->type == QD_F_LEAK || f->type == QD_F_REFCOUNT_HIGH) && r->nleaks < most)
		r->failed |= !append(&r->leaks, &r->nleaks, &r->leaks_capacity, most, f);
	/* They matter only to entries, and those have been looked at before counts are. */
	if (f->type == QD_F_REFCOUNT_LOW && r->level <= REP_L2 && r->nlows < most)
		r->failed |= !append(&r->lows, &r->nlows, &r->lows_capacity, most, f);
	if (level > r->level || level == REP_NEVER)
		return;
	if (level < r->level) {
		r->nfound = 0;
		r->overflow = false;
	}
	r->level = level;
	if (r->nfound < most)
		r->failed |= !append(&r->found, &r->nfound, &r->capacity, most, f);
	else
		r->overflow = true;
}

static int read_state(struct rep *r, struct qd_err *err)
{
	uint8_t buf[QD_HEADER_FULL_SIZE];
	uint32_t count;
	int rc = qd_plan_read(r->plan, buf, sizeof(buf), 0, err);

	if (rc == 0)
		rc = qd_header_decode_raw(buf, sizeof(buf), &r->header, err);
	if (rc == 0)
		rc = qd_io_size(r->io, &r->file_size, err);
	if (rc)
		return rc;
	qd_geom_init(&r->header, &r->geom);
	free(r->snaps);
	r->nsnaps = 0;
	count = (uint32_t)qd_min_u64(r->header.snapshot_count, QD_MAX_SNAPSHOTS);
	r->snaps = calloc(count ? count : 1, sizeof(*r->snaps));
	if (!r->snaps)
		return qd_err_nomem(err, "the snapshot table");
	if (!qd_is_aligned(r->header.snapshots_off, r->geom.cluster_size) || r->header.snapshots_off == 0)
		return 0;
	return qd_rep_read_snapshots(r, r->header.snapshots_off, count, r->snaps, &r->nsnaps, err);
}

int qd_rep_check_plan(struct rep *r, struct qd_err *err)
{
	struct qd_check_opts opts = {
		.threads = r->opts->threads, .memory = REP_MEMORY_CHECK(r->opts->memory),
		.found = take_finding, .ctx = r, .without_refcounts = r->rebuild,
	};
	int rc;

	r->nfound = r->nleaks = r->nlows = 0;
	qd_rep_forget_orphans(r);
	r->overflow = false;
	r->bitmap_table = 0;
	r->level = REP_NEVER;
	rc = qd_check(r->io, &opts, r->progress, &r->check, err);
	if (rc == 0 && r->failed)
		rc = qd_err_nomem(err, "findings");
	return rc ? rc : read_state(r, err);
}

/* ---- at once ---- */

struct at_once {
	struct rep *r;
	int rc;
	struct qd_err err;
};

static void fix_finding(void *ctx, const struct qd_finding *f, uint64_t cluster_size)
{
	struct at_once *a = ctx;

	(void)cluster_size;
	if (a->rc == 0 && !a->r->refused && level_of_finding(f) == a->r->level)
		a->rc = qd_rep_fix_one(a->r, f, &a->err);
}

int qd_rep_fix_at_once(struct rep *r, struct qd_err *err)
{
	struct at_once a = { .r = r };
	struct qd_check_opts opts = {
		.threads = r->opts->threads, .memory = REP_MEMORY_CHECK(r->opts->memory),
		.found = fix_finding, .ctx = &a, .without_refcounts = r->rebuild,
	};
	struct qd_check_result ignored;
	int rc = qd_check(r->io, &opts, r->progress, &ignored, err);

	if (rc == 0 && a.rc)
		qd_err_copy(err, &a.err);
	return rc ? rc : a.rc;
}
