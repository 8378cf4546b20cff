/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The parts of the page that scan --html writes.  Each writes a section, or nothing when
 * there is nothing to show.  Numbers stand in <data value="...">, in bytes or counts, so that a
 * program can read from the page what it can read from the JSON.
 *
 * Everything is drawn at one cluster size, that with the smallest total, unless it compares them.
 */
#ifndef QD_CMD_SCAN_HTML_H
#define QD_CMD_SCAN_HTML_H

#include "scan.h"

#define HTML_MOST_DRAWN 64u	/* images in a picture; tables have them all */

struct html {
	FILE *out;
	const struct scan_args *args;
	const struct qd_scan_report *r;
	unsigned k;			/* number of the cluster size */
	const struct qd_scan_size *s;	/* the same */
	size_t prefix;			/* bytes that all names begin with: a directory, "/" included */
	unsigned ndrawn;
	unsigned drawn[HTML_MOST_DRAWN];	/* images in pictures, ascending */
};

/* ---- scan_html_text.c ---- */

/* Text from outside: controls as in text_put, then escaped for HTML, in elements and attributes. */
void html_text(FILE *out, const char *text);
void html_bytes(FILE *out, uint64_t nbytes);		/* <data value="1536">1.5 KiB</data> */
void html_count(FILE *out, uint64_t n);			/* digits in threes */
void html_share(FILE *out, uint64_t part, uint64_t whole);	/* value 0 to 1, shown in percent */
void html_ratio(FILE *out, double ratio);
void html_cluster_size(FILE *out, uint64_t nbytes);
void html_name(const struct html *h, unsigned image);	/* less the prefix */

/* A coloured square and what it stands for. */
void html_legend(FILE *out, const char *class, const char *what);

double html_part(uint64_t part, uint64_t whole);	/* 0 when there is no whole */

/* ---- the sections ---- */

extern const char *const html_style[];			/* lines, NULL behind the last: scan_html_style.c */
void html_sizes(const struct html *h);			/* scan_html_sizes.c */
void html_matrix(const struct html *h);			/* scan_html_matrix.c */
void html_strips(const struct html *h);			/* scan_html_images.c */
void html_images(const struct html *h);
void html_histogram(const struct html *h);		/* scan_html_contents.c */
void html_top(const struct html *h);

#endif
