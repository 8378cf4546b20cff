/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup journal VERB IMAGE: the journal of an image's index.
 *
 * verify and replay have exit statuses of their own: 0 sound or done, 2 damaged, 3 pending
 * (verify), 1 anything else.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "cmd.h"
#include "ops/journal.h"

#define STATUS_DAMAGED 2
#define STATUS_PENDING 3

enum { OPT_INDEX = 256, OPT_SIZE, OPT_DRY_RUN };

struct journal {
	struct qd_ops_journal_opts opts;
	const char *path;
	json_t *list;		/* dump: the entries in JSON */
	bool quiet;
};

static const struct poptOption journal_options[] = {
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN, "say what would change, and change nothing",
	  NULL },
	{ "size", '\0', POPT_ARG_STRING, NULL, OPT_SIZE,
	  "create: bytes of the log, a multiple of 4K (default: 256K)", "SIZE" },
	{ "index", '\0', POPT_ARG_STRING, NULL, OPT_INDEX, "the file of an index that is not in the image",
	  "FILE" },
	OPTIONS_CACHE,
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_IN_PLACE_END
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct journal *j = ctx;

	switch (val) {
	case OPT_DRY_RUN:
		j->opts.dry_run = true;
		return 0;
	case OPT_SIZE:
		return qd_size_parse(text, &j->opts.log_nbytes, err);
	case OPT_INDEX:
		j->opts.index_path = text;
		return 0;
	default:
		return qd_cache_mode_parse(text, &j->opts.cache, err);
	}
}

/* ---- dump ---- */

static const char *const area_names[] = { "log A", "log B", "redo" };

static void put_hex(char *text, const uint8_t *bytes, size_t n)
{
	for (size_t i = 0; i < n; i++)
		sprintf(text + 2 * i, "%02x", bytes[i]);
	text[2 * n] = '\0';
}

/* What an entry says, for people. */
static void put_entry(const struct qd_journal_item *item)
{
	const struct qd_journal_entry *e = &item->entry;
	char hex[2 * 256 + 1];
	struct qd_record r;

	printf("0x%010" PRIx64 "    %-8s", item->off, qd_journal_type_name(e->type));
	switch (e->type) {
	case QD_JOURNAL_HASH:
		qd_record_decode(e->payload, e->nbytes - QD_TABLE_RECORD_HEAD, &r);
		put_hex(hex, r.hash, e->nbytes - QD_TABLE_RECORD_HEAD);
		printf(" 0x%" PRIx64 " guest cluster %" PRIu64 " flags %u hash %s", r.entry, r.guest, r.flags,
		       hex);
		break;
	case QD_JOURNAL_REVOKE:
		printf(" 0x%" PRIx64, qd_get_be64(e->payload));
		break;
	case QD_JOURNAL_WRITE:
		put_hex(hex, e->payload + QD_JOURNAL_WRITE_HEAD, e->nbytes - QD_JOURNAL_WRITE_HEAD);
		printf(" %u bytes at 0x%" PRIx64 " before %08" PRIx32 " now %s",
		       e->nbytes - QD_JOURNAL_WRITE_HEAD, qd_get_be64(e->payload),
		       qd_get_be32(e->payload + 8),
		       hex);
		break;
	case QD_JOURNAL_COMMIT:
	case QD_JOURNAL_APPLIED:
		printf(" %" PRIu64, qd_get_be64(e->payload));
		break;
	default:
		break;
	}
	putchar('\n');
}

static const char *mark_name(const struct qd_journal_item *item)
{
	return item->mark.state == QD_JOURNAL_MARK_APPLIED ? "applied" : "committed";
}

static void put_item(const struct qd_journal_item *item)
{
	const struct qd_journal_header *h = &item->header;

	if (item->entry.type) {
		put_entry(item);
		return;
	}
	if (item->is_mark)
		printf("0x%010" PRIx64 "  redo mark: ", item->off);
	else
		printf("0x%010" PRIx64 "  %s cluster %" PRIu32 ": ", item->off, area_names[item->area],
		       item->number);
	if (item->valid && item->is_mark)
		printf("generation %" PRIu64 ", %" PRIu32 " clusters, %s\n", item->mark.generation,
		       item->mark.nclusters, mark_name(item));
	else if (item->valid)
		printf("generation %" PRIu64 ", batch %" PRIu64 ", %u bytes, %s\n", h->generation, h->batch,
		       h->used,
		       item->committed ? "counts" : "does not count");
	else
		printf("not valid\n");
}

