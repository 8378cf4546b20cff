/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * crash_io [-s SUBSETS] [-m MAX] [-S SEED] IMAGE...
 *
 * Writes at random into each image, in memory, as `qdedup io` does, while every write and
 * flush is recorded; then for every crash that recorder_plan() thinks of (up to MAX of
 * them, spread evenly):
 *
 *  1  each byte of the disk is what it was at the last flush that returned, or what a
 *     command after that made of it; internal snapshots are what they were;
 *  2  a check finds leaks at worst, unless the dirty bit is set;
 *  3  a repair ends with nothing wrong and the same content.
 *
 * Prints "STATES states of IMAGES images"; what goes wrong goes to stderr, with the crash
 * (operations, kind, seed) that shows it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/bytes.h"
#include "base/io_file.h"
#include "base/io_mem.h"
#include "image/disk.h"
#include "image/write.h"
#include "ops/repair.h"
#include "recorder.h"

#define NCOMMANDS 30u
#define MAX_SNAPSHOTS 4u

static unsigned subsets = 2;
static size_t max_states = SIZE_MAX;
static uint64_t seed = 1;
static size_t nstates;

struct step {
	size_t first_op;	/* operations that were recorded when the command began */
	size_t flushed_op;	/* a flush: when it returned; else SIZE_MAX */
	uint8_t *disk;		/* after it */
};

struct subject {
	const char *path;
	struct recorder *rec;
	uint64_t size;
	struct step steps[NCOMMANDS + 1];	/* the first is the disk as it was */
	unsigned nsteps;
	char *names[MAX_SNAPSHOTS];
	uint8_t *snapshots[MAX_SNAPSHOTS];
	uint64_t snapshot_sizes[MAX_SNAPSHOTS];
	unsigned nsnapshots;
};

static void die(const char *what, const struct qd_err *err)
{
	fprintf(stderr, "crash_io: %s: %s\n", what, err ? err->msg : "out of memory");
	exit(2);
}

static uint8_t *need(void *p)
{
	if (!p)
		die("memory", NULL);
	return p;
}

static uint64_t next_random(uint64_t limit)
{
	static uint64_t state;

	if (!state)
		state = seed;
	state = state * 6364136223846793005u + 1442695040888963407u;
	return (state >> 33) % limit;
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
	buf = need(malloc(size ? size : 1));
	if (qd_io_read(file, buf, size, 0, &err) || qd_io_mem_new(buf, size, true, &mem, &err))
		die(path, &err);
	free(buf);
	qd_io_close(file);
	return mem;
}

/* The content of a layer (NULL: the active one) of the image in memory; NULL when it cannot be read. */
static uint8_t *content(struct qd_io *io, const char *snapshot, uint64_t *ret_size, struct qd_err *err)
{
	struct qd_disk_opts opts = { .format = "qcow2", .snapshot = snapshot, .no_backing = true };
	struct qd_reader *reader = NULL;
	struct qd_disk *disk = NULL;
	struct qd_io *copy = NULL;
	uint8_t *buf = NULL;
	const uint8_t *data;
	size_t nbytes;

	data = qd_io_mem_data(io, &nbytes);
	if (qd_io_mem_new(data, nbytes, false, &copy, err))
		return NULL;
	if (qd_disk_open_io(copy, &opts, &disk, err)) {
		qd_io_close(copy);
		return NULL;
	}
	*ret_size = disk->virtual_size;
	buf = need(malloc(disk->virtual_size));
	if (qd_reader_new(disk, &reader, err) || qd_reader_read(reader, 0, disk->virtual_size, buf, err)) {
		free(buf);
		buf = NULL;
	}
	qd_reader_free(reader);
	qd_disk_close(disk);
	return buf;
}

/* ---- writing ---- */

