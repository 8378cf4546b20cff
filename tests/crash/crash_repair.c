/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crash_repair [-s SUBSETS] [-m MAX] [-S SEED] IMAGE...
 *
 * Repairs each image, a damaged one, in memory, while every write and flush is recorded;
 * then for every crash that recorder_plan() thinks of (up to MAX of them, spread evenly):
 *
 *  1  each guest cluster that was readable in the damaged image, and that the repair
 *     leaves as it is, is readable in what the crash left, with the same content;
 *  2  no more clusters have a refcount that is too low than had one before;
 *  3  repairing what the crash left succeeds, ends with nothing wrong, and the guest
 *     reads the same as after the repair that nobody interrupted.
 *
 * Prints "STATES states of IMAGES images"; what goes wrong goes to stderr, with the crash
 * (operations, kind, seed) that shows it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io_file.h"
#include "base/io_mem.h"
#include "guest.h"
#include "ops/repair.h"
#include "recorder.h"

#define MEMORY (64u << 20)

static unsigned subsets = 2;
static size_t max_states = SIZE_MAX;
static uint64_t seed = 1;
static size_t nstates;

static void die(const char *what, const struct qd_err *err)
{
	fprintf(stderr, "crash_repair: %s: %s\n", what, err->msg);
	exit(2);
}

static struct qd_io *load(const char *path)
{
	struct qd_file_opts opts = { .cache = QD_CACHE_WRITEBACK, .no_lock = true };
	struct qd_err err = { .code = 0 };
	struct qd_io *file, *mem;
	uint64_t size;
	uint8_t *buf;

	if (qd_io_file_open(path, &opts, &file, &err) || qd_io_size(file, &size, &err))
		die(path, &err);
	buf = malloc(size ? size : 1);
	if (!buf || qd_io_read(file, buf, size, 0, &err) || qd_io_mem_new(buf, size, true, &mem, &err))
		die(path, &err);
	free(buf);
	qd_io_close(file);
	return mem;
}

static void read_guest(struct qd_io *io, struct guest *g)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(io, &nbytes);

	guest_read(data, nbytes, g);
}

static int repair(struct qd_io *io, struct qd_repair_result *res, struct qd_err *err)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };

	return qd_repair(io, &opts, NULL, res, err);
}

struct subject {
	const char *path;
	struct recorder *rec;
	struct guest before;	/* of the damaged image */
	struct guest after;	/* of the repaired one */
	struct qd_check_result check;	/* of the damaged image */
	int status;		/* after the repair */
};

static bool complain(const struct subject *s, const struct crash *c, const char *what,
		     const struct guest_cluster *at)
{
	static const char *const kinds[] = { [CRASH_ALL] = "all", [CRASH_NONE] = "none",
					     [CRASH_SUBSET] = "subset", [CRASH_TORN] = "torn" };

	fprintf(stderr, "%s: crash after %zu operations (%s, seed %" PRIu64 "): %s", s->path, c->nops,
		kinds[c->kind], c->seed, what);
	if (at)
		fprintf(stderr, ", layer %" PRIu32 " guest cluster %" PRIu64, at->layer, at->number);
	fputc('\n', stderr);
	return false;
}

/* Where the damaged image's counts could not be judged, neither can this. */
static bool counts_are_lower(const struct qd_check_result *now, const struct qd_check_result *before)
{
	for (size_t t = QD_F_REFTABLE_SIZE; t <= QD_F_REFBLOCK_SHARED; t++)
		if (before->count[t])
			return false;
	return !before->count[QD_F_OVERLAP] && now->count[QD_F_REFCOUNT_LOW] > before->count[QD_F_REFCOUNT_LOW];
}

static bool try_crash(const struct subject *s, const struct crash *c)
{
	const struct guest_cluster *at;
	struct qd_repair_result res;
	struct qd_err err = { .code = 0 };
	struct guest g = { .n = 0 };
	struct qd_io *io;
	bool good = true;

	if (recorder_crash(s->rec, c, &io, &err))
		die(s->path, &err);
	nstates++;
	read_guest(io, &g);
	at = guest_missing(&s->after, &s->before, &g);
	if (at)
		good = complain(s, c, "a cluster that was readable is lost", at);
	guest_free(&g);
	if (good && repair(io, &res, &err))
		good = complain(s, c, err.msg, NULL);
	else if (good && counts_are_lower(&res.before, &s->check))
		good = complain(s, c, "more refcounts are too low than before", NULL);
	else if (good && qd_check_status(&res.after) != s->status)
		good = complain(s, c, "a second repair does not end with the same status", NULL);
	if (good) {
		read_guest(io, &g);
		at = guest_missing(&s->after, NULL, &g);
		if (!at)
			at = guest_missing(&g, NULL, &s->after);
		if (at)
			good = complain(s, c, "the guest reads something else after a second repair", at);
		guest_free(&g);
	}
	qd_io_close(io);
	return good;
}

static size_t count_crashes(const struct subject *s)
{
	struct crash c;
	size_t n = 0;

	while (recorder_plan(s->rec, subsets, seed, n, &c))
		n++;
	return n;
}

static unsigned try_all(const struct subject *s)
{
	size_t n = count_crashes(s), step = n > max_states ? (n + max_states - 1) / max_states : 1;
	unsigned bad = 0;
	struct crash c;

	for (size_t i = 0; bad < 5 && recorder_plan(s->rec, subsets, seed, i, &c); i += step)
		bad += !try_crash(s, &c);
	return bad;
}

static unsigned try_image(const char *path)
{
	struct subject s = { .path = path };
	struct qd_io *below = load(path);
	struct qd_repair_result res;
	struct qd_err err = { .code = 0 };
	unsigned bad;

	read_guest(below, &s.before);
	if (recorder_new(below, &s.rec, &err))
		die(path, &err);
	if (repair(recorder_io(s.rec), &res, &err))
		die(path, &err);
	s.check = res.before;
	s.status = qd_check_status(&res.after);
	read_guest(below, &s.after);
	bad = try_all(&s);
	guest_free(&s.before);
	guest_free(&s.after);
	recorder_free(s.rec);
	return bad;
}

int main(int argc, char **argv)
{
	unsigned bad = 0;
	int opt;

	while ((opt = getopt(argc, argv, "s:m:S:")) != -1) {
		if (opt == 's')
			subsets = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 'm')
			max_states = strtoul(optarg, NULL, 0);
		else if (opt == 'S')
			seed = strtoull(optarg, NULL, 0);
		else
			return 2;
	}
	for (int i = optind; i < argc; i++)
		bad += try_image(argv[i]);
	printf("%zu states of %d images\n", nstates, argc - optind);
	return bad ? 1 : 0;
}
