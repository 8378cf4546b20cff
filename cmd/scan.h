/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What qdedup scan was asked for, and how the report is shown.
 */
#ifndef QD_CMD_SCAN_H
#define QD_CMD_SCAN_H

#include "base/newfile.h"
#include "cmd.h"
#include "ops/scan.h"
#include "ops/scan_compress.h"

struct scan_args {
	struct qd_scan_opts opts;
	struct qd_scan_source *sources;
	bool merge;
	bool records;			/* wanted */
	const char *records_file;	/* NULL: stdout */
	struct scan_records *out;	/* while they are written */
	struct qd_scan_compress *compress;	/* NULL: not wanted */
	unsigned top;			/* contents to name in the report: the page may want more */
	bool matrix;			/* to be shown, likewise */
	const char *html_file;		/* NULL: no page */
	struct scan_html *html;		/* while it is made */
	const struct options *options;
	unsigned unreadable;
	bool keep_nothing;		/* a file to be written is one of the images */
};

/* scan_json.c, scan_show.c */
json_t *scan_json(const struct scan_args *args, const struct qd_scan_report *r);
void scan_put(const struct scan_args *args, const struct qd_scan_report *r);

/* scan_records.c: opens what records are written to, and sets opts.record and opts.record_view */
int scan_records_open(struct scan_args *args, struct qd_err *err);

/* Ends it; a file gets its name only when `keep`. */
int scan_records_close(struct scan_args *args, bool keep, struct qd_err *err);

/* True when the records go to the file that nf would become. */
bool scan_records_same(const struct scan_args *args, const struct qd_newfile *nf);

/* scan_html.c: opens the page, and asks opts for what is drawn on it */
int scan_html_open(struct scan_args *args, struct qd_err *err);

/* An image that could not be read; when there is no memory for that, the page is not written. */
void scan_html_left_out(struct scan_args *args, const struct qd_err *why);

/* Writes the page, or with report NULL leaves nothing. */
int scan_html_close(struct scan_args *args, const struct qd_scan_report *report, struct qd_err *err);

#endif
