/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * scan_synth CLUSTERS DISTINCT MEMORY [THREADS]: scans a disk of CLUSTERS clusters of 4 KiB that exists
 * nowhere; cluster n holds content number n % DISTINCT.  CLUSTERS is a power of two as "24", or a number
 * as "=1000"; so is DISTINCT.  MEMORY is in bytes, 0 for the default.
 *
 * Prints "SECONDS PEAK-KIB SPILLED" when the counts are what they must be, and fails otherwise.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <time.h>

#include "ops/scan.h"

#define CLUSTER 4096u

struct synth {
	struct qd_io io;
	uint64_t nclusters;
	uint64_t distinct;
};

/* Only the first 16 bytes tell contents apart: the rest costs as little as reading the page cache does. */
static void fill(uint8_t *page, uint64_t number)
{
	memset(page, 0x5a, CLUSTER);
	memcpy(page, &number, sizeof(number));
	number = ~number;
	memcpy(page + 8, &number, sizeof(number));
}

static ssize_t synth_pread(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct synth *s = (struct synth *)io;
	uint64_t size = s->nclusters * CLUSTER, done = 0;
	uint8_t page[CLUSTER];

	if (off >= size)
		return 0;
	if (nbytes > size - off)
		nbytes = (size_t)(size - off);
	while (done < nbytes) {
		uint64_t within = (off + done) % CLUSTER, n = CLUSTER - within;
		uint64_t number = (off + done) / CLUSTER % s->distinct + 1;

		if (n > nbytes - done)
			n = nbytes - done;
		if (n == CLUSTER) {
			fill((uint8_t *)buf + done, number);
		} else {
			fill(page, number);
			memcpy((uint8_t *)buf + done, page + within, (size_t)n);
		}
		done += n;
	}
	return (ssize_t)nbytes;
}

static int synth_size(struct qd_io *io, uint64_t *ret_nbytes)
{
	*ret_nbytes = ((struct synth *)io)->nclusters * CLUSTER;
	return 0;
}

static void synth_close(struct qd_io *io)
{
	free(io->name);
	free(io);
}

static const struct qd_io_ops synth_ops = { .pread = synth_pread, .size = synth_size, .close = synth_close };

static struct qd_io *synth_new(uint64_t nclusters, uint64_t distinct)
{
	struct synth *s = calloc(1, sizeof(*s));

	if (!s || !(s->io.name = strdup("synthetic"))) {
		perror("scan_synth");
		exit(1);
	}
	s->io.ops = &synth_ops;
	s->io.align = 1;
	s->nclusters = nclusters;
	s->distinct = distinct;
	return &s->io;
}

static uint64_t number_of(const char *text)
{
	uint64_t n = strtoull(text + (*text == '='), NULL, 10);

	return *text == '=' ? n : UINT64_C(1) << n;
}

static bool differs(const char *what, uint64_t got, uint64_t wanted)
{
	if (got != wanted)
		fprintf(stderr, "scan_synth: %s: %" PRIu64 ", expected %" PRIu64 "\n", what, got, wanted);
	return got != wanted;
}

static bool wrong(const struct qd_scan_report *rep, uint64_t nclusters, uint64_t distinct)
{
	const struct qd_scan_size *s = &rep->sizes[0];

	if (distinct > nclusters)
		distinct = nclusters;
	return differs("clusters", s->clusters, nclusters) | differs("unique", s->unique, distinct) |
	       differs("duplicate", s->duplicate, nclusters - distinct) | differs("zero", s->zero, 0) |
	       differs("most references", s->max_references, (nclusters + distinct - 1) / distinct) |
	       differs("contents with two or more", s->shared_contents,
		       nclusters / distinct > 1 ? distinct : nclusters % distinct);
}

int main(int argc, char **argv)
{
	struct qd_scan_source source = { .path = "synthetic" };
	struct qd_scan_opts opts = { .sources = &source, .nsources = 1, .nsizes = 1, .cluster_sizes = { CLUSTER } };
	struct qd_scan_report rep;
	struct timespec from, to;
	struct rusage usage;
	struct qd_err err;
	uint64_t nclusters, distinct;

	if (argc < 4) {
		fprintf(stderr, "usage: scan_synth CLUSTERS DISTINCT MEMORY [THREADS]\n");
		return 1;
	}
	nclusters = number_of(argv[1]);
	distinct = number_of(argv[2]);
	opts.memory = strtoull(argv[3], NULL, 10);
	opts.threads = argc > 4 ? (unsigned)atoi(argv[4]) : 0;
	opts.tmpdir = getenv("TMPDIR");
	opts.format = "raw";
	source.io = synth_new(nclusters, distinct);
	qd_err_clear(&err);
	clock_gettime(CLOCK_MONOTONIC, &from);
	if (qd_scan(&opts, &rep, &err)) {
		fprintf(stderr, "scan_synth: %s\n", err.msg);
		return 1;
	}
	clock_gettime(CLOCK_MONOTONIC, &to);
	getrusage(RUSAGE_SELF, &usage);
	if (wrong(&rep, nclusters, distinct))
		return 1;
	printf("%.3f %ld %d\n", (double)(to.tv_sec - from.tv_sec) + (double)(to.tv_nsec - from.tv_nsec) / 1e9,
	       usage.ru_maxrss, rep.spilled);
	qd_scan_report_free(&rep);
	return 0;
}