static bool set_entry(json_t *o, const struct qd_journal_entry *e)
{
	char hex[2 * 256 + 1];
	struct qd_record r;

	switch (e->type) {
	case QD_JOURNAL_HASH:
		qd_record_decode(e->payload, e->nbytes - QD_TABLE_RECORD_HEAD, &r);
		put_hex(hex, r.hash, e->nbytes - QD_TABLE_RECORD_HEAD);
		return output_set_u64(o, "entry", r.entry) && output_set_u64(o, "guest-cluster", r.guest) &&
		       output_set_u64(o, "flags", r.flags) && output_set(o, "hash", json_string(hex));
	case QD_JOURNAL_REVOKE:
		return output_set_u64(o, "entry", qd_get_be64(e->payload));
	case QD_JOURNAL_WRITE:
		put_hex(hex, e->payload + QD_JOURNAL_WRITE_HEAD, e->nbytes - QD_JOURNAL_WRITE_HEAD);
		return output_set_u64(o, "target", qd_get_be64(e->payload)) &&
		       output_set_u64(o, "before-crc32c", qd_get_be32(e->payload + 8)) &&
		       output_set(o, "bytes", json_string(hex));
	case QD_JOURNAL_COMMIT:
	case QD_JOURNAL_APPLIED:
		return output_set_u64(o, "number", qd_get_be64(e->payload));
	default:
		return true;
	}
}

static bool set_cluster(json_t *o, const struct qd_journal_item *item)
{
	const struct qd_journal_header *h = &item->header;

	return output_set_u64(o, "cluster", item->number) &&
	       output_set(o, "valid", json_boolean(item->valid)) &&
	       (!item->valid || (output_set_u64(o, "generation", h->generation) &&
				 output_set_u64(o, "batch", h->batch) && output_set_u64(o, "used", h->used)));
}

static bool set_mark(json_t *o, const struct qd_journal_item *item)
{
	const struct qd_journal_mark *m = &item->mark;

	return output_set(o, "valid", json_boolean(item->valid)) &&
	       (!item->valid || (output_set_u64(o, "generation", m->generation) &&
				 output_set_u64(o, "clusters", m->nclusters) &&
				 output_set(o, "mark", json_string(mark_name(item)))));
}

static bool set_item(json_t *o, const struct qd_journal_item *item)
{
	if (item->entry.type)
		return set_entry(o, &item->entry);
	return item->is_mark ? set_mark(o, item) : set_cluster(o, item);
}

static json_t *item_json(const struct qd_journal_item *item)
{
	const char *other = item->is_mark ? "mark" : "cluster";
	const char *type = item->entry.type ? qd_journal_type_name(item->entry.type) : other;
	json_t *o = json_object();

	if (o && output_set_u64(o, "offset", item->off) &&
	    output_set(o, "area", json_string(area_names[item->area])) &&
	    output_set(o, "type", json_string(type)) &&
	    output_set(o, "counts", json_boolean(item->committed)) &&
	    set_item(o, item))
		return o;
	json_decref(o);
	return NULL;
}

static int on_item(void *ctx, const struct qd_journal_item *item, struct qd_err *err)
{
	struct journal *j = ctx;

	if (signals_caught())
		return qd_err_set(err, QD_E_CANCELLED, "interrupted");
	if (!j->list) {
		if (!j->quiet)
			put_item(item);
		return 0;
	}
	return json_array_append_new(j->list, item_json(item)) ? qd_err_nomem(err, "the JSON result") : 0;
}

/* ---- results ---- */

static const char *state_name(const struct qd_ops_journal_result *r)
{
	if (r->state.health == QD_JOURNAL_DAMAGED)
		return "damaged";
	if (r->state.health == QD_JOURNAL_SOUND)
		return "clean";
	return r->obsolete ? "obsolete" : "pending";
}

