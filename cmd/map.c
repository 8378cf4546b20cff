/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup map: where the parts of a disk lie.
 *
 * Both forms are printed entry by entry: a map of a terabyte has millions, and none is
 * kept.  A failure before the first buffer is full leaves nothing on stdout.
 */
#include <inttypes.h>
#include <stdio_ext.h>
#include <string.h>

#include "cmd.h"
#include "ops/mapping.h"

#define BUFFER_SIZE (1u << 20)

enum { OPT_START_OFFSET = 256, OPT_MAX_LENGTH };

struct map_args {
	struct qd_mapping_opts opts;
};

struct printer {
	uint64_t entries;
	uint64_t printed;
	uint64_t data_nbytes;		/* of the guest, stored somewhere */
	uint64_t zero_nbytes;		/* that read as zeros */
};

static const struct poptOption map_options[] = {
	{ "start-offset", '\0', POPT_ARG_STRING, NULL, OPT_START_OFFSET, "begin at this guest offset",
	  "OFFSET" },
	{ "max-length", '\0', POPT_ARG_STRING, NULL, OPT_MAX_LENGTH, "end after this many bytes", "LENGTH" },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct map_args *args = ctx;

	if (val == OPT_START_OFFSET)
		return qd_size_parse(text, &args->opts.start, err);
	return qd_size_parse(text, &args->opts.max_nbytes, err);
}

static const char *truth(bool value)
{
	return value ? "true" : "false";
}

static int print_json(void *ctx, const struct qd_mapping *m)
{
	struct printer *p = ctx;

	printf("%s{ \"start\": %" PRIu64 ", \"length\": %"
	       PRIu64 ", \"depth\": %u, \"present\": %s, \"zero\": %s, "
	       "\"data\": %s, \"compressed\": %s",
	       p->entries++ ? ",\n" : "[", m->start, m->nbytes, m->depth, truth(m->present), truth(m->zero),
	       truth(m->data), truth(m->compressed));
	if (m->has_offset)
		printf(", \"offset\": %" PRIu64, m->offset);
	putchar('}');
	return signals_caught() || ferror(stdout);
}

static const char *kind_of(const struct qd_mapping *m)
{
	if (m->compressed)
		return "compressed";
	if (m->data)
		return m->zero ? "preallocated" : "data";
	return m->has_offset ? "zero, kept" : "zero";
}

static int print_human(void *ctx, const struct qd_mapping *m)
{
	struct printer *p = ctx;

	p->entries++;
	if (m->zero)
		p->zero_nbytes += m->nbytes;
	else
		p->data_nbytes += m->nbytes;
	if (!m->present)
		return signals_caught() || ferror(stdout);
	if (!p->printed++)
		printf("%-18s %-18s %-13s %-18s %s\n", "Offset", "Length", "Kind", "Mapped to", "File");
	printf("%#-18" PRIx64 " %#-18" PRIx64 " %-13s ", m->start, m->nbytes, kind_of(m));
	if (m->has_offset)
		printf("%#-18" PRIx64 " ", m->offset);
	else
		printf("%-18s ", "-");
	text_put(stdout, m->path);
	putchar('\n');
	return signals_caught() || ferror(stdout);
}

static void print_end(const struct options *o, const struct printer *p)
{
	char data[QD_SIZE_TEXT], zero[QD_SIZE_TEXT];

	if (o->json) {
		puts("]");
		return;
	}
	printf("%s%s holds data, %s reads as zeros\n", p->printed ? "\n" : "",
	       qd_size_format(p->data_nbytes, data, sizeof(data)),
	       qd_size_format(p->zero_nbytes, zero, sizeof(zero)));
}

static int run(const struct options *o, struct map_args *args)
{
	struct printer printer = { 0 };
	struct qd_err err;

	args->opts.format = o->source_format;
	args->opts.force_share = o->force_share;
	args->opts.untrusted = o->untrusted;
	setvbuf(stdout, NULL, _IOFBF, BUFFER_SIZE);
	qd_err_clear(&err);
	if (qd_mapping_list(o->args[0], &args->opts, o->json ? print_json : print_human, &printer, &err)) {
		if (ferror(stdout) && !signals_caught())
			return 1;	/* main says why */
		__fpurge(stdout);
		return report_error(&err);
	}
	print_end(o, &printer);
	return 0;
}

int cmd_map(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = map_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct map_args args = { .opts.max_nbytes = UINT64_MAX };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &args);

	if (status == OPTIONS_GO)
		status = run(&o, &args);
	options_free(&o);
	return status;
}
