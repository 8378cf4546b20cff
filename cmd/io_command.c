/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Words are separated by blanks; '...' and "..." keep blanks within a word.  A word that
 * begins with # starts a comment.
 */
#include "io.h"

#include <stdlib.h>
#include <string.h>

#include "base/size.h"

#define MAX_WORDS 16

struct words {
	char *text;		/* cut into words; owned */
	char *v[MAX_WORDS];
	int n;
};

static int split(const char *line, struct words *w, struct qd_err *err)
{
	char *in, *out;

	*w = (struct words){ .text = strdup(line) };
	if (!w->text)
		return qd_err_nomem(err, "a command");
	for (in = out = w->text; *in;) {
		char quote = '\0';

		in += strspn(in, " \t\r\n");
		if (!*in || *in == '#')
			break;
		if (w->n == MAX_WORDS)
			return qd_err_set(err, QD_E_INVALID, "too many words");
		w->v[w->n++] = out;
		for (; *in && (quote || !strchr(" \t\r\n", *in)); in++) {
			if (quote ? *in == quote : *in == '\'' || *in == '"')
				quote = quote ? '\0' : *in;
			else
				*out++ = *in;
		}
		if (quote)
			return qd_err_set(err, QD_E_INVALID, "a quote %c is not closed", quote);
		in += *in != '\0';
		*out++ = '\0';
	}
	return 0;
}

static int parse_pattern(const char *text, struct io_command *c, struct qd_err *err)
{
	char *end;
	unsigned long value = strtoul(text, &end, 0);

	if (text[0] < '0' || text[0] > '9' || *end || value > 255)
		return qd_err_set(err, QD_E_INVALID, "-P: '%s' is not a byte, expected 0..255 or 0x00..0xff",
				  text);
	c->has_pattern = true;
	c->pattern = (uint8_t)value;
	return 0;
}

static int take_file(const char *text, struct io_command *c, struct qd_err *err)
{
	free(c->file);
	c->file = strdup(text);
	return c->file ? 0 : qd_err_nomem(err, "a file name");
}

/* One option at w->v[*i]; *i moves on to its last word. */
static int take_option(const struct words *w, int *i, struct io_command *c, struct qd_err *err)
{
	const char *option = w->v[*i];
	bool is_read = c->verb == IO_READ, is_write = c->verb == IO_WRITE;
	bool has_argument = (!strcmp(option, "-P") && (is_read || is_write)) ||
			    (!strcmp(option, "-s") && is_write);

	if (is_read && !strcmp(option, "-v")) {
		c->dump = true;
		return 0;
	}
	if (is_write && !strcmp(option, "-z")) {
		c->zero = true;
		return 0;
	}
	if (!has_argument)
		return qd_err_set(err, QD_E_INVALID, "'%s': %s has no such option", option, w->v[0]);
	if (++*i == w->n)
		return qd_err_set(err, QD_E_INVALID, "%s: the argument is missing", option);
	return option[1] == 'P' ? parse_pattern(w->v[*i], c, err) : take_file(w->v[*i], c, err);
}

static int take_verb(const char *word, struct io_command *c, struct qd_err *err)
{
	static const char *const names[] = {
		[IO_READ] = "read", [IO_WRITE] = "write", [IO_DISCARD] = "discard", [IO_FLUSH] = "flush",
		[IO_ABORT] = "abort",
	};

	for (int verb = IO_READ; verb <= IO_ABORT; verb++)
		if (!strcmp(word, names[verb])) {
			c->verb = (enum io_verb)verb;
			return 0;
		}
	return qd_err_set(err, QD_E_INVALID,
			  "'%s' is not known, expected read, write, discard, flush or abort", word);
}

static int take_words(const struct words *w, struct io_command *c, struct qd_err *err)
{
	const char *numbers[2] = { NULL, NULL };
	int n = 0, wanted, rc = take_verb(w->v[0], c, err);

	wanted = c->verb == IO_FLUSH || c->verb == IO_ABORT ? 0 : 2;
	for (int i = 1; rc == 0 && i < w->n; i++) {
		if (w->v[i][0] == '-')
			rc = take_option(w, &i, c, err);
		else if (n == wanted)
			rc = qd_err_set(err, QD_E_INVALID, "'%s' is one argument too many", w->v[i]);
		else
			numbers[n++] = w->v[i];
	}
	if (rc)
		return rc;
	if (n < wanted)
		return qd_err_set(err, QD_E_INVALID, "an argument is missing, expected OFF LEN");
	if (c->zero + c->has_pattern + (c->file != NULL) > 1)
		return qd_err_set(err, QD_E_INVALID, "-P, -s and -z exclude each other");
	if (wanted)
		rc = qd_size_parse(numbers[0], &c->off, err);
	return rc || !wanted ? rc : qd_size_parse(numbers[1], &c->nbytes, err);
}

int io_command_parse(const char *line, struct io_command *ret_command, struct qd_err *err)
{
	struct words w;
	int rc;

	*ret_command = (struct io_command){ .verb = IO_NOTHING };
	rc = split(line, &w, err);
	if (rc == 0 && w.n > 0)
		rc = take_words(&w, ret_command, err);
	free(w.text);
	return rc ? qd_err_prefix(err, rc, "command '%.100s'", line) : 0;
}

void io_command_free(struct io_command *c)
{
	free(c->file);
	c->file = NULL;
}
