/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * qdedup check: what is wrong with an image, and putting it right.
 *
 * A damaged image may have millions of findings.  What is shown of each kind is the
 * number and the first few; -v shows all, as they come.  The same goes for what a repair
 * does about them, which is shown before it is done.
 */
#include <stdlib.h>
#include <string.h>

#include "base/newfile.h"
#include "ops/journal.h"
#include "check.h"

#define FIRST_HUMAN 4
#define FIRST_JSON 20

enum { OPT_VERBOSE = 256, OPT_REPAIR, OPT_DRY_RUN, OPT_SAVE_METADATA };

static const struct poptOption check_options[] = {
	{ "verbose", 'v', POPT_ARG_NONE, NULL, OPT_VERBOSE,
	  "show every finding, not only the first few of each kind", NULL },
	{ "repair", '\0', POPT_ARG_STRING, NULL, OPT_REPAIR,
	  "put right what was found, or only give back leaks (default: all)", "leaks|all" },
	{ NULL, 'r', POPT_ARG_STRING, NULL, OPT_REPAIR, "the same", "leaks|all" },
	{ "dry-run", 'n', POPT_ARG_NONE, NULL, OPT_DRY_RUN,
	  "say what a repair would do, and do not do it", NULL },
	{ "save-metadata", '\0', POPT_ARG_STRING, NULL, OPT_SAVE_METADATA,
	  "before a repair, save the metadata that it will change", "FILE" },
	OPTIONS_GROUP(options_source, "Source:"),
	OPTIONS_GROUP(options_resources, "Resources:"),
	OPTIONS_GROUP(options_output, "Output:"),
	OPTIONS_INCLUDE(options_progress),
	OPTIONS_INCLUDE(options_common),
	POPT_TABLEEND
};

static int take_option(void *ctx, int val, const char *text, struct qd_err *err)
{
	struct check_args *args = ctx;

	switch (val) {
	case OPT_VERBOSE:
		args->verbose = true;
		return 0;
	case OPT_DRY_RUN:
		args->dry_run = true;
		return 0;
	case OPT_SAVE_METADATA:
		args->save_metadata = text;
		return 0;
	default:
		args->repair = true;
		args->what = strcmp(text, "leaks") == 0 ? QD_REPAIR_LEAKS : QD_REPAIR_ALL;
		if (strcmp(text, "leaks") == 0 || strcmp(text, "all") == 0)
			return 0;
		return qd_err_set(err, QD_E_INVALID, "'%s' is not known, expected leaks or all", text);
	}
}

/* ---- the command ---- */

static int check(const struct options *o, struct check_args *args, struct qd_io *io,
		 struct qd_progress *progress, struct qd_err *err)
{
	struct qd_check_opts opts = {
		.threads = o->threads, .memory = o->memory, .found = check_keep, .ctx = args
	};
	int rc;

	if (args->verbose && !o->json)
		opts.found = check_put_at_once;
	rc = qd_check(io, &opts, progress, &args->result, err);
	return rc ? rc : qd_check_index(io, &opts, &args->result, &args->index, err);
}

/* The plan is complete: it is shown, and what it changes is saved, before anything is written. */
static int show_plan(void *ctx, const struct qd_repair_result *so_far, struct qd_err *err)
{
	struct check_args *args = ctx;
	struct qd_newfile *save = args->save;

	args->save = NULL;
	check_put_repairs(args, so_far);
	return save ? qd_newfile_commit(save, err) : 0;
}

/* What is sound of an index saves reading it again; of a stale one nothing is. */
static int mend_index(const struct options *o, struct check_args *args, bool stale, struct qd_io *io,
		      struct qd_err *err)
{
	args->index_rebuilt = !stale;
	args->index_dropped = stale;
	if (args->dry_run)
		return 0;
	if (!stale) {
		int rc = qd_check_index_rebuild(io, o->memory, err);

		if (rc == 0 || rc == QD_E_CANCELLED)
			return rc;
		qd_err_clear(err);
		args->index_rebuilt = false;
		args->index_dropped = true;
	}
	return qd_check_index_drop(io, o->memory, err);
}

/* Once everything else is in order: an index that something is wrong with is made anew, or given up. */
static int repair_index(const struct options *o, struct check_args *args, struct qd_io *io,
			struct qd_err *err)
{
	struct qd_check_opts opts = {
		.threads = o->threads, .memory = o->memory, .found = check_keep, .ctx = args
	};
	struct qd_check_result counts = args->result;
	bool wrong = false;
	int rc;

	if (args->what != QD_REPAIR_ALL)
		return 0;
	rc = qd_check_index(io, &opts, &counts, &args->index, err);
	for (size_t t = QD_F_INDEX_STALE; rc == 0 && t <= QD_F_INDEX_JOURNAL; t++) {
		args->repaired.before.count[t] = counts.count[t];
		wrong |= counts.count[t] != 0;
	}
	if (rc || !wrong)
		return rc;
	return mend_index(o, args, counts.count[QD_F_INDEX_STALE] != 0, io, err);
}

