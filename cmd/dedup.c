/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup dedup IMAGE...: one image after the other; what went wrong with one does not stop
 * the others, but shows in the exit status.
 */
#include <inttypes.h>
#include <string.h>

#include "cmd.h"
#include "ops/dedup.h"

enum {
	OPT_DRY_RUN = 256,
	OPT_HASH,
	OPT_TRUST_HASH,
	OPT_MAX_SHARE,
	OPT_NO_PIN,
	OPT_NO_INDEX,
	OPT_INDEX,
	OPT_NO_PUNCH,
	OPT_LAZY_REFCOUNTS,
	OPT_UPGRADE,
	OPT_COMPACT,
};

static const struct poptOption dedup_options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN,
	  "say what would be saved, and change nothing", NULL },
	{ "no-pin", '\0', POPT_ARG_NONE, NULL, OPT_NO_PIN,
	  "no pin snapshot: for images that are never written again", NULL },
	{ "no-index", '\0', POPT_ARG_NONE, NULL, OPT_NO_INDEX, "do not store the hash table", NULL },
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX, "store the hash table in this file", "FILE" },
	OPTIONS_STORED_HASH(OPT_HASH),
	{ "trust-hash", '\0', POPT_ARG_NONE, NULL, OPT_TRUST_HASH,
	  "share on equal hash without comparing bytes", NULL },
	{ "max-share", '\0', POPT_ARG_STRING, NULL, OPT_MAX_SHARE,
	  "references to one cluster at most (default: half of what refcount_bits counts)", "N" },
	{ "no-punch", '\0', POPT_ARG_NONE, NULL, OPT_NO_PUNCH,
	  "freed clusters keep their place on the host", NULL },
	{ "compact", '\0', POPT_ARG_NONE, NULL, OPT_COMPACT,
	  "then move clusters from the tail into the holes and shorten the file", NULL },
	{ "lazy-refcounts", '\0', POPT_ARG_NONE, NULL, OPT_LAZY_REFCOUNTS,
	  "update refcounts at the end, once", NULL },
	{ "upgrade", '\0', POPT_ARG_NONE, NULL, OPT_UPGRADE,
	  "make version 3 (compat=1.1) of a version 2 image", NULL },
	OPTIONS_CACHE,
	OPTIONS_IN_PLACE_END
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_dedup_opts *d = ctx;

	switch (val) {
	case OPT_DRY_RUN:
		d->dry_run = true;
		return 0;
	case OPT_HASH:
		d->hash = text;
		return 0;
	case OPT_TRUST_HASH:
		d->trust_hash = true;
		return 0;
	case OPT_MAX_SHARE:
		return qd_number_parse(text, "number of references", 1, INT64_MAX, &d->max_share, err);
	case OPT_NO_PIN:
		d->no_pin = true;
		return 0;
	case OPT_NO_INDEX:
		d->no_index = true;
		return 0;
	case OPT_INDEX:
		d->index_path = text;
		return 0;
	case OPT_NO_PUNCH:
		d->no_punch = true;
		return 0;
	case OPT_LAZY_REFCOUNTS:
		d->late_counts = true;
		return 0;
	case OPT_UPGRADE:
		d->upgrade = true;
		return 0;
	case OPT_COMPACT:
		d->compact = true;
		return 0;
	default:
		return qd_cache_mode_parse(text, &d->cache, err);
	}
}

static json_t *result_json(const char *path, const struct qd_dedup_result *r)
{
	json_t *root = json_object();

	if (root && output_set(root, "filename", text_json(path)) &&
	    output_set(root, "changed", json_boolean(r->changed)) &&
	    output_set_u64(root, "cluster-size", r->cluster_size) &&
	    output_set_u64(root, "clusters-scanned", r->scanned) &&
	    output_set_u64(root, "clusters-freed", r->freed) &&
	    output_set_u64(root, "zero-clusters-freed", r->zero_freed) &&
	    output_set_u64(root, "pinned-unused-freed", r->unpinned) &&
	    output_set_u64(root, "data-clusters", r->remaining) &&
	    output_set_u64(root, "bytes-freed", r->freed_nbytes) &&
	    output_set_u64(root, "bytes-read", r->read_nbytes) &&
	    output_set_u64(root, "batches", r->batches) &&
	    output_set_u64(root, "batches-logged", r->logged) &&
	    output_set_u64(root, "flushes", r->flushes) &&
	    output_set(root, "upgraded", json_boolean(r->upgraded)) &&
	    output_set(root, "index-written", json_boolean(r->indexed)) &&
	    output_set_u64(root, "moved", r->moved) &&
	    output_set_sizes(root, r->file_size, r->allocated))
		return root;
	json_decref(root);
	return NULL;
}

