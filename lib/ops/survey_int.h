/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What survey_list.c (which clusters there are) and survey.c (what they hold) share. */
#ifndef QD_OPS_SURVEY_INT_H
#define QD_OPS_SURVEY_INT_H

#include "ops/survey.h"

/*
 * Those whose host offset lies in [lo, hi), sorted by (host offset, entry).  hi comes
 * down when not all fit.
 */
struct survey_list {
	const struct qd_image *img;
	struct qd_surveyed *v;
	uint64_t n;
	uint64_t capacity;
	uint64_t most;		/* clusters that v may hold */
	uint64_t lo, hi;	/* bytes */
	uint64_t sorted;	/* v[0..sorted) is sorted and merged */
	uint64_t bad;		/* entries left out */
};

/* The host byte offset of what the entry names. */
uint64_t survey_host_off(const struct qd_geom *g, const struct qd_surveyed *c);

void survey_list_init(struct survey_list *l, const struct qd_image *img, uint64_t memory);
void survey_list_free(struct survey_list *l);

/* The clusters from byte lo of the file on, as many as fit. */
int survey_list_fill(struct survey_list *l, uint64_t lo, struct qd_err *err);

#endif
