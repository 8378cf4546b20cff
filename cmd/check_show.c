/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Findings and repairs as text and as JSON.  Of each kind the first few are kept, with
 * their texts, because the findings themselves are gone when the check ends.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "check.h"

#define WHERE_MAX 512
#define DETAIL_MAX 512

/* ---- collecting ---- */

static bool make_shown(const struct qd_finding *f, uint64_t cluster_size, struct shown *ret)
{
	char where[WHERE_MAX], detail[DETAIL_MAX];

	ret->f = *f;
	ret->f.label = NULL;
	ret->where = strdup(qd_finding_where(f, cluster_size, where, sizeof(where)));
	ret->detail = strdup(qd_finding_detail(f, detail, sizeof(detail)));
	return ret->where && ret->detail;
}

static void keep_in(struct check_args *args, struct kind *k, const struct qd_finding *f,
		    uint64_t cluster_size)
{
	struct shown *grown;

	k->runs++;
	if (k->n >= args->limit)
		return;
	if ((k->n & (k->n - 1)) == 0) {
		grown = realloc(k->first, (k->n ? k->n * 2 : 1) * sizeof(*grown));
		if (!grown) {
			args->failed = true;
			return;
		}
		k->first = grown;
	}
	if (!make_shown(f, cluster_size, &k->first[k->n++]))
		args->failed = true;
}

void check_keep(void *ctx, const struct qd_finding *f, uint64_t cluster_size)
{
	struct check_args *args = ctx;

	keep_in(args, &args->kinds[f->type], f, cluster_size);
}

void check_keep_planned(void *ctx, enum qd_repair_verb verb, const struct qd_finding *f,
			 uint64_t cluster_size)
{
	struct check_args *args = ctx;

	args->nplanned[verb] += f->nitems;
	keep_in(args, &args->planned[verb], f, cluster_size);
}

static void put_finding(const char *where, const char *detail, uint64_t nitems)
{
	fputs("    ", stdout);
	text_put(stdout, where);
	fputs(": ", stdout);
	text_put(stdout, detail);
	if (nitems > 1)
		printf(" (%" PRIu64 " times)", nitems);
	putchar('\n');
}

/* -v: told as they come, with the kind on each line. */
void check_put_at_once(void *ctx, const struct qd_finding *f, uint64_t cluster_size)
{
	const struct qd_finding_kind *kind = qd_finding_kind(f->type);
	char where[WHERE_MAX], detail[DETAIL_MAX];

	(void)ctx;
	progress_break();
	printf("%s %s", qd_severity_name(kind->severity), kind->slug);
	put_finding(qd_finding_where(f, cluster_size, where, sizeof(where)),
		    qd_finding_detail(f, detail, sizeof(detail)), f->nitems);
}

void check_put_planned_at_once(void *ctx, enum qd_repair_verb verb, const struct qd_finding *f,
				uint64_t cluster_size)
{
	char where[WHERE_MAX], detail[DETAIL_MAX];

	(void)ctx;
	progress_break();
	printf("%s %s", qd_repair_verb_name(verb), qd_finding_kind(f->type)->slug);
	put_finding(qd_finding_where(f, cluster_size, where, sizeof(where)),
		    qd_finding_detail(f, detail, sizeof(detail)), f->nitems);
}

static void free_kind(struct kind *k)
{
	for (size_t i = 0; i < k->n; i++) {
		free(k->first[i].where);
		free(k->first[i].detail);
	}
	free(k->first);
}

void check_free(struct check_args *args)
{
	for (size_t t = 0; t < QD_F_NTYPES; t++)
		free_kind(&args->kinds[t]);
	for (size_t v = 0; v < QD_REPAIR_NVERBS; v++)
		free_kind(&args->planned[v]);
}

/* ---- JSON ---- */

static bool set_count(json_t *object, const char *key, uint64_t value)
{
	return value == 0 || output_set_u64(object, key, value);
}