static void put_result(const char *path, const struct qd_dedup_opts *d, const struct qd_dedup_result *r)
{
	char cluster[QD_SIZE_TEXT], freed[QD_SIZE_TEXT], before[QD_SIZE_TEXT], after[QD_SIZE_TEXT];

	qd_size_format(r->cluster_size, cluster, sizeof(cluster));
	qd_size_format(r->freed_nbytes, freed, sizeof(freed));
	qd_size_format(r->allocated[0], before, sizeof(before));
	qd_size_format(r->allocated[1], after, sizeof(after));
	text_put(stdout, path);
	printf(": %" PRIu64 " clusters of %s hold data", r->scanned, cluster);
	if (!r->changed) {
		printf("; nothing to do\n");
		return;
	}
	if (r->moved)
		printf("; %" PRIu64 " moved down", r->moved);
	printf("; %" PRIu64 " duplicates and %" PRIu64 " clusters of zeros %s: %s", r->freed, r->zero_freed,
	       d->dry_run ? "would be freed" : "freed", freed);
	if (r->unpinned)
		printf(", with %" PRIu64 " that only the pin kept", r->unpinned);
	putchar('\n');
	if (!d->dry_run)
		printf("the file takes %s on disk, before %s%s%s\n", after, before,
		       r->upgraded ? "; it is version 3 now" : "",
		       r->indexed ? "; the hash table is stored" : "");
}

/* What a failure in the middle means for the image, and what to do. */
static void explain(const char *path, const struct qd_dedup_result *r, const struct qd_err *err)
{
	if (r->stage != QD_DEDUP_WRITING || err->code == QD_E_CANCELLED)
		return;
	if (r->dirty)
		report_note(path, "it stopped in the middle: every byte of the disk is there, but the image "
			    "is marked dirty; run qdedup check --repair, then qdedup dedup again");
	else
		report_note(path, "it stopped between two steps: the image is in order, and running it again "
			    "goes on");
}

struct shown {
	json_t *list;		/* NULL: text */
	int status;
};

static void dedup_one(const struct options *o, const struct qd_dedup_opts *d, const char *path,
		      struct shown *shown)
{
	struct qd_dedup_result result;
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc;

	progress_start(&progress, o, d->dry_run ? "dedup -n" : "dedup");
	rc = qd_dedup(path, d, &progress.lib, &result, &err);
	progress_stop(&progress, rc == 0);
	if (rc) {
		shown->status = report_error(&err);
		explain(path, &result, &err);
		return;
	}
	if (result.no_room && !o->quiet)
		report_note(path, "the header's cluster has no room for a hash table's extension: there is "
			    "none");
	if (!shown->list) {
		if (!o->quiet)
			put_result(path, d, &result);
		return;
	}
	if (json_array_append_new(shown->list, result_json(path, &result))) {
		qd_err_nomem(&err, "the JSON result");
		shown->status = report_error(&err);
	}
}

static int run(struct qd_dedup_opts *d, const struct options *o)
{
	struct shown shown = { .list = o->json ? json_array() : NULL };
	int status;

	if (d->compact && d->dry_run)
		return report_usage("-n cannot tell what --compact would do after it: use qdedup compact -n "
				    "later");
	if (d->index_path && d->no_index)
		return report_usage("--index and --no-index exclude each other");
	if (d->index_path && o->nargs > 1)
		return report_usage("--index takes one image: each has a table of its own");
	d->threads = o->threads;
	d->memory = o->memory;
	d->tmpdir = o->tmpdir;
	for (int i = 0; i < o->nargs && !signals_caught(); i++)
		dedup_one(o, d, o->args[i], &shown);
	if (signals_caught())
		shown.status = 128 + signals_caught();
	if (!shown.list)
		return shown.status;
	if (json_array_size(shown.list) == 0) {
		json_decref(shown.list);
		return shown.status;
	}
	if (o->nargs == 1) {
		json_t *only = json_incref(json_array_get(shown.list, 0));

		json_decref(shown.list);
		shown.list = only;
	}
	status = output_json(shown.list);
	return status ? status : shown.status;
}

int cmd_dedup(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = dedup_options, .arguments = "IMAGE...", .min_args = 1, .max_args = -1,
		.handle = take_option,
	};
	struct qd_dedup_opts d = { .dry_run = false };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &d);

	if (status == OPTIONS_GO)
		status = run(&d, &o);
	options_free(&o);
	return status;
}
