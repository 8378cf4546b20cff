/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup io: commands from -c or standard input, one after the other, on one open image.
 *
 * The first command that fails ends the run; what was written before stays, and the image
 * is closed cleanly.
 */
#include "io.h"

#include <errno.h>
#include <inttypes.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "cmd.h"
#include "ops/session.h"

#define CHUNK (2u << 20)		/* bytes moved at a time: the largest cluster */
#define DEFAULT_PATTERN 0xcd
#define DUMP_ROW 16u

struct io {
	struct qd_session_opts opts;
	const char **lines;		/* of -c; the texts belong to the options */
	size_t nlines;
	bool quiet;
	struct qd_session *session;
	uint8_t *buf;			/* CHUNK bytes */
};

static const struct poptOption io_options[] = {
	{ NULL, 'c', POPT_ARG_STRING, NULL, 'c',
	  "run this command; may be given several times (default: commands from stdin)",
	  "COMMAND" },
	{ "read-only", 'r', POPT_ARG_NONE, NULL, 'r', "open the image for reading only", NULL },
	OPTIONS_CACHE,
	OPTIONS_INCLUDE(options_source),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct io *io = ctx;
	const char **lines;

	switch (val) {
	case 'r':
		io->opts.read_only = true;
		return 0;
	case 't':
		return qd_cache_mode_parse(text, &io->opts.cache, err);
	default:
		lines = realloc(io->lines, (io->nlines + 1) * sizeof(*lines));
		if (!lines)
			return qd_err_nomem(err, "commands");
		io->lines = lines;
		lines[io->nlines++] = text;
		return 0;
	}
}

static int check_interrupted(struct qd_err *err)
{
	return signals_caught() ? qd_err_set(err, QD_E_CANCELLED, "interrupted") : 0;
}

/* The next piece of a command's range: pieces end at multiples of CHUNK. */
static size_t piece(const struct io_command *c, uint64_t done)
{
	return (size_t)qd_min_u64(c->nbytes - done, CHUNK - (c->off + done) % CHUNK);
}

/* ---- read ---- */

static int check_pattern(const struct io_command *c, const uint8_t *buf, size_t nbytes, uint64_t off,
			 struct qd_err *err)
{
	for (size_t i = 0; i < nbytes; i++)
		if (buf[i] != c->pattern)
			return qd_err_set(err, QD_E_INVALID,
					  "read -P 0x%02x: offset %" PRIu64 " (0x%" PRIx64 ") holds 0x%02x",
					  c->pattern, off + i, off + i, buf[i]);
	return 0;
}

static void dump(const uint8_t *buf, size_t nbytes, uint64_t off)
{
	for (size_t row = 0; row < nbytes; row += DUMP_ROW) {
		size_t n = (size_t)qd_min_u64(nbytes - row, DUMP_ROW);

		printf("%08" PRIx64 ": ", off + row);
		for (size_t i = 0; i < DUMP_ROW; i++) {
			if (i < n)
				printf(" %02x", buf[row + i]);
			else
				fputs("   ", stdout);
		}
		fputs("  ", stdout);
		for (size_t i = 0; i < n; i++)
			putchar(buf[row + i] >= 0x20 && buf[row + i] < 0x7f ? buf[row + i] : '.');
		putchar('\n');
	}
}

static int do_read(struct io *io, const struct io_command *c, struct qd_err *err)
{
	int rc = qd_session_check(io->session, false, c->off, c->nbytes, err);
	size_t n;

	for (uint64_t done = 0; rc == 0 && done < c->nbytes; done += n) {
		n = piece(c, done);
		rc = check_interrupted(err);
		if (rc == 0)
			rc = qd_session_read(io->session, c->off + done, n, io->buf, err);
		if (rc == 0 && c->has_pattern)
			rc = check_pattern(c, io->buf, n, c->off + done, err);
		if (rc == 0 && c->dump)
			dump(io->buf, n, c->off + done);
	}
	return rc;
}

/* ---- write ---- */

/* Fills the piece that begins `done` bytes into the write with the file's bytes, over and over. */
static int fill_from(struct qd_io *file, uint64_t file_size, uint64_t done, uint8_t *buf, size_t nbytes,
		     struct qd_err *err)
{
	while (nbytes > 0) {
		uint64_t at = done % file_size;
		size_t n = (size_t)qd_min_u64(nbytes, file_size - at);
		int rc = qd_io_read(file, buf, n, at, err);

		if (rc)
			return rc;
		buf += n;
		done += n;
		nbytes -= n;
	}
	return 0;
}

static int write_pieces(struct io *io, const struct io_command *c, struct qd_io *file, uint64_t file_size,
			struct qd_err *err)
{
	int rc = 0;
	size_t n;

	memset(io->buf, c->has_pattern ? c->pattern : DEFAULT_PATTERN, CHUNK);
	for (uint64_t done = 0; rc == 0 && done < c->nbytes; done += n) {
		n = piece(c, done);
		rc = check_interrupted(err);
		if (rc == 0 && file)
			rc = fill_from(file, file_size, done, io->buf, n, err);
		if (rc == 0)
			rc = qd_session_write(io->session, c->off + done, n, io->buf, err);
	}
	return rc;
}

