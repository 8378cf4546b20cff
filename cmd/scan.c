/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup scan IMAGE...: from the command line to struct qd_scan_opts.  An image that
 * cannot be read is reported, the others are counted all the same, and the exit status is 1.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "scan.h"

enum {
	OPT_CLUSTER_SIZE = 256,
	OPT_HASH,
	OPT_TOP,
	OPT_MATRIX,
	OPT_SNAPSHOTS,
	OPT_SAMPLE,
	OPT_RECORDS,
	OPT_MERGE,
	OPT_SHARD,
	OPT_COMPRESS,
	OPT_HTML,
};

#define MAX_TOP 1000000u

static const struct poptOption scan_options[] = {
	{ "cluster-size", '\0', POPT_ARG_STRING, NULL, OPT_CLUSTER_SIZE,
	  "cluster sizes to count at, 512 to 2M (default: 4K,8K,16K,32K,64K)", "LIST" },
	{ "hash", '\0', POPT_ARG_STRING, NULL, OPT_HASH,
	  "xxh128 (default), sha256, sha512-256, sha3-256, blake2b", "ALG" },
	{ "top", '\0', POPT_ARG_STRING, NULL, OPT_TOP, "name the N contents that occur most often", "N" },
	{ "matrix", '\0', POPT_ARG_NONE, NULL, OPT_MATRIX, "what each image has in common with each other",
	  NULL },
	{ "snapshots", '\0', POPT_ARG_NONE, NULL, OPT_SNAPSHOTS, "count internal snapshots, too", NULL },
	{ "sample", '\0', POPT_ARG_STRING, NULL, OPT_SAMPLE,
	  "read about one part in N, and estimate the rest", "1/N" },
	{ "compress", '\0', POPT_ARG_STRING, NULL, OPT_COMPRESS,
	  "estimate what compression would add: zlib, zstd", "TYPE" },
	POPT_TABLEEND
};

static const struct poptOption record_options[] = {
	{ "records", '\0', POPT_ARG_STRING, NULL, OPT_RECORDS,
	  "write a line for each cluster with data, sorted by hash (without =FILE: to standard output, "
	  "instead of the report)",
	  "FILE" },
	{ "merge", '\0', POPT_ARG_NONE, NULL, OPT_MERGE,
	  "the arguments are files of records, '-' is standard input", NULL },
	{ "shard", '\0', POPT_ARG_STRING, NULL, OPT_SHARD, "only hashes of part K, 1 to N, of N", "K/N" },
	POPT_TABLEEND
};

static const struct poptOption page_options[] = {
	{ "html", '\0', POPT_ARG_STRING, NULL, OPT_HTML,
	  "also write the report as a page with pictures", "FILE" },
	POPT_TABLEEND
};

