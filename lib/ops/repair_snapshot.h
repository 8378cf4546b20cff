/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Repairing the snapshot table and what snapshots say of their L1 tables.
 */
#ifndef QD_OPS_REPAIR_SNAPSHOT_H
#define QD_OPS_REPAIR_SNAPSHOT_H

#include "ops/repair_int.h"

/* Findings about the table and its entries. */
int qd_rep_fix_snapshots(struct rep *r, const struct qd_finding *f, struct qd_err *err);

/* The table is not where the header says: searched for, or given up.  believe: unless its content is one. */
int qd_rep_find_snapshots(struct rep *r, const struct qd_finding *f, bool believe, struct qd_err *err);

/*
 * The snapshot stays, with its name and date; it has no L1 table any more and reads as
 * stock QEMU reads one past the end of the file.
 */
int qd_rep_empty_snapshot(struct rep *r, const struct qd_finding *f, uint64_t number, struct qd_err *err);

/* Its table is not where it says: searched for, what is left of it, or given up. */
int qd_rep_find_snapshot_l1(struct rep *r, const struct qd_finding *f, uint64_t number, struct qd_err *err);

/* It is not where it says, but something else: searched for; in_the_way: else given up. */
int qd_rep_replace_snapshot_l1(struct rep *r, const struct qd_finding *f, uint64_t number, bool in_the_way,
			       struct qd_err *err);

/* Snapshots' L1 tables that lie where something else does move to places of their own. */
int qd_rep_separate_snapshots(struct rep *r, const struct qd_finding *f, struct qd_err *err);

#endif
