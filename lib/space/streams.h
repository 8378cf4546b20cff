/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often each compressed cluster is referenced: descriptors counted exactly, in
 * bounded memory.
 *
 * The caller offers every descriptor; those whose stream starts within the range of
 * this pass are kept.  When they do not fit, the pass fails and the caller makes
 * further ones over narrower ranges.
 */
#ifndef QD_SPACE_STREAMS_H
#define QD_SPACE_STREAMS_H

#include "format/header.h"
#include "space/usage.h"

struct qd_streams;

int qd_streams_new(const struct qd_geom *g, uint64_t memory, struct qd_streams **ret_streams, struct qd_err *err);
void qd_streams_free(struct qd_streams *s);

/* Starts a pass over host offsets [lo, hi). */
void qd_streams_begin(struct qd_streams *s, uint64_t lo, uint64_t hi);

/* entry: an L2 entry with the compressed flag. */
int qd_streams_add(struct qd_streams *s, uint64_t entry, uint64_t references, bool pinned, struct qd_err *err);

/*
 * Ends the pass: true, and *sum, *stored (bytes of the streams that are referenced) and
 * *saved (bytes that each reference after the first does not take) grow by what it
 * found; false when it did not fit.
 */
bool qd_streams_end(struct qd_streams *s, struct qd_usage_sum *sum, uint64_t *stored, uint64_t *saved);

/* A width of range that will probably fit, the last complete offer having been so large. */
uint64_t qd_streams_guess(const struct qd_streams *s, uint64_t file_size);

#endif
