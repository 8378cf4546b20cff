/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup convert SOURCE TARGET: from the command line to struct qd_convert_opts, and
 * from struct qd_convert_result to two lines or JSON.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cmd.h"
#include "ops/convert.h"

enum {
	OPT_COMPRESS_LEVEL = 256,
	OPT_NO_DEDUP,
	OPT_NO_PIN,
	OPT_NO_INDEX,
	OPT_INDEX,
	OPT_HASH,
	OPT_TRUST_HASH,
	OPT_MAX_SHARE,
	OPT_BITMAPS,
};

static const struct poptOption image_options[] = {
	{ NULL, 'o', POPT_ARG_STRING, NULL, 'o',
	  "options of the new image; '-o help' lists them", "NAME=VALUE,..." },
	{ NULL, 'c', POPT_ARG_NONE, NULL, 'c', "compress", NULL },
	{ "compress-level", '\0', POPT_ARG_STRING, NULL, OPT_COMPRESS_LEVEL,
	  "1 (fast) to 9 (small); default: 3", "N" },
	{ NULL, 'B', POPT_ARG_STRING, NULL, 'B',
	  "backing file of the new image, which then holds only what differs", "BACKING" },
	{ NULL, 'F', POPT_ARG_STRING, NULL, 'F', "format of the backing file", "raw|qcow2" },
	{ NULL, 'S', POPT_ARG_STRING, NULL, 'S',
	  "raw target: zeros of this length become a hole; 0: no holes", "SIZE" },
	{ NULL, 'n', POPT_ARG_NONE, NULL, 'n', "write into the existing target, do not create it", NULL },
	{ NULL, 'l', POPT_ARG_STRING, NULL, 'l', "convert this internal snapshot (ID or name)", "SNAPSHOT" },
	{ "bitmaps", '\0', POPT_ARG_NONE, NULL, OPT_BITMAPS, "copy persistent bitmaps", NULL },
	POPT_TABLEEND
};

static const struct poptOption dedup_options[] = {
	{ "no-dedup", '\0', POPT_ARG_NONE, NULL, OPT_NO_DEDUP, "store every cluster, equal or not", NULL },
	{ "no-pin", '\0', POPT_ARG_NONE, NULL, OPT_NO_PIN,
	  "no pin snapshot: for images that are never written again", NULL },
	{ "no-index", '\0', POPT_ARG_NONE, NULL, OPT_NO_INDEX, "do not store the hash table", NULL },
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX,
	  "store the hash table in this file, not in the image", "FILE" },
	{ "hash", '\0', POPT_ARG_STRING, NULL, OPT_HASH,
	  "xxh128 (default), sha256, sha512-256, sha3-256, blake2b", "ALG" },
	{ "trust-hash", '\0', POPT_ARG_NONE, NULL, OPT_TRUST_HASH,
	  "share on equal hash without comparing bytes", NULL },
	{ "max-share", '\0', POPT_ARG_STRING, NULL, OPT_MAX_SHARE,
	  "references to one cluster at most (default: half of what refcount_bits counts)", "N" },
	POPT_TABLEEND
};

static const struct poptOption table[] = {
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_INCLUDE(options_source_cache),
	OPTIONS_GROUP(options_target, "Target:"),
	OPTIONS_INCLUDE(image_options),
	OPTIONS_GROUP(dedup_options, "Deduplication:"),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_progress, "Output:"),
	OPTIONS_INCLUDE(options_output),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int set_compress_level(struct qd_convert_opts *c, const char *text, struct qd_err *err)
{
	uint64_t level;
	int rc = qd_number_parse(text, "compression level", 1, 9, &level, err);

	if (rc == 0)
		c->compress_level = (int)level;
	return rc;
}

static int set_layout_text(char **member, const char *text, struct qd_err *err)
{
	char *copy = strdup(text);

	if (!copy)
		return qd_err_nomem(err, "options");
	free(*member);
	*member = copy;
	return 0;
}

