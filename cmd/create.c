/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup create: an empty image.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "ops/create.h"

static const struct poptOption create_options[] = {
	{ NULL, 'f', POPT_ARG_STRING, NULL, 'f', "format (default: raw for names in .raw, else qcow2)",
	  "raw|qcow2" },
	{ NULL, 'o', POPT_ARG_STRING, NULL, 'o', "options of the image; -o help lists them",
	  "NAME=VALUE,..." },
	{ NULL, 't', POPT_ARG_STRING, NULL, 't',
	  "cache mode for writing: writeback (default), none, writethrough, directsync, unsafe", "CACHE" },
	{ NULL, 'b', POPT_ARG_STRING, NULL, 'b', "backing file: the image holds what differs from it",
	  "FILE" },
	{ NULL, 'F', POPT_ARG_STRING, NULL, 'F', "format of the backing file", "raw|qcow2" },
	{ "unsafe", 'u', POPT_ARG_NONE, NULL, 'u', "do not open the backing file", NULL },
	{ "force-share", 'U', POPT_ARG_NONE, NULL, 'U', "open the backing file even if it is in use", NULL },
	{ "untrusted", '\0', POPT_ARG_NONE, NULL, 256, "open no other file that the backing file names",
	  NULL },
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int set_text(char **member, const char *text, struct qd_err *err)
{
	char *copy = strdup(text);

	if (!copy)
		return qd_err_nomem(err, "options");
	free(*member);
	*member = copy;
	return 0;
}

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_create_opts *c = ctx;

	switch (val) {
	case 'f':
		return options_parse_format(text, &c->format, err);
	case 'o':
		return layout_option(&c->layout, text, true, err);
	case 't':
		return qd_cache_mode_parse(text, &c->cache, err);
	case 'b':
		return set_text(&c->layout.backing_file, text, err);
	case 'F':
		return set_text(&c->layout.backing_fmt, text, err);
	case 'u':
		c->unsafe_backing = true;
		return 0;
	case 'U':
		c->force_share = true;
		return 0;
	default:
		c->untrusted = true;
		return 0;
	}
}

static int create(const struct qd_create_opts *c, const struct options *o)
{
	struct qd_create_result res;
	struct progress progress;	/* nothing to show: it is how signals get through */
	char text[QD_SIZE_TEXT];
	struct qd_err err;
	int rc;

	qd_err_clear(&err);
	progress_start(&progress, o, "create");
	rc = qd_create(c, &progress.lib, &res, &err);
	progress_stop(&progress, rc == 0);
	if (rc)
		return report_error(&err);
	if (o->quiet)
		return 0;
	if (res.detected_format)
		report_note(c->path, "the backing file is recorded as %s, which is what its content says",
			    res.detected_format);
	text_put(stdout, c->path);
	printf(": %s, %s (%" PRIu64 " bytes)", res.format,
	       qd_size_format(res.virtual_size, text, sizeof(text)),
	       res.virtual_size);
	if (res.cluster_size)
		printf(", clusters of %s", qd_size_format(res.cluster_size, text, sizeof(text)));
	putchar('\n');
	return 0;
}

static int run(struct qd_create_opts *c, const struct options *o)
{
	struct qd_err err;

	c->path = o->args[0];
	if (o->nargs == 2) {
		if (c->layout.size)
			return report_usage("the size is given twice: as an argument and with -o size=");
		c->has_size = true;
		if (qd_size_parse(o->args[1], &c->size, &err))
			return report_usage("%s", err.msg);
	} else if (c->layout.size) {
		c->has_size = true;
		c->size = c->layout.size;
	}
	return create(c, o);
}

int cmd_create(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = create_options, .arguments = "FILE [SIZE]", .min_args = 1, .max_args = 2,
		.handle = take_option,
	};
	struct qd_create_opts c = { .path = NULL };
	struct options o;
	int status;

	qd_layout_init(&c.layout);
	status = options_parse(&o, &syntax, argc, argv, &c);
	if (status == OPTIONS_GO)
		status = run(&c, &o);
	options_free(&o);
	qd_layout_free(&c.layout);
	return status;
}
