/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the repair share; repair.c tells the whole story.
 */
#ifndef QD_OPS_REPAIR_INT_H
#define QD_OPS_REPAIR_INT_H

#include "base/bytes.h"
#include "format/entry.h"
#include "format/header.h"
#include "ops/plan.h"
#include "ops/repair.h"

/* In the order in which damage is repaired: each level relies on those before it. */
enum qd_rep_level {
	REP_HEADER,		/* fields and extensions */
	REP_ROOTS,		/* where tables are; snapshot table, bitmaps */
	REP_L1,			/* L1 entries */
	REP_L2,			/* L2 entries */
	REP_OVERFLOW,		/* more references than a count can hold */
	REP_COUNTS,
	REP_COPIED,
	REP_NLEVELS,
	REP_NEVER = REP_NLEVELS,
};

/* What of the memory is whose; while the plan is applied, the queue has the check's. */
#define REP_MEMORY_PLAN(memory) ((memory) / 4)
#define REP_MEMORY_FINDINGS(memory) ((memory) / 8)
#define REP_MEMORY_CHECK(memory) ((memory) - (memory) / 8 * 3)
#define REP_MEMORY_QUEUE(memory) ((memory) / 4)

struct qd_rep_snapshot {
	uint64_t entry_off;	/* in the file */
	uint64_t nbytes;	/* with padding */
	uint64_t l1_off;
	uint32_t l1_entries;
	uint64_t mapped_size;	/* bytes of disk and VM state */
};

/* repair_orphans.c */
struct qd_rep_orphan {
	uint64_t off;		/* byte in the file */
	bool named;		/* by the layer last looked at */
};

struct qd_rep_orphans {
	struct qd_rep_orphan *v;	/* ascending */
	size_t n;
	size_t capacity;
	bool listed;
	bool layer_known;
	uint32_t layer;		/* that `named` is of */
	uint64_t nlooked;	/* bytes read to find owners for them */
};

struct rep {
	const struct qd_repair_opts *opts;
	struct qd_progress *progress;
	struct qd_plan *plan;
	struct qd_io *io;		/* the plan's */
	struct qd_header header;	/* as planned; read again each round */
	struct qd_geom geom;
	uint64_t file_size;		/* as planned */
	struct qd_rep_snapshot *snaps;
	uint32_t nsnaps;

	/* this round */
	struct qd_check_result check;
	struct qd_finding *found;	/* of the lowest level found */
	size_t nfound;
	size_t capacity;
	enum qd_rep_level level;
	struct qd_finding *leaks; /* runs with a refcount too high: where lost tables may be; ascending */
	size_t nleaks;
	size_t leaks_capacity;
	struct qd_rep_orphans orphans;	/* listed when the first is asked for */
	struct qd_finding *lows;	/* runs with a refcount too low; ascending */
	size_t nlows;
	size_t lows_capacity;
	uint32_t bitmap;		/* whose table is at bitmap_table (0: not known) */
	uint64_t bitmap_table;
	bool failed;			/* out of memory */
	bool overflow;			/* there are more findings of the level than `found` holds */

	bool rebuild;			/* refcount structures will be made anew, the old ones do not count */
	bool told_rebuild;
	uint64_t nplanned;		/* things planned so far: a round that adds none is the last */
	const char *refused;
};

/* Tells that something is planned. */
void qd_rep_plan(struct rep *r, enum qd_repair_verb verb, const struct qd_finding *f);
void qd_rep_rebuild(struct rep *r, const struct qd_finding *f);

enum qd_rep_level qd_rep_level_of(enum qd_finding_type type);

/* Checks the plan: fills in what `struct rep` has of this round. */
int qd_rep_check_plan(struct rep *r, struct qd_err *err);

/* Answers a finding of the round's level. */
int qd_rep_fix_one(struct rep *r, const struct qd_finding *f, struct qd_err *err);

/* Answers all findings of the round's level, counts or COPIED flags, while checking again. */
int qd_rep_fix_at_once(struct rep *r, struct qd_err *err);

