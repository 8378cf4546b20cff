/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Everything about an image stands in struct judge; struct state is one crash of it.  Sound
 * images are compared byte by byte (layers.h, history.h), damaged ones by guest.h, which
 * reads what there is to read without the code under test.
 */
#include "judge.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io_mem.h"
#include "guest.h"
#include "history.h"
#include "layers.h"
#include "ops/repair.h"
#include "recorder.h"
#include "ways.h"

#define MEMORY (64u << 20)
#define MAX_COMPLAINTS 5u

struct options {
	const struct judge_task *task;
	const char *mode;
	unsigned subsets;
	size_t max_states;
	uint64_t seed;
	uint64_t qemu_every;
};

struct judge {
	const struct options *o;
	const char *path;
	uint64_t salt;			/* another one for each image */
	uint64_t random;
	struct recorder *rec;
	struct qd_check_result before;	/* the operation */
	int status;			/* every way back must end with */
	bool qemu;			/* may judge */

	struct layers layers;		/* of a sound image, before */
	struct history *history;	/* of its active layer */
	struct guest guest_before;	/* of a damaged image */
	struct guest guest_after;

	size_t nstates;
	size_t nqemu;
};

struct state {
	struct judge *j;
	struct crash crash;
	struct qd_io *io;
	uint8_t *disk;			/* the active layer of a sound image */
	struct qd_check_result check;
};

static void die(const char *path, const struct qd_err *err)
{
	fprintf(stderr, "%s: %s\n", path, err->msg);
	exit(2);
}

static bool complain(const struct state *s, const char *who, const char *what, uint64_t where)
{
	static const char *const kinds[] = { [CRASH_ALL] = "all", [CRASH_NONE] = "none",
					     [CRASH_SUBSET] = "subset", [CRASH_TORN] = "torn" };

	fprintf(stderr, "%s: -S %" PRIu64 ": crash after %zu operations (%s, seed %" PRIu64 "): ", s->j->path,
		s->j->o->seed, s->crash.nops, kinds[s->crash.kind], s->crash.seed);
	fprintf(stderr, "%s: %s (0x%" PRIx64 ")\n", who, what, where);
	return false;
}

static uint64_t mix(uint64_t z)
{
	z = (z + 0x9e3779b97f4a7c15u) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

/* ---- for operations ---- */

const char *judge_mode(const struct judge *j)
{
	return j->o->mode;
}

uint64_t judge_random(struct judge *j, uint64_t limit)
{
	return mix(j->random++) % limit;
}

const uint8_t *judge_disk(const struct judge *j)
{
	return history_now(j->history);
}

uint64_t judge_disk_size(const struct judge *j)
{
	return j->layers.v[0].size;
}

void judge_will_change(struct judge *j, uint64_t off, uint64_t nbytes, const uint8_t *data)
{
	history_change(j->history, recorder_nops(j->rec), off, nbytes, data);
}

void judge_settled(struct judge *j)
{
	history_settled(j->history, recorder_nops(j->rec));
}

/* ---- what there is to read ---- */

static void read_guest(struct qd_io *io, struct guest *g)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(io, &nbytes);

	guest_read(data, nbytes, g);
}

/* J1, a damaged image: nothing of what the operation leaves as it is has gone. */
static bool guest_is_kept(const struct state *s)
{
	const struct guest_cluster *at;
	struct guest g;

	read_guest(s->io, &g);
	at = guest_missing(&s->j->guest_after, &s->j->guest_before, &g);
	guest_free(&g);
	return !at || complain(s, "crash", "a cluster that was readable is lost", at->number);
}

static bool guest_is_final(const struct state *s, const char *who, struct qd_io *io)
{
	const struct guest_cluster *at;
	struct guest g;

	read_guest(io, &g);
	at = guest_missing(&s->j->guest_after, NULL, &g);
	if (!at)
		at = guest_missing(&g, NULL, &s->j->guest_after);
	guest_free(&g);
	return !at || complain(s, who, "the guest reads something else", at->number);
}

static bool snapshots_are_kept(const struct state *s, const char *who, struct qd_io *io)
{
	const struct layers *l = &s->j->layers;
	bool good = true;

	for (unsigned i = 1; good && i < l->n; i++) {
		struct layer got = { .name = l->v[i].name };
		struct qd_err err = { .code = 0 };

		if (layer_read(io, &got, &err))
			good = complain(s, who, err.msg, i);
		else if (got.size != l->v[i].size || memcmp(got.bytes, l->v[i].bytes, got.size))
			good = complain(s, who, "a snapshot is not what it was", i);
		free(got.bytes);
	}
	return good;
}