static int handle(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_convert_opts *c = ctx;

	switch (val) {
	case 'o':
		return layout_option(&c->layout, text, false, err);	/* the source decides the size */
	case 'c':
		c->compress = true;
		return 0;
	case OPT_COMPRESS_LEVEL:
		return set_compress_level(c, text, err);
	case 'B':
		return set_layout_text(&c->layout.backing_file, text, err);
	case 'F':
		return set_layout_text(&c->layout.backing_fmt, text, err);
	case 'S':
		c->sparse_given = true;
		return qd_size_parse(text, &c->sparse_size, err);
	case 'n':
		c->no_create = true;
		return 0;
	case 'l':
		c->snapshot = text;
		return 0;
	case OPT_BITMAPS:
		c->bitmaps = true;
		return 0;
	case OPT_NO_DEDUP:
		c->no_dedup = true;
		return 0;
	case OPT_NO_PIN:
		c->no_pin = true;
		return 0;
	case OPT_NO_INDEX:
		c->no_index = true;
		return 0;
	case OPT_INDEX:
		c->index_path = text;
		return 0;
	case OPT_HASH:
		c->hash = text;
		return 0;
	case OPT_TRUST_HASH:
		c->trust_hash = true;
		return 0;
	case OPT_MAX_SHARE:
		return qd_number_parse(text, "number of references", 1, INT64_MAX, &c->max_share, err);
	default:
		return qd_err_set(err, QD_E_INVALID, "option number %d is not handled", val);
	}
}

static void take_shared(struct qd_convert_opts *c, const struct options *o)
{
	c->source = o->args[0];
	c->target = o->args[1];
	c->source_format = o->source_format;
	c->target_format = o->target_format;
	c->source_cache = o->source_cache;
	c->target_cache = o->target_cache;
	c->force_share = o->force_share;
	c->untrusted = o->untrusted;
	c->threads = o->threads;
	c->memory = o->memory;
	c->tmpdir = o->tmpdir;
}

static uint64_t saved_bytes(const struct qd_convert_result *r)
{
	if (r->guest_clusters <= r->data_clusters)
		return 0;
	return (r->guest_clusters - r->data_clusters) * r->cluster_size;
}

static bool set_autosize(json_t *root, const struct qd_autosize *a)
{
	json_t *list = a->nsizes ? json_array() : NULL;

	for (unsigned i = 0; list && i < a->nsizes; i++) {
		json_t *row = json_object();

		if (!row || !output_set_u64(row, "cluster-size", a->cluster_size[i]) ||
		    !output_set_u64(row, "total-bytes", a->nbytes[i])) {
			json_decref(row);
			json_decref(list);
			return false;
		}
		json_array_append_new(list, row);
	}
	return !a->nsizes || (list && output_set(root, "cluster-sizes", list));
}

static bool set_hint(json_t *root, const struct qd_convert_result *r)
{
	json_t *hint = r->hint_cluster_size ? json_object() : NULL;

	if (!r->hint_cluster_size)
		return true;
	return hint && output_set(root, "hint", hint) &&
	       output_set_u64(hint, "cluster-size", r->hint_cluster_size) &&
	       output_set_u64(hint, "saved-bytes", r->hint_nbytes);
}

static int print_json(const struct qd_convert_result *r)
{
	json_t *root = json_object();

	if (root && output_set(root, "target-format", json_string(r->target_format)) &&
	    output_set_u64(root, "virtual-size", r->virtual_size) &&
	    output_set_u64(root, "cluster-size", r->cluster_size) &&
	    output_set_u64(root, "guest-clusters", r->guest_clusters) &&
	    output_set_u64(root, "data-clusters", r->data_clusters) &&
	    output_set_u64(root, "shared-clusters", r->shared_clusters) &&
	    output_set_u64(root, "saved-bytes", saved_bytes(r)) &&
	    output_set_u64(root, "file-size", r->file_size) && set_autosize(root, &r->autosize) &&
	    set_hint(root, r))
		return output_json(root);
	json_decref(root);
	return output_json(NULL);
}

