/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Findings: what a check says, as data.
 *
 * The kinds are rows of one table (finding.c): slug, severity, whether a repair exists,
 * wording.  A finder fills type, place and the values that the wording names and knows
 * nothing of text; whoever shows findings knows nothing of qcow2.
 *
 *	finder --struct qd_finding--> callback --> qd_finding_where, qd_finding_detail --> text, JSON
 *
 * A finding may stand for a run of neighbours (nitems clusters or entries) that say the
 * same, so that half an image leaked is one finding and not a million.
 */
#ifndef QD_OPS_FINDING_H
#define QD_OPS_FINDING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum qd_severity {
	QD_SEV_NOTE,		/* worth knowing, nothing wrong */
	QD_SEV_LEAK,		/* space is lost, no more */
	QD_SEV_CORRUPTION,	/* data is wrong, or will be after the next write */
	QD_SEV_ERROR,		/* something could not be judged: the check is incomplete */
};

enum qd_finding_type {
	/* the file and its header */
	QD_F_UNREADABLE,
	QD_F_DIRTY,
	QD_F_CORRUPT_BIT,
	QD_F_HEADER_LENGTH,
	QD_F_HEADER_FEATURE,
	QD_F_HEADER_GEOMETRY,
	QD_F_HEADER_COMPRESSION,
	QD_F_HEADER_DATA_FILE,
	QD_F_HEADER_CRYPT,
	QD_F_HEADER_BACKING,
	QD_F_HEADER_EXTENSION,
	QD_F_HEADER_SIZE,
	QD_F_CRYPTO_HEADER,
	/* refcount table and blocks */
	QD_F_REFTABLE_SIZE,
	QD_F_REFTABLE_UNALIGNED,
	QD_F_REFTABLE_PAST_END,
	QD_F_REFBLOCK_RESERVED,
	QD_F_REFBLOCK_UNALIGNED,
	QD_F_REFBLOCK_PAST_END,
	QD_F_REFBLOCK_SHARED,
	/* snapshot table */
	QD_F_SNAPSHOT_COUNT,
	QD_F_SNAPSHOT_TABLE,
	QD_F_SNAPSHOT_ENTRY,
	QD_F_SNAPSHOT_EXTRA,
	QD_F_SNAPSHOT_DUPLICATE,
	QD_F_SNAPSHOT_DATA_FILE,
	/* bitmaps */
	QD_F_BITMAP_STALE,
	QD_F_BITMAP_IN_USE,
	QD_F_BITMAP_EXTENSION,
	QD_F_BITMAP_DIRECTORY,
	QD_F_BITMAP_ENTRY,
	QD_F_BITMAP_TABLE,
	QD_F_BITMAP_TABLE_ENTRY,
	/* L1 tables and their entries */
	QD_F_L1_SIZE,
	QD_F_L1_UNALIGNED,
	QD_F_L1_PAST_END,
	QD_F_L1_ENTRY_RESERVED,
	QD_F_L1_ENTRY_UNALIGNED,
	QD_F_L1_ENTRY_PAST_END,
	QD_F_L1_ENTRY_OVERLAP,
	QD_F_L2_GARBAGE,
	QD_F_L2_SHARED,
	QD_F_L1_COPIED_SET,
	QD_F_L1_COPIED_CLEAR,
	/* L2 entries */
	QD_F_L2_ENTRY_RESERVED,
	QD_F_L2_ENTRY_UNALIGNED,
	QD_F_L2_ENTRY_PAST_END,
	QD_F_L2_ENTRY_OVERLAP,
	QD_F_L2_ENTRY_ZERO,
	QD_F_L2_ENTRY_DATA_FILE,
	QD_F_SUBCLUSTERS,
	QD_F_COMPRESSED_COPIED,
	QD_F_COMPRESSED_PAST_END,
	QD_F_COMPRESSED_OVERLAP,
	QD_F_COMPRESSED_DATA_FILE,
	QD_F_COMPRESSED_SUBCLUSTERS,
	QD_F_COPIED_SET,
	QD_F_COPIED_CLEAR,
	/* two structures at one place */
	QD_F_OVERLAP,
	/* refcounts */
	QD_F_REFCOUNT_LOW,
	QD_F_REFCOUNT_OVERFLOW,
	QD_F_REFCOUNT_HIGH,
	QD_F_LEAK,
	QD_F_REFCOUNT_PAST_END,
	/* the pin */
	QD_F_UNPINNED,
	/* the index */
	QD_F_PINNED_TWICE,
	QD_F_INDEX_STALE,
	QD_F_INDEX_BLOCK,
	QD_F_INDEX_RECORD,
	QD_F_INDEX_JOURNAL,
	QD_F_NTYPES,
};

/* What a place is; the numbers beside it say which. */
enum qd_place_kind {
	QD_AT_HEADER,
	QD_AT_REFTABLE,		/* the table */
	QD_AT_REFTABLE_ENTRY,	/* index */
	QD_AT_SNAPSHOT_TABLE,
	QD_AT_SNAPSHOT,		/* index: number in the table, from 0 */
	QD_AT_BITMAPS,		/* the directory */
	QD_AT_BITMAP,		/* index: number in the directory, from 0 */
	QD_AT_BITMAP_ENTRY,	/* layer: number of the bitmap; index: entry of its table */
	QD_AT_L1,		/* layer */
	QD_AT_L1_ENTRY,		/* layer, index, guest_off */
	QD_AT_GUEST,		/* layer, guest_off: an L2 entry */
	QD_AT_HOST,		/* host_off */
};

#define QD_NOWHERE UINT64_MAX

struct qd_place {
	enum qd_place_kind kind;
	uint32_t layer;		/* 0: active; n: snapshot number n - 1 */
	uint64_t index;
	uint64_t guest_off;	/* bytes; QD_NOWHERE: none */
	uint64_t host_off;	/* bytes, of what is concerned; QD_NOWHERE: none */
};

#define QD_FINDING_NVALUES 3

struct qd_finding {
	enum qd_finding_type type;
	struct qd_place place;	/* of the first item */
	uint64_t nitems;	/* neighbours that say the same; each counts */
	uint64_t value[QD_FINDING_NVALUES];
	const char *label;	/* ID and name of the snapshot or bitmap concerned, a reason, or NULL; not kept */
};

struct qd_finding_kind {
	const char *slug;
	enum qd_severity severity;
	bool repairable;
	const char *summary;	/* one line about all findings of the kind */
	/*
	 * About one: %x0 is value[0] in hex, %u0 decimal, %s0 the name of a structure of that
	 * kind, %t0 likewise with its number, which is value[1]; %l0 the label.
	 */
	const char *detail;
};

const struct qd_finding_kind *qd_finding_kind(enum qd_finding_type type);

/* What the user can do about a kind that no repair puts right; NULL: nothing is known, or a repair exists. */
const char *qd_finding_advice(enum qd_finding_type type);

/* "note", "leak", "corruption", "error" */
const char *qd_severity_name(enum qd_severity severity);

/* "snapshot 1, guest 0x30000..0x50000"; returns buf. */
const char *qd_finding_where(const struct qd_finding *f, uint64_t cluster_size, char *buf, size_t buf_size);

/* "entry 0x8000000000050000 points past the end of the file"; returns buf. */
const char *qd_finding_detail(const struct qd_finding *f, char *buf, size_t buf_size);

/*
 * Extends *run by *next when that is its neighbour and says the same; false when it is
 * not.  cluster_size and l2_entries say what a neighbour is.
 */
bool qd_finding_merge(struct qd_finding *run, const struct qd_finding *next, uint64_t cluster_size);

#endif
