/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the metadata of an image says about its clusters, counted: the guest's view of
 * the active layer, and who references which host cluster in all layers.
 *
 * Damage does not stop the count: entries that cannot be true are left out and
 * numbered in `bad`.
 */
#ifndef QD_OPS_CENSUS_H
#define QD_OPS_CENSUS_H

#include "image/image.h"
#include "space/usage.h"

struct qd_census {
	/* Active layer, guest clusters. */
	uint64_t guest_clusters;
	uint64_t guest_allocated;	/* hold data, plain or compressed */
	uint64_t guest_compressed;	/* of those */
	uint64_t guest_zero;		/* marked as zeros */
	uint64_t mapped;		/* plain, preallocated or compressed: what fragmentation is a share of */
	uint64_t fragmented;		/* not following the one before; every compressed one */

	/* All layers; the pin counts only as `pinned`, what it holds of the index as metadata. */
	struct qd_usage_sum data;	/* host clusters of data; compressed ones: descriptors */
	uint64_t data_nbytes;		/* that they take; streams in whole sectors */
	uint64_t saved_nbytes;		/* what each reference after the first would take */
	uint64_t metadata_clusters;
	uint64_t preallocated;		/* host clusters kept for guest clusters that read as zeros */
	uint64_t bad;			/* entries left out */
	struct qd_usage *usage;		/* every host cluster in use */
};

/* memory bounds the counts.  qd_census_free in every case. */
int qd_census_take(const struct qd_image *img, uint64_t memory, struct qd_census *ret_census,
		   struct qd_err *err);
void qd_census_free(struct qd_census *census);

#endif