static void command(struct subject *s, struct qd_writer *w, const struct qd_geom *g, struct qd_err *err)
{
	struct step *step = &s->steps[s->nsteps];
	uint64_t size = g->cluster_size, off = next_random(s->size), n = 1 + next_random(3 * size), from, to;
	unsigned kind = (unsigned)next_random(8);
	int rc = 0;

	if (next_random(2))
		off = qd_align_down(off, size), n = qd_align_up(n, size);
	n = qd_min_u64(n, s->size - off);
	*step = (struct step){ recorder_nops(s->rec), SIZE_MAX, need(malloc(s->size)) };
	memcpy(step->disk, s->steps[s->nsteps - 1].disk, s->size);
	if (kind < 4) {
		memset(step->disk + off, (int)s->nsteps + 1, n);
		rc = qd_writer_write(w, off, n, step->disk + off, err);
	} else if (kind == 4) {
		memset(step->disk + off, 0, n);
		rc = qd_writer_zero(w, off, n, err);
	} else if (kind == 5) {
		from = qd_align_up(off, size);
		to = off + n == s->size ? s->size : qd_align_down(off + n, size);
		if (from < to)
			memset(step->disk + from, 0, to - from);
		rc = qd_writer_discard(w, off, n, err);
	} else if (kind == 6) {
		rc = qd_writer_flush(w, err);
		step->flushed_op = recorder_nops(s->rec);
	}
	if (rc)
		die(s->path, err);
	s->nsteps++;
}

static void write_at_random(struct subject *s)
{
	struct qd_err err = { .code = 0 };
	struct qd_writer *w = NULL;
	struct qd_image *img = NULL;
	size_t first_op;

	if (qd_image_open(recorder_io(s->rec), 0, &img, &err) || qd_writer_open(img, NULL, &w, &err))
		die(s->path, &err);
	while (s->nsteps < NCOMMANDS)
		command(s, w, &img->geom, &err);
	first_op = recorder_nops(s->rec);
	if (qd_writer_close(w, &err))
		die(s->path, &err);
	s->steps[s->nsteps] = (struct step){ first_op, recorder_nops(s->rec), need(malloc(s->size)) };
	memcpy(s->steps[s->nsteps].disk, s->steps[s->nsteps - 1].disk, s->size);
	s->nsteps++;
	qd_image_close(img);
}

/* ---- crashing ---- */

static bool complain(const struct subject *s, const struct crash *c, const char *what, uint64_t at)
{
	static const char *const kinds[] = { [CRASH_ALL] = "all", [CRASH_NONE] = "none",
					     [CRASH_SUBSET] = "subset", [CRASH_TORN] = "torn" };

	fprintf(stderr,
		"%s: seed %" PRIu64 ": crash after %zu operations (%s, seed %" PRIu64 "): %s (%" PRIu64 ")\n",
		s->path, seed, c->nops, kinds[c->kind], c->seed, what, at);
	return false;
}

static bool disk_is_sound(const struct subject *s, const struct crash *c, const uint8_t *disk)
{
	unsigned first = 0, last = 0;

	for (unsigned i = 0; i < s->nsteps; i++) {
		if (s->steps[i].flushed_op <= c->nops)
			first = last = i;
		if (s->steps[i].first_op < c->nops)
			last = i;
	}
	for (uint64_t at = 0; at < s->size; at++) {
		unsigned i = first;

		while (i <= last && s->steps[i].disk[at] != disk[at])
			i++;
		if (i > last)
			return complain(s, c, "a byte of the disk was never so since the last flush", at);
	}
	return true;
}

static bool snapshots_are_sound(const struct subject *s, const struct crash *c, struct qd_io *io)
{
	struct qd_err err = { .code = 0 };

	for (unsigned i = 0; i < s->nsnapshots; i++) {
		uint64_t size = 0;
		uint8_t *got = content(io, s->names[i], &size, &err);
		bool same = got && size == s->snapshot_sizes[i] && !memcmp(got, s->snapshots[i], size);

		free(got);
		if (!same)
			return complain(s, c, "a snapshot is not what it was", i);
	}
	return true;
}

