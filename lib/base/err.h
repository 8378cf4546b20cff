/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors: what every function of the library returns when it fails.
 *
 * A function returns 0 or a negative QD_E_* and fills an optional struct qd_err
 * (NULL is allowed everywhere).  Setting an error returns its code, so that a check
 * is one statement:
 *
 *	if (bits < 9)
 *		return qd_err_set(err, QD_E_CORRUPT, "header: cluster_bits is %u, expected 9..21", bits);
 *
 * The codes lead a user to different actions and are kept apart.  The message is
 * lower case, without full stop and without the file name; the file it is about is a
 * field of its own, set once by the layer that knows it (the innermost wins).
 */
#ifndef QD_BASE_ERR_H
#define QD_BASE_ERR_H

#include <stdarg.h>

enum qd_error {
	QD_OK = 0,
	QD_E_CORRUPT = -1,	/* breaks the qcow2 specification (or our own format) */
	QD_E_UNSUPPORTED = -2,	/* legal, but refused by name */
	QD_E_IO = -3,		/* the system refused: errno is in sys_errno */
	QD_E_NOMEM = -4,	/* out of memory, or over the memory budget */
	QD_E_INVALID = -5,	/* the caller asked for something impossible */
	QD_E_BUSY = -6,		/* somebody else holds the image's lock */
	QD_E_CANCELLED = -7,	/* the progress callback asked to stop */
};

#define QD_ERR_MSG_MAX 1024
#define QD_ERR_FILE_MAX 4096

struct qd_err {
	int code;			/* enum qd_error */
	int sys_errno;			/* errno of a QD_E_IO, else 0 */
	char msg[QD_ERR_MSG_MAX];
	char file[QD_ERR_FILE_MAX];	/* "" when no file is concerned */
};

/* Resets to "no error". */
void qd_err_clear(struct qd_err *err);

/* Sets code and message and clears the file; returns code. */
int qd_err_set(struct qd_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), nonnull(3)));

/*
 * Sets an I/O error: the message gets ": strerror(sys_errno)" appended.
 * sys_errno is positive.  Returns QD_E_IO (QD_E_NOMEM for ENOMEM).
 */
int qd_err_sys(struct qd_err *err, int sys_errno, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), nonnull(3)));

/* Puts "prefix: " before the message that is there; returns err's code or `code` if err is NULL. */
int qd_err_prefix(struct qd_err *err, int code, const char *fmt, ...)
	__attribute__((format(printf, 3, 4), nonnull(3)));

/* Names the file concerned unless an inner layer did; returns `code`. */
int qd_err_file(struct qd_err *err, int code, const char *path);

/* Out of memory while allocating `what`; returns QD_E_NOMEM. */
int qd_err_nomem(struct qd_err *err, const char *what);

/* Copies src to dst; both may be NULL. */
void qd_err_copy(struct qd_err *dst, const struct qd_err *src);

#endif
