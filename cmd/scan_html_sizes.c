/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What each cluster size would save: bars of one scale, and the numbers.
 *
 *	| stored | metadata | saved by compression | saved by deduplication |
 *	|       total       |
 */
#include "scan_html.h"

#define WIDTH 1000.0

static uint64_t whole(const struct qd_scan_size *s)
{
	return s->clusters * s->cluster_size + s->metadata_nbytes;
}

static uint64_t widest(const struct qd_scan_report *r)
{
	uint64_t most = 1;

	for (unsigned k = 0; k < r->nsizes; k++)
		most = whole(&r->sizes[k]) > most ? whole(&r->sizes[k]) : most;
	return most;
}

static double rect(const struct html *h, const char *class, double x, double width)
{
	if (width > 0)
		fprintf(h->out, "<rect"
			" class=\"f-%s\" x=\"%.2f\" y=\"0\" width=\"%.2f\" height=\"10\"/>", class,
			x, width);
	return x + width;
}

static void say(FILE *out, uint64_t nbytes, const char *what)
{
	char text[QD_SIZE_TEXT];

	fprintf(out, "%s %s", qd_size_format(nbytes, text, sizeof(text)), what);
}

static void put_bar(const struct html *h, const struct qd_scan_size *s, double scale)
{
	uint64_t stored = s->unique * s->cluster_size, packed = 0;
	double x = 0;

	if (h->args->compress)
		packed = qd_scan_compress_get(h->args->compress, s).saved_nbytes;
	fputs("<svg role=\"img\" viewBox=\"0 0 1000 10\" preserveAspectRatio=\"none\"><title>", h->out);
	say(h->out, stored - packed, "stored, ");
	say(h->out, s->metadata_nbytes, "metadata, ");
	if (h->args->compress)
		say(h->out, packed, "saved by compression, ");
	say(h->out, s->saved_nbytes, "saved by deduplication</title>");
	x = rect(h, "stored", x, (double)(stored - packed) * scale);
	x = rect(h, "meta", x, (double)s->metadata_nbytes * scale);
	x = rect(h, "packed", x, (double)packed * scale);
	rect(h, "saved", x, (double)s->saved_nbytes * scale);
	fputs("</svg>", h->out);
}

static void put_bars(const struct html *h)
{
	double scale = WIDTH / (double)widest(h->r);

	fputs("<ul class=\"legend\">\n", h->out);
	html_legend(h->out, "stored", "stored");
	html_legend(h->out, "meta", "metadata");
	if (h->args->compress)
		html_legend(h->out, "packed", "saved by compression (estimate)");
	html_legend(h->out, "saved", "saved by deduplication");
	fputs("</ul>\n<table class=\"bars\" id=\"size-bars\"><tbody>\n", h->out);
	for (unsigned k = 0; k < h->r->nsizes; k++) {
		const struct qd_scan_size *s = &h->r->sizes[k];

		fputs("<tr><th scope=\"row\">", h->out);
		html_cluster_size(h->out, s->cluster_size);
		fputs("</th><td class=\"bar\">", h->out);
		put_bar(h, s, scale);
		fputs("</td><td class=\"n\"><span class=\"saves\">saves </span>", h->out);
		html_bytes(h->out, s->saved_nbytes);
		fputs(" (", h->out);
		html_share(h->out, s->duplicate, s->clusters);
		fputs(")</td></tr>\n", h->out);
	}
	fputs("</tbody></table>\n", h->out);
}

static void cell(const struct html *h, void (*put)(FILE *, uint64_t), uint64_t n)
{
	fputs("<td class=\"n\">", h->out);
	put(h->out, n);
	fputs("</td>", h->out);
}

