/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report of a scan as one page: it needs no network, runs no script, and gets its name when
 * it is complete.  Nothing in it depends on time, threads or memory.
 *
 * Here is the frame and what stands at its top; the sections are in files of their own.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scan_html.h"

#define TOP 15u			/* contents */

struct left_out {
	char *file;
	char *why;
};

struct scan_html {
	struct qd_newfile *file;
	struct left_out *left_out;
	unsigned nleft_out;
	bool incomplete;		/* out of memory */
};

/* ---- opening and closing ---- */

static int refuse_target(const char *path, const char *what, struct qd_err *err)
{
	int r = qd_err_set(err, QD_E_INVALID, "is one of the %s, the page is not written over it", what);

	return qd_err_file(err, r, path);
}

int scan_html_open(struct scan_args *args, struct qd_err *err)
{
	struct qd_scan_opts *opts = &args->opts;
	int r;

	for (unsigned i = 0; i < opts->nsources; i++)
		if (qd_path_same(args->sources[i].path, args->html_file))
			return refuse_target(args->html_file, args->merge ? "files of records" : "images",
					     err);
	args->html = calloc(1, sizeof(*args->html));
	if (!args->html)
		return qd_err_nomem(err, "a page");
	opts->top = opts->top > TOP ? opts->top : TOP;
	opts->pictures = true;
	r = qd_newfile_open(args->html_file, QD_CACHE_WRITEBACK, &args->html->file, err);
	if (!r && scan_records_same(args, args->html->file))
		r = qd_err_file(err, qd_err_set(err, QD_E_INVALID, "is where the records go"),
				args->html_file);
	return r;
}

void scan_html_left_out(struct scan_args *args, const struct qd_err *why)
{
	struct scan_html *page = args->html;
	struct left_out *grown = realloc(page->left_out, (page->nleft_out + 1ul) * sizeof(*grown));
	struct left_out *new;

	if (!grown) {
		page->incomplete = true;
		return;
	}
	page->left_out = grown;
	new = &grown[page->nleft_out++];
	new->file = strdup(why->file);
	new->why = strdup(why->msg);
	if (!new->file || !new->why)
		page->incomplete = true;
}

/* ---- the top of the page ---- */

static void put_left_out(const struct html *h)
{
	const struct scan_html *page = h->args->html;

	if (!page->nleft_out)
		return;
	fprintf(h->out, "<div class=\"note\" id=\"left-out\"><h2>%u image%s could not be read and %s left"
		" out</h2><ul>\n",
		page->nleft_out, page->nleft_out == 1 ? "" : "s", page->nleft_out == 1 ? "is" : "are");
	for (unsigned i = 0; i < page->nleft_out; i++) {
		fputs("<li><bdi>", h->out);
		html_text(h->out, page->left_out[i].file);
		fputs("</bdi>: ", h->out);
		html_text(h->out, page->left_out[i].why);
		fputs("</li>\n", h->out);
	}
	fputs("</ul></div>\n", h->out);
}

static void put_missing(const struct html *h)
{
	bool any = false;

	for (unsigned i = 0; h->r->nshards <= 1 && i < h->r->nimages; i++)
		any = any || h->r->images[i].missing;
	if (!any)
		return;
	fputs("<div class=\"note\" id=\"missing\"><h2>Records are missing</h2><ul>\n", h->out);
	for (unsigned i = 0; i < h->r->nimages; i++)
		if (h->r->images[i].missing) {
			fputs("<li>", h->out);
			html_name(h, i);
			fputs(": ", h->out);
			html_count(h->out, h->r->images[i].missing);
			fputs("</li>\n", h->out);
		}
	fputs("</ul></div>\n", h->out);
}

static void put_limits(const struct html *h)
{
	if (h->r->sample_n > 1) {
		fprintf(h->out, "<div class=\"note\" id=\"estimate\"><h2>An estimate</h2><p>About one part"
			" in %u of"
				" the data was read. Savings lie between ",
			h->r->sample_n);
		html_bytes(h->out, h->s->saved_low);
		fputs(" and ", h->out);
		html_bytes(h->out, h->s->saved_high);
		fputs("; the pictures show only what was read.</p></div>\n", h->out);
	}
	if (h->r->nshards > 1)
		fprintf(h->out, "<div class=\"note\" id=\"shard\"><p>Only hashes of part %u of %u are"
			" counted.</p></div>\n",
			h->r->shard, h->r->nshards);
}

