/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Filling struct qd_err.  Texts are formatted into a local buffer first, because the
 * arguments may point into the very struct that is being filled.  Texts that are too
 * long are cut, never refused.
 */
#include "base/err.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>

static void put_msg(struct qd_err *err, int code, int sys_errno, const char *msg)
{
	err->code = code;
	err->sys_errno = sys_errno;
	snprintf(err->msg, sizeof(err->msg), "%s", msg);
	err->file[0] = '\0';
}

/* "first: second", where a long `first` gives way so that `second` survives. */
static void join_msg(char *dst, size_t dst_size, const char *first, const char *second)
{
	size_t second_len = strnlen(second, dst_size / 2);
	size_t room = dst_size - second_len - sizeof(": ");

	snprintf(dst, dst_size, "%.*s: %.*s", (int)room, first, (int)second_len, second);
}

void qd_err_clear(struct qd_err *err)
{
	if (!err)
		return;
	err->code = QD_OK;
	err->sys_errno = 0;
	err->msg[0] = '\0';
	err->file[0] = '\0';
}

int qd_err_set(struct qd_err *err, int code, const char *fmt, ...)
{
	char msg[QD_ERR_MSG_MAX];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(msg, sizeof(msg), fmt, ap);
	va_end(ap);
	put_msg(err, code, 0, msg);
	return code;
}

int qd_err_sys(struct qd_err *err, int sys_errno, const char *fmt, ...)
{
	int code = sys_errno == ENOMEM ? QD_E_NOMEM : QD_E_IO;
	char text[128], what[QD_ERR_MSG_MAX], msg[QD_ERR_MSG_MAX];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(what, sizeof(what), fmt, ap);
	va_end(ap);
	join_msg(msg, sizeof(msg), what, strerror_r(sys_errno, text, sizeof(text)));
	put_msg(err, code, code == QD_E_IO ? sys_errno : 0, msg);
	return code;
}

int qd_err_prefix(struct qd_err *err, int code, const char *fmt, ...)
{
	char prefix[QD_ERR_MSG_MAX], msg[QD_ERR_MSG_MAX];
	va_list ap;

	if (!err)
		return code;
	va_start(ap, fmt);
	vsnprintf(prefix, sizeof(prefix), fmt, ap);
	va_end(ap);
	join_msg(msg, sizeof(msg), prefix, err->msg);
	memcpy(err->msg, msg, sizeof(msg));
	return err->code;
}

int qd_err_file(struct qd_err *err, int code, const char *path)
{
	if (err && err->file[0] == '\0')
		snprintf(err->file, sizeof(err->file), "%s", path);
	return code;
}

int qd_err_nomem(struct qd_err *err, const char *what)
{
	return qd_err_set(err, QD_E_NOMEM, "out of memory for %s", what);
}

void qd_err_copy(struct qd_err *dst, const struct qd_err *src)
{
	if (!dst || dst == src)
		return;
	if (src)
		*dst = *src;
	else
		qd_err_clear(dst);
}
