/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What images have in common: a heat map that is a table, so that it reads as one too; and the
 * pairs that have most in common, of all images.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "scan_html.h"

#define NUMBERS 14u		/* up to so many images, cells show their number */
#define MIDDLE 26u		/* and to so many, a small one */
#define PAIRS 10u

struct pair {
	unsigned a, b;
	uint64_t common;		/* clusters of both whose content the other has, too */
};

static uint64_t common(const struct html *h, unsigned row, unsigned col)
{
	return h->s->matrix[(size_t)row * h->r->nimages + col];
}

/* What it has in common with itself: of a sample, all that was read. */
static uint64_t clusters(const struct html *h, unsigned image)
{
	return common(h, image, image);
}

/* ---- the map ---- */

static void put_cell(const struct html *h, unsigned row, unsigned col)
{
	double share = html_part(common(h, row, col), clusters(h, row));

	if (row == col) {
		fputs("<td class=\"self\"></td>", h->out);
		return;
	}
	if (share > 0)		/* the smallest is seen to be something */
		fprintf(h->out, "<td%s style=\"--v:%.2f\"", share > 0.75 ? " class=\"high\"" : "",
			0.08 + 0.92 * share);
	else
		fputs("<td class=\"none\"", h->out);
	fprintf(h->out, " title=\"%u in %u: %.1f %%\"><data value=\"%.9g\">", row + 1, col + 1,
		100 * share, share);
	if (h->ndrawn <= NUMBERS && share > 0 && share < 0.01)
		fputs("&lt;1", h->out);
	else
		fprintf(h->out, "%.0f", share < 1 && share > 0.99 ? 99 : 100 * share);
	fputs("</data></td>", h->out);
}

static void put_row(const struct html *h, unsigned row)
{
	fputs("<tr><th scope=\"row\" class=\"name\" title=\"", h->out);
	html_text(h->out, h->r->images[row].name);
	fprintf(h->out, "\"><b>%u</b> ", row + 1);
	html_name(h, row);
	fputs("</th>", h->out);
	for (unsigned i = 0; i < h->ndrawn; i++)
		put_cell(h, row, h->drawn[i]);
	fputs("</tr>\n", h->out);
}

static void put_map(const struct html *h)
{
	const char *class = h->ndrawn <= NUMBERS ? "" : h->ndrawn <= MIDDLE ? " middle" : " dense";

	fprintf(h->out, "<div class=\"scroll\" tabindex=\"0\"><table"
		" class=\"heat%s\" id=\"matrix\"><thead><tr><td></td>", class);
	for (unsigned i = 0; i < h->ndrawn; i++)
		fprintf(h->out, "<th scope=\"col\">%u</th>", h->drawn[i] + 1);
	fputs("</tr></thead><tbody>\n", h->out);
	for (unsigned i = 0; i < h->ndrawn; i++)
		put_row(h, h->drawn[i]);
	fputs("</tbody></table></div>\n", h->out);
}

/* ---- pairs ---- */

/* Into the list, which is in descending order and has room for PAIRS. */
static void rank(struct pair *list, unsigned *n, struct pair pair)
{
	unsigned at = *n;

	while (at && list[at - 1].common < pair.common)
		at--;
	if (at == PAIRS)
		return;
	if (*n < PAIRS)
		(*n)++;
	for (unsigned i = *n - 1; i > at; i--)
		list[i] = list[i - 1];
	list[at] = pair;
}

static void put_pair(const struct html *h, const struct pair *p)
{
	fprintf(h->out, "<tr><td class=\"name\">%u ", p->a + 1);
	html_name(h, p->a);
	fprintf(h->out, "</td><td class=\"name\">%u ", p->b + 1);
	html_name(h, p->b);
	fputs("</td><td class=\"n\">", h->out);
	html_share(h->out, common(h, p->a, p->b), clusters(h, p->a));
	fputs("</td><td class=\"n\">", h->out);
	html_share(h->out, common(h, p->b, p->a), clusters(h, p->b));
	fputs("</td></tr>\n", h->out);
}

static void put_pairs(const struct html *h)
{
	struct pair list[PAIRS];
	unsigned n = 0;

	for (unsigned a = 0; a < h->r->nimages; a++)
		for (unsigned b = a + 1; b < h->r->nimages; b++) {
			struct pair p = { a, b, common(h, a, b) + common(h, b, a) };

			if (p.common)
				rank(list, &n, p);
		}
	if (!n) {
		fputs("<p>No two images have anything in common.</p>\n", h->out);
		return;
	}
	fputs("<div class=\"scroll\" tabindex=\"0\"><table class=\"list\" id=\"pairs\"><caption>Pairs with"
	      " most in common</caption><thead>"
	      "<tr><th scope=\"col\">First image</th><th scope=\"col\">Second image</th>"
	      "<th scope=\"col\" class=\"n\">First in second</th><th scope=\"col\" class=\"n\">Second in"
	      " first</th>"
	      "</tr></thead><tbody>\n",
	      h->out);
	for (unsigned i = 0; i < n; i++)
		put_pair(h, &list[i]);
	fputs("</tbody></table></div>\n", h->out);
}

void html_matrix(const struct html *h)
{
	if (h->r->nimages < 2)
		return;
	if (!h->s->matrix) {
		fputs("<section id=\"no-matrix\"><h2>Duplicates across images</h2>\n<p>Not drawn: counting"
		      " pairs of so"
		      " many images needs more memory than was allowed.</p></section>\n",
		      h->out);
		return;
	}
	fputs("<section><h2>Duplicates across images</h2>\n<p>How much of the data of the image in the row"
	      " is also in"
	      " the image in the column, in percent.",
	      h->out);
	if (h->ndrawn < h->r->nimages)
		fprintf(h->out, " Drawn are the %u images with most data, of %u.", h->ndrawn, h->r->nimages);
	fputs("</p>\n<ul class=\"legend\"><li>nothing<i class=\"ramp\"></i>everything</li></ul>\n", h->out);
	put_map(h);
	if (h->r->nimages > 2)
		put_pairs(h);
	fputs("</section>\n", h->out);
}
