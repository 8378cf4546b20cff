/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the check share; check.c tells the whole story.
 */
#ifndef QD_OPS_CHECK_INT_H
#define QD_OPS_CHECK_INT_H

#include "base/bytes.h"
#include "format/entry.h"
#include "format/header.h"
#include "image/l2set.h"
#include "ops/check.h"
#include "space/counts.h"
#include "space/overlap.h"

/* A refcount table entry that cannot be used: the counts of its clusters are not known. */
#define CHK_UNKNOWN_BLOCK 1u

struct qd_chk_snapshot {
	uint64_t l1_off;
	uint32_t l1_entries;
	uint64_t mapped_size;	/* bytes of disk and VM state */
	uint64_t id_hash;
	char *label;		/* ID and name, for people */
};

struct chk {
	struct qd_io *io;
	const struct qd_check_opts *opts;
	struct qd_progress *progress;
	struct qd_check_result *result;
	unsigned threads;
	uint64_t memory;

	uint64_t file_size;	/* bytes, up to a full sector: what QEMU goes by */
	uint64_t nclusters;	/* host clusters, a last one in part included */
	struct qd_header header;
	struct qd_geom geom;
	bool data_file;
	bool has_bitmaps;	/* extension and autoclear bit */
	uint64_t bitmap_count;
	uint64_t bitmap_dir_off;
	uint64_t bitmap_dir_size;

	uint64_t *reftable;	/* offsets of blocks, 0: none, or CHK_UNKNOWN_BLOCK */
	uint64_t reftable_entries;
	bool no_refcounts;	/* the table itself cannot be used: no count is judged */

	struct qd_chk_snapshot *snapshots;
	uint32_t nsnapshots;
	uint32_t pin_layer;	/* 0: none */

	struct qd_extents extents;
	struct qd_l2set l2;
	struct qd_counts *counts;
	bool local_done;	/* what an L2 entry says by itself has been reported */
	bool found_garbage;	/* some L2 table turned out to be none: count again */
	bool need_report;	/* some COPIED flag is wrong, or metadata is named by an L2 entry */
	uint64_t past_last;	/* last cluster in use + 1 */

	struct qd_finding run;	/* not yet told */
	bool have_run;
};

/* Buffers of the parallel phases: how large, at least `least` bytes, and how many. */
size_t qd_chk_buffer_size(const struct chk *c, uint64_t least);
unsigned qd_chk_njobs(const struct chk *c, size_t buffer_size);

/*
 * A list of findings, filled by one thread.  One that is full still takes what it is given:
 * who fills it in a pipeline stops there, and goes on in the commit stage, where the list
 * has been told and is empty again.
 */
struct qd_chk_list {
	struct qd_finding *v;
	size_t n;
	size_t capacity;
	size_t floor;		/* findings before this one are not extended any more */
	size_t most;		/* findings: full */
	bool failed;		/* out of memory */
	uint64_t cluster_size;
};

/* All njobs lists together take a sixteenth of the memory. */
void qd_chk_list_init(struct qd_chk_list *list, const struct chk *c, unsigned njobs);

void qd_chk_list_add(struct qd_chk_list *list, const struct qd_finding *f);

static inline bool qd_chk_list_is_full(const struct qd_chk_list *list)
{
	return list->n >= list->most;
}

/* Tells what is in the list and empties it. */
int qd_chk_list_emit(struct chk *c, struct qd_chk_list *list, struct qd_err *err);

void qd_chk_emit(struct chk *c, const struct qd_finding *f);

/* Shorthand for findings that stand alone. */
void qd_chk_found(struct chk *c, enum qd_finding_type type, enum qd_place_kind at, uint64_t index,
		  uint64_t v0, uint64_t v1, uint64_t v2);

/* The label of a layer's snapshot, or NULL. */
const char *qd_chk_label(const struct chk *c, uint32_t layer);

/* QEMU's rule: a structure may reach past the end of the file by less than one cluster. */
bool qd_chk_in_file(const struct chk *c, uint64_t off, uint64_t nbytes);

/* Notes that a structure lies there; in the file, nbytes > 0. */
int qd_chk_add_struct(struct chk *c, uint64_t off, uint64_t nbytes, enum qd_struct_kind kind, uint32_t id,
		      struct qd_err *err);

/*
 * Reads; what lies past the end of the file is zeros.  When the device fails, *ret_ok is
 * false, the buffer is zeros and the caller reports it; qd_chk_read does that itself and is
 * for one thread.
 */
int qd_chk_try_read(struct chk *c, void *buf, size_t nbytes, uint64_t off, bool *ret_ok, struct qd_err *err);
int qd_chk_read(struct chk *c, void *buf, size_t nbytes, uint64_t off, bool *ret_ok, struct qd_err *err);

/* The phases; each returns 0, 1 when the check must end here, or an error. */
int qd_chk_header(struct chk *c, struct qd_err *err);
int qd_chk_reftable(struct chk *c, struct qd_err *err);
int qd_chk_snapshots(struct chk *c, struct qd_err *err);
int qd_chk_bitmaps(struct chk *c, struct qd_err *err);
int qd_chk_l1_tables(struct chk *c, struct qd_err *err);
int qd_chk_overlaps(struct chk *c, struct qd_err *err);

/* What the entries of an L2 table are, for telling whether it is one. */
struct qd_chk_l2_look {
	uint64_t used;		/* not zero */
	uint64_t mapped;	/* name a place within the file */
	uint64_t impossible;	/* no program can have written them */
};
struct qd_chk_l2_look qd_chk_look_at_l2(const struct chk *c, const uint8_t *bytes);

static inline bool qd_chk_is_garbage(const struct qd_chk_l2_look *l)
{
	return (l->impossible >= 4 || (l->impossible && l->mapped == 0)) && l->impossible * 2 > l->used;
}

/* One L2 table and whom it belongs to. */
struct qd_chk_table {
	struct chk *c;
	struct qd_chk_list *found;
	const uint8_t *bytes;
	const struct qd_l2ref *ref;	/* the first */
	bool local;			/* report what entries say by themselves */
	uint64_t plain_mask;		/* bits that may be set in a plain entry */
	uint64_t nrefs;
	uint64_t nactive;
	unsigned flags;			/* for the counts, without COPIED and CLEAR */
	/* results of qd_chk_count_table: entries */
	uint64_t impossible;
	uint64_t allocated;
	uint64_t fragmented;
	uint64_t compressed;
	uint64_t contiguous;		/* host offset that would continue the run; 0: none yet */
};

void qd_chk_count_table(struct qd_chk_table *t);

/* Reports on entries from number `first` on, until the list is full; the number of the next entry. */
uint64_t qd_chk_report_table(const struct qd_chk_table *t, uint64_t first);

enum qd_chk_walk { CHK_WALK_COUNT, CHK_WALK_REPORT };
int qd_chk_walk_l2(struct chk *c, enum qd_chk_walk mode, struct qd_err *err);

/* Chunks [first, end) of the counts: compares them, or replaces each byte by its verdict. */
#define CHK_VERDICT_SOLE 1u	/* refcount 1 */
#define CHK_VERDICT_META 2u
#define CHK_VERDICT_UNKNOWN 4u
enum qd_chk_pass { CHK_PASS_COMPARE, CHK_PASS_VERDICT };
int qd_chk_refcounts(struct chk *c, enum qd_chk_pass pass, uint64_t first, uint64_t end, struct qd_err *err);

#endif