static int write_file(struct io *io, const struct io_command *c, struct qd_err *err)
{
	struct qd_file_opts opts = { .no_lock = true };
	struct qd_io *file = NULL;
	uint64_t size = 0;
	int rc = qd_io_file_open(c->file, &opts, &file, err);

	if (rc == 0)
		rc = qd_io_size(file, &size, err);
	if (rc == 0 && size == 0 && c->nbytes)
		rc = qd_err_file(err, qd_err_set(err, QD_E_INVALID,
						 "the file is empty: there is nothing to write"), c->file);
	if (rc == 0)
		rc = write_pieces(io, c, file, size, err);
	qd_io_close(file);
	return rc;
}

static int do_write(struct io *io, const struct io_command *c, struct qd_err *err)
{
	int rc = qd_session_check(io->session, true, c->off, c->nbytes, err);

	if (rc)
		return rc;
	if (c->zero)
		return qd_session_zero(io->session, c->off, c->nbytes, err);
	return c->file ? write_file(io, c, err) : write_pieces(io, c, NULL, 0, err);
}

/* ---- the rest ---- */

static int do_abort(struct io *io, struct qd_err *err)
{
	int rc = qd_session_crash(io->session, err);

	if (rc)
		return rc;
	fflush(stdout);
	raise(SIGKILL);
	return 0;
}

static int execute(struct io *io, const struct io_command *c, struct qd_err *err)
{
	switch (c->verb) {
	case IO_READ:
		return do_read(io, c, err);
	case IO_WRITE:
		return do_write(io, c, err);
	case IO_DISCARD:
		return qd_session_discard(io->session, c->off, c->nbytes, err);
	case IO_FLUSH:
		return qd_session_flush(io->session, err);
	case IO_ABORT:
		return do_abort(io, err);
	default:
		return 0;
	}
}

static void tell(const struct io *io, const struct io_command *c)
{
	static const char *const done[] = { [IO_READ] = "read", [IO_WRITE] = "wrote",
					   [IO_DISCARD] = "discarded" };

	if (!io->quiet && (c->verb == IO_READ || c->verb == IO_WRITE || c->verb == IO_DISCARD))
		printf("%s %" PRIu64 " bytes at offset %" PRIu64 "\n", done[c->verb], c->nbytes, c->off);
}

static int run_line(struct io *io, const char *line, struct qd_err *err)
{
	struct io_command c;
	int rc = io_command_parse(line, &c, err);

	if (rc == 0)
		rc = execute(io, &c, err);
	if (rc == 0)
		tell(io, &c);
	io_command_free(&c);
	return rc ? qd_err_file(err, rc, io->opts.path) : 0;
}

static int run_stdin(struct io *io, struct qd_err *err)
{
	char *line = NULL;
	size_t size = 0;
	int rc = 0;

	while (rc == 0) {
		errno = 0;
		if (getline(&line, &size, stdin) < 0) {
			rc = check_interrupted(err);
			if (rc == 0 && ferror(stdin))
				rc = qd_err_sys(err, errno, "cannot read commands from standard input");
			break;
		}
		line[strcspn(line, "\n")] = '\0';
		rc = run_line(io, line, err);
		fflush(stdout);		/* for who waits for the answer before the next command */
	}
	free(line);
	return rc;
}

static int run_all(struct io *io, struct qd_err *err)
{
	int rc = 0;

	if (io->nlines == 0)
		return run_stdin(io, err);
	for (size_t i = 0; rc == 0 && i < io->nlines; i++) {
		rc = check_interrupted(err);
		if (rc == 0)
			rc = run_line(io, io->lines[i], err);
	}
	return rc;
}

/* Mistakes in -c are found before anything is done. */
static int check_lines(const struct io *io, struct qd_err *err)
{
	int rc = 0;

	for (size_t i = 0; rc == 0 && i < io->nlines; i++) {
		struct io_command c;

		rc = io_command_parse(io->lines[i], &c, err);
		io_command_free(&c);
	}
	return rc;
}

static int run(struct io *io, const struct options *o)
{
	struct qd_err err = { .code = 0 }, close_err = { .code = 0 };
	int rc, close_rc;

	io->opts.path = o->args[0];
	io->opts.format = o->source_format;
	io->opts.no_lock = o->force_share;
	io->opts.untrusted = o->untrusted;
	io->quiet = o->quiet;
	if (o->force_share && !io->opts.read_only)
		return report_usage("-U needs -r: an image is never written to without its lock");
	if (check_lines(io, &err))
		return report_usage("%s", err.msg);
	io->buf = malloc(CHUNK);
	rc = io->buf ? qd_session_open(&io->opts, &io->session, &err) : qd_err_nomem(&err, "a buffer");
	if (rc == 0)
		rc = run_all(io, &err);
	close_rc = qd_session_close(io->session, &close_err);
	if (rc)
		return report_error(&err);
	return close_rc ? report_error(&close_err) : 0;
}

int cmd_io(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = io_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct io io = { .quiet = false };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &io);

	if (status == OPTIONS_GO)
		status = run(&io, &o);
	free(io.buf);
	free(io.lines);
	options_free(&o);
	return status;
}