static json_t *finding_json(const struct check_args *args, const struct shown *s)
{
	/* A kind counts as fixed when nothing of it is left. */
	bool fixed = args->repair && !args->dry_run && !args->result.count[s->f.type];
	const struct qd_finding_kind *kind = qd_finding_kind(s->f.type);
	json_t *j = json_object();
	bool good = output_set(j, "type", json_string(kind->slug)) &&
		    output_set(j, "severity", json_string(qd_severity_name(kind->severity))) &&
		    output_set(j, "where", text_json(s->where)) &&
		    output_set(j, "detail", text_json(s->detail)) &&
		    output_set_u64(j, "count", s->f.nitems) &&
		    (s->f.place.guest_off == QD_NOWHERE ||
		     output_set_u64(j, "guest-offset", s->f.place.guest_off)) &&
		    (s->f.place.host_off == QD_NOWHERE ||
		     output_set_u64(j, "host-offset", s->f.place.host_off)) &&
		    output_set(j, "repairable", json_boolean(kind->repairable)) &&
		    output_set(j, "fixed", json_boolean(fixed));

	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *findings_json(const struct check_args *args)
{
	json_t *list = json_array();

	for (size_t t = 0; list && t < QD_F_NTYPES; t++) {
		for (size_t i = 0; list && i < args->kinds[t].n; i++) {
			if (json_array_append_new(list, finding_json(args, &args->kinds[t].first[i]))) {
				json_decref(list);
				list = NULL;
			}
		}
	}
	return list;
}

/* How often each kind was found, those not listed included. */
static json_t *counts_json(const struct qd_check_result *r)
{
	json_t *object = json_object();

	for (size_t t = 0; object && t < QD_F_NTYPES; t++) {
		if (!r->count[t] ||
		    output_set_u64(object, qd_finding_kind((enum qd_finding_type)t)->slug, r->count[t]))
			continue;
		json_decref(object);
		object = NULL;
	}
	return object;
}

static json_t *repair_json(const struct shown *s, enum qd_repair_verb verb)
{
	json_t *j = json_object();
	bool good = output_set(j, "action", json_string(qd_repair_verb_name(verb))) &&
		    output_set(j, "type", json_string(qd_finding_kind(s->f.type)->slug)) &&
		    output_set(j, "where", text_json(s->where)) && output_set_u64(j, "count", s->f.nitems) &&
		    (s->f.place.guest_off == QD_NOWHERE ||
		     output_set_u64(j, "guest-offset", s->f.place.guest_off));

	if (good)
		return j;
	json_decref(j);
	return NULL;
}

static json_t *repairs_json(const struct check_args *args)
{
	json_t *list = json_array();

	for (size_t v = 0; list && v < QD_REPAIR_NVERBS; v++) {
		for (size_t i = 0; list && i < args->planned[v].n; i++) {
			if (json_array_append_new(list, repair_json(&args->planned[v].first[i],
								    (enum qd_repair_verb)v))) {
				json_decref(list);
				list = NULL;
			}
		}
	}
	return list;
}

static uint64_t fixed(uint64_t before, uint64_t after)
{
	return before > after ? before - after : 0;
}

/* A corruption or an error of which there is no repair. */
static bool is_beyond_repair(const struct qd_check_result *r, size_t t)
{
	const struct qd_finding_kind *kind = qd_finding_kind((enum qd_finding_type)t);

	return r->count[t] && !kind->repairable && kind->severity >= QD_SEV_CORRUPTION;
}

static json_t *not_repaired_json(const struct qd_check_result *after)
{
	json_t *list = json_array();

	for (size_t t = 0; list && t < QD_F_NTYPES; t++) {
		const char *advice = qd_finding_advice((enum qd_finding_type)t);
		json_t *j;

		if (!is_beyond_repair(after, t))
			continue;
		j = json_object();
		if (!output_set(j, "type", json_string(qd_finding_kind((enum qd_finding_type)t)->slug)) ||
		    !output_set_u64(j, "count", after->count[t]) ||
		    (advice && !output_set(j, "advice", json_string(advice))) ||
		    json_array_append_new(list, j) < 0) {
			json_decref(list);
			return NULL;
		}
	}
	return list;
}

static bool set_repair(json_t *root, const struct check_args *args)
{
	const struct qd_repair_result *r = &args->repaired;

	if (!args->repair)
		return true;
	return (args->dry_run ||
		(set_count(root, "corruptions-fixed", fixed(r->before.corruptions, r->after.corruptions)) &&
		 set_count(root, "leaks-fixed", fixed(r->before.leaks, r->after.leaks)))) &&
	       output_set(root, "not-repaired", not_repaired_json(&r->after)) &&
	       output_set(root, "repairs", repairs_json(args)) &&
	       output_set(root, "changed", json_boolean(r->changed && !args->dry_run)) &&
	       (!r->refused || output_set(root, "refused", json_string(r->refused)));
}

static bool set_index(json_t *root, const struct check_args *args)
{
	json_t *index;

	if (!args->index.state)
		return true;
	index = json_object();
	if (output_set(index, "state", json_string(args->index.state)) &&
	    output_set_u64(index, "errors", args->index.errors) &&
	    (!args->repair || (output_set(index, "dropped", json_boolean(args->index_dropped)) &&
			       output_set(index, "rebuilt", json_boolean(args->index_rebuilt)) &&
			       output_set_u64(index, "replayed", args->replayed))))
		return output_set(root, "index", index);
	json_decref(index);
	return false;
}

json_t *check_json(const char *path, const struct check_args *args)
{
	const struct qd_check_result *r = &args->result;
	json_t *root = json_object();
	bool good = output_set(root, "filename", text_json(path)) &&
		    output_set(root, "format", json_string("qcow2")) &&
		    output_set_u64(root, "check-errors", r->check_errors) &&
		    set_count(root, "image-end-offset", r->image_end) &&
		    set_count(root, "total-clusters", r->total_clusters) &&
		    set_count(root, "allocated-clusters", r->allocated_clusters) &&
		    set_count(root, "fragmented-clusters", r->fragmented_clusters) &&
		    set_count(root, "compressed-clusters", r->compressed_clusters) &&
		    set_count(root, "corruptions", r->corruptions) && set_count(root, "leaks", r->leaks) &&
		    output_set(root, "dirty", json_boolean(r->dirty)) &&
		    output_set(root, "corrupt", json_boolean(r->corrupt_bit)) &&
		    set_index(root, args) && output_set(root, "findings", findings_json(args)) &&
		    output_set(root, "finding-counts",
			       counts_json(args->repair ? &args->repaired.before : r)) &&
		    set_repair(root, args);

	if (good)
		return root;
	json_decref(root);
	return NULL;
}

/* ---- text ---- */

static void put_first(const struct check_args *args, const struct kind *k)
{
	for (size_t i = 0; i < k->n; i++)
		put_finding(k->first[i].where, k->first[i].detail, k->first[i].f.nitems);
	if (k->runs > k->n && !args->verbose)
		printf("    ... and %" PRIu64 " more places (-v shows them)\n", k->runs - k->n);
}

static void put_kind(const struct check_args *args, const struct qd_check_result *r,
		     enum qd_finding_type type)
{
	const struct qd_finding_kind *kind = qd_finding_kind(type);

	printf("%s %s: %s (%" PRIu64 ")\n", qd_severity_name(kind->severity), kind->slug, kind->summary,
	       r->count[type]);
	put_first(args, &args->kinds[type]);
}

static void put_kinds(const struct check_args *args, const struct qd_check_result *r)
{
	for (size_t t = 0; t < QD_F_NTYPES; t++)
		if (r->count[t])
			put_kind(args, r, (enum qd_finding_type)t);
}

/* What a repair does, or would do. */
static void put_plan(const struct check_args *args)
{
	for (size_t v = 0; v < QD_REPAIR_NVERBS; v++) {
		if (!args->planned[v].runs)
			continue;
		printf("repair %s: %s (%" PRIu64 ")\n", qd_repair_verb_name((enum qd_repair_verb)v),
		       qd_repair_verb_meaning((enum qd_repair_verb)v), args->nplanned[v]);
		put_first(args, &args->planned[v]);
	}
}

/* What is left for the user to do. */
static void put_not_repaired(const struct qd_check_result *after)
{
	for (size_t t = 0; t < QD_F_NTYPES; t++) {
		const struct qd_finding_kind *kind = qd_finding_kind((enum qd_finding_type)t);
		const char *advice = qd_finding_advice((enum qd_finding_type)t);

		if (!is_beyond_repair(after, t))
			continue;
		printf("not repaired %s: %s (%" PRIu64 ")\n", kind->slug, kind->summary, after->count[t]);
		if (advice)
			printf("    what can be done: %s\n", advice);
	}
}

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? (double)part * 100.0 / (double)whole : 0.0;
}

