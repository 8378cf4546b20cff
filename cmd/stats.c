/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup stats: what the metadata of images tells, as JSON or as a page with a chart.
 *
 * An image that cannot be read is reported, and the others are shown all the same.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "cmd.h"
#include "index.h"
#include "ops/stats.h"

#define BAR_WIDTH 40

static const struct poptOption stats_options[] = {
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	(void)ctx;
	(void)text;
	return qd_err_set(err, QD_E_INVALID, "option number %d is not handled", val);
}

/* ---- JSON ---- */

static bool set_real(json_t *object, const char *key, double value)
{
	return output_set(object, key, json_real(value));
}

static bool set_bool(json_t *object, const char *key, bool value)
{
	return output_set(object, key, json_boolean(value));
}

/* A member that is an object; takes the reference. */
static bool set_object(json_t *root, const char *key, json_t *object, bool good)
{
	if (!good) {
		json_decref(object);
		return false;
	}
	return output_set(root, key, object);
}

static bool set_guest(json_t *root, const struct qd_stats *s)
{
	json_t *j = json_object();

	return set_object(root, "guest-clusters", j,
			  output_set_u64(j, "total", s->guest_total) &&
			  output_set_u64(j, "allocated", s->guest_allocated) &&
				  output_set_u64(j, "zero", s->guest_zero) &&
				  output_set_u64(j, "unallocated", s->guest_unallocated) &&
				  output_set_u64(j, "compressed", s->guest_compressed));
}

static uint64_t bucket_from(unsigned k)
{
	return 1ull << k;
}

static uint64_t bucket_to(unsigned k)
{
	return (bucket_from(k) << 1) - 1;	/* the last one wraps to UINT64_MAX */
}

static unsigned used_buckets(const struct qd_stats *s)
{
	unsigned n = QD_STATS_BUCKETS;

	while (n && !s->histogram[n - 1])
		n--;
	return n;
}

static bool set_histogram(json_t *root, const struct qd_stats *s)
{
	json_t *list = json_array();
	bool good = list != NULL;

	for (unsigned k = 0; good && k < used_buckets(s); k++) {
		json_t *j = json_object();

		good = output_set_u64(j, "from", bucket_from(k)) && output_set_u64(j, "to", bucket_to(k)) &&
		       output_set_u64(j, "clusters", s->histogram[k]);
		good = json_array_append_new(list, j) == 0 && good;
	}
	return set_object(root, "refcount-histogram", list, good);
}

static bool set_counts(json_t *root, const struct qd_stats *s)
{
	return output_set_u64(root, "references", s->references) &&
	       output_set_u64(root, "data-clusters", s->data_clusters) &&
	       output_set_u64(root, "data-bytes", s->data_nbytes) &&
	       output_set_u64(root, "preallocated-clusters", s->preallocated_clusters) &&
	       output_set_u64(root, "metadata-clusters", s->metadata_clusters) &&
	       output_set_u64(root, "leaked-clusters", s->leaked_clusters) &&
	       output_set_u64(root, "pinned-clusters", s->pinned_clusters) &&
	       output_set_u64(root, "pinned-unused", s->pinned_unused) &&
	       output_set_u64(root, "shared-clusters", s->shared_clusters) &&
	       output_set_u64(root, "saved-bytes", s->saved_nbytes) &&
	       set_real(root, "dedup-ratio", qd_stats_dedup_ratio(s)) &&
	       output_set_u64(root, "max-refcount", s->max_refcount) && set_histogram(root, s) &&
	       set_real(root, "fragmentation", qd_stats_fragmentation(s)) &&
	       (!s->bad_entries || output_set_u64(root, "bad-entries", s->bad_entries));
}

