/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The report of a scan for people: first what would be saved at each cluster size and what
 * that costs, then whose data it is.
 *
 * What is told of single images is told at one cluster size, that with the smallest total.
 */
#include <inttypes.h>
#include <string.h>

#include "scan.h"

#define MOST_IMAGES 40u		/* in the table; JSON has all */

static double percent(uint64_t part, uint64_t whole)
{
	return whole ? 100.0 * (double)part / (double)whole : 0;
}

static const char *short_size(uint64_t nbytes, char *buf, size_t size)
{
	if (nbytes >= 1u << 20 && nbytes % (1u << 20) == 0)
		snprintf(buf, size, "%" PRIu64 "M", nbytes >> 20);
	else if (nbytes >= 1024)
		snprintf(buf, size, "%" PRIu64 "K", nbytes >> 10);
	else
		snprintf(buf, size, "%" PRIu64, nbytes);
	return buf;
}

static void put_head(const struct qd_scan_report *r)
{
	char disk[QD_SIZE_TEXT], data[QD_SIZE_TEXT], zero[QD_SIZE_TEXT];
	uint64_t sum[3] = { 0, 0, 0 };
	unsigned backing = 0;

	for (unsigned i = 0; i < r->nimages; i++) {
		sum[0] += r->images[i].virtual_size;
		sum[1] += r->images[i].data_nbytes;
		sum[2] += r->images[i].zero_nbytes;
		backing += r->images[i].backing;
	}
	printf("%u image%s", r->nimages, r->nimages == 1 ? "" : "s");
	if (backing)
		printf(" (%u backing file%s among them)", backing, backing == 1 ? "" : "s");
	printf(", %s of disk: %s of data, %s zeros\n", qd_size_format(sum[0], disk, sizeof(disk)),
	       qd_size_format(sum[1], data, sizeof(data)), qd_size_format(sum[2], zero, sizeof(zero)));
	if (r->nshards > 1)
		printf("Only hashes of part %u of %u are counted.\n", r->shard, r->nshards);
	if (r->sample_n > 1)
		printf("ESTIMATE: about one part in %u was read.\n", r->sample_n);
}

static void put_size(const struct qd_scan_report *r, unsigned k)
{
	const struct qd_scan_size *s = &r->sizes[k];
	char size[32], saved[QD_SIZE_TEXT], meta[QD_SIZE_TEXT], total[QD_SIZE_TEXT], low[QD_SIZE_TEXT],
		high[QD_SIZE_TEXT];

	printf("%7s %14" PRIu64 " %14" PRIu64 " %8.1f %% %12s %12s %12s %7.3f%s",
	       short_size(s->cluster_size, size, sizeof(size)), s->clusters, s->unique,
	       percent(s->duplicate, s->clusters), qd_size_format(s->saved_nbytes, saved, sizeof(saved)),
	       qd_size_format(s->metadata_nbytes, meta, sizeof(meta)),
	       qd_size_format(s->total_nbytes, total, sizeof(total)), qd_scan_ratio(s),
	       k == r->best && r->nsizes > 1 && s->clusters ? "  <- smallest" : "");
	if (r->sample_n > 1)
		printf("  (saved: %s to %s)", qd_size_format(s->saved_low, low, sizeof(low)),
		       qd_size_format(s->saved_high, high, sizeof(high)));
	putchar('\n');
}

static void put_sizes(const struct qd_scan_report *r)
{
	printf("\n%7s %14s %14s %10s %12s %12s %12s %7s\n", "cluster", "clusters", "different", "duplicate",
	       "saved", "metadata", "total", "ratio");
	for (unsigned k = 0; k < r->nsizes; k++)
		put_size(r, k);
}

static uint64_t least_compressed(const struct scan_args *args, const struct qd_scan_report *r)
{
	uint64_t least = UINT64_MAX;

	for (unsigned k = 0; k < r->nsizes; k++) {
		struct qd_scan_compressed e = qd_scan_compress_get(args->compress, &r->sizes[k]);

		least = e.total_nbytes < least ? e.total_nbytes : least;
	}
	return least;
}