static void put_verdict(const struct html *h)
{
	fputs("<p class=\"verdict\" id=\"verdict\">", h->out);
	if (!h->s->clusters) {
		fputs("There is no data: nothing to deduplicate.</p>\n", h->out);
		return;
	}
	if (!h->s->duplicate) {
		fputs("No two clusters are equal: deduplication would save nothing.</p>\n", h->out);
		return;
	}
	fprintf(h->out, "Deduplication would save %s", h->r->sample_n > 1 ? "about " : "");
	html_bytes(h->out, h->s->saved_nbytes);
	fputs(" of ", h->out);
	html_bytes(h->out, h->s->clusters * h->s->cluster_size);
	fputs(" (", h->out);
	html_share(h->out, h->s->duplicate, h->s->clusters);
	fputs(") with clusters of ", h->out);
	html_cluster_size(h->out, h->s->cluster_size);
	fputs(".</p>\n", h->out);
}

static void tile(const struct html *h, const char *what, uint64_t nbytes, const char *more)
{
	fprintf(h->out, "<div><dt>%s</dt><dd>", what);
	html_bytes(h->out, nbytes);
	fprintf(h->out, "<small>%s</small></dd></div>\n", more);
}

static void put_tiles(const struct html *h)
{
	uint64_t disk = 0, zero = 0, shared = 0;
	unsigned backing = 0;

	for (unsigned i = 0; i < h->r->nimages; i++) {
		disk += h->r->images[i].virtual_size;
		zero += h->r->images[i].zero_nbytes;
		shared += h->r->images[i].count[h->k].shared * h->s->cluster_size;
		backing += h->r->images[i].backing;
	}
	fputs("<dl class=\"tiles\" id=\"tiles\">\n<div><dt>Images</dt><dd>", h->out);
	html_count(h->out, h->r->nimages);
	if (backing)
		fprintf(h->out, "<small>%u backing file%s among them</small>", backing,
			backing == 1 ? "" : "s");
	fputs("</dd></div>\n", h->out);
	tile(h, "Disk", disk, "as guests see it");
	tile(h, "Zeros", zero, "not stored anyway");
	tile(h, "Different contents", h->s->unique * h->s->cluster_size, "what must be stored");
	tile(h, "Metadata", h->s->metadata_nbytes, "tables and refcounts");
	fputs("<div><dt>Ratio</dt><dd>", h->out);
	html_ratio(h->out, qd_scan_ratio(h->s));
	fputs("<small>clusters for each content</small></dd></div>\n", h->out);
	if (h->r->nimages > 1)
		tile(h, "Across images", shared, "data that is in several of them");
	if (h->args->compress)
		tile(h, "With compression", qd_scan_compress_get(h->args->compress, h->s).total_nbytes,
		     "in total, an estimate");
	fputs("</dl>\n", h->out);
}

static void put_top_of_page(const struct html *h)
{
	fputs("<!DOCTYPE html>\n<html lang=\"en\">\n<head>\n<meta charset=\"utf-8\">\n"
	      "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\">\n"
	      "<meta http-equiv=\"Content-Security-Policy\" content=\"default-src 'none'; style-src"
	      " 'unsafe-inline'\">\n"
	      "<meta name=\"color-scheme\" content=\"light dark\">\n"
	      "<title>What deduplication would save</title>\n<style>\n",
	      h->out);
	for (const char *const *line = html_style; *line; line++)
		fprintf(h->out, "%s\n", *line);
	fputs("</style>\n</head>\n<body>\n<header>\n<h1>qdedup scan: what deduplication would save</h1>\n",
	      h->out);
	put_verdict(h);
	put_left_out(h);
	put_missing(h);
	put_limits(h);
	put_tiles(h);
	fputs("</header>\n<main>\n", h->out);
}