static json_t *stats_json(const char *path, const struct qd_stats *s)
{
	json_t *root = json_object();
	bool good = output_set(root, "filename", text_json(path)) &&
		    output_set(root, "format", json_string(s->format)) &&
		    output_set_u64(root, "virtual-size", s->virtual_size) &&
		    output_set_u64(root, "actual-size", s->actual_size);

	if (good && s->is_qcow2)
		good = output_set_u64(root, "cluster-size", s->cluster_size) &&
		       output_set_u64(root, "refcount-bits", s->refcount_bits) &&
		       output_set_u64(root, "snapshots", s->snapshots) && set_guest(root, s) &&
		       set_counts(root, s) &&
		       output_set(root, "index", index_json(&s->index)) &&
		       output_set(root, "journal", journal_json(&s->index)) &&
		       set_bool(root, "dirty", s->dirty) &&
		       set_bool(root, "lazy-refcounts", s->lazy_refcounts);
	if (good)
		return root;
	json_decref(root);
	return NULL;
}

/* ---- text ---- */

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

/* "  with data          48  31.2 %  3 MiB"; no share when whole is 0 */
static void put_share(const char *label, uint64_t clusters, uint64_t whole, uint64_t nbytes)
{
	char size[QD_SIZE_TEXT], share[16] = "";

	if (whole)
		snprintf(share, sizeof(share), "%.1f %%", percent(clusters, whole));
	printf("  %-22s %14" PRIu64 " %8s %12s\n", label, clusters, share,
	       qd_size_format(nbytes, size, sizeof(size)));
}

static void put_clusters(const char *label, uint64_t clusters, uint64_t whole, uint64_t cluster_size)
{
	put_share(label, clusters, whole,
		  clusters > UINT64_MAX / cluster_size ? UINT64_MAX : clusters * cluster_size);
}

static void put_size(const char *label, uint64_t nbytes)
{
	char size[QD_SIZE_TEXT];

	printf("%-18s %s (%" PRIu64 " bytes)\n", label, qd_size_format(nbytes, size, sizeof(size)), nbytes);
}

static void put_guest(const struct qd_stats *s)
{
	printf("\nThe disk, in clusters:\n");
	put_clusters("all", s->guest_total, 0, s->cluster_size);
	put_clusters("with data", s->guest_allocated, s->guest_total, s->cluster_size);
	if (s->guest_compressed)
		put_clusters("  of these compressed", s->guest_compressed, s->guest_total, s->cluster_size);
	put_clusters("zeros", s->guest_zero, s->guest_total, s->cluster_size);
	put_clusters("unallocated", s->guest_unallocated, s->guest_total, s->cluster_size);
}

static void put_file(const struct qd_stats *s)
{
	printf("\nThe file, in clusters:\n");
	put_share("data", s->data_clusters, 0, s->data_nbytes);
	if (s->preallocated_clusters)
		put_clusters("kept for zeros", s->preallocated_clusters, 0, s->cluster_size);
	put_clusters("metadata", s->metadata_clusters, 0, s->cluster_size);
	if (s->leaked_clusters)
		put_clusters("leaked", s->leaked_clusters, 0, s->cluster_size);
	if (s->pinned_unused)
		put_clusters("only pinned", s->pinned_unused, 0, s->cluster_size);
	printf("  %-22s %14s %6.1f %%\n", "fragmentation", "", 100 * qd_stats_fragmentation(s));
}

static void put_sharing(const struct qd_stats *s)
{
	char size[QD_SIZE_TEXT];

	printf("\nSharing:\n");
	printf("  %-22s %14" PRIu64 "\n", "references to data", s->references);
	printf("  %-22s %14.3f\n", "per data cluster", qd_stats_dedup_ratio(s));
	printf("  %-22s %14" PRIu64 "\n", "shared clusters", s->shared_clusters);
	if (s->pin)
		printf("  %-22s %14" PRIu64 "\n", "pinned clusters", s->pinned_clusters);
	printf("  %-22s %14s %8s %12s\n", "saved", "", "",
	       qd_size_format(s->saved_nbytes, size, sizeof(size)));
}

