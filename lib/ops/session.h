/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A disk that commands read and write one after the other, as a guest would: `qdedup io`.
 *
 * For reading any image and its backing chain do; for writing it is a qcow2 image, under
 * the exclusive lock, by ops/dedup_write.h.
 */
#ifndef QD_OPS_SESSION_H
#define QD_OPS_SESSION_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "base/io_file.h"

struct qd_session;

struct qd_session_opts {
	const char *path;
	const char *format;		/* "raw", "qcow2"; NULL: the content decides */
	enum qd_cache_mode cache;
	bool read_only;
	bool no_lock;			/* -U: with read_only */
	bool untrusted;			/* open nothing that the image names */
};

int qd_session_open(const struct qd_session_opts *opts, struct qd_session **ret_session, struct qd_err *err);

/* Bytes of the disk. */
uint64_t qd_session_size(const struct qd_session *s);

/* QD_E_INVALID when the range does not lie within the disk, or for a write to a read-only session. */
int qd_session_check(const struct qd_session *s, bool for_writing, uint64_t off, uint64_t nbytes,
		     struct qd_err *err);

/* As in image/write.h; each checks its range as above. */
int qd_session_read(struct qd_session *s, uint64_t off, size_t nbytes, void *buf, struct qd_err *err);
int qd_session_write(struct qd_session *s, uint64_t off, size_t nbytes, const void *buf, struct qd_err *err);
int qd_session_zero(struct qd_session *s, uint64_t off, uint64_t nbytes, struct qd_err *err);
int qd_session_discard(struct qd_session *s, uint64_t off, uint64_t nbytes, struct qd_err *err);
int qd_session_flush(struct qd_session *s, struct qd_err *err);

/* Leaves the file as a crash would; the caller dies now. */
int qd_session_crash(struct qd_session *s, struct qd_err *err);

/* Everything is in the file and on stable storage when it succeeds.  Frees in any case; NULL is allowed. */
int qd_session_close(struct qd_session *s, struct qd_err *err);

#endif
