/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A writer with the image's index behind it: writes are deduplicated while there is a valid,
 * embedded index, and its log is packed or merged when it fills up.
 *
 *	open --first change--> refcounts that may be too low: refused (ops/soundness.h)
 *	                       no index that holds: a plain writer
 *	                       index without journal: it gets one
 *	                       index: loaded (dedup/live.h), the writer's hook
 *
 * An index that does not hold, one in a file of its own, and images with extended L2 entries
 * are written to as if there were none: the index is partial afterwards.
 */
#ifndef QD_OPS_DEDUP_WRITE_H
#define QD_OPS_DEDUP_WRITE_H

#include "image/write.h"

struct qd_dedup_write;

/* io (writable) and backing stay the caller's and outlive it. */
int qd_dedup_write_open(struct qd_io *io, const struct qd_disk *backing, struct qd_dedup_write **ret_dw,
			struct qd_err *err);

/* The image as it was when it was last opened; changes with each write. */
const struct qd_image *qd_dedup_write_image(const struct qd_dedup_write *dw);

/* True while writes are deduplicated. */
bool qd_dedup_write_is_live(const struct qd_dedup_write *dw);

/* As in image/write.h. */
uint64_t qd_dedup_write_size(const struct qd_dedup_write *dw);
int qd_dedup_write_read(struct qd_dedup_write *dw, uint64_t off, size_t nbytes, void *buf,
			struct qd_err *err);
int qd_dedup_write_write(struct qd_dedup_write *dw, uint64_t off, size_t nbytes, const void *buf,
			 struct qd_err *err);
int qd_dedup_write_zero(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes, struct qd_err *err);
int qd_dedup_write_discard(struct qd_dedup_write *dw, uint64_t off, uint64_t nbytes, struct qd_err *err);
int qd_dedup_write_flush(struct qd_dedup_write *dw, struct qd_err *err);
int qd_dedup_write_crash(struct qd_dedup_write *dw, struct qd_err *err);
int qd_dedup_write_close(struct qd_dedup_write *dw, struct qd_err *err);

#endif