/* One bar per bucket, the longest BAR_WIDTH; what is there at all gets one mark. */
static void put_chart(const struct qd_stats *s)
{
	unsigned n = used_buckets(s);
	uint64_t most = 0;

	if (!n)
		return;
	for (unsigned k = 0; k < n; k++)
		most = s->histogram[k] > most ? s->histogram[k] : most;
	printf("\nReferences per data cluster (at most %" PRIu64 "):\n", s->max_refcount);
	for (unsigned k = 0; k < n; k++) {
		int bar = (int)((double)s->histogram[k] / (double)most * BAR_WIDTH);
		char range[48];

		if (s->histogram[k] && !bar)
			bar = 1;
		if (k == 0)
			snprintf(range, sizeof(range), "1");
		else
			snprintf(range, sizeof(range), "%" PRIu64 "-%" PRIu64, bucket_from(k), bucket_to(k));
		printf("  %15s |%-*.*s %" PRIu64 " (%.1f %%)\n", range, BAR_WIDTH, bar,
		       "########################################", s->histogram[k],
		       percent(s->histogram[k], s->data_clusters));
	}
}

static void put_state(const struct qd_stats *s)
{
	if (s->corrupt)
		puts("state:             corrupt; see qdedup check");
	if (s->dirty)
		puts("state:             not closed properly (dirty): refcounts may be wrong");
	if (s->leaked_clusters && !s->dirty)
		puts("state:             leaks space; see qdedup check");
}

static void print_human(const char *path, const struct qd_stats *s)
{
	printf("%-18s ", "image:");
	text_put(stdout, path);
	printf("\n%-18s %s%s%s\n", "format:", s->format, s->encrypted ? ", encrypted" : "",
	       s->data_file ? ", data in an external file" : "");
	put_size("virtual size:", s->virtual_size);
	put_size("size on disk:", s->actual_size);
	if (!s->is_qcow2)
		return;
	put_size("cluster size:", s->cluster_size);
	printf("%-18s %u bits%s\n", "refcounts:", s->refcount_bits, s->lazy_refcounts ? ", lazy" : "");
	printf("%-18s %u%s\n", "snapshots:", s->snapshots, s->pin ? " (one is the pin)" : "");
	index_put(&s->index);
	journal_put(&s->index);
	put_state(s);
	put_guest(s);
	put_file(s);
	put_sharing(s);
	put_chart(s);
}

/* ---- the command ---- */

struct shown {
	json_t *list;			/* of JSON results; NULL: text */
	unsigned count;
	int status;
};

static void show(const struct options *o, const char *path, const struct qd_stats *s, struct shown *shown)
{
	if (s->bad_entries)
		report_warning(path,
			       "%" PRIu64 " metadata entries cannot be true and were left out: see qdedup check",
			       s->bad_entries);
	if (o->json) {
		struct qd_err err;

		if (json_array_append_new(shown->list, stats_json(path, s))) {
			qd_err_nomem(&err, "the JSON result");
			shown->status = report_error(&err);
		}
	} else {
		if (shown->count)
			putchar('\n');
		print_human(path, s);
	}
	shown->count++;
}

static void collect(const struct options *o, const char *path, struct shown *shown)
{
	struct qd_stats_opts opts = {
		.format = o->source_format,
		.force_share = o->force_share,
		.memory = o->memory,
	};
	struct qd_stats stats;
	struct qd_err err;

	qd_err_clear(&err);
	if (qd_stats_collect(path, &opts, &stats, &err))
		shown->status = report_error(&err);
	else
		show(o, path, &stats, shown);
}

static int run(const struct options *o)
{
	struct shown shown = { .list = o->json ? json_array() : NULL };

	for (int i = 0; i < o->nargs && !signals_caught(); i++)
		collect(o, o->args[i], &shown);
	if (signals_caught())
		shown.status = 128 + signals_caught();
	if (!o->json || !shown.count) {
		json_decref(shown.list);
		return shown.status;
	}
	if (o->nargs == 1) {
		json_t *only = json_incref(json_array_get(shown.list, 0));

		json_decref(shown.list);
		shown.list = only;
	}
	{
		int status = output_json(shown.list);

		return status ? status : shown.status;
	}
}

int cmd_stats(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = stats_options, .arguments = "IMAGE...", .min_args = 1, .max_args = -1,
		.handle = take_option,
	};
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, NULL);

	if (status == OPTIONS_GO)
		status = run(&o);
	options_free(&o);
	return status;
}