/* J1, a sound image; keeps what was read of the active layer. */
static bool layers_are_kept(struct state *s)
{
	struct layer active = { .name = NULL };
	struct qd_err err = { .code = 0 };
	uint64_t at = 0;

	if (layer_read(s->io, &active, &err))
		return complain(s, "crash", err.msg, 0);
	s->disk = active.bytes;
	if (active.size != judge_disk_size(s->j))
		return complain(s, "crash", "the disk has another size", active.size);
	if (!history_allows(s->j->history, s->crash.nops, s->disk, &at))
		return complain(s, "crash", "a byte of the disk was never so", at);
	return snapshots_are_kept(s, "crash", s->io);
}

static bool layers_are_final(const struct state *s, const char *who, struct qd_io *io)
{
	struct layer active = { .name = NULL };
	struct qd_err err = { .code = 0 };
	bool good = true;

	if (layer_read(io, &active, &err))
		return complain(s, who, err.msg, 0);
	if (active.size != judge_disk_size(s->j) || memcmp(active.bytes, s->disk, active.size))
		good = complain(s, who, "the disk is not what the crash left", 0);
	free(active.bytes);
	return good && snapshots_are_kept(s, who, io);
}

static bool layers_are_allowed(const struct state *s, const char *who, struct qd_io *io)
{
	struct layer active = { .name = NULL };
	struct qd_err err = { .code = 0 };
	size_t nops = s->crash.nops ? s->crash.nops : 1;	/* what is logged before the first may be completed */
	uint64_t at = 0;
	bool good = true;

	if (layer_read(io, &active, &err))
		return complain(s, who, err.msg, 0);
	if (active.size != judge_disk_size(s->j) || !history_allows(s->j->history, nops, active.bytes, &at))
		good = complain(s, who, "a byte of the disk was never so", at);
	free(active.bytes);
	return good && snapshots_are_kept(s, who, io);
}

/* J3, but for the status */
static bool is_final(const struct state *s, const char *who, struct qd_io *io)
{
	return s->j->o->task->damaged ? guest_is_final(s, who, io) : layers_are_final(s, who, io);
}

/* ---- ways back ---- */

static bool is_good_status(const struct state *s, const char *who, const struct qd_check_result *res,
			   bool leaks_may_stay)
{
	int status = qd_check_status(res);

	if ((status == s->j->status || (status == 3 && leaks_may_stay)) && !(status == 0 && res->dirty))
		return true;
	return complain(s, who, "does not end with a clean image, status", (uint64_t)status);
}

static bool try_way(const struct state *s, const struct judge_way *way, bool leaks_may_stay, bool completes)
{
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_check_result res;
	struct qd_err err = { .code = 0 };
	struct qd_io *io = NULL;
	bool good;

	if (recorder_crash(s->j->rec, &s->crash, &io, &err))
		die(s->j->path, &err);
	if (way->run(io, &err) || qd_check(io, &opts, NULL, &res, &err))
		good = complain(s, way->name, err.msg, 0);
	else
		good = is_good_status(s, way->name, &res, leaks_may_stay) &&
		       (completes ? layers_are_allowed(s, way->name, io) : is_final(s, way->name, io));
	qd_io_close(io);
	return good;
}

static bool try_qemu(const struct state *s)
{
	static const struct judge_way check = { "qemu-img check -r all", way_qemu_check };
	static const struct judge_way reopen = { "qemu-io", way_qemu_open };

	s->j->nqemu++;
	if (!try_way(s, &check, false, false))
		return false;
	/* What is not marked dirty QEMU does not mend when it opens it: leaks are all it may be given. */
	return (!s->check.dirty && s->check.corruptions) || try_way(s, &reopen, !s->check.dirty, false);
}

/* In a sound image leaks at worst, unless it is dirty; what a task says of others. */
static const char *look(const struct judge *j, const struct qd_check_result *now)
{
	int status = qd_check_status(now);

	if (j->o->task->look)
		return j->o->task->look(&j->before, now);
	return status == 0 || status == 3 || now->dirty ? NULL : "more than leaks, and not dirty";
}

static int repair(struct qd_io *io, struct qd_repair_result *res, struct qd_err *err)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };

	return qd_repair(io, &opts, NULL, res, err);
}

/* Of the state itself, which is gone then; what a check said of it stays. */
static bool try_repair(struct state *s)
{
	struct qd_repair_result res;
	struct qd_err err = { .code = 0 };
	const char *wrong;

	if (repair(s->io, &res, &err))
		return complain(s, "repair", err.msg, 0);
	s->check = res.before;
	wrong = look(s->j, &s->check);
	if (wrong)
		return complain(s, "check", wrong, (uint64_t)qd_check_status(&s->check));
	return is_good_status(s, "repair", &res.after, false) && is_final(s, "repair", s->io);
}