static int repair(const struct options *o, struct check_args *args, struct qd_io *io,
		  struct qd_progress *progress, struct qd_err *err)
{
	struct qd_repair_opts opts = {
		.what = args->what, .dry_run = args->dry_run, .threads = o->threads, .memory = o->memory,
		.tmpdir = o->tmpdir, .found = check_keep, .planned = check_keep_planned,
		.ready = show_plan, .ctx = args,
		.save = args->save ? qd_newfile_io(args->save) : NULL,
	};
	int rc;

	if (args->verbose && !o->json) {
		opts.found = check_put_at_once;
		opts.planned = check_put_planned_at_once;
	}
	rc = args->what != QD_REPAIR_ALL ? 0 :
	     qd_ops_journal_finish_io(io, args->dry_run, &args->replayed, err);
	if (rc)
		return rc;
	rc = qd_repair(io, &opts, progress, &args->repaired, err);
	if (rc)
		return rc;
	args->result = args->dry_run ? args->repaired.before : args->repaired.after;
	if (args->result.is_qcow2 && (args->dry_run || !args->repaired.changed))
		check_put_repairs(args, &args->repaired);
	return repair_index(o, args, io, err);
}

static int open_and_run(const struct options *o, struct check_args *args, struct qd_err *err)
{
	struct qd_file_opts file = { .cache = QD_CACHE_WRITEBACK, .no_lock = o->force_share,
				     .writable = args->repair && !args->dry_run };
	struct progress progress;
	struct qd_io *io = NULL;
	int rc;

	args->options = o;
	args->limit = o->json ? (args->verbose ? SIZE_MAX : FIRST_JSON) : args->verbose ? 0 : FIRST_HUMAN;
	rc = qd_io_file_open(o->args[0], &file, &io, err);
	if (rc == 0 && args->save_metadata && file.writable)
		rc = qd_newfile_open(args->save_metadata, QD_CACHE_WRITEBACK, &args->save, err);
	if (rc) {
		qd_io_close(io);
		return rc;
	}
	progress_start(&progress, o, args->repair ? "repair" : "check");
	rc = args->repair ? repair(o, args, io, &progress.lib, err) :
			    check(o, args, io, &progress.lib, err);
	progress_stop(&progress, rc == 0);
	qd_newfile_abort(args->save);
	qd_io_close(io);
	if (rc == 0 && args->failed)
		rc = qd_err_nomem(err, "findings");
	return rc;
}

static int refuse_raw(const struct options *o)
{
	struct qd_err err;

	qd_err_set(&err, QD_E_UNSUPPORTED, "there is no check of this format (raw)");
	qd_err_file(&err, err.code, o->args[0]);
	report_error(&err);
	return 63;
}

static int run(const struct options *o, struct check_args *args)
{
	struct qd_err err;

	args->repair = args->repair || args->dry_run;
	if (args->repair && !args->dry_run && o->force_share)
		return report_usage("-U is for reading: an image that is in use cannot be repaired");
	if (args->save_metadata && !args->repair)
		return report_usage("--save-metadata goes with --repair");
	if (o->source_format && strcmp(o->source_format, "raw") == 0)
		return refuse_raw(o);
	qd_err_clear(&err);
	if (open_and_run(o, args, &err))
		return report_error(&err);
	if (!args->result.is_qcow2 && o->source_format) {
		qd_err_set(&err, QD_E_CORRUPT, "not a qcow2 image");
		qd_err_file(&err, err.code, o->args[0]);
		return report_error(&err);
	}
	if (!args->result.is_qcow2)
		return refuse_raw(o);
	if (o->json) {
		int status = output_json(check_json(o->args[0], args));

		return status ? status : qd_check_status(&args->result);
	}
	check_put(o, args);
	return qd_check_status(&args->result);
}

/* "--repair" alone becomes "--repair=all", because popt would take the next word for its argument. */
static char **spell_out(int argc, char **argv)
{
	static char repair_all[] = "--repair=all";
	char **line = calloc((size_t)argc + 1, sizeof(*line));
	bool options = true;

	for (int i = 0; line && i < argc; i++) {
		options = options && strcmp(argv[i], "--") != 0;
		line[i] = options && strcmp(argv[i], "--repair") == 0 ? repair_all : argv[i];
	}
	return line;
}

int cmd_check(int argc, char **argv)
{
	static const struct cmd_syntax syntax = {
		.table = check_options,
		.arguments = "IMAGE",
		.min_args = 1,
		.max_args = 1,
		.handle = take_option,
	};
	struct check_args args = { .what = QD_REPAIR_ALL };
	char **line = spell_out(argc, argv);
	struct options o;
	int status;

	status = options_parse(&o, &syntax, argc, line ? line : argv, &args);
	if (status == OPTIONS_GO)
		status = run(&o, &args);
	check_free(&args);
	options_free(&o);
	free(line);
	return status;
}
