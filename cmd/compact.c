/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup compact IMAGE: a shorter file, in place.
 */
#include <inttypes.h>

#include "cmd.h"
#include "ops/compact.h"

enum { OPT_DRY_RUN = 256, OPT_INDEX };

static const struct poptOption compact_options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN, "say what would be moved, and change nothing",
	  NULL },
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX, "the file that holds the image's hash table",
	  "FILE" },
	OPTIONS_CACHE,
	OPTIONS_IN_PLACE_END
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_compact_opts *opts = ctx;

	switch (val) {
	case OPT_DRY_RUN:
		opts->dry_run = true;
		return 0;
	case OPT_INDEX:
		opts->index_path = text;
		return 0;
	default:
		return qd_cache_mode_parse(text, &opts->cache, err);
	}
}

static json_t *result_json(const char *path, const struct qd_compact_result *r)
{
	json_t *root = json_object();

	if (root && output_set(root, "filename", text_json(path)) &&
	    output_set(root, "changed", json_boolean(r->changed)) &&
	    output_set_u64(root, "cluster-size", r->cluster_size) &&
	    output_set_u64(root, "clusters-moved", r->data_moved) &&
	    output_set_u64(root, "compressed-clusters-moved", r->streams_moved) &&
	    output_set_u64(root, "metadata-clusters-moved", r->metadata_moved) &&
	    output_set_u64(root, "flushes", r->flushes) &&
	    output_set(root, "index-written", json_boolean(r->indexed)) &&
	    output_set_sizes(root, r->file_size, r->allocated))
		return root;
	json_decref(root);
	return NULL;
}

static void put_result(const char *path, bool dry_run, const struct qd_compact_result *r)
{
	char before[QD_SIZE_TEXT], after[QD_SIZE_TEXT];

	qd_size_format(r->file_size[0], before, sizeof(before));
	qd_size_format(r->file_size[1], after, sizeof(after));
	text_put(stdout, path);
	if (!r->changed) {
		printf(": the file has no holes to fill; nothing to do\n");
		return;
	}
	printf(": %" PRIu64 " clusters of data, %" PRIu64 " compressed ones and %"
	       PRIu64 " of metadata %s; the file %s "
	       "%s long, before %s\n", r->data_moved, r->streams_moved, r->metadata_moved,
	       dry_run ? "would be moved" : "moved", dry_run ? "would be about" : "is", after, before);
}

/* What a failure in the middle means for the image, and what to do. */
static void explain(const char *path, const struct qd_compact_result *r, const struct qd_err *err)
{
	if (r->stage != QD_COMPACT_WRITING)
		return;
	if (err->code == QD_E_CANCELLED)
		report_note(path, "the image is in order; running it again goes on");
	else
		report_note(path,
			    "every byte of the disk is there, but the image may be marked dirty: run "
			    "qdedup check --repair, then qdedup compact again");
}

static int run(struct qd_compact_opts *opts, const struct options *o)
{
	const char *path = o->args[0];
	struct qd_compact_result result;
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc;

	opts->threads = o->threads;
	opts->memory = o->memory;
	opts->tmpdir = o->tmpdir;
	progress_start(&progress, o, opts->dry_run ? "compact -n" : "compact");
	rc = qd_compact(path, opts, &progress.lib, &result, &err);
	progress_stop(&progress, rc == 0);
	if (rc) {
		int status = report_error(&err);

		explain(path, &result, &err);
		return status;
	}
	if (o->json)
		return output_json(result_json(path, &result));
	if (!o->quiet)
		put_result(path, opts->dry_run, &result);
	return 0;
}

int cmd_compact(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = compact_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct qd_compact_opts opts = { 0 };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &opts);

	if (status == OPTIONS_GO)
		status = run(&opts, &o);
	options_free(&o);
	return status;
}
