/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Options: the shared ones, as groups that a command's popt table includes, and the loop
 * that reads a command line.
 *
 * No table points at variables: every option has a `val`, shared ones from OPT_FIRST on,
 * and the text of its argument is parsed here or by the command's handle(), strictly
 * (popt's own numbers take "" and "-1").  Names are exact, options may follow arguments,
 * "--" ends them.  No configuration file and no environment variable is read except
 * TMPDIR.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"

#define MAX_THREADS 1024u
#define MIN_MEMORY (1u << 20)

enum {
	OPT_FIRST = 1000,
	OPT_HELP = OPT_FIRST,
	OPT_QUIET,
	OPT_OUTPUT,
	OPT_SOURCE_FORMAT,
	OPT_FORCE_SHARE,
	OPT_UNTRUSTED,
	OPT_SOURCE_CACHE,
	OPT_TARGET_FORMAT,
	OPT_TARGET_CACHE,
	OPT_PROGRESS,
	OPT_PROGRESS_FD,
	OPT_THREADS,
	OPT_MEMORY,
};

const struct poptOption options_common[] = {
	{ "quiet", 'q', POPT_ARG_NONE, NULL, OPT_QUIET, "print no notes and no progress", NULL },
	{ "help", 'h', POPT_ARG_NONE, NULL, OPT_HELP, "show this help", NULL },
	POPT_TABLEEND
};

const struct poptOption options_output[] = {
	{ "output", '\0', POPT_ARG_STRING, NULL, OPT_OUTPUT,
	  "result as text for people or as JSON", "human|json" },
	POPT_TABLEEND
};

const struct poptOption options_source[] = {
	{ NULL, 'f', POPT_ARG_STRING, NULL, OPT_SOURCE_FORMAT,
	  "source format (default: the content decides)", "raw|qcow2" },
	{ "force-share", 'U', POPT_ARG_NONE, NULL, OPT_FORCE_SHARE,
	  "read even if the image is in use", NULL },
	{ "untrusted", '\0', POPT_ARG_NONE, NULL, OPT_UNTRUSTED,
	  "open no other file that the image names", NULL },
	POPT_TABLEEND
};

const struct poptOption options_source_cache[] = {
	{ NULL, 'T', POPT_ARG_STRING, NULL, OPT_SOURCE_CACHE,
	  "cache mode for reading (default: writeback)", "CACHE" },
	POPT_TABLEEND
};

const struct poptOption options_target[] = {
	{ NULL, 'O', POPT_ARG_STRING, NULL, OPT_TARGET_FORMAT, "target format", "raw|qcow2" },
	{ NULL, 't', POPT_ARG_STRING, NULL, OPT_TARGET_CACHE,
	  "cache mode for writing: writeback (default), none, writethrough, directsync, unsafe", "CACHE" },
	POPT_TABLEEND
};

const struct poptOption options_progress[] = {
	{ "progress", 'p', POPT_ARG_NONE, NULL, OPT_PROGRESS, "show progress", NULL },
	{ "progress-fd", '\0', POPT_ARG_STRING, NULL, OPT_PROGRESS_FD,
	  "write progress as JSON lines to this file descriptor", "N" },
	POPT_TABLEEND
};

const struct poptOption options_resources[] = {
	{ "threads", '\0', POPT_ARG_STRING, NULL, OPT_THREADS,
	  "threads to use (default: all processors)", "N" },
	{ "memory", '\0', POPT_ARG_STRING, NULL, OPT_MEMORY,
	  "memory to use at most (default: a quarter of RAM, at most 1G)", "SIZE" },
	POPT_TABLEEND
};

int options_parse_format(const char *text, const char **ret_format, struct qd_err *err)
{
	if (strcmp(text, "raw") != 0 && strcmp(text, "qcow2") != 0)
		return qd_err_set(err, QD_E_INVALID, "format '%s' is not known, expected raw or qcow2", text);
	*ret_format = text;
	return 0;
}

static int parse_output(const char *text, bool *ret_json, struct qd_err *err)
{
	if (strcmp(text, "human") != 0 && strcmp(text, "json") != 0)
		return qd_err_set(err, QD_E_INVALID, "'%s' is not known, expected human or json", text);
	*ret_json = strcmp(text, "json") == 0;
	return 0;
}

static int parse_fd(const char *text, int *ret_fd, struct qd_err *err)
{
	uint64_t fd;
	int rc, flags;

	rc = qd_number_parse(text, "file descriptor", 0, INT32_MAX, &fd, err);
	if (rc)
		return rc;
	flags = fcntl((int)fd, F_GETFL);
	if (flags < 0 || (flags & O_ACCMODE) == O_RDONLY)
		return qd_err_set(err, QD_E_INVALID, "file descriptor %d is not open for writing", (int)fd);
	*ret_fd = (int)fd;
	return 0;
}

static int parse_threads(const char *text, unsigned *ret_threads, struct qd_err *err)
{
	uint64_t n;
	int rc = qd_number_parse(text, "number of threads", 1, MAX_THREADS, &n, err);

	if (rc == 0)
		*ret_threads = (unsigned)n;
	return rc;
}

static int parse_memory(const char *text, uint64_t *ret_nbytes, struct qd_err *err)
{
	uint64_t nbytes;
	int rc = qd_size_parse(text, &nbytes, err);

	if (rc)
		return rc;
	if (nbytes < MIN_MEMORY)
		return qd_err_set(err, QD_E_INVALID, "'%s' is too little, expected at least 1M", text);
	*ret_nbytes = nbytes;
	return 0;
}

static int set_shared(struct options *o, int val, const char *text, struct qd_err *err)
{
	switch (val) {
	case OPT_QUIET:
		o->quiet = true;
		return 0;
	case OPT_OUTPUT:
		return parse_output(text, &o->json, err);
	case OPT_SOURCE_FORMAT:
		return options_parse_format(text, &o->source_format, err);
	case OPT_FORCE_SHARE:
		o->force_share = true;
		return 0;
	case OPT_UNTRUSTED:
		o->untrusted = true;
		return 0;
	case OPT_SOURCE_CACHE:
		return qd_cache_mode_parse(text, &o->source_cache, err);
	case OPT_TARGET_FORMAT:
		return options_parse_format(text, &o->target_format, err);
	case OPT_TARGET_CACHE:
		return qd_cache_mode_parse(text, &o->target_cache, err);
	case OPT_PROGRESS:
		o->progress = true;
		return 0;
	case OPT_PROGRESS_FD:
		return parse_fd(text, &o->progress_fd, err);
	case OPT_THREADS:
		return parse_threads(text, &o->threads, err);
	case OPT_MEMORY:
		return parse_memory(text, &o->memory, err);
	default:
		return qd_err_set(err, QD_E_INVALID, "option number %d is not handled", val);
	}
}

/* The row of `val` in a table or the groups it includes. */
static const struct poptOption *find_row(const struct poptOption *table, int val)
{
	for (const struct poptOption *row = table; row->longName || row->shortName || row->arg; row++) {
		const struct poptOption *found;

		if ((row->argInfo & POPT_ARG_MASK) == POPT_ARG_INCLUDE_TABLE) {
			found = find_row(row->arg, val);
			if (found)
				return found;
		} else if (row->val == val) {
			return row;
		}
	}
	return NULL;
}

static int report_bad_value(const struct cmd_syntax *syntax, int val, const struct qd_err *err)
{
	const struct poptOption *row = find_row(syntax->table, val);

	if (row && row->longName)
		return report_usage("--%s: %s", row->longName, err->msg);
	return report_usage("-%c: %s", row ? row->shortName : '?', err->msg);
}

static void show_help(poptContext con, const struct cmd_syntax *syntax)
{
	char text[256];

	snprintf(text, sizeof(text), "[OPTIONS] %s", syntax->arguments);
	poptSetOtherOptionHelp(con, text);
	poptPrintHelp(con, stdout, 0);
}

/* Keeps an option's argument as long as the options live; frees it when it cannot. */
static bool keep_text(struct options *o, char *text)
{
	char **grown = realloc(o->texts, (o->ntexts + 1) * sizeof(*grown));

	if (!grown) {
		free(text);
		return false;
	}
	o->texts = grown;
	o->texts[o->ntexts++] = text;
	return true;
}

static int take_option(struct options *o, poptContext con, const struct cmd_syntax *syntax, int val,
		       void *ctx)
{
	struct qd_err err = { .code = 0 };
	char *text = poptGetOptArg(con);
	int rc;

	if (val == OPT_HELP) {
		free(text);
		show_help(con, syntax);
		return 0;
	}
	if (text && !keep_text(o, text)) {
		qd_err_nomem(&err, "options");
		return report_error(&err);
	}
	if (val >= OPT_FIRST)
		rc = set_shared(o, val, text ? text : "", &err);
	else
		rc = syntax->handle(ctx, val, text ? text : "", &err);
	if (rc == OPTIONS_DONE)
		return 0;
	return rc ? report_bad_value(syntax, val, &err) : OPTIONS_GO;
}

static int take_arguments(struct options *o, poptContext con, const struct cmd_syntax *syntax)
{
	static const char *none[] = { NULL };
	const char **given = poptGetArgs(con);
	const char **args = given ? given : none;
	size_t count = 0;
	struct qd_err err;

	while (args[count])
		count++;
	o->args = calloc(count + 1, sizeof(*o->args));
	while (o->args && args[o->nargs]) {
		char *copy = strdup(args[o->nargs]);

		if (!copy)
			break;
		o->args[o->nargs++] = copy;
	}
	if (!o->args || args[o->nargs]) {
		qd_err_nomem(&err, "arguments");
		return report_error(&err);
	}
	if (o->nargs < syntax->min_args)
		return report_usage("%s missing, expected %s", o->nargs ? "an argument is" : "arguments are",
				    syntax->arguments);
	if (syntax->max_args >= 0 && o->nargs > syntax->max_args)
		return report_usage("'%s' is one argument too many, expected %s", o->args[syntax->max_args],
				    syntax->arguments);
	for (size_t i = 0; args[i]; i++)
		if (!*args[i])
			return report_usage("a file name is empty");
	return OPTIONS_GO;
}

static int read_line(struct options *o, poptContext con, const struct cmd_syntax *syntax, void *ctx)
{
	int status = OPTIONS_GO;
	int val = -1;

	while (status == OPTIONS_GO && (val = poptGetNextOpt(con)) > 0)
		status = take_option(o, con, syntax, val, ctx);
	if (status == OPTIONS_GO && val < -1)
		status = report_usage("%s: %s", poptBadOption(con, 0), poptStrerror(val));
	if (status == OPTIONS_GO)
		status = take_arguments(o, con, syntax);
	o->progress = o->progress && !o->quiet;
	return status;
}

int options_parse(struct options *o, const struct cmd_syntax *syntax, int argc, char **argv, void *ctx)
{
	const char *tmpdir = getenv("TMPDIR");
	const char **line = calloc((size_t)argc + 1, sizeof(*line));
	char program[64];	/* for the usage line */
	poptContext con = NULL;
	int status;

	memset(o, 0, sizeof(*o));
	o->progress_fd = -1;
	o->tmpdir = tmpdir && *tmpdir ? tmpdir : NULL;
	snprintf(program, sizeof(program), "qdedup %s", argv[0]);
	if (line) {
		memcpy(line, argv, (size_t)argc * sizeof(*line));
		line[0] = program;
		con = poptGetContext(NULL, argc, line, syntax->table, 0);
	}
	if (con) {
		status = read_line(o, con, syntax, ctx);
		poptFreeContext(con);
	} else {
		struct qd_err err;

		qd_err_nomem(&err, "options");
		status = report_error(&err);
	}
	free(line);
	return status;
}

void options_free(struct options *o)
{
	for (int i = 0; o->args && i < o->nargs; i++)
		free(o->args[i]);
	free(o->args);
	for (size_t i = 0; i < o->ntexts; i++)
		free(o->texts[i]);
	free(o->texts);
	memset(o, 0, sizeof(*o));
}
