/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What clusters_list.c (which clusters there are) and clusters.c (what they hold) share. */
#ifndef QD_OPS_CLUSTERS_INT_H
#define QD_OPS_CLUSTERS_INT_H

#include "ops/clusters.h"

/*
 * Those whose host offset lies in [lo, hi), sorted by (host offset, entry).  hi comes
 * down when not all fit.
 */
struct cluster_list {
	const struct qd_image *img;
	struct qd_cluster *v;
	uint64_t n;
	uint64_t capacity;
	uint64_t most;		/* clusters that v may hold */
	uint64_t lo, hi;	/* bytes */
	uint64_t sorted;	/* v[0..sorted) is sorted and merged */
	uint64_t bad;		/* entries left out */
};

/* The host byte offset of what the entry names. */
uint64_t cluster_host_off(const struct qd_geom *g, const struct qd_cluster *c);

void cluster_list_init(struct cluster_list *l, const struct qd_image *img, uint64_t memory);
void cluster_list_free(struct cluster_list *l);

/* The clusters from byte lo of the file on, as many as fit. */
int cluster_list_fill(struct cluster_list *l, uint64_t lo, struct qd_err *err);

#endif
