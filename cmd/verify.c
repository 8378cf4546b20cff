/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup verify IMAGE: every cluster read and compared with its stored hash.
 *
 * JSON names each damaged guest cluster; text joins neighbours to ranges.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "ops/verify.h"

#define STATUS_BAD 2

enum { OPT_INDEX = 256 };

static const struct poptOption verify_options[] = {
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX, "the file of an index that is not in the image",
	  "FILE" },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_progress, "Output:"),
	OPTIONS_INCLUDE(options_output),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

struct found {
	json_t *list;		/* NULL: text */
	bool failed;		/* out of memory */
	const char *path;
	struct qd_verify_bad range;	/* text: not printed yet; nbytes 0: none */
	char *layer, *id;	/* its names, which the operation owns only during the call */
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct qd_verify_opts *v = ctx;

	(void)err;
	if (val == OPT_INDEX)
		v->index_path = text;
	return 0;
}

/* ---- what was found ---- */

static void put_range(struct found *f)
{
	const struct qd_verify_bad *b = &f->range;

	if (!b->nbytes)
		return;
	text_put(stdout, f->path);
	printf(": ");
	if (b->layer) {
		printf("snapshot \"");
		text_put(stdout, b->layer);
		printf("\" (ID ");
		text_put(stdout, b->snapshot_id);
		printf(")");
	} else {
		printf("active layer");
	}
	printf(": %" PRIu64 " bytes at offset %" PRIu64 " are not what was stored%s\n", b->nbytes, b->offset,
	       b->certain ? "" : ", unless another program wrote them since");
	f->range.nbytes = 0;
}

static bool is_same_layer(const struct found *f, const struct qd_verify_bad *b)
{
	return f->id && b->snapshot_id ? !strcmp(f->id, b->snapshot_id) : !f->id && !b->snapshot_id;
}

static void keep_range(struct found *f, const struct qd_verify_bad *b)
{
	free(f->layer);
	free(f->id);
	f->layer = b->layer ? strdup(b->layer) : NULL;
	f->id = b->layer ? strdup(b->snapshot_id) : NULL;
	f->failed |= b->layer && (!f->layer || !f->id);
	f->range = *b;
	f->range.layer = f->layer;
	f->range.snapshot_id = f->id;
}

static void add_to_range(struct found *f, const struct qd_verify_bad *b)
{
	if (f->range.nbytes && is_same_layer(f, b) &&
	    f->range.certain == b->certain && f->range.offset + f->range.nbytes == b->offset) {
		f->range.nbytes += b->nbytes;
		return;
	}
	put_range(f);
	keep_range(f, b);
}

static bool add_to_list(struct found *f, const struct qd_verify_bad *b)
{
	json_t *item = json_object();

	if (item && output_set(item, "layer", text_json(b->layer ? b->layer : "active")) &&
	    (!b->snapshot_id || output_set(item, "snapshot-id", text_json(b->snapshot_id))) &&
	    output_set_u64(item, "offset", b->offset) && output_set_u64(item, "length", b->nbytes) &&
	    output_set_u64(item, "host-offset", b->host_off) &&
	    output_set(item, "compressed", json_boolean(b->compressed)) &&
	    output_set(item, "certain", json_boolean(b->certain)))
		return json_array_append_new(f->list, item) == 0;
	json_decref(item);
	return false;
}

static void on_bad(void *ctx, const struct qd_verify_bad *b)
{
	struct found *f = ctx;

	if (f->list)
		f->failed |= !add_to_list(f, b);
	else
		add_to_range(f, b);
}

/* ---- the result ---- */

static json_t *result_json(const char *path, const struct qd_verify_result *r, json_t *bad)
{
	json_t *root = json_object();

	if (root && output_set(root, "filename", text_json(path)) &&
	    output_set(root, "state", json_string(r->state)) &&
	    output_set(root, "hash", json_string(r->hash)) &&
	    output_set_u64(root, "checked", r->checked) && output_set_u64(root, "unknown", r->unknown) &&
	    output_set_u64(root, "bytes-read", r->bytes_read) &&
	    output_set_u64(root, "bad-clusters", r->bad_clusters) &&
	    output_set(root, "index-damaged", json_boolean(r->index_damaged)) &&
	    output_set(root, "bad", json_incref(bad)))
		return root;
	json_decref(root);
	return NULL;
}

static void put_result(const char *path, const struct qd_verify_result *r)
{
	char read[QD_SIZE_TEXT];

	qd_size_format(r->bytes_read, read, sizeof(read));
	text_put(stdout, path);
	printf(": %" PRIu64 " clusters compared (%s, %s), ", r->checked, read, r->hash);
	if (r->bad_clusters)
		printf("%" PRIu64 " of them damaged", r->bad_clusters);
	else
		fputs(r->checked ? "all as they should be" : "so nothing is known of the data", stdout);
	if (r->unknown)
		printf("; %" PRIu64 " without a hash that holds (the index is %s: qdedup rehash)", r->unknown,
		       r->state);
	putchar('\n');
}

static int status_of(const char *path, const struct qd_verify_result *r)
{
	struct qd_err err = { .code = 0 };

	if (r->bad_clusters)
		return STATUS_BAD;
	if (!r->index_damaged)
		return 0;
	qd_err_set(&err, QD_E_CORRUPT,
		   "the index is damaged, and %" PRIu64 " clusters could not be compared: "
		   "run qdedup rehash", r->unknown);
	qd_err_file(&err, err.code, path);
	return report_error(&err);
}

static int run(const struct qd_verify_opts *given, const struct options *o)
{
	struct found found = { .list = o->json ? json_array() : NULL, .path = o->args[0] };
	struct qd_verify_opts v = {
		.index_path = given->index_path, .no_lock = o->force_share, .threads = o->threads,
		.memory = o->memory, .bad = o->quiet && !o->json ? NULL : on_bad, .ctx = &found,
	};
	struct qd_verify_result result;
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc, status;

	if (o->source_format && !strcmp(o->source_format, "raw"))
		return report_usage("a raw file has no index");
	progress_start(&progress, o, "verify");
	rc = qd_verify(o->args[0], &v, &progress.lib, &result, &err);
	progress_stop(&progress, rc == 0);
	put_range(&found);
	if (rc == 0 && found.failed)
		rc = qd_err_nomem(&err, "the JSON result");
	if (rc) {
		status = report_error(&err);
		goto out;
	}
	status = status_of(o->args[0], &result);
	if (o->json)
		rc = output_json(result_json(o->args[0], &result, found.list));
	else if (!o->quiet)
		put_result(o->args[0], &result);
	status = rc ? rc : status;
out:
	free(found.layer);
	free(found.id);
	json_decref(found.list);
	return status;
}

int cmd_verify(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = verify_options, .arguments = "IMAGE", .min_args = 1, .max_args = 1,
		.handle = take_option,
	};
	struct qd_verify_opts v = { .index_path = NULL };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &v);

	if (status == OPTIONS_GO)
		status = run(&v, &o);
	options_free(&o);
	return status;
}
