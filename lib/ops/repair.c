/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The repair.  It works on a plan (plan.h): the image with changes over it, nothing of
 * them written.
 *
 *	check the planned image --> findings of the lowest level --> plan what answers them
 *	        ^                                                          |
 *	        +------------------- until nothing is planned any more ----+
 *	then:   save metadata | dirty bit | apply step by step | check | clear the bits
 *
 *	level       what                                        file
 *	HEADER      header fields, extensions                   repair_roots.c
 *	ROOTS       snapshot table, L1 tables' places, bitmaps      "
 *	L1, L2      entries                                     repair_entries.c, repair_table.c
 *	            an L1 table that is none                    repair_l1.c
 *	OVERFLOW    more references than a count can hold       repair_counts.c
 *	COUNTS      refcounts; new structures for all of them       "
 *	COPIED      flags                                       repair_entries.c
 *
 *	the check of the plan and its findings                  repair_find.c
 *	what was lost is searched for in                        repair_search.c
 *	carrying it out                                         repair_apply.c
 *
 * Invariants
 *  R1  the plan is data, complete and checked in memory before the first write.  A plan
 *      that leaves anything which can be repaired is not carried out at all.
 *  R2  no write lands on a cluster that anything readable names: what is new lies behind
 *      the end of the file, and in place only words of metadata change.
 *  R3  whoever stops between two writes leaves an image with every guest byte that was
 *      readable before, on which a repair comes to the same end.  The order of plan.h:
 *      entries that lead nowhere go first; new things are on disk before anything leads to
 *      them; counts rise before references appear and fall after they are gone.
 *  R4  refcount structures are believed last.  When another structure or data claims their
 *      place, or they cannot be patched, new ones are made, switched to by one write of 12
 *      bytes of the header, and the old ones are not written to.
 *  R5  an entry is dropped only when it cannot be true and what it should be is not known;
 *      where two own one cluster and the format wants one, one gets a copy.
 *  R6  dirty and corrupt bits are cleared last, after what was written has been read back
 *      and checked, and only if no corruption is left.
 *  R7  leaks are not given back while a table that may use them cannot be read, and with
 *      QD_REPAIR_LEAKS not while there is any corruption but of counts and flags.
 *  R8  while refcounts alone are changed, a version 3 image is marked dirty: should we die,
 *      QEMU itself repairs it at the next opening.
 *  R9  when more than counts and flags is repaired, the index is partial afterwards: which cluster
 *      is used for what may have changed, and a record may speak of what it held before.
 *
 * Left to others: locking (the caller opened the file for writing), guest data, backups.
 */
#include "ops/repair_geometry.h"
#include "ops/repair_int.h"

#include <stdlib.h>
#include <string.h>

#include "base/host.h"

#define MAX_ROUNDS 200

static const char tangled[] = "the damage is such that repairing one thing breaks another";

static const struct {
	const char *name;
	const char *meaning;
} verbs[QD_REPAIR_NVERBS] = {
	[QD_REPAIR_SET] = { "set", "get the value they must have" },
	[QD_REPAIR_DROP] = { "dropped", "given up, because they cannot be true; the guest range is lost" },
	[QD_REPAIR_COPY] = { "copied", "one of two owners gets a copy" },
	[QD_REPAIR_FOUND] = { "found", "what was lost is still in the file and is used again" },
	[QD_REPAIR_REBUILD] = { "rebuilt", "refcount table and blocks are made anew" },
	[QD_REPAIR_FREE] = { "freed", "clusters are given back" },
	[QD_REPAIR_REMOVE] = { "removed", "taken out of the image" },
};

const char *qd_repair_verb_name(enum qd_repair_verb verb)
{
	return verbs[verb].name;
}

const char *qd_repair_verb_meaning(enum qd_repair_verb verb)
{
	return verbs[verb].meaning;
}

void qd_rep_plan(struct rep *r, enum qd_repair_verb verb, const struct qd_finding *f)
{
	r->nplanned++;
	if (r->opts->planned)
		r->opts->planned(r->opts->ctx, verb, f, r->geom.cluster_size);
}

void qd_rep_rebuild(struct rep *r, const struct qd_finding *f)
{
	r->nplanned += !r->rebuild;
	r->rebuild = true;
	if (!r->told_rebuild)
		qd_rep_plan(r, QD_REPAIR_REBUILD, f);
	r->told_rebuild = true;
}

