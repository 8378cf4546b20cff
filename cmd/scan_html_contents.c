/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How often contents occur, and those that occur most often.
 */
#include <inttypes.h>

#include "scan_html.h"

/* Binary logarithm of n + 1 to a 16th, by squaring: libm is not linked for this alone. */
static double log_of(uint64_t n)
{
	double v = (double)n + 1, part = 0.5, log = 0;

	while (v >= 2) {
		v /= 2;
		log++;
	}
	for (unsigned i = 0; i < 8; i++, part /= 2) {
		v *= v;
		if (v >= 2) {
			v /= 2;
			log += part;
		}
	}
	return log;
}

static void put_bucket(const struct html *h, unsigned k, uint64_t most)
{
	uint64_t n = h->s->histogram[k], sum = 0;

	for (unsigned i = 0; i < QD_SCAN_BUCKETS; i++)
		sum += h->s->histogram[i];
	fputs("<tr><th scope=\"row\">", h->out);
	if (k)
		fprintf(h->out, "%" PRIu64 "&#8211;%" PRIu64, (uint64_t)1 << k, ((uint64_t)1 << k) * 2 - 1);
	else
		fputs("once", h->out);
	fputs("</th><td class=\"bar\"><svg aria-hidden=\"true\" viewBox=\"0 0 1000"
	      " 10\" preserveAspectRatio=\"none\">",
	      h->out);
	if (n)
		fprintf(h->out, "<rect class=\"f-%s\" x=\"0\" y=\"0\" width=\"%.1f\" height=\"10\"/>",
			k ? "across" : "alone", 1000 * log_of(n) / log_of(most));
	fputs("</svg></td><td class=\"n\">", h->out);
	html_count(h->out, n);
	fputs("</td><td class=\"n\">", h->out);
	html_share(h->out, n, sum);
	fputs("</td></tr>\n", h->out);
}

void html_histogram(const struct html *h)
{
	unsigned n = QD_SCAN_BUCKETS;
	uint64_t most = 0;

	while (n && !h->s->histogram[n - 1])
		n--;
	for (unsigned k = 0; k < n; k++)
		most = h->s->histogram[k] > most ? h->s->histogram[k] : most;
	if (!most)
		return;
	fputs("<section><h2>How often a content occurs</h2>\n<p>Different contents by the number of"
	      " clusters that"
	      " hold them. The bars are on a logarithmic scale: read the numbers. The most frequent one"
	      " occurs ",
	      h->out);
	html_count(h->out, h->s->max_references);
	fputs(h->s->max_references == 1 ? " time.</p>\n" : " times.</p>\n", h->out);
	fputs("<table class=\"bars histogram\" id=\"histogram\"><thead><tr><th"
	      " scope=\"col\">Occurs</th><td></td>"
	      "<th scope=\"col\" class=\"n\">Contents</th><th"
	      " scope=\"col\" class=\"n\">Share</th></tr></thead>"
	      "<tbody>\n",
	      h->out);
	for (unsigned k = 0; k < n; k++)
		put_bucket(h, k, most);
	fputs("</tbody></table></section>\n", h->out);
}

static void put_top(const struct html *h, const struct qd_scan_top *t)
{
	fputs("<tr><td class=\"n\">", h->out);
	html_count(h->out, t->references);
	fputs("</td><td class=\"n\">", h->out);
	html_bytes(h->out, (t->references - 1) * h->s->cluster_size);
	fputs("</td><td><code>", h->out);
	for (unsigned i = 0; i < h->r->digest_nbytes; i++)
		fprintf(h->out, "%02x", t->digest[i]);
	fputs("</code></td><td class=\"name\"><bdi>", h->out);
	html_text(h->out, t->name + h->prefix);
	fputs("</bdi>", h->out);
	if (t->snapshot) {
		fputs(", snapshot <bdi>", h->out);
		html_text(h->out, t->snapshot);
		fputs("</bdi>", h->out);
	}
	fprintf(h->out, " at <code>0x%" PRIx64 "</code></td></tr>\n", t->offset);
}

void html_top(const struct html *h)
{
	if (!h->s->ntop)
		return;
	fputs("<section><h2>Contents that occur most often</h2>\n<div"
	      " class=\"scroll\" tabindex=\"0\"><table class=\"list\" id=\"top\">"
	      "<thead><tr><th scope=\"col\" class=\"n\">Clusters</th><th scope=\"col\" class=\"n\">Saves</th>"
	      "<th scope=\"col\">Hash (",
	      h->out);
	html_text(h->out, h->r->hash);
	fputs(")</th><th scope=\"col\">First at</th></tr></thead><tbody>\n", h->out);
	for (unsigned i = 0; i < h->s->ntop; i++)
		put_top(h, &h->s->top[i]);
	fputs("</tbody></table></div></section>\n", h->out);
}