static json_t *result_json(const struct journal *j, const char *verb, const struct qd_ops_journal_result *r)
{
	const struct qd_journal_state *s = &r->state;
	json_t *root = json_object();

	if (root && output_set(root, "filename", text_json(j->path)) &&
	    output_set(root, "verb", json_string(verb)) &&
	    output_set(root, "state", json_string(r->nbytes ? state_name(r) : "absent")) &&
	    (!s->why[0] || output_set(root, "why", json_string(s->why))) &&
	    output_set_u64(root, "bytes", r->nbytes) && output_set_u64(root, "used", s->log_used) &&
	    output_set_u64(root, "entries", s->entries) && output_set_u64(root, "live", s->live) &&
	    output_set_u64(root, "log-generation", s->log_generation) &&
	    output_set_u64(root, "log-clusters", s->log_clusters) &&
	    output_set_u64(root, "log-size", (uint64_t)s->log_size * QD_JOURNAL_CLUSTER) &&
	    output_set_u64(root, "pending-writes", s->pending_writes) &&
	    output_set_u64(root, "writes", r->writes) &&
	    output_set(root, "changed", json_boolean(r->changed)) &&
	    output_set(root, "merged", json_boolean(r->merged)) &&
	    output_set(root, "repaired", json_boolean(r->repaired)) &&
	    output_set_u64(root, "wrong", r->found) &&
	    output_set_u64(root, "generation", r->container) &&
	    (!j->list || output_set(root, "items", json_incref(j->list))))
		return root;
	json_decref(root);
	return NULL;
}

static void put_head(const struct journal *j)
{
	text_put(stdout, j->path);
	fputs(": ", stdout);
}

static void put_state(const struct journal *j, const struct qd_ops_journal_result *r)
{
	const struct qd_journal_state *s = &r->state;
	char size[QD_SIZE_TEXT];

	put_head(j);
	printf("journal of %s, ", qd_size_format(r->nbytes, size, sizeof(size)));
	if (s->health == QD_JOURNAL_DAMAGED)
		printf("damaged: %s; qdedup rehash makes a new one\n", s->why);
	else if (s->health == QD_JOURNAL_SOUND)
		printf("sound: %" PRIu64 " entries, %" PRIu64 " of them live, in %" PRIu32 " of %"
		       PRIu32 " clusters\n",
		       s->entries, s->live, s->log_clusters, s->log_size);
	else if (r->obsolete)
		printf("sound; its %" PRIu64 " pending writes are of no use since %s\n", s->pending_writes,
		       r->others_wrote ? "somebody else wrote" : "the image was repaired");
	else
		printf("%" PRIu64 " writes are pending, %"
		       PRIu64 " of them not in the file yet: qdedup journal "
		       "replay\n", s->pending_writes, r->writes);
}

static void put_replayed(const struct journal *j, const struct qd_ops_journal_result *r)
{
	bool dry = j->opts.dry_run;

	put_head(j);
	if (!r->state.pending_writes || r->obsolete)
		printf("nothing is pending");
	else
		printf("%" PRIu64 " of %" PRIu64 " pending writes %s", r->writes, r->state.pending_writes,
		       dry ? "would be made" : "were made, the others were there");
	if (r->repaired && dry)
		printf("; refcounts would be looked at");
	else if (r->repaired)
		printf("; refcounts %s", r->found ? "are repaired" : "are right");
	putchar('\n');
}

static void put_packed(const struct journal *j, const struct qd_ops_journal_result *r)
{
	const char *verb = j->opts.dry_run ? "would be " : "";

	put_head(j);
	if (!r->changed)
		printf("nothing to pack: %" PRIu64 " entries in %" PRIu32 " of %" PRIu32 " clusters\n",
		       r->state.entries, r->state.log_clusters, r->state.log_size);
	else if (r->merged)
		printf("%" PRIu64 " entries, most of them live, %smerged into the table\n", r->state.entries,
		       verb);
	else
		printf("%" PRIu64 " entries %spacked: %" PRIu32 " clusters before, %" PRIu64 " now\n",
		       r->state.entries, verb, r->state.log_clusters, r->clusters_after);
}

static void put_changed(const struct journal *j, const char *what, const struct qd_ops_journal_result *r)
{
	char size[QD_SIZE_TEXT];

	put_head(j);
	if (!r->changed)
		printf("%s\n", r->nbytes ? "there is a journal already" : "there is no journal");
	else
		printf("the journal %s %s\n", j->opts.dry_run ? "would be" : "is", what);
	if (r->changed && r->nbytes && !j->opts.dry_run)
		printf("it has %s\n", qd_size_format(r->nbytes, size, sizeof(size)));
}

/* ---- verbs ---- */

static int finish(struct journal *j, const struct options *o, const char *verb,
		  const struct qd_ops_journal_result *r, int status)
{
	int rc = o->json ? output_json(result_json(j, verb, r)) : 0;

	return rc ? rc : status;
}