/* ---- a round ---- */

int qd_rep_fix_one(struct rep *r, const struct qd_finding *f, struct qd_err *err)
{
	static int (*const fixers[REP_NLEVELS])(struct rep *, const struct qd_finding *, struct qd_err *) = {
		[REP_HEADER] = qd_rep_fix_header,
		[REP_ROOTS] = qd_rep_fix_root,
		[REP_L1] = qd_rep_fix_l1,
		[REP_L2] = qd_rep_fix_l2,
		[REP_OVERFLOW] = qd_rep_fix_overflow,
		[REP_COUNTS] = qd_rep_fix_count,
		[REP_COPIED] = qd_rep_fix_copied,
	};

	return fixers[r->level](r, f, err);
}

/* Overlaps, other roots, what many may say: what lies in the wrong place before what it says. */
static int pass_of(const struct qd_finding *f)
{
	bool many = f->type == QD_F_BITMAP_TABLE_ENTRY ||
		    (f->place.kind == QD_AT_L1 && f->place.layer != 0 && f->type != QD_F_OVERLAP);

	return f->type == QD_F_OVERLAP ? 0 : many ? 2 : 1;
}

/* Roots depend on each other: one at a time, but for those that nothing else hangs from. */
static int fix_first(struct rep *r, struct qd_err *err)
{
	uint64_t before = r->nplanned;
	int rc = 0;

	for (int pass = 0; pass < 3; pass++) {
		if (r->nplanned != before)
			break;
		for (size_t i = 0; rc == 0 && i < r->nfound && !r->refused; i++) {
			if (pass_of(&r->found[i]) != pass || (pass < 2 && r->nplanned != before))
				continue;
			rc = qd_rep_fix_one(r, &r->found[i], err);
		}
	}
	return rc;
}

static int fix_round(struct rep *r, struct qd_err *err)
{
	bool fixed = false;
	int rc = 0;

	if (r->level <= REP_ROOTS)
		return fix_first(r, err);
	if (r->level == REP_L1)
		rc = qd_rep_fix_wrong_l1(r, &fixed, err);
	if (rc || fixed)
		return rc;
	if (r->overflow && (r->level == REP_COUNTS || r->level == REP_COPIED))
		return qd_rep_fix_at_once(r, err);
	for (size_t i = 0; rc == 0 && i < r->nfound && !r->refused; i++)
		rc = qd_rep_fix_one(r, &r->found[i], err);
	return rc;
}

/* May findings of this level be answered at all? */
static bool is_allowed(struct rep *r)
{
	const struct qd_check_result *c = &r->check;
	uint64_t mild = c->count[QD_F_COPIED_SET] + c->count[QD_F_COPIED_CLEAR] +
			c->count[QD_F_L1_COPIED_SET] + c->count[QD_F_L1_COPIED_CLEAR];

	if (r->opts->what == QD_REPAIR_ALL)
		return true;
	if (c->corruptions <= mild && r->level >= REP_COUNTS)
		return true;
	if (c->corruptions)
		r->refused = "there are corruptions: what looks leaked may be in use";
	return false;
}

/* R1: is everything gone that can be repaired, and nothing worse? */
static bool is_success(const struct rep *r, const struct qd_check_result *before)
{
	if (r->check.check_errors || r->check.corruptions > before->corruptions)
		return false;
	for (size_t t = 0; r->opts->what == QD_REPAIR_ALL && t < QD_F_NTYPES; t++)
		if (r->check.count[t] && qd_rep_level_of((enum qd_finding_type)t) != REP_NEVER &&
		    qd_finding_kind((enum qd_finding_type)t)->severity == QD_SEV_CORRUPTION)
			return false;
	return true;
}

static int run_rounds(struct rep *r, struct qd_err *err)
{
	uint64_t before;
	int rc;

	/* A round that could not keep all findings has made its way, and does not count. */
	for (unsigned round = 0; round < MAX_ROUNDS; round += !r->overflow) {
		rc = qd_rep_check_plan(r, err);
		if (rc)
			return rc;
		before = r->nplanned;
		if (r->check.check_errors)
			r->refused = "parts of the image could not be judged";
		else if (r->level == REP_NEVER && r->rebuild)
			rc = qd_rep_new_refcounts(r, err);
		else if (r->level != REP_NEVER && is_allowed(r))
			rc = fix_round(r, err);
		if (rc || r->refused || r->nplanned == before)
			return rc;
	}
	r->refused = tangled;
	return 0;
}