/* The last state: one of each qemu_every, which one of them the seed says. */
static bool is_sampled(const struct judge *j)
{
	uint64_t every = j->o->qemu_every, n = j->nstates - 1;

	return n % every == mix(j->salt + n / every) % every;
}

static bool try_crash(struct judge *j, const struct crash *c)
{
	struct state s = { .j = j, .crash = *c };
	struct qd_err err = { .code = 0 };
	bool good;

	if (recorder_crash(j->rec, c, &s.io, &err))
		die(j->path, &err);
	j->nstates++;
	good = j->o->task->damaged ? guest_is_kept(&s) : layers_are_kept(&s);
	good = good && try_repair(&s);
	for (const struct judge_way *way = j->o->task->ways; good && way && way->name; way++)
		good = try_way(&s, way, false, j->o->task->completes);
	if (good && j->qemu && is_sampled(j))
		good = try_qemu(&s);
	free(s.disk);
	qd_io_close(s.io);
	return good;
}

static bool try_all(struct judge *j)
{
	const struct options *o = j->o;
	size_t n = 0, step;
	unsigned bad = 0;
	struct crash c;

	while (recorder_plan(j->rec, o->subsets, o->seed, n, &c))
		n++;
	step = n > o->max_states ? (n + o->max_states - 1) / o->max_states : 1;
	for (size_t i = 0; bad < MAX_COMPLAINTS && i < n; i += step) {
		recorder_plan(j->rec, o->subsets, o->seed, i, &c);
		bad += !try_crash(j, &c);
	}
	return bad == 0;
}

/* ---- an image ---- */

static void look_before(struct judge *j, struct qd_io *io)
{
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
	const struct judge_task *task = j->o->task;
	struct qd_err err = { .code = 0 };

	if (qd_check(io, &opts, NULL, &j->before, &err))
		die(j->path, &err);
	j->qemu = j->o->qemu_every && (!task->qemu_can || task->qemu_can(&j->before));
	if (task->damaged) {
		read_guest(io, &j->guest_before);
		return;
	}
	if (layers_read(io, &j->layers, &err))
		die(j->path, &err);
	j->history = history_new(j->layers.v[0].bytes, j->layers.v[0].size);
}

static void look_after(struct judge *j, struct qd_io *io)
{
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_check_result res;
	struct qd_err err = { .code = 0 };

	if (!j->o->task->damaged)
		return;
	read_guest(io, &j->guest_after);
	if (qd_check(io, &opts, NULL, &res, &err))
		die(j->path, &err);
	j->status = qd_check_status(&res);
}

static void free_image(struct judge *j)
{
	layers_free(&j->layers);
	history_free(j->history);
	guest_free(&j->guest_before);
	guest_free(&j->guest_after);
	recorder_free(j->rec);
}

static bool try_image(struct judge *j)
{
	struct qd_err err = { .code = 0 };
	struct qd_io *io = NULL;
	bool good;

	if (way_load(j->path, &io, &err))
		die(j->path, &err);
	look_before(j, io);
	if (recorder_new(io, &j->rec, &err) || j->o->task->run(j, recorder_io(j->rec), &err))
		die(j->path, &err);
	look_after(j, io);
	good = try_all(j);
	free_image(j);
	return good;
}

static bool parse(int argc, char **argv, struct options *o)
{
	int opt;

	while ((opt = getopt(argc, argv, "s:m:S:q:M:")) != -1) {
		if (opt == 's')
			o->subsets = (unsigned)strtoul(optarg, NULL, 0);
		else if (opt == 'm')
			o->max_states = strtoul(optarg, NULL, 0);
		else if (opt == 'S')
			o->seed = strtoull(optarg, NULL, 0);
		else if (opt == 'q')
			o->qemu_every = strtoull(optarg, NULL, 0);
		else if (opt == 'M')
			o->mode = optarg;
		else
			return false;
	}
	return optind < argc && o->max_states;
}

int judge_main(int argc, char **argv, const struct judge_task *task)
{
	struct options o = { .task = task, .mode = "", .subsets = 2, .max_states = SIZE_MAX, .seed = 1 };
	size_t nstates = 0, nqemu = 0;
	bool good = true;

	if (!parse(argc, argv, &o)) {
		fprintf(stderr, "usage: %s [-s SUBSETS] [-m MAX] [-S SEED] [-q EVERY] [-M MODE] IMAGE...\n",
			argv[0]);
		return 2;
	}
	for (int i = optind; i < argc; i++) {
		struct judge j = { .o = &o, .path = argv[i], .salt = mix(o.seed + (uint64_t)i) };

		j.random = j.salt;
		good = try_image(&j) && good;
		nstates += j.nstates;
		nqemu += j.nqemu;
	}
	printf("%zu states of %d images, %zu by QEMU\n", nstates, argc - optind, nqemu);
	return good ? 0 : 1;
}