static void put_totals(const struct qd_check_result *r)
{
	char size[QD_SIZE_TEXT];

	printf("%" PRIu64 "/%" PRIu64 " clusters allocated (%.2f%%), %.2f%% fragmented, %.2f%% compressed\n",
	       r->allocated_clusters, r->total_clusters, percent(r->allocated_clusters, r->total_clusters),
	       percent(r->fragmented_clusters, r->allocated_clusters),
	       percent(r->compressed_clusters, r->allocated_clusters));
	printf("The image ends at byte %" PRIu64 " (%s)\n", r->image_end,
	       qd_size_format(r->image_end, size, sizeof(size)));
}

static void put_verdict(const struct qd_check_result *r)
{
	if (r->check_errors)
		printf("The check is incomplete: %" PRIu64 " errors.\n", r->check_errors);
	if (r->corruptions)
		printf("%" PRIu64
		       " corruptions. Data may be wrong, or become wrong when the image is written to.\n",
		       r->corruptions);
	if (r->leaks)
		printf("%" PRIu64 " leaked clusters. They waste space and do no other harm.\n", r->leaks);
	if (r->blind && r->leaks)
		printf("Some tables cannot be read: what looks leaked may be in use.\n");
	if (!r->check_errors && !r->corruptions && !r->leaks)
		printf("No errors.\n");
}

