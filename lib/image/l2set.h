/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L2 tables of an image, each once, in the order they lie on the host, with who
 * refers to them: what anything needs that walks all metadata sequentially.
 *
 *	L1 tables, layer by layer --> references --sort, merge--> by host cluster
 *
 *	cluster  7   active L1 entry 3
 *	         9   active L1 entry 0
 *	         9   snapshots, 4 references, the first one is entry 0 of layer 2
 *	        12   pin, 1 reference
 *
 * References of the active layer stay one by one, because each has a COPIED flag; those
 * of all snapshots merge to one record per table, those of the pin likewise.  So memory
 * grows with the number of tables, not with the number of snapshots.
 */
#ifndef QD_IMAGE_L2SET_H
#define QD_IMAGE_L2SET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

enum qd_l2_class { QD_L2_ACTIVE, QD_L2_PIN, QD_L2_SNAPSHOT };

struct qd_l2ref {
	uint64_t cluster;	/* host cluster of the table */
	uint32_t l1_index;	/* of the first reference */
	uint32_t layer;		/* likewise: 0 active, n snapshot number n - 1 */
	uint32_t nrefs;
	uint8_t class;		/* enum qd_l2_class */
	bool copied;		/* active: the L1 entry's flag */
	bool bad;		/* not a table: set by the owner of the set */
};

struct qd_l2set {
	struct qd_l2ref *v;	/* sorted by (cluster, class, l1_index) after qd_l2set_finish */
	size_t n;
	size_t capacity;
	size_t sorted;		/* v[0..sorted) is sorted and merged, the rest as added */
	uint64_t limit;		/* bytes that v may take */
};

void qd_l2set_init(struct qd_l2set *set, uint64_t limit);
void qd_l2set_free(struct qd_l2set *set);

/* QD_E_NOMEM when the set does not fit its limit. */
int qd_l2set_add(struct qd_l2set *set, const struct qd_l2ref *ref, struct qd_err *err);

/*
 * Call when a layer's L1 table is complete.  dup(ctx, first, second) is told about two
 * references of that layer to one table (once for each after the first).
 */
int qd_l2set_end_layer(struct qd_l2set *set, size_t first_of_layer,
		       int (*dup)(void *ctx, const struct qd_l2ref *first, const struct qd_l2ref *second),
		       void *ctx);

void qd_l2set_finish(struct qd_l2set *set);

/* The records of one table: v[first..*ret_end) have the cluster of v[first]. */
static inline size_t qd_l2set_group(const struct qd_l2set *set, size_t first)
{
	size_t end = first + 1;

	while (end < set->n && set->v[end].cluster == set->v[first].cluster)
		end++;
	return end;
}

/* Index of the first record with a cluster >= the one given. */
size_t qd_l2set_lower_bound(const struct qd_l2set *set, uint64_t cluster);

#endif