/* The structures of a level; each 0 or an error. */
int qd_rep_fix_header(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_root(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_l1(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_l2(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_overflow(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_count(struct rep *r, const struct qd_finding *f, struct qd_err *err);
int qd_rep_fix_copied(struct rep *r, const struct qd_finding *f, struct qd_err *err);

/* Writes what is planned to io, R6 and R8 included; fills in res->after. */
int qd_rep_carry_out(struct rep *r, struct qd_io *io, struct qd_repair_result *res, struct qd_err *err);

/* R9; before: what was found before the repair. */
int qd_rep_distrust_index(struct rep *r, const struct qd_check_result *before, struct qd_err *err);

/* Makes new refcount structures, all counts zero, and leads the header there. */
int qd_rep_new_refcounts(struct rep *r, struct qd_err *err);

/* The L1 table of a layer; false when there is none. */
bool qd_rep_l1_of(const struct rep *r, uint32_t layer, uint64_t *ret_off, uint64_t *ret_entries);

/* The owner whose L2 entry is at `at` gets a copy of what it names. */
int qd_rep_copy_owner(struct rep *r, uint64_t at, uint64_t entry, struct qd_err *err);

/* Where the L2 entry of a guest offset is; *ret_off 0: nowhere. */
int qd_rep_l2_entry(struct rep *r, uint32_t layer, uint64_t guest_off, uint64_t *ret_off, struct qd_err *err);

/* Refcounts say that the cluster is not used as often as it is named, and are right elsewhere. */
bool qd_rep_is_made_up(const struct rep *r, uint64_t cluster);

/* Looking at clusters (repair_search.c). */
bool qd_rep_is_leaked(const struct rep *r, uint64_t cluster);	/* or has a refcount too high */

uint64_t qd_rep_nowners(const struct rep *r, uint64_t cluster);	/* refcount of one that is leaked; else 0 */

/* Is there a compressed cluster where the entry says? */
int qd_rep_is_compressed(struct rep *r, uint64_t entry, bool *ret_is, struct qd_err *err);

/* Entries in use of a table that can be an L2 table; *ret_does false: it cannot. */
int qd_rep_looks_like_l2(struct rep *r, uint64_t off, bool *ret_does, uint64_t *ret_used, struct qd_err *err);

/* An external data file holds the guest's clusters, each at the guest's offset. */
bool qd_rep_has_data_file(const struct rep *r);

/* Nothing about an L2 entry (its bitmap aside) is impossible in itself. */
bool qd_rep_entry_is_possible(const struct rep *r, uint64_t entry);

/* The cluster that an L2 entry names, a compressed one's first byte; 0: none. */
static inline uint64_t qd_rep_mapped_host(const struct qd_geom *g, uint64_t entry)
{
	return qd_l2_is_compressed(entry) ? qd_l2_compressed(g, entry).host_off : qd_entry_host_off(entry);
}

/*
 * Lists what may be lost L2 tables, once a round, and marks those that the layer, whose L1
 * table is at l1_off, names (repair_orphans.c).  Whoever gives one to an entry marks it.
 */
int qd_rep_list_orphans(struct rep *r, uint32_t layer, uint64_t l1_off, uint64_t nentries,
			struct qd_err *err);

/* NULL: it is none. */
struct qd_rep_orphan *qd_rep_orphan_at(struct rep *r, uint64_t off);

void qd_rep_forget_orphans(struct rep *r);

/*
 * The table that belongs to the L1 entry of f, which is `entry` now; only_one: no other
 * has lost its table.  *ret_off 0: none is known (repair_table.c).
 */
int qd_rep_search_l2(struct rep *r, const struct qd_finding *f, uint64_t entry, bool only_one,
		     uint64_t *ret_off, struct qd_err *err);

/* What is right of a table that is garbage otherwise, in a new cluster; *ret_off 0: nothing. */
int qd_rep_salvage_l2(struct rep *r, const struct qd_finding *f, uint64_t entry, uint64_t *ret_off,
		      struct qd_err *err);

/* L2 tables in use that a table names which can be an L1 table; *ret_used 0: it cannot. */
int qd_rep_looks_like_l1(struct rep *r, uint64_t off, uint64_t nentries, uint64_t *ret_used,
			 struct qd_err *err);

/* The best L1 table: at most one cluster before `hint`, in leaked clusters, or a byte away; *ret_off 0: none.
 */
int qd_rep_search_l1(struct rep *r, uint64_t hint, uint64_t nentries, uint64_t *ret_off, struct qd_err *err);

/* What entries of an L1 table are (repair_l1.c). */
struct qd_rep_l1_weight {
	uint64_t used;		/* not zero */
	uint64_t shaped;	/* of these: as an entry is written, whether or not the file reaches there */
	uint64_t placed;	/* of these: name a cluster where a table can be */
	uint64_t tables;	/* of these: it mostly looks like an L2 table in use */
	uint64_t garbage;	/* it does not, and is not all zeros either */
	bool copied;		/* COPIED somewhere */
};

/* Entries [first, end) of the table at off; tables: look into what they name, too. */
int qd_rep_weigh_l1(struct rep *r, uint64_t off, uint64_t first, uint64_t end, bool tables,
		    struct qd_rep_l1_weight *ret_weight, struct qd_err *err);

/* Does the active L1 table name the cluster of off, and does an L2 table seem to lie there? */
int qd_rep_is_named_table(struct rep *r, uint64_t off, bool *ret_is, struct qd_err *err);

/* The best in leaked clusters that can only be the active layer's; *ret_off 0: none. */
int qd_rep_search_active_l1(struct rep *r, uint64_t nentries, uint64_t *ret_off, struct qd_err *err);

/* Before L1 entries are answered: a layer whose table is none gets its own, if that is found. */
int qd_rep_fix_wrong_l1(struct rep *r, bool *ret_fixed, struct qd_err *err);

/*
 * Looks for another L1 table for the layer of f.  None: nothing is planned, or, if
 * in_the_way, a snapshot's is given up.
 */
int qd_rep_replace_l1(struct rep *r, const struct qd_finding *f, bool in_the_way, struct qd_err *err);

/* A table of exactly `count` snapshots in leaked clusters, or before `hint`. */
int qd_rep_search_snapshots(struct rep *r, uint64_t hint, uint32_t count, uint64_t *ret_off,
			    struct qd_err *err);

/* Reads up to `count` entries at off; *ret_count those that make sense. */
int qd_rep_read_snapshots(struct rep *r, uint64_t off, uint32_t count, struct qd_rep_snapshot *snaps,
			  uint32_t *ret_count, struct qd_err *err);

#endif