static bool repairs(const struct subject *s, const struct crash *c, struct qd_io *io, const uint8_t *disk)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = 64u << 20 };
	struct qd_err err = { .code = 0 };
	struct qd_repair_result res;
	uint64_t size = 0;
	uint8_t *got;
	int status;
	bool same;

	if (qd_repair(io, &opts, NULL, &res, &err))
		return complain(s, c, err.msg, 0);
	status = qd_check_status(&res.before);
	if (status != 0 && status != 3 && !res.before.dirty)
		return complain(s, c, "more than leaks", (uint64_t)status);
	status = qd_check_status(&res.after);
	if (status != 0)
		return complain(s, c, "not repaired", (uint64_t)status);
	got = content(io, NULL, &size, &err);
	same = got && size == s->size && !memcmp(got, disk, size);
	free(got);
	return same || complain(s, c, "the repair changed the disk", 0);
}

static bool try_crash(const struct subject *s, const struct crash *c)
{
	struct qd_err err = { .code = 0 };
	struct qd_io *io = NULL;
	uint64_t size = 0;
	uint8_t *disk;
	bool good;

	if (recorder_crash(s->rec, c, &io, &err))
		die(s->path, &err);
	nstates++;
	disk = content(io, NULL, &size, &err);
	good = disk ? disk_is_sound(s, c, disk) : complain(s, c, err.msg, 0);
	good = good && snapshots_are_sound(s, c, io) && repairs(s, c, io, disk) &&
	       snapshots_are_sound(s, c, io);
	free(disk);
	qd_io_close(io);
	return good;
}

static unsigned try_all(const struct subject *s)
{
	size_t n = 0, step;
	unsigned bad = 0;
	struct crash c;

	while (recorder_plan(s->rec, subsets, seed, n, &c))
		n++;
	step = n > max_states ? (n + max_states - 1) / max_states : 1;
	for (size_t i = 0; bad < 5 && recorder_plan(s->rec, subsets, seed, i, &c); i += step)
		bad += !try_crash(s, &c);
	return bad;
}

/* What there is before anything is written. */
static void look(struct subject *s, struct qd_io *io)
{
	struct qd_err err = { .code = 0 };
	struct qd_image *img = NULL;
	struct qd_io *copy = NULL;
	const uint8_t *data;
	size_t nbytes;

	data = qd_io_mem_data(io, &nbytes);
	if (qd_io_mem_new(data, nbytes, false, &copy, &err) || qd_image_open(copy, 0, &img, &err))
		die(s->path, &err);
	s->steps[0] = (struct step){ 0, 0, content(io, NULL, &s->size, &err) };
	if (!s->steps[0].disk)
		die(s->path, &err);
	s->nsteps = 1;
	for (uint32_t i = 0; i < img->nsnapshots && s->nsnapshots < MAX_SNAPSHOTS; i++) {
		unsigned k = s->nsnapshots;

		if (&img->snapshots[i] == qd_image_find_pin(img))
			continue;
		s->names[k] = (char *)need(strdup(img->snapshots[i].name));
		s->snapshots[k] = content(io, s->names[k], &s->snapshot_sizes[k], &err);
		if (!s->snapshots[k])
			die(s->path, &err);
		s->nsnapshots++;
	}
	qd_image_close(img);
}

static unsigned try_image(const char *path)
{
	struct subject s = { .path = path };
	struct qd_err err = { .code = 0 };
	struct qd_io *below = load(path);
	unsigned bad;

	look(&s, below);
	if (recorder_new(below, &s.rec, &err))
		die(path, &err);
	write_at_random(&s);
	bad = try_all(&s);
	for (unsigned i = 0; i < s.nsteps; i++)
		free(s.steps[i].disk);
	for (unsigned i = 0; i < s.nsnapshots; i++) {
		free(s.names[i]);
		free(s.snapshots[i]);
	}
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
