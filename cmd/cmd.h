/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What every command uses: the table row that announces it, its options, and the ways
 * to talk to the person or program that started it.
 *
 * A command is one function, one file:
 *
 *	int cmd_info(int argc, char **argv)
 *	{
 *		struct options o;
 *		int status = options_parse(&o, &syntax, argc, argv, &mine);
 *
 *		if (status == OPTIONS_GO)
 *			status = run(&o, &mine);
 *		options_free(&o);
 *		return status;
 *	}
 *
 * Where things go: results to stdout, everything else to stderr.  A failure is reported
 * once, by report_error() or report_usage(), whose value is the exit status to return;
 * main flushes stdout and turns a failed write into a failure.  Nothing here exits.
 */
#ifndef QD_CMD_H
#define QD_CMD_H

#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>

#include <jansson.h>
#include <popt.h>

#include "base/err.h"
#include "base/io_file.h"
#include "base/progress.h"
#include "base/size.h"

/* ---- the table of commands (main.c) ---- */

enum cmd_caps {
	CMD_WRITES = 1 << 0,	/* makes or changes an image */
	CMD_JSON = 1 << 1,	/* has --output=json */
};

struct cmd {
	const char *name;
	const char *summary;
	int (*run)(int argc, char **argv);	/* argv[0] is the command's name; returns the exit status */
	unsigned caps;				/* enum cmd_caps */
	int failed;				/* exit status when it fails, usage errors included */
};

int cmd_check(int argc, char **argv);
int cmd_compact(int argc, char **argv);
int cmd_compare(int argc, char **argv);
int cmd_convert(int argc, char **argv);
int cmd_create(int argc, char **argv);
int cmd_dedup(int argc, char **argv);
int cmd_info(int argc, char **argv);
int cmd_io(int argc, char **argv);
int cmd_journal(int argc, char **argv);
int cmd_map(int argc, char **argv);
int cmd_measure(int argc, char **argv);
int cmd_rehash(int argc, char **argv);
int cmd_scan(int argc, char **argv);
int cmd_stats(int argc, char **argv);
int cmd_verify(int argc, char **argv);

/* ---- text that came from outside (text.c) ---- */

/* Writes text so that it cannot break a line or a terminal: "\n", "\x1b". */
void text_put(FILE *out, const char *text);

/* A JSON string; bytes that are not UTF-8 become U+FFFD. */
json_t *text_json(const char *text);

/* ---- errors, warnings, notes (report.c) ---- */

/* Says which command speaks, and whether its errors are wanted in JSON too. */
void report_begin(const struct cmd *cmd, bool json);

/* "qdedup COMMAND: FILE: message"; returns the exit status (128 + signal after an interruption). */
int report_error(const struct qd_err *err);

/* A usage error: the message and a pointer to --help; returns the exit status. */
int report_usage(const char *fmt, ...) __attribute__((format(printf, 1, 2)));