static void put_compression(const struct scan_args *args, const struct qd_scan_report *r)
{
	uint64_t least = least_compressed(args, r);

	printf("\nCompression (%s) of the different contents, ESTIMATED from a sample:\n%7s %12s %12s %12s"
		" %7s  %s\n",
	       qd_scan_compress_type(args->compress), "cluster", "different", "compressed", "total", "ratio",
	       "sample");
	for (unsigned k = 0; k < r->nsizes; k++) {
		const struct qd_scan_size *s = &r->sizes[k];
		struct qd_scan_compressed e = qd_scan_compress_get(args->compress, s);
		char size[32], plain[QD_SIZE_TEXT], data[QD_SIZE_TEXT], total[QD_SIZE_TEXT],
			low[QD_SIZE_TEXT], high[QD_SIZE_TEXT];

		printf("%7s %12s %12s %12s %7.3f  %" PRIu64 " clusters",
		       short_size(s->cluster_size, size, sizeof(size)),
		       qd_size_format(s->unique * s->cluster_size, plain, sizeof(plain)),
		       qd_size_format(e.data_nbytes, data, sizeof(data)),
		       qd_size_format(e.total_nbytes, total, sizeof(total)), e.ratio, e.sampled);
		if (e.data_low < e.data_high)
			printf(" (%s to %s)", qd_size_format(e.data_low, low, sizeof(low)),
			       qd_size_format(e.data_high, high, sizeof(high)));
		else
			printf(" (all)");
		puts(e.total_nbytes == least && r->nsizes > 1 && e.sampled ? "  <- smallest" : "");
	}
}

static void put_image(const struct qd_scan_image *im, unsigned k)
{
	const struct qd_scan_image_count *c = &im->count[k];
	char data[QD_SIZE_TEXT];

	printf("%12s %8.1f %% %8.1f %%   ", qd_size_format(im->data_nbytes, data, sizeof(data)),
	       percent(c->clusters - c->distinct, c->clusters), percent(c->shared, c->clusters));
	text_put(stdout, im->name);
	if (im->backing)
		printf(" (backing file)");
	if (im->nsnapshots)
		printf(" (and %u snapshot%s)", im->nsnapshots, im->nsnapshots == 1 ? "" : "s");
	putchar('\n');
}

static void put_images(const struct qd_scan_report *r, const char *at)
{
	printf("\nBy image, clusters of %s:\n%12s %10s %10s   %s\n", at, "data", "duplicate", "in others",
	       "image");
	for (unsigned i = 0; i < r->nimages && i < MOST_IMAGES; i++)
		put_image(&r->images[i], r->best);
	if (r->nimages > MOST_IMAGES)
		printf("  ... and %u more (--output=json has all)\n", r->nimages - MOST_IMAGES);
}

static void put_matrix(const struct qd_scan_report *r, const char *at)
{
	const uint64_t *m = r->sizes[r->best].matrix;

	printf("\nHow much of each row's image is in the column's, in %%, clusters of %s:\n    ", at);
	for (unsigned col = 0; col < r->nimages; col++)
		printf(" %5u", col + 1);
	putchar('\n');
	for (unsigned row = 0; row < r->nimages; row++) {
		printf("%4u", row + 1);
		for (unsigned col = 0; col < r->nimages; col++)
			printf(" %5.1f", percent(m[(size_t)row * r->nimages + col],
						 m[(size_t)row * r->nimages + row]));
		printf("  ");
		text_put(stdout, r->images[row].name);
		putchar('\n');
	}
}

static void put_top(const struct scan_args *args, const struct qd_scan_report *r, const char *at)
{
	const struct qd_scan_size *s = &r->sizes[r->best];

	printf("\nContents found most often, clusters of %s:\n%14s  %-*s  first at\n", at, "references",
	       (int)(2 * r->digest_nbytes), r->hash);
	for (unsigned i = 0; i < s->ntop && i < args->top; i++) {
		const struct qd_scan_top *t = &s->top[i];

		printf("%14" PRIu64 "  ", t->references);
		for (unsigned b = 0; b < r->digest_nbytes; b++)
			printf("%02x", t->digest[b]);
		printf("  ");
		text_put(stdout, t->name);
		if (t->snapshot) {
			printf(", snapshot ");
			text_put(stdout, t->snapshot);
		}
		printf(" at 0x%" PRIx64 "\n", t->offset);
	}
}

static void put_verdict(const struct qd_scan_report *r, const char *at)
{
	const struct qd_scan_size *s = &r->sizes[r->best];
	char saved[QD_SIZE_TEXT];

	if (!s->clusters)
		printf("\nThere is no data: nothing to deduplicate.\n");
	else if (!s->duplicate)
		printf("\nNo two clusters are equal: deduplication would save nothing.\n");
	else if (r->nsizes > 1)
		printf("\nSmallest in total with clusters of %s: deduplication saves %s there.\n", at,
		       qd_size_format(s->saved_nbytes, saved, sizeof(saved)));
}

void scan_put(const struct scan_args *args, const struct qd_scan_report *r)
{
	char at[32] = "";

	if (r->nsizes)
		short_size(r->sizes[r->best].cluster_size, at, sizeof(at));
	put_head(r);
	put_sizes(r);
	if (args->compress && r->nsizes)
		put_compression(args, r);
	if (r->nimages > 1 && r->nsizes)
		put_images(r, at);
	if (args->matrix && r->nsizes)
		put_matrix(r, at);
	if (args->top && r->nsizes)
		put_top(args, r, at);
	if (r->nsizes)
		put_verdict(r, at);
}