static const struct poptOption table[] = {
	OPTIONS_INCLUDE(scan_options),
	OPTIONS_GROUP(record_options, "Records, to be merged:"),
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_INCLUDE(options_source_cache),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(page_options),
	OPTIONS_INCLUDE(options_progress),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

/* Into ascending order; one that is there already is not added. */
static void add_size(struct qd_scan_opts *o, uint64_t size)
{
	unsigned at = o->nsizes;

	while (at && o->cluster_sizes[at - 1] > size)
		at--;
	if (at && o->cluster_sizes[at - 1] == size)
		return;
	memmove(o->cluster_sizes + at + 1, o->cluster_sizes + at, (o->nsizes - at) * sizeof(size));
	o->cluster_sizes[at] = size;
	o->nsizes++;
}

static int parse_sizes(struct qd_scan_opts *o, const char *list, struct qd_err *err)
{
	o->nsizes = 0;
	for (;;) {
		size_t n = strcspn(list, ",");
		char one[64];
		uint64_t size;
		int r;

		if (n >= sizeof(one))
			return qd_err_set(err, QD_E_INVALID, "'%s' is not a list of sizes", list);
		memcpy(one, list, n);
		one[n] = '\0';
		r = qd_size_parse(one, &size, err);
		if (r)
			return r;
		if (size < QD_SCAN_SIZE_MIN || size > QD_SCAN_SIZE_MAX || (size & (size - 1)))
			return qd_err_set(err, QD_E_INVALID, "'%s', expected a power of two from 512 to 2M",
					  one);
		add_size(o, size);
		if (!list[n])
			return 0;
		list += n + 1;
	}
}

/* "K/N" */
static int parse_part(const char *text, unsigned max, unsigned *ret_k, unsigned *ret_n, struct qd_err *err)
{
	const char *slash = strchr(text, '/');
	char first[16];
	uint64_t k, n;
	int r;

	if (!slash || (size_t)(slash - text) >= sizeof(first))
		return qd_err_set(err, QD_E_INVALID, "'%s', expected two numbers with '/' between them",
				  text);
	memcpy(first, text, (size_t)(slash - text));
	first[slash - text] = '\0';
	r = qd_number_parse(slash + 1, "number behind '/'", 1, max, &n, err);
	if (!r)
		r = qd_number_parse(first, "number before '/'", 1, n, &k, err);
	if (r)
		return r;
	*ret_k = (unsigned)k;
	*ret_n = (unsigned)n;
	return 0;
}

static int take_sample(struct qd_scan_opts *o, const char *text, struct qd_err *err)
{
	unsigned one = 0, n = 0;
	int r = parse_part(text, 1000000, &one, &n, err);

	if (!r && one != 1)
		r = qd_err_set(err, QD_E_INVALID, "'%s', expected 1/N", text);
	if (!r)
		o->sample_n = n;
	return r;
}

static int take_top(unsigned *ret_top, const char *text, struct qd_err *err)
{
	uint64_t n;
	int r = qd_number_parse(text, "number", 1, MAX_TOP, &n, err);

	if (!r)
		*ret_top = (unsigned)n;
	return r;
}

static int take_hash(struct qd_scan_opts *o, const char *text, struct qd_err *err)
{
	const char *name;
	unsigned nbytes;

	if (!qd_scan_hash_name(text, &name, &nbytes))
		return qd_err_set(err, QD_E_INVALID,
				  "'%s' is not known, expected xxh128, sha256, sha512-256, sha3-256 or"
				  " blake2b",
				  text);
	o->hash = name;
	return 0;
}

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct scan_args *args = ctx;

	switch (val) {
	case OPT_CLUSTER_SIZE:
		return parse_sizes(&args->opts, text, err);
	case OPT_HASH:
		return take_hash(&args->opts, text, err);
	case OPT_TOP:
		return take_top(&args->top, text, err);
	case OPT_MATRIX:
		args->matrix = true;
		return 0;
	case OPT_SNAPSHOTS:
		args->opts.snapshots = true;
		return 0;
	case OPT_SAMPLE:
		return take_sample(&args->opts, text, err);
	case OPT_RECORDS:
		args->records = true;
		args->records_file = strcmp(text, "-") == 0 ? NULL : text;
		return 0;
	case OPT_MERGE:
		args->merge = true;
		return 0;
	case OPT_COMPRESS:
		qd_scan_compress_free(args->compress);
		args->compress = NULL;
		return qd_scan_compress_new(text, &args->compress, err);
	case OPT_HTML:
		args->html_file = text;
		return strcmp(text, "-") ? 0 : qd_err_set(err, QD_E_INVALID, "'-', expected a file's name");
	case OPT_SHARD:
		return parse_part(text, 1u << 20, &args->opts.shard, &args->opts.nshards, err);
	default:
		return qd_err_set(err, QD_E_INVALID, "option number %d is not handled", val);
	}
}

/* ---- the command ---- */

static bool is_target(const char *file, const char *target)
{
	return target && file[0] && qd_path_same(file, target);
}

/*
 * What records or a page shall replace is locked, so that as an image, perhaps one that another
 * names, it cannot be read: then nothing is written.
 */
static void unreadable(void *ctx, const struct qd_err *err)
{
	struct scan_args *args = ctx;
	struct qd_err refused = *err;

	args->unreadable++;
	if (is_target(err->file, args->records_file) || is_target(err->file, args->html_file)) {
		args->keep_nothing = true;
		qd_err_set(&refused, QD_E_INVALID, "is one of the images, nothing is written over it");
		qd_err_file(&refused, QD_E_INVALID, err->file);
	}
	report_error(&refused);
	if (args->html)
		scan_html_left_out(args, err);
}

static int show_content(void *ctx, const struct qd_scan_content *content, struct qd_err *err)
{
	struct scan_args *args = ctx;

	return qd_scan_compress_add(args->compress, content, err);
}

