/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Image by image: a strip that shows where the duplicates lie, from the beginning of the disk at
 * the left to its end at the right, and a table of numbers.
 *
 *	a column of a strip, top to bottom:   no data | alone | within | across
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scan_html.h"

#define HEIGHT 40u
#define FINE 20u		/* up to so many images, strips have all their parts */

/* ---- strips ---- */

/* `parts` neighbours as one. */
static struct qd_scan_part sum_parts(const struct qd_scan_part *part, unsigned parts)
{
	struct qd_scan_part sum = { 0, 0, 0, 0 };

	for (unsigned i = 0; i < parts; i++) {
		sum.alone += part[i].alone;
		sum.within += part[i].within;
		sum.across += part[i].across;
		sum.clusters += part[i].clusters;
	}
	return sum;
}

static unsigned height(uint64_t n, uint64_t whole)
{
	unsigned y = (unsigned)(HEIGHT * html_part(n, whole) + 0.5);

	return n && !y ? 1 : y > HEIGHT ? HEIGHT : y;
}

/*
 * The outline of what lies at the bottom: `layers` 1 of across, 2 and within, 3 and alone.  A
 * part in which no cluster begins belongs to the cluster before it.
 */
static void put_outline(const struct html *h, const struct qd_scan_part *strip, unsigned layers,
			const char *class)
{
	unsigned step = h->ndrawn <= FINE ? 1 : 2, now = 0, seen = 0;

	fprintf(h->out, "<path class=\"f-%s\" d=\"M0 %u", class, HEIGHT);
	for (unsigned at = 0; at < QD_SCAN_STRIP; at += step) {
		struct qd_scan_part p = sum_parts(strip + at, step);
		uint64_t n = p.across + (layers > 1 ? p.within : 0) + (layers > 2 ? p.alone : 0);
		unsigned y = p.clusters ? height(n, p.clusters) : now;

		seen |= y;
		if (y != now)
			fprintf(h->out, "H%uV%u", at, HEIGHT - y);
		now = y;
	}
	fprintf(h->out, "H%uV%uz\"/>", seen ? QD_SCAN_STRIP : 0, HEIGHT);
}

static void put_strip(const struct html *h, const struct qd_scan_image *im)
{
	const struct qd_scan_part *strip = im->strip + (size_t)h->k * QD_SCAN_STRIP;
	struct qd_scan_part sum = sum_parts(strip, QD_SCAN_STRIP);
	uint64_t n = sum.alone + sum.within + sum.across;

	fprintf(h->out,
		"<svg role=\"img\" viewBox=\"0 0 %u %u\" preserveAspectRatio=\"none\"><title>of %" PRIu64
		" clusters with data %.1f %% are in other images too, %.1f %% several times in this one,"
		" %.1f %%"
		" occur once</title>",
		QD_SCAN_STRIP, HEIGHT, n, 100 * html_part(sum.across, n), 100 * html_part(sum.within, n),
		100 * html_part(sum.alone, n));
	put_outline(h, strip, 3, "alone");
	put_outline(h, strip, 2, "within");
	put_outline(h, strip, 1, "across");
	fputs("</svg>", h->out);
}

void html_strips(const struct html *h)
{
	if (!h->ndrawn)
		return;
	if (!h->r->images[0].strip) {
		fputs("<section id=\"no-strips\"><h2>Where the duplicates lie</h2>\n<p>Not drawn: so many"
		      " images need"
		      " more memory than was allowed.</p></section>\n",
		      h->out);
		return;
	}
	fputs("<section><h2>Where the duplicates lie</h2>\n<p>Each disk from its beginning at the left to"
	      " its end at"
	      " the right; the height is the share of its clusters there. All have the same width, whatever"
	      " their"
	      " size.",
	      h->out);
	if (h->ndrawn < h->r->nimages)
		fprintf(h->out, " Drawn are the %u images with most data, of %u.", h->ndrawn, h->r->nimages);
	fputs("</p>\n<ul class=\"legend\">\n", h->out);
	if (h->r->nimages > 1)
		html_legend(h->out, "across", "also in another image");
	html_legend(h->out, "within", "several times, in this image only");
	html_legend(h->out, "alone", "occurs once");
	html_legend(h->out, "none", "no data");
	fprintf(h->out, "</ul>\n<table class=\"bars strips%s\" id=\"strips\"><tbody>\n",
		h->ndrawn > FINE ? " dense" : "");
	for (unsigned i = 0; i < h->ndrawn; i++) {
		fputs("<tr><th scope=\"row\" class=\"name\">", h->out);
		html_name(h, h->drawn[i]);
		fputs("</th><td class=\"bar\">", h->out);
		put_strip(h, &h->r->images[h->drawn[i]]);
		fputs("</td><td class=\"n\">", h->out);
		html_bytes(h->out, h->r->images[h->drawn[i]].virtual_size);
		fputs("</td></tr>\n", h->out);
	}
	fputs("</tbody></table></section>\n", h->out);
}

/* ---- the table ---- */

static void put_image(const struct html *h, unsigned i)
{
	const struct qd_scan_image *im = &h->r->images[i];
	const struct qd_scan_image_count *c = &im->count[h->k];

	fprintf(h->out, "<tr><td class=\"n\">%u</td><th scope=\"row\" class=\"name\" title=\"", i + 1);
	html_text(h->out, im->name);
	fputs("\">", h->out);
	html_name(h, i);
	if (im->backing)
		fputs(" <small>backing file</small>", h->out);
	if (im->nsnapshots)
		fprintf(h->out, " <small>with %u snapshot%s</small>", im->nsnapshots,
			im->nsnapshots == 1 ? "" : "s");
	fputs("</th><td class=\"n\">", h->out);
	html_bytes(h->out, im->virtual_size);
	fputs("</td><td class=\"n\">", h->out);
	html_bytes(h->out, im->data_nbytes);
	fputs("</td><td class=\"n\">", h->out);
	html_share(h->out, c->clusters - c->distinct, c->clusters);
	fputs("</td><td class=\"n\">", h->out);
	html_share(h->out, c->shared, c->clusters);
	fputs("</td><td class=\"n\">", h->out);
	html_bytes(h->out, c->unique_to_image * h->s->cluster_size);
	fputs("</td></tr>\n", h->out);
}

void html_images(const struct html *h)
{
	char *prefix = h->prefix ? strndup(h->r->images[0].name, h->prefix) : NULL;

	fputs("<section><h2>Images</h2>\n<p id=\"names\">", h->out);
	if (prefix) {
		fputs("Names begin with <code><bdi>", h->out);
		html_text(h->out, prefix);
		fputs("</bdi></code>. ", h->out);
	}
	free(prefix);
	fputs("An image's own duplicates can be saved even if it is alone; what is in others too needs them"
	      " in the"
	      " same store.</p>\n<div class=\"scroll\" tabindex=\"0\"><table"
	      " class=\"list\" id=\"images\"><thead><tr>"
	      "<th scope=\"col\" class=\"n\"></th><th scope=\"col\">Image</th>"
	      "<th scope=\"col\" class=\"n\">Disk</th><th scope=\"col\" class=\"n\">Data</th>"
	      "<th scope=\"col\" class=\"n\">Duplicate within</th><th scope=\"col\" class=\"n\">Also in"
	      " others</th>"
	      "<th scope=\"col\" class=\"n\">Only here</th></tr></thead><tbody>\n",
	      h->out);
	for (unsigned i = 0; i < h->r->nimages; i++)
		put_image(h, i);
	fputs("</tbody></table></div></section>\n", h->out);
}