/* What a repair does about the index. */
static void put_index(const struct check_args *args)
{
	if (args->replayed)
		printf("The journal held writes of an operation that was cut short: %"
		       PRIu64 " of them %s first.\n",
		       args->replayed, args->dry_run ? "would be completed" : "are completed");
	if (!args->index_dropped && !args->index_rebuilt)
		return;
	for (size_t t = QD_F_INDEX_STALE; t <= QD_F_INDEX_JOURNAL; t++)
		if (args->repaired.before.count[t])
			put_kind(args, &args->repaired.before, (enum qd_finding_type)t);
	if (args->index_rebuilt)
		printf("The index %s from what is sound of it and from the data.\n",
		       args->dry_run ? "would be rebuilt" : "is rebuilt");
	else
		printf("The index %s: qdedup rehash makes a new one.\n",
		       args->dry_run ? "would be dropped" : "is dropped");
}

void check_put(const struct options *o, const struct check_args *args)
{
	put_index(args);
	if (!args->repair)
		put_kinds(args, &args->result);
	else if (args->repaired.changed)
		put_not_repaired(&args->repaired.after);
	if (o->quiet)
		return;
	put_verdict(&args->result);
	if (args->result.check_errors == 0)
		put_totals(&args->result);
}

void check_put_repairs(const struct check_args *args, const struct qd_repair_result *r)
{
	if (args->options->json)
		return;
	progress_break();
	put_kinds(args, &r->before);
	put_plan(args);
	if (r->refused)
		printf("No repair: %s.\n", r->refused);
	if (r->refused || !r->changed)
		put_not_repaired(&r->after);
	fflush(stdout);
}