static int do_dump(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };
	int rc, status;

	if (o->json) {
		j->list = json_array();
		if (!j->list) {
			qd_err_nomem(&err, "the JSON result");
			return report_error(&err);
		}
	}
	rc = qd_ops_journal_dump(j->path, &j->opts, on_item, j, &r, &err);
	status = rc ? report_error(&err) : finish(j, o, "dump", &r, 0);
	json_decref(j->list);
	return status;
}

static int status_of_error(const struct qd_err *err)
{
	int status = report_error(err);

	return err->code == QD_E_CORRUPT ? STATUS_DAMAGED : status;
}

static int do_verify(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };
	int status = 0;

	if (qd_ops_journal_verify(j->path, &j->opts, &r, &err))
		return status_of_error(&err);
	if (r.state.health == QD_JOURNAL_DAMAGED)
		status = STATUS_DAMAGED;
	else if (r.state.health == QD_JOURNAL_PENDING && !r.obsolete)
		status = STATUS_PENDING;
	if (!o->json && !o->quiet)
		put_state(j, &r);
	return finish(j, o, "verify", &r, status);
}

static int do_replay(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };
	struct progress progress;
	int rc;

	progress_start(&progress, o, "replay");
	rc = qd_ops_journal_replay(j->path, &j->opts, &progress.lib, &r, &err);
	progress_stop(&progress, rc == 0);
	if (rc)
		return status_of_error(&err);
	if (!o->json && !o->quiet)
		put_replayed(j, &r);
	if (r.state.health == QD_JOURNAL_DAMAGED)
		report_warning(j->path, "the log is damaged (%s): run qdedup rehash", r.state.why);
	if (r.repaired && r.repair_status)
		report_warning(j->path, "the image is damaged in other ways, too: run qdedup check --repair");
	rc = r.state.health == QD_JOURNAL_DAMAGED || (r.repaired && r.repair_status) ? STATUS_DAMAGED : 0;
	return finish(j, o, "replay", &r, rc);
}

static int do_pack(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };

	if (qd_ops_journal_pack(j->path, &j->opts, &r, &err))
		return report_error(&err);
	if (!o->json && !o->quiet)
		put_packed(j, &r);
	return finish(j, o, "pack", &r, 0);
}

static int do_create(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };

	if (qd_ops_journal_create(j->path, &j->opts, &r, &err))
		return report_error(&err);
	if (!o->json && !o->quiet)
		put_changed(j, "created", &r);
	return finish(j, o, "create", &r, 0);
}

static int do_drop(struct journal *j, const struct options *o)
{
	struct qd_ops_journal_result r;
	struct qd_err err = { .code = 0 };

	if (qd_ops_journal_drop(j->path, &j->opts, &r, &err))
		return report_error(&err);
	if (!o->json && !o->quiet)
		put_changed(j, "dropped", &r);
	return finish(j, o, "drop", &r, 0);
}

static const struct verb {
	const char *name;
	int (*run)(struct journal *j, const struct options *o);
	bool writes;
} verbs[] = {
	{ "dump", do_dump, false },	{ "verify", do_verify, false }, { "replay", do_replay, true },
	{ "pack", do_pack, true },	{ "create", do_create, true },	{ "drop", do_drop, true },
};

static int run(struct journal *j, const struct options *o)
{
	const struct verb *v = NULL;

	for (size_t i = 0; i < sizeof(verbs) / sizeof(verbs[0]); i++)
		if (strcmp(verbs[i].name, o->args[0]) == 0)
			v = &verbs[i];
	if (!v)
		return report_usage("'%s' is not one of dump, verify, replay, pack, create, drop",
				    o->args[0]);
	if (j->opts.log_nbytes && v->run != do_create)
		return report_usage("--size goes with create only");
	if (o->force_share && v->writes)
		return report_usage("-U goes with dump and verify only");
	if (o->source_format && strcmp(o->source_format, "raw") == 0)
		return report_usage("a raw file has no journal");
	j->path = o->args[1];
	j->quiet = o->quiet;
	j->opts.no_lock = o->force_share;
	j->opts.threads = o->threads;
	j->opts.memory = o->memory;
	j->opts.tmpdir = o->tmpdir;
	return v->run(j, o);
}

int cmd_journal(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = journal_options, .arguments = "dump|verify|replay|pack|create|drop IMAGE",
		.min_args = 2, .max_args = 2, .handle = take_option,
	};
	struct journal j = { .path = NULL };
	struct options o;
	int status = options_parse(&o, &syntax, argc, argv, &j);

	if (status == OPTIONS_GO)
		status = run(&j, &o);
	options_free(&o);
	return status;
}