/* "qdedup COMMAND: FILE: note: ..."; file may be NULL. */
void report_note(const char *file, const char *fmt, ...) __attribute__((format(printf, 2, 3)));
void report_warning(const char *file, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

/* ---- results (output.c) ---- */

/*
 * Prints root to stdout and takes the reference; NULL is "out of memory".  Returns the
 * exit status so far: write errors show in output_finish.
 */
int output_json(json_t *root);

/* Adds a member to an object; false when out of memory (value NULL included). */
bool output_set(json_t *object, const char *key, json_t *value);
bool output_set_u64(json_t *object, const char *key, uint64_t value);

/* The file's length and what it takes on disk, each before [0] and after [1]. */
bool output_set_sizes(json_t *object, const uint64_t *file_size, const uint64_t *allocated);

/* Flushes stdout; what cannot be written turns status into a failure, reported here. */
int output_finish(int status);

/* ---- signals (signals.c) ---- */

/* SIGINT, SIGTERM, SIGHUP and SIGPIPE set a flag from now on, SIGUSR1 another. */
void signals_init(void);

/* The signal that asks the command to stop, or 0. */
int signals_caught(void);
const char *signals_name(int signo);

/* True once for each SIGUSR1. */
bool signals_take_usr1(void);

/*
 * For commands whose operation may wait on a pipe (fd 0 or 1): after a signal that asks
 * to stop, the wait and every later transfer on fd fail with EBADF.
 */
void signals_release(int fd);

/* ---- options (options.c) ---- */

struct options {
	const char *source_format;		/* -f: "raw", "qcow2"; NULL: not given */
	const char *target_format;		/* -O, likewise */
	enum qd_cache_mode source_cache;	/* -T */
	enum qd_cache_mode target_cache;	/* -t */
	bool json;				/* --output=json */
	bool quiet;				/* -q */
	bool progress;				/* -p, and not -q */
	int progress_fd;			/* -1: none */
	bool force_share;			/* -U */
	bool untrusted;
	unsigned threads;			/* 0: all processors */
	uint64_t memory;			/* bytes; 0: the default */
	const char *tmpdir;			/* $TMPDIR, NULL when unset or empty */
	int nargs;
	char **args;				/* what is not an option; NULL after the last */
	char **texts;				/* every option argument, owned here */
	size_t ntexts;
};

/* Shared groups, put into a table with OPTIONS_GROUP(group, "Title:") or OPTIONS_INCLUDE(group). */
extern const struct poptOption options_common[];	/* -h, -q: every command */
extern const struct poptOption options_output[];	/* --output */
extern const struct poptOption options_source[];	/* -f, -U, --untrusted */
extern const struct poptOption options_source_cache[];	/* -T */
extern const struct poptOption options_target[];	/* -O, -t */
extern const struct poptOption options_progress[];	/* -p, --progress-fd */
extern const struct poptOption options_resources[];	/* --threads, --memory */

#define OPTIONS_INCLUDE(group) OPTIONS_GROUP(group, NULL)
#define OPTIONS_GROUP(group, title) \
	{ NULL, '\0', POPT_ARG_INCLUDE_TABLE, (void *)(uintptr_t)(group), 0, (title), NULL }

/* Rows of commands that change an image in place: 't' for qd_cache_mode_parse, and the hash of an index. */
#define OPTIONS_CACHE \
	{ NULL, 't', POPT_ARG_STRING, NULL, 't', \
	  "cache mode: writeback (default), none, writethrough, directsync, unsafe", "CACHE" }
#define OPTIONS_STORED_HASH(val) \
	{ "hash", '\0', POPT_ARG_STRING, NULL, (val), \
	  "xxh128, sha256, sha512-256, sha3-256, blake2b (default: that of the stored table, else xxh128)", \
	  "ALG" }
/* ... and what ends their tables. */
#define OPTIONS_IN_PLACE_END \
	OPTIONS_GROUP(options_resources, "Resources:"), OPTIONS_GROUP(options_progress, "Output:"), \
	OPTIONS_INCLUDE(options_output), OPTIONS_INCLUDE(options_common), POPT_TABLEEND

/*
 * A command's own rows have `val` 1..999 (a letter, or an enum from 256 on), type
 * POPT_ARG_NONE or POPT_ARG_STRING and no `arg`: handle() gets val and the text.  The
 * text lives as long as the options.  handle returns 0, OPTIONS_DONE when all is said
 * (as for "-o help"), or fills err.
 */
#define OPTIONS_GO (-1)		/* options_parse: go on */
#define OPTIONS_DONE 1		/* handle: stop here with exit status 0 */

struct cmd_syntax {
	const struct poptOption *table;
	const char *arguments;		/* as in the usage line: "SOURCE TARGET" */
	int min_args;
	int max_args;			/* -1: any number */
	int (*handle)(void *ctx, int val, const char *text, struct qd_err *err);
};

/* OPTIONS_GO, or the exit status after --help or a usage error.  options_free in every case. */
int options_parse(struct options *o, const struct cmd_syntax *syntax, int argc, char **argv, void *ctx);
void options_free(struct options *o);

/* "raw" or "qcow2": for options that name a format of something else than source or target. */
int options_parse_format(const char *text, const char **ret_format, struct qd_err *err);

/* ---- -o NAME=VALUE,... (layout.c) ---- */

struct qd_layout;

/* Takes one -o; for "help" prints the list (size= in it or not) and returns OPTIONS_DONE. */
int layout_option(struct qd_layout *layout, const char *text, bool with_size, struct qd_err *err);

/* ---- progress (progress.c) ---- */

struct progress {
	struct qd_progress lib;		/* what the operation gets */
	const char *operation;
	bool wanted;			/* -p */
	bool terminal;			/* a live line on stderr */
	int fd;				/* --progress-fd; -1: none */
	uint64_t current;
	uint64_t total;
	double begun;			/* seconds on the monotonic clock, like the rest */
	double drawn;			/* last line on stderr */
	double told;			/* last line on fd */
	double sampled;			/* last look at the rate */
	uint64_t sampled_at;		/* `current` then */
	double rate;			/* units per second, smoothed; 0: not known yet */
};

void progress_start(struct progress *p, const struct options *o, const char *operation);

/* The last line: 100 % only when the operation was done. */
void progress_stop(struct progress *p, bool done);

/* Ends a live line before something else is written to stderr. */
void progress_break(void);

#endif
