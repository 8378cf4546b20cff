/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup compare: do two images hold the same disk?
 *
 * Exit status: 0 they do, 1 they do not, 2 it could not be found out.
 */
#include <inttypes.h>

#include "cmd.h"
#include "ops/compare.h"

struct compare_args {
	const char *format_b;
	bool strict;
};

static const struct poptOption compare_options[] = {
	{ "strict", 's', POPT_ARG_NONE, NULL, 's', "a difference of sizes or of what is allocated counts too",
	  NULL },
	{ NULL, 'F', POPT_ARG_STRING, NULL, 'F', "format of the second image, as -f of the first",
	  "raw|qcow2" },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_INCLUDE(options_source_cache),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_progress),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct compare_args *args = ctx;

	if (val == 's') {
		args->strict = true;
		return 0;
	}
	return options_parse_format(text, &args->format_b, err);
}

static const char *verdict_name(enum qd_compare_verdict verdict)
{
	static const char *const names[] = {
		[QD_COMPARE_IDENTICAL] = "identical",
		[QD_COMPARE_CONTENT] = "content",
		[QD_COMPARE_SIZE] = "size",
		[QD_COMPARE_ALLOCATION] = "allocation",
	};

	return names[verdict];
}

static int print_json(const struct qd_compare_result *res)
{
	json_t *root = json_object();
	bool located = res->verdict == QD_COMPARE_CONTENT || res->verdict == QD_COMPARE_ALLOCATION;
	bool good = output_set(root, "identical", json_boolean(res->verdict == QD_COMPARE_IDENTICAL)) &&
		    output_set(root, "same-size", json_boolean(res->size[0] == res->size[1]));

	if (good && res->verdict != QD_COMPARE_IDENTICAL)
		good = output_set(root, "difference", json_string(verdict_name(res->verdict)));
	if (good && located)
		good = output_set_u64(root, "offset", res->offset);
	if (good && res->verdict == QD_COMPARE_CONTENT)
		good = output_set_u64(root, "byte-offset", res->byte_offset);
	if (!good) {
		json_decref(root);
		root = NULL;
	}
	return output_json(root);
}

static void print_human(const struct qd_compare_result *res)
{
	switch (res->verdict) {
	case QD_COMPARE_IDENTICAL:
		puts("Images are identical.");
		break;
	case QD_COMPARE_CONTENT:
		printf("Content mismatch at offset %" PRIu64 "! (first different byte: %" PRIu64 ")\n",
		       res->offset,
		       res->byte_offset);
		break;
	case QD_COMPARE_SIZE:
		printf("Strict mode: Image size mismatch! (%" PRIu64 " and %" PRIu64 " bytes)\n",
		       res->size[0],
		       res->size[1]);
		break;
	case QD_COMPARE_ALLOCATION:
		printf("Strict mode: Offset %" PRIu64 " block status mismatch!\n", res->offset);
		break;
	}
}

static int run(const struct options *o, const struct compare_args *args)
{
	struct qd_compare_opts opts = {
		.format = { o->source_format, args->format_b },
		.cache = o->source_cache,
		.strict = args->strict,
		.force_share = o->force_share,
		.untrusted = o->untrusted,
		.threads = o->threads,
		.memory = o->memory,
	};
	struct qd_compare_result res;
	struct progress progress;
	struct qd_err err;
	int r, status = 0;

	qd_err_clear(&err);
	progress_start(&progress, o, "compare");
	r = qd_compare(o->args[0], o->args[1], &opts, &progress.lib, &res, &err);
	progress_stop(&progress, r == 0);
	if (r)
		return report_error(&err);
	if (res.size[0] != res.size[1] && !args->strict && !o->quiet)
		report_warning(NULL, "the images differ in size: %" PRIu64 " and %" PRIu64 " bytes",
			       res.size[0],
			       res.size[1]);
	if (o->json)
		status = print_json(&res);
	else if (!o->quiet)
		print_human(&res);
	return status ? status : res.verdict != QD_COMPARE_IDENTICAL;
}

int cmd_compare(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = compare_options, .arguments = "IMAGE IMAGE", .min_args = 2, .max_args = 2,
		.handle = take_option,
	};
	struct compare_args args = { 0 };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &args);

	if (status == OPTIONS_GO)
		status = run(&o, &args);
	options_free(&o);
	return status;
}
