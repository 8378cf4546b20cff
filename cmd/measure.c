/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup measure: how large a new image will be.
 */
#include <inttypes.h>

#include "cmd.h"
#include "ops/measure.h"

enum { OPT_SIZE = 256, OPT_DEDUP };

struct measure_args {
	struct qd_measure_opts opts;
	bool has_size;
};

static const struct poptOption measure_options[] = {
	{ "dedup", '\0', POPT_ARG_NONE, NULL, OPT_DEDUP, "read the data and count duplicates once (-O qcow2)",
	  NULL },
	{ "size", '\0', POPT_ARG_STRING, NULL, OPT_SIZE, "instead of a file: an empty disk of this size",
	  "SIZE" },
	{ NULL, 'l', POPT_ARG_STRING, NULL, 'l', "measure this internal snapshot (ID or name)", "SNAPSHOT" },
	{ NULL, 'O', POPT_ARG_STRING, NULL, 'O', "target format (default: raw, with --dedup qcow2)",
	  "raw|qcow2" },
	{ NULL, 'o', POPT_ARG_STRING, NULL, 'o', "options of a qcow2 target; -o help lists them",
	  "NAME=VALUE,..." },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_progress),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct measure_args *args = ctx;

	switch (val) {
	case OPT_DEDUP:
		args->opts.dedup = true;
		return 0;
	case OPT_SIZE:
		args->has_size = true;
		return qd_size_parse(text, &args->opts.size, err);
	case 'l':
		args->opts.snapshot = text;
		return 0;
	case 'O':
		return options_parse_format(text, &args->opts.target_format, err);
	default:
		return layout_option(&args->opts.layout, text, false, err);
	}
}

static json_t *result_json(const struct measure_args *args, const struct qd_measure_result *res)
{
	json_t *root = json_object();
	bool good = output_set_u64(root, "required", res->required) &&
		    output_set_u64(root, "fully-allocated", res->fully_allocated) &&
		    (!res->has_bitmaps || output_set_u64(root, "bitmaps", res->bitmaps));

	if (good && args->opts.dedup)
		good = output_set_u64(root, "guest-clusters", res->guest_clusters) &&
		       output_set_u64(root, "data-clusters", res->data_clusters) &&
		       output_set_u64(root, "shared-clusters", res->shared_clusters);
	if (good)
		return root;
	json_decref(root);
	return NULL;
}

static void print_size(const char *label, uint64_t nbytes)
{
	char text[QD_SIZE_TEXT];

	printf("%-22s %" PRIu64 " (%s)\n", label, nbytes, qd_size_format(nbytes, text, sizeof(text)));
}

static void print_human(const struct measure_args *args, const struct qd_measure_result *res)
{
	char text[QD_SIZE_TEXT];

	print_size("required size:", res->required);
	print_size("fully allocated size:", res->fully_allocated);
	if (res->has_bitmaps && res->bitmaps)
		print_size("bitmaps size:", res->bitmaps);
	if (args->opts.dedup)
		printf("%" PRIu64 " clusters of %s hold data, %" PRIu64 " would be stored, %"
		       PRIu64 " of them shared\n",
		       res->guest_clusters, qd_size_format(res->cluster_size, text, sizeof(text)),
		       res->data_clusters,
		       res->shared_clusters);
}

static int run(const struct options *o, struct measure_args *args)
{
	struct qd_measure_opts *opts = &args->opts;
	struct qd_measure_result res;
	struct progress progress;
	struct qd_err err;
	int r;

	if (args->has_size == (o->nargs == 1))
		return report_usage("expected either an image or --size");
	if (args->has_size && opts->snapshot)
		return report_usage("-l needs an image");
	opts->source = o->nargs ? o->args[0] : NULL;
	opts->source_format = o->source_format;
	if (!opts->target_format)
		opts->target_format = opts->dedup ? "qcow2" : "raw";
	opts->force_share = o->force_share;
	opts->untrusted = o->untrusted;
	opts->threads = o->threads;
	opts->memory = o->memory;
	opts->tmpdir = o->tmpdir;
	qd_err_clear(&err);
	progress_start(&progress, o, "measure");
	r = qd_measure(opts, &progress.lib, &res, &err);
	progress_stop(&progress, r == 0);
	if (r)
		return report_error(&err);
	if (o->json)
		return output_json(result_json(args, &res));
	print_human(args, &res);
	return 0;
}

int cmd_measure(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = measure_options, .arguments = "[IMAGE]", .min_args = 0, .max_args = 1,
		.handle = take_option,
	};
	struct measure_args args = { 0 };
	struct options o;
	int status;

	qd_layout_init(&args.opts.layout);
	status = options_parse(&o, &syntax, argc, argv, &args);
	if (status == OPTIONS_GO)
		status = run(&o, &args);
	options_free(&o);
	qd_layout_free(&args.opts.layout);
	return status;
}