static int take_shared(const struct options *o, struct scan_args *args, struct qd_err *err)
{
	struct qd_scan_opts *opts = &args->opts;

	if (!opts->nsizes && !args->merge)
		for (uint64_t c = 4096; c <= 65536; c *= 2)
			opts->cluster_sizes[opts->nsizes++] = c;
	args->options = o;
	opts->format = o->source_format;
	opts->cache = o->source_cache;
	opts->no_lock = o->force_share;
	opts->untrusted = o->untrusted;
	opts->threads = o->threads;
	opts->memory = o->memory;
	opts->tmpdir = o->tmpdir;
	opts->top = args->top;
	opts->matrix = args->matrix;
	opts->content = args->compress ? show_content : NULL;
	opts->unreadable = unreadable;
	opts->ctx = args;
	args->sources = calloc((size_t)o->nargs, sizeof(*args->sources));
	if (!args->sources)
		return qd_err_nomem(err, "arguments");
	for (int i = 0; i < o->nargs; i++)
		args->sources[i].path = o->args[i];
	opts->sources = args->sources;
	opts->nsources = (unsigned)o->nargs;
	return 0;
}

static int scan(const struct options *o, struct scan_args *args, struct qd_scan_report *ret_report,
		struct qd_err *err)
{
	struct progress progress;
	struct qd_err ignored;
	int r = take_shared(o, args, err), rh;
	bool keep;

	if (!r && args->records)
		r = scan_records_open(args, err);
	if (!r && args->html_file)
		r = scan_html_open(args, err);
	if (!r) {
		progress_start(&progress, o, args->merge ? "merge" : "scan");
		args->opts.progress = &progress.lib;
		r = args->merge ? qd_scan_merge(&args->opts, ret_report, err)
				: qd_scan(&args->opts, ret_report, err);
		progress_stop(&progress, r == 0);
	}
	if (r) {
		scan_records_close(args, false, &ignored);
		scan_html_close(args, NULL, &ignored);
		return r;
	}
	keep = ret_report->nimages > 0 && !args->keep_nothing;
	r = scan_records_close(args, keep, err);
	rh = scan_html_close(args, keep && !r ? ret_report : NULL, r ? &ignored : err);
	r = r ? r : rh;
	if (r)
		qd_scan_report_free(ret_report);
	return r;
}

static const char *refuse(const struct options *o, const struct scan_args *args)
{
	if (args->records && !args->records_file && o->json)
		return "--records go to standard output, where --output=json wants to go: --records=FILE";
	if (args->merge && args->records)
		return "--merge reads records and writes none: 'LC_ALL=C sort -m' joins files of them";
	if (args->merge && (args->opts.snapshots || args->opts.sample_n))
		return "--snapshots and --sample are for images, not for --merge";
	if (args->merge && args->compress)
		return "--compress needs the data, which --merge does not have";
	if (args->records && args->opts.sample_n > 1)
		return "--records are of everything, not of a --sample";
	return NULL;
}

static int run(const struct options *o, struct scan_args *args)
{
	struct qd_scan_report report = { .hash = NULL };
	const char *why = refuse(o, args);
	struct qd_err err;
	int status = 0;

	if (why)
		return report_usage("%s", why);
	qd_err_clear(&err);
	if (scan(o, args, &report, &err))
		return report_error(&err);
	if (args->opts.nshards <= 1)
		for (unsigned i = 0; i < report.nimages; i++)
			if (report.images[i].missing)
				report_warning(report.images[i].name,
					       "%" PRIu64 " records are missing: not all shards are"
					       " there, or the records are not complete",
					       report.images[i].missing);
	if (args->unreadable && !report.nimages)
		status = 1;		/* all has been said */
	else if (args->records && !args->records_file)
		status = 0;
	else if (o->json)
		status = output_json(scan_json(args, &report));
	else
		scan_put(args, &report);
	qd_scan_report_free(&report);
	return status ? status : args->unreadable ? 1 : 0;
}

/* "--records" alone becomes "--records=-", because popt would take the next word for its argument. */
static char **spell_out(int argc, char **argv)
{
	static char to_stdout[] = "--records=-";
	char **line = calloc((size_t)argc + 1, sizeof(*line));
	bool options = true;

	for (int i = 0; line && i < argc; i++) {
		options = options && strcmp(argv[i], "--") != 0;
		line[i] = options && strcmp(argv[i], "--records") == 0 ? to_stdout : argv[i];
	}
	return line;
}

int cmd_scan(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = table, .arguments = "IMAGE...", .min_args = 1, .max_args = -1, .handle = take_option,
	};
	struct scan_args args = { .merge = false };
	char **line = spell_out(argc, argv);
	struct options o;
	int status = options_parse(&o, &syntax, argc, line ? line : argv, &args);

	if (status == OPTIONS_GO)
		status = run(&o, &args);
	qd_scan_compress_free(args.compress);
	free(args.sources);
	options_free(&o);
	free(line);
	return status;
}