static int make_plan(struct rep *r, const struct qd_check_result *before, struct qd_err *err)
{
	int rc = run_rounds(r, err);

	if (rc == 0 && !r->refused && !is_success(r, before))
		r->refused = tangled;
	return rc;
}

/* Anything to do: planned words, or bits that have been earned? */
static bool has_work(const struct rep *r)
{
	bool bits = r->opts->what == QD_REPAIR_ALL && (r->check.dirty || r->check.corrupt_bit) &&
		    !r->check.corruptions;

	return !qd_plan_is_empty(r->plan) || bits;
}

static int plan_and_do(struct rep *r, struct qd_io *io, struct qd_repair_result *res, struct qd_err *err)
{
	int rc = make_plan(r, &res->before, err);

	if (rc)
		return rc;
	if (!r->refused && !has_work(r) && r->check.corruptions && r->opts->what == QD_REPAIR_ALL)
		r->refused = "there is no repair of what was found";
	res->refused = r->refused;
	if (r->refused || !has_work(r)) {
		res->after = res->before;
		return 0;
	}
	res->changed = true;
	if (!qd_plan_is_empty(r->plan))
		rc = qd_rep_distrust_index(r, &res->before, err);
	if (rc)
		return rc;
	if (!r->opts->dry_run)
		return qd_rep_carry_out(r, io, res, err);
	res->after = r->check;
	return 0;
}

/* Where new clusters may go: behind everything. */
static uint64_t new_clusters_at(struct qd_io *io, const struct qd_check_result *c, uint64_t file_size)
{
	return io->is_device ? c->image_end : qd_align_up(file_size, c->cluster_size);
}

int qd_repair(struct qd_io *io, const struct qd_repair_opts *opts, struct qd_progress *progress,
	      struct qd_repair_result *ret_result, struct qd_err *err)
{
	struct qd_repair_opts o = *opts;
	struct qd_check_opts first = { .threads = o.threads, .found = o.found, .ctx = o.ctx };
	struct qd_repair_result res = { .changed = false };
	struct rep r = { .opts = &o, .progress = progress };
	struct qd_plan_opts where;
	uint8_t buf[QD_HEADER_FULL_SIZE] = { 0 };
	uint64_t size;
	size_t nread;
	int rc;

	o.memory = o.memory ? o.memory : qd_default_memory();
	first.memory = o.memory;
	/* What will not fit beside a plan is refused before hours have gone by. */
	first.list_memory = REP_MEMORY_CHECK(o.memory);
	rc = qd_check(io, &first, progress, &res.before, err);
	if (rc == 0 && (!res.before.is_qcow2 || res.before.check_errors)) {
		res.refused = "parts of the image could not be judged";
		res.after = res.before;
		*ret_result = res;
		return 0;
	}
	if (rc == 0)
		rc = qd_io_size(io, &size, err);
	if (rc == 0)
		rc = qd_io_read_upto(io, buf, sizeof(buf), 0, &nread, err);
	if (rc == 0)
		rc = qd_header_decode_raw(buf, nread, &r.header, err);
	if (rc)
		return rc;
	qd_geom_init(&r.header, &r.geom);
	if (res.before.corruptions && o.what == QD_REPAIR_ALL) {
		uint32_t bits;

		rc = qd_rep_other_cluster_bits(io, &r.header, &bits, err);
		if (rc)
			return rc;
		if (bits) {
			res.refused = "cluster_bits is wrong: the tables lie as with another cluster size";
			res.after = res.before;
			*ret_result = res;
			return 0;
		}
	}
	where = (struct qd_plan_opts){ new_clusters_at(io, &res.before, size), REP_MEMORY_PLAN(o.memory),
				       o.tmpdir };
	rc = qd_plan_new(io, &r.geom, &where, &r.plan, err);
	if (rc)
		return rc;
	r.io = qd_plan_io(r.plan);
	rc = plan_and_do(&r, io, &res, err);
	qd_plan_free(r.plan);
	free(r.snaps);
	free(r.found);
	free(r.leaks);
	qd_rep_forget_orphans(&r);
	free(r.lows);
	if (rc == 0)
		*ret_result = res;
	return rc ? qd_err_file(err, rc, io->name) : 0;
}
