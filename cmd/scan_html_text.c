/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Text and numbers in HTML.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "scan_html.h"

void html_text(FILE *out, const char *text)
{
	char *clean = NULL;
	size_t n = 0;
	FILE *memory = open_memstream(&clean, &n);

	if (!memory)
		return;
	text_put(memory, text);
	if (fclose(memory) == 0)
		for (const char *c = clean; *c; c++)
			switch (*c) {
			case '&':
				fputs("&amp;", out);
				break;
			case '<':
				fputs("&lt;", out);
				break;
			case '>':
				fputs("&gt;", out);
				break;
			case '"':
				fputs("&quot;", out);
				break;
			case '\'':
				fputs("&#39;", out);
				break;
			default:
				putc(*c, out);
			}
	free(clean);
}

void html_bytes(FILE *out, uint64_t nbytes)
{
	char text[QD_SIZE_TEXT];
	char *space;

	qd_size_format(nbytes, text, sizeof(text));
	space = strchr(text, ' ');
	if (space)
		*space = '\0';
	fprintf(out, "<data value=\"%" PRIu64 "\">%s%s%s</data>", nbytes, text, space ? "&nbsp;" : "",
		space ? space + 1 : "");
}

void html_count(FILE *out, uint64_t n)
{
	char digits[32];
	int len = snprintf(digits, sizeof(digits), "%" PRIu64, n);

	fprintf(out, "<data value=\"%s\">", digits);
	for (int i = 0; i < len; i++) {
		if (i && (len - i) % 3 == 0)
			fputs("&#8239;", out);
		putc(digits[i], out);
	}
	fputs("</data>", out);
}

double html_part(uint64_t part, uint64_t whole)
{
	return whole ? (double)part / (double)whole : 0;
}

/* What is not quite nothing or not quite all is not shown as that. */
void html_share(FILE *out, uint64_t part, uint64_t whole)
{
	double share = html_part(part, whole);

	fprintf(out, "<data value=\"%.9g\">", share);
	if (part && share < 0.001)
		fputs("&lt;&thinsp;0.1&nbsp;%</data>", out);
	else if (part < whole && share >= 0.9995)
		fputs("&gt;&thinsp;99.9&nbsp;%</data>", out);
	else
		fprintf(out, "%.1f&nbsp;%%</data>", 100 * share);
}

void html_ratio(FILE *out, double ratio)
{
	fprintf(out, "<data value=\"%.9g\">%.2f</data>", ratio, ratio);
}

void html_cluster_size(FILE *out, uint64_t nbytes)
{
	if (nbytes >= 1u << 20)
		fprintf(out, "%" PRIu64 "&nbsp;MiB", nbytes >> 20);
	else if (nbytes >= 1024)
		fprintf(out, "%" PRIu64 "&nbsp;KiB", nbytes >> 10);
	else
		fprintf(out, "%" PRIu64 "&nbsp;bytes", nbytes);
}

void html_name(const struct html *h, unsigned image)
{
	fputs("<bdi>", h->out);
	html_text(h->out, h->r->images[image].name + h->prefix);
	fputs("</bdi>", h->out);
}

void html_legend(FILE *out, const char *class, const char *what)
{
	fprintf(out, "<li><i class=\"%s\"></i>%s</li>\n", class, what);
}