static void print_human(const struct qd_convert_opts *c, const struct qd_convert_result *r)
{
	char virtual_size[QD_SIZE_TEXT], file_size[QD_SIZE_TEXT];
	char cluster_size[QD_SIZE_TEXT], saved[QD_SIZE_TEXT];
	uint64_t nbytes = saved_bytes(r);
	double percent = 0;

	qd_size_format(r->virtual_size, virtual_size, sizeof(virtual_size));
	qd_size_format(r->file_size, file_size, sizeof(file_size));
	text_put(stdout, c->target);
	printf(": %s, %s of guest disk in a file of %s\n", r->target_format, virtual_size, file_size);
	if (r->cluster_size == 0 || c->no_dedup)
		return;
	if (nbytes > 0)
		percent = (double)nbytes / (double)r->cluster_size * 100.0 / (double)r->guest_clusters;
	qd_size_format(r->cluster_size, cluster_size, sizeof(cluster_size));
	qd_size_format(nbytes, saved, sizeof(saved));
	printf("%" PRIu64 " clusters of %s hold data, %" PRIu64 " are stored, %" PRIu64
	       " of them shared: %s (%.1f %%) saved by deduplication\n",
	       r->guest_clusters, cluster_size, r->data_clusters, r->shared_clusters, saved, percent);
}

/* Which cluster size was taken and why, or which one would have been better. */
static void print_sizes(const struct qd_convert_result *r)
{
	const struct qd_autosize *a = &r->autosize;
	char size[QD_SIZE_TEXT], nbytes[QD_SIZE_TEXT];

	for (unsigned i = 0; i < a->nsizes; i++)
		printf("%s%s: %s%s", i ? "; " : "cluster_size=auto: data and tables would take ",
		       qd_size_format(a->cluster_size[i], size, sizeof(size)),
		       qd_size_format(a->nbytes[i], nbytes, sizeof(nbytes)),
		       i == a->best ? " (the least: taken)" : "");
	if (a->nsizes)
		putchar('\n');
	if (r->hint_cluster_size)
		printf("hint: clusters of %s (-o cluster_size=%"
		       PRIu64 "K, or auto) would save about %s more\n",
		       qd_size_format(r->hint_cluster_size, size, sizeof(size)), r->hint_cluster_size / 1024,
		       qd_size_format(r->hint_nbytes, nbytes, sizeof(nbytes)));
}

static int convert(struct qd_convert_opts *c, const struct options *o)
{
	struct qd_convert_result result = { .target_format = NULL };
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc;

	take_shared(c, o);
	if (o->json && strcmp(c->target, "-") == 0)
		return report_usage("--output=json: standard output is taken by the image");
	if (c->layout.size)
		return report_usage("-o: size: the source decides the size, expected no size=");
	if (strcmp(c->source, "-") == 0)
		signals_release(STDIN_FILENO);
	if (strcmp(c->target, "-") == 0)
		signals_release(STDOUT_FILENO);
	progress_start(&progress, o, "convert");
	rc = qd_convert(c, &progress.lib, &result, &err);
	progress_stop(&progress, rc == 0);
	if (rc)
		return report_error(&err);
	if (result.bitmaps_left && !o->quiet)
		report_note(c->source, "%" PRIu32 " persistent %s not copied%s", result.bitmaps_left,
			    result.bitmaps_left == 1 ? "bitmap was" : "bitmaps were",
			    c->bitmaps ? "" : "; see --bitmaps");
	if (result.bitmaps_stale && !o->quiet)
		report_note(c->source,
			    "%" PRIu32 " persistent %s out of date and dropped: something wrote the image"
			    " without keeping bitmaps", result.bitmaps_stale,
			    result.bitmaps_stale == 1 ? "bitmap is" : "bitmaps are");
	if (o->json)
		return print_json(&result);
	if (!o->quiet && strcmp(c->target, "-") != 0)
		print_human(c, &result);
	if (!o->quiet && strcmp(c->target, "-") != 0)
		print_sizes(&result);
	return 0;
}

int cmd_convert(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = table,
		.arguments = "SOURCE TARGET",
		.min_args = 2,
		.max_args = 2,
		.handle = handle,
	};
	struct qd_convert_opts c = { .source = NULL };
	struct options o;
	int status;

	qd_layout_init(&c.layout);
	status = options_parse(&o, &syntax, argc, argv, &c);
	if (status == OPTIONS_GO)
		status = convert(&c, &o);
	options_free(&o);
	qd_layout_free(&c.layout);
	return status;
}
