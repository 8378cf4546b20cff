/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A number for each of some entries: open addressing, 32 bytes an entry at most.  Entry 0 names
 * no cluster and marks free slots.
 */
#ifndef QD_DEDUP_ENTRY_MAP_H
#define QD_DEDUP_ENTRY_MAP_H

#include <stdint.h>

#include "base/err.h"

#define QD_ENTRY_MAP_NONE UINT64_MAX

struct qd_entry_map {			/* all zero: empty */
	struct qd_entry_slot {
		uint64_t entry;
		uint64_t value;
	} *slots;
	uint64_t nslots;		/* 0, or a power of two */
	uint64_t used;
};

/* In place of what the entry had. */
int qd_entry_map_set(struct qd_entry_map *m, uint64_t entry, uint64_t value, struct qd_err *err);

/* QD_ENTRY_MAP_NONE: there is none. */
uint64_t qd_entry_map_get(const struct qd_entry_map *m, uint64_t entry);

void qd_entry_map_free(struct qd_entry_map *m);

#endif