static void put_bottom(const struct html *h)
{
	fputs("</main>\n<footer><p>A cluster is counted when it holds a byte that is not zero. Pictures,"
	      " images and"
	      " contents are told for clusters of ",
	      h->out);
	html_cluster_size(h->out, h->s->cluster_size);
	fputs(", the size with the smallest total of data and metadata. Contents are told apart by ", h->out);
	html_text(h->out, h->r->hash);
	fputs(". Written by qdedup " QD_VERSION "; see qdedup-scan(1).</p></footer>\n</body>\n</html>\n",
	      h->out);
}

/* ---- the whole ---- */

/* The directory that all names begin with. */
static size_t common_directory(const struct qd_scan_report *r)
{
	const char *first = r->nimages > 1 ? r->images[0].name : "";
	size_t n = strlen(first);

	for (unsigned i = 1; i < r->nimages; i++) {
		size_t same = 0;

		while (same < n && r->images[i].name[same] == first[same])
			same++;
		n = same;
	}
	while (n && first[n - 1] != '/')
		n--;
	return n;
}

static int more_data(const void *a, const void *b, void *ctx)
{
	const struct qd_scan_image *images = ctx;
	unsigned i = *(const unsigned *)a, k = *(const unsigned *)b;

	if (images[i].data_nbytes != images[k].data_nbytes)
		return images[i].data_nbytes < images[k].data_nbytes ? 1 : -1;
	return i < k ? -1 : 1;
}

static int by_number(const void *a, const void *b)
{
	unsigned i = *(const unsigned *)a, k = *(const unsigned *)b;

	return i < k ? -1 : i > k;
}

static int choose_images(struct html *h, struct qd_err *err)
{
	unsigned n = h->r->nimages, *all = calloc(n + 1ul, sizeof(*all));

	if (!all)
		return qd_err_nomem(err, "a page");
	for (unsigned i = 0; i < n; i++)
		all[i] = i;
	if (n > HTML_MOST_DRAWN)
		qsort_r(all, n, sizeof(*all), more_data, h->r->images);
	h->ndrawn = n < HTML_MOST_DRAWN ? n : HTML_MOST_DRAWN;
	memcpy(h->drawn, all, h->ndrawn * sizeof(*all));
	qsort(h->drawn, h->ndrawn, sizeof(*all), by_number);
	free(all);
	return 0;
}

static void put_page(const struct html *h)
{
	put_top_of_page(h);
	html_sizes(h);
	html_matrix(h);
	html_strips(h);
	html_histogram(h);
	html_top(h);
	html_images(h);
	put_bottom(h);
}

static int write_page(const struct scan_args *args, const struct qd_scan_report *report, struct qd_err *err)
{
	struct html h = { .args = args, .r = report, .k = report->best, .s = &report->sizes[report->best],
			  .prefix = common_directory(report) };
	char *text = NULL;
	size_t n = 0;
	int r = choose_images(&h, err);

	if (r)
		return r;
	h.out = open_memstream(&text, &n);
	if (!h.out)
		return qd_err_nomem(err, "a page");
	put_page(&h);
	r = ferror(h.out) ? qd_err_nomem(err, "a page") : 0;
	if (fclose(h.out) && !r)
		r = qd_err_nomem(err, "a page");
	if (!r)
		r = qd_io_write(qd_newfile_io(args->html->file), text, n, 0, err);
	free(text);
	return r;
}

int scan_html_close(struct scan_args *args, const struct qd_scan_report *report, struct qd_err *err)
{
	struct scan_html *page = args->html;
	int r = 0;

	if (!page)
		return 0;
	for (unsigned i = 0; report && !r && i < report->nimages && !args->merge; i++)
		if (qd_path_same(report->images[i].name, args->html_file))
			r = refuse_target(args->html_file, "images", err);
	if (report && !r && page->incomplete)
		r = qd_err_nomem(err, "a page");
	if (report && !r)
		r = write_page(args, report, err);
	if (report && !r)
		r = qd_newfile_commit(page->file, err);
	else
		qd_newfile_abort(page->file);
	for (unsigned i = 0; i < page->nleft_out; i++) {
		free(page->left_out[i].file);
		free(page->left_out[i].why);
	}
	free(page->left_out);
	free(page);
	args->html = NULL;
	return r;
}
