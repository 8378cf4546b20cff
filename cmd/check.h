/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What qdedup check collects, and how it is shown.
 */
#ifndef QD_CMD_CHECK_H
#define QD_CMD_CHECK_H

#include "cmd.h"
#include "ops/check_index.h"
#include "ops/repair.h"

/* A finding worth showing; the texts are owned. */
struct shown {
	struct qd_finding f;
	char *where;
	char *detail;
};

struct kind {
	struct shown *first;	/* up to the limit */
	size_t n;
	uint64_t runs;		/* findings told, shown or not */
};

struct check_args {
	bool verbose;
	size_t limit;		/* findings kept of each kind */
	struct kind kinds[QD_F_NTYPES];
	struct qd_check_result result;
	struct qd_index_check index;	/* of the image as it was */
	bool index_dropped;		/* or it would be */
	bool index_rebuilt;
	uint64_t replayed;		/* writes of the journal that were completed first */
	bool failed;		/* out of memory */
	/* repair */
	bool repair;
	bool dry_run;
	enum qd_repair_what what;
	const char *save_metadata;
	const struct options *options;
	struct qd_newfile *save;		/* until it has its name */
	struct kind planned[QD_REPAIR_NVERBS];
	uint64_t nplanned[QD_REPAIR_NVERBS];	/* items */
	struct qd_repair_result repaired;
};

/* Callbacks of the library: kept to be shown later, or shown as they come (-v). */
void check_keep(void *ctx, const struct qd_finding *f, uint64_t cluster_size);
void check_keep_planned(void *ctx, enum qd_repair_verb verb, const struct qd_finding *f,
			uint64_t cluster_size);
void check_put_at_once(void *ctx, const struct qd_finding *f, uint64_t cluster_size);
void check_put_planned_at_once(void *ctx, enum qd_repair_verb verb, const struct qd_finding *f,
			       uint64_t cluster_size);

json_t *check_json(const char *path, const struct check_args *args);

/* Findings of the image as it was, the plan, and why there is none. */
void check_put_repairs(const struct check_args *args, const struct qd_repair_result *r);
void check_put(const struct options *o, const struct check_args *args);
void check_free(struct check_args *args);

#endif
