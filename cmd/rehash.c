/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup rehash IMAGE: the hash table of an image made anew, or dropped.
 */
#include <inttypes.h>
#include <string.h>

#include "cmd.h"
#include "ops/rehash.h"

enum { OPT_HASH = 256, OPT_INDEX, OPT_DROP, OPT_DRY_RUN };

static const struct poptOption rehash_options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN, "say what would change, and change nothing",
	  NULL },
	{ "drop", '\0', POPT_ARG_NONE, NULL, OPT_DROP, "remove the index, hash table and journal", NULL },
	OPTIONS_STORED_HASH(OPT_HASH),
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX, "keep the index in this file, not in the image",
	  "FILE" },
	OPTIONS_CACHE,
	OPTIONS_IN_PLACE_END
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_rehash_opts *r = ctx;

	switch (val) {
	case OPT_HASH:
		r->hash = text;
		return 0;
	case OPT_INDEX:
		r->index_path = text;
		return 0;
	case OPT_DROP:
		r->drop = true;
		return 0;
	case OPT_DRY_RUN:
		r->dry_run = true;
		return 0;
	default:
		return qd_cache_mode_parse(text, &r->cache, err);
	}
}

static json_t *result_json(const char *path, const struct qd_rehash_result *r)
{
	json_t *root = json_object();

	if (root && output_set(root, "filename", text_json(path)) &&
	    output_set(root, "previous-state", json_string(r->previous_state)) &&
	    (!r->hash || output_set(root, "hash", json_string(r->hash))) &&
	    output_set_u64(root, "entries", r->entries) && output_set_u64(root, "bytes", r->nbytes) &&
	    output_set_u64(root, "changed", r->changed) && output_set_u64(root, "clusters", r->clusters) &&
	    output_set_u64(root, "clusters-read", r->clusters_read) &&
	    output_set_u64(root, "bytes-read", r->bytes_read) && output_set_u64(root, "pinned", r->pinned) &&
	    output_set_u64(root, "unpinned", r->unpinned) &&
	    output_set_u64(root, "generation", r->generation) &&
	    output_set(root, "written", json_boolean(r->written)))
		return root;
	json_decref(root);
	return NULL;
}

static void put_dropped(const struct qd_rehash_opts *opts, const struct qd_rehash_result *r)
{
	if (!r->written)
		printf("there is no index\n");
	else
		printf("the index %s\n", opts->dry_run ? "would be dropped" : "is dropped");
}

static void put_result(const char *path, const struct qd_rehash_opts *opts, const struct qd_rehash_result *r)
{
	char size[QD_SIZE_TEXT], read[QD_SIZE_TEXT];

	text_put(stdout, path);
	printf(": ");
	if (opts->drop) {
		put_dropped(opts, r);
		return;
	}
	qd_size_format(r->nbytes, size, sizeof(size));
	qd_size_format(r->bytes_read, read, sizeof(read));
	printf("%" PRIu64 " clusters, %" PRIu64 " of them read (%s)\n", r->clusters, r->clusters_read, read);
	printf("the index was %s", r->previous_state);
	if (r->previous_why[0])
		printf(" (%s)", r->previous_why);
	if (!r->written) {
		printf(" and stays as it is: %" PRIu64 " entries, %s\n", r->entries, size);
		return;
	}
	printf("; %s %" PRIu64 " entries (%s), %" PRIu64 " of them changed, %s\n",
	       opts->dry_run ? "it would have" : "it has",
	       r->entries, r->hash, r->changed, size);
	if (r->pinned)
		printf("%" PRIu64 " shared clusters that no pin protected are pinned\n", r->pinned);
	if (r->unpinned)
		printf("%" PRIu64 " clusters that only the pin kept are free\n", r->unpinned);
}

static int run(struct qd_rehash_opts *opts, const struct options *o)
{
	struct qd_rehash_result result;
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc;

	if (opts->drop && opts->hash)
		return report_usage("--drop and --hash exclude each other");
	opts->threads = o->threads;
	opts->memory = o->memory;
	opts->tmpdir = o->tmpdir;
	progress_start(&progress, o, "rehash");
	rc = qd_rehash(o->args[0], opts, &progress.lib, &result, &err);
	progress_stop(&progress, rc == 0);
	if (rc)
		return report_error(&err);
	if (o->json)
		return output_json(result_json(o->args[0], &result));
	if (!o->quiet)
		put_result(o->args[0], opts, &result);
	return 0;
}

int cmd_rehash(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = rehash_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct qd_rehash_opts opts = { .drop = false };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &opts);

	if (status == OPTIONS_GO)
		status = run(&opts, &o);
	options_free(&o);
	return status;
}