static void put_row(const struct html *h, unsigned k)
{
	const struct qd_scan_size *s = &h->r->sizes[k];

	fprintf(h->out, "<tr%s><th scope=\"row\"><data value=\"%llu\">",
		k == h->r->best ? " class=\"best\"" : "",
		(unsigned long long)s->cluster_size);
	html_cluster_size(h->out, s->cluster_size);
	fprintf(h->out, "</data>%s</th>",
		k == h->r->best && h->r->nsizes > 1 ? " <small>smallest</small>" : "");
	cell(h, html_count, s->clusters);
	cell(h, html_count, s->unique);
	fputs("<td class=\"n\">", h->out);
	html_share(h->out, s->duplicate, s->clusters);
	fputs("</td>", h->out);
	cell(h, html_bytes, s->saved_nbytes);
	if (h->r->sample_n > 1) {
		cell(h, html_bytes, s->saved_low);
		cell(h, html_bytes, s->saved_high);
	}
	cell(h, html_bytes, s->metadata_nbytes);
	cell(h, html_bytes, s->total_nbytes);
	fputs("<td class=\"n\">", h->out);
	html_ratio(h->out, qd_scan_ratio(s));
	fputs("</td></tr>\n", h->out);
}

static void put_table(const struct html *h)
{
	fputs("<div class=\"scroll\" tabindex=\"0\"><table class=\"list\" id=\"sizes\"><thead><tr>"
	      "<th scope=\"col\">Cluster size</th><th scope=\"col\" class=\"n\">Clusters with data</th>"
	      "<th scope=\"col\" class=\"n\">Different contents</th><th"
	      " scope=\"col\" class=\"n\">Duplicate</th>"
	      "<th scope=\"col\" class=\"n\">Saved</th>",
	      h->out);
	if (h->r->sample_n > 1)
		fputs("<th scope=\"col\" class=\"n\">at least</th><th scope=\"col\" class=\"n\">at most</th>",
		      h->out);
	fputs("<th scope=\"col\" class=\"n\">Metadata</th><th scope=\"col\" class=\"n\">Total</th>"
	      "<th scope=\"col\" class=\"n\">Ratio</th></tr></thead><tbody>\n",
	      h->out);
	for (unsigned k = 0; k < h->r->nsizes; k++)
		put_row(h, k);
	fputs("</tbody></table></div>\n", h->out);
}

static void put_compression(const struct html *h)
{
	fprintf(h->out,
		"<div class=\"scroll\" tabindex=\"0\"><table"
		" class=\"list\" id=\"compression\"><caption>Compression with %s of"
		" the different contents, estimated from a sample</caption><thead><tr>"
		"<th scope=\"col\">Cluster size</th><th scope=\"col\" class=\"n\">Different contents</th>"
		"<th scope=\"col\" class=\"n\">Compressed</th><th scope=\"col\" class=\"n\">at least</th>"
		"<th scope=\"col\" class=\"n\">at most</th>"
		"<th scope=\"col\" class=\"n\">Total with metadata</th><th"
		" scope=\"col\" class=\"n\">Ratio</th>"
		"<th scope=\"col\" class=\"n\">Clusters in the sample</th></tr></thead><tbody>\n",
		qd_scan_compress_type(h->args->compress));
	for (unsigned k = 0; k < h->r->nsizes; k++) {
		const struct qd_scan_size *s = &h->r->sizes[k];
		struct qd_scan_compressed e = qd_scan_compress_get(h->args->compress, s);

		fputs("<tr><th scope=\"row\">", h->out);
		html_cluster_size(h->out, s->cluster_size);
		fputs("</th>", h->out);
		cell(h, html_bytes, s->unique * s->cluster_size);
		cell(h, html_bytes, e.data_nbytes);
		cell(h, html_bytes, e.data_low);
		cell(h, html_bytes, e.data_high);
		cell(h, html_bytes, e.total_nbytes);
		fputs("<td class=\"n\">", h->out);
		html_ratio(h->out, e.ratio);
		fputs("</td>", h->out);
		cell(h, html_count, e.sampled);
		fputs("</tr>\n", h->out);
	}
	fputs("</tbody></table></div>\n", h->out);
}

void html_sizes(const struct html *h)
{
	fputs("<section><h2>Savings by cluster size</h2>\n<p>Small clusters find more duplicates and need"
	      " more"
	      " metadata. The bars have one scale.</p>\n",
	      h->out);
	put_bars(h);
	put_table(h);
	if (h->args->compress)
		put_compression(h);
	fputs("</section>\n", h->out);
}
