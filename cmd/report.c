/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Errors, warnings and notes: one line each on stderr, written in one piece.
 *
 *	qdedup convert: disk.qcow2: header: cluster_bits is 40, expected 9..21
 *	{"error": {"message": "...", "file": "disk.qcow2"}}		with --output=json
 *
 * The whole line passes text_put, because messages quote what images and users wrote.
 */
#include <errno.h>
#include <signal.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"

static struct {
	const char *command;	/* NULL: no command yet */
	bool json;
	int failed;
} who = { .failed = 1 };

void report_begin(const struct cmd *cmd, bool json)
{
	who.command = cmd->name;
	who.failed = cmd->failed;
	who.json = json;
}

static void write_stderr(const char *text, size_t nbytes)
{
	while (nbytes > 0) {
		ssize_t n = write(STDERR_FILENO, text, nbytes);

		if (n < 0 && errno == EINTR)
			continue;
		if (n <= 0)
			return;
		text += n;
		nbytes -= (size_t)n;
	}
}

static void print_json(FILE *out, const char *file, const char *message)
{
	json_t *inner = json_object();
	json_t *outer = json_object();
	char *text = NULL;

	if (output_set(inner, "message", text_json(message)) &&
	    output_set(inner, "file", *file ? text_json(file) : json_null()) &&
	    output_set(outer, "error", json_incref(inner)))
		text = json_dumps(outer, JSON_ENSURE_ASCII);
	fprintf(out, "%s\n", text ? text : "{\"error\": {\"message\": \"out of memory\", \"file\": null}}");
	free(text);
	json_decref(inner);
	json_decref(outer);
}

/* "qdedup [COMMAND]: [FILE:] [KIND:] message", and the JSON line for an error that wants one. */
static void print_line(const char *file, const char *kind, const char *message, bool json)
{
	char *line = NULL;
	size_t nbytes = 0;
	FILE *out = open_memstream(&line, &nbytes);

	progress_break();
	if (!out) {
		write_stderr("qdedup: out of memory\n", 22);
		return;
	}
	fprintf(out, "qdedup%s%s: ", who.command ? " " : "", who.command ? who.command : "");
	if (file && *file) {
		text_put(out, file);
		fputs(": ", out);
	}
	fputs(kind, out);
	text_put(out, message);
	putc('\n', out);
	if (json)
		print_json(out, file ? file : "", message);
	if (fclose(out) == 0)
		write_stderr(line, nbytes);
	free(line);
}

/*
 * The signal that explains a failure, or 0: a stop that was asked for, a descriptor that
 * signals_release took away, or a closed pipe, which the library's threads meet as EPIPE
 * alone because signals are blocked there.
 */
static int interruption(const struct qd_err *err)
{
	if (err->sys_errno == EPIPE)
		return SIGPIPE;
	if (err->code == QD_E_CANCELLED || err->sys_errno == EINTR || err->sys_errno == EBADF)
		return signals_caught();
	return 0;
}

int report_error(const struct qd_err *err)
{
	int signo = interruption(err);

	if (signo) {
		char message[128];

		snprintf(message, sizeof(message), "interrupted by %s", signals_name(signo));
		print_line(NULL, "", message, who.json);
		return 128 + signo;
	}
	print_line(err->file, "", err->msg, who.json);
	return who.failed;
}

int report_usage(const char *fmt, ...)
{
	char message[QD_ERR_MSG_MAX];
	char *whole = NULL;
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	if (asprintf(&whole, "%s; see 'qdedup%s%s --help'", message, who.command ? " " : "",
		     who.command ? who.command : "") < 0)
		whole = NULL;
	print_line(NULL, "", whole ? whole : message, who.json);
	free(whole);
	return who.failed;
}

void report_note(const char *file, const char *fmt, ...)
{
	char message[QD_ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	print_line(file, "note: ", message, false);
}

void report_warning(const char *file, const char *fmt, ...)
{
	char message[QD_ERR_MSG_MAX];
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(message, sizeof(message), fmt, ap);
	va_end(ap);
	print_line(file, "warning: ", message, false);
}
