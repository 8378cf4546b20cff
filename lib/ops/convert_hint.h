/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Would smaller clusters have made a smaller image?  Answered on the side while the data is in
 * memory: a few of the smaller pieces are hashed, chosen by their content so that equal
 * pieces are chosen alike, and counted by dedup/sampler.h.
 *
 *	cluster    |  64K                              |
 *	pieces     | 4K | 4K | 4K ...      each: five words of it decide whether it is chosen
 *
 * Pieces of zeros do not count.  What the answer is does not depend on threads.
 */
#ifndef QD_OPS_CONVERT_HINT_H
#define QD_OPS_CONVERT_HINT_H

#include <stdint.h>

#include "dedup/sampler.h"

#define QD_HINT_MIN 4096u		/* smallest cluster size that is thought of */
#define QD_HINT_NSIZES 4u		/* 4K, 8K, 16K, 32K */
#define QD_HINT_GAIN_PERCENT 3u		/* what it must save at least */

struct qd_hint {
	uint64_t cluster_size;		/* of the image */
	unsigned nsizes;		/* pieces that are smaller */
	unsigned rate;			/* one content in so many is chosen: a power of two */
	struct qd_sampler samplers[QD_HINT_NSIZES];
};

struct qd_hint_sample {			/* of one batch: owned by its job */
	uint64_t *hashes[QD_HINT_NSIZES];
	uint32_t n[QD_HINT_NSIZES];
	uint32_t capacity[QD_HINT_NSIZES];
};

/* disk_nbytes: of the guest disk, 0 while unknown.  nsizes is 0 where there is nothing smaller. */
int qd_hint_init(struct qd_hint *h, uint64_t cluster_size, uint64_t disk_nbytes, struct qd_err *err);
void qd_hint_free(struct qd_hint *h);

void qd_hint_sample_free(struct qd_hint_sample *s);

/* Chooses among the pieces of a cluster; by any thread, each with a sample of its own. */
int qd_hint_look(const struct qd_hint *h, const uint8_t *data, struct qd_hint_sample *s, struct qd_err *err);

/* Adds what was chosen, and empties s.  One thread at a time. */
void qd_hint_take(struct qd_hint *h, struct qd_hint_sample *s);

struct qd_hint_image {			/* the image that was written */
	uint64_t references;		/* guest clusters that hold data */
	uint64_t distinct;		/* clusters stored */
	uint32_t record_nbytes;		/* of the hash table, for each; 0: there is none */
};

/*
 * The cluster size that would have saved most, surely QD_HINT_GAIN_PERCENT of data and tables, and
 * about how many bytes; 0 when there is none.
 */
uint64_t qd_hint_answer(const struct qd_hint *h, const struct qd_hint_image *image, uint64_t *ret_saved);

#endif
