/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * See faults.h for what is tested.  Here: the kinds of faults, the loops over them, and the
 * judging of what a run leaves behind.  The faults themselves are faulty.c's.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io_mem.h"
#include "faults.h"
#include "faulty.h"
#include "layers.h"
#include "ops/check.h"
#include "ops/repair.h"
#include "ways.h"

#define MAX_WRONG 10u	/* of an image: more of the same helps nobody */

static const struct kind {
	const char *name;
	struct fault fault;
} kinds[] = {
	{ "EIO once", { .kind = FAULT_ONCE, .error = EIO } },
	{ "EIO for good", { .kind = FAULT_FOR_GOOD, .error = EIO } },
	{ "ENOSPC once", { .kind = FAULT_ONCE, .error = ENOSPC, .writes_only = true } },
	{ "ENOSPC for good", { .kind = FAULT_FOR_GOOD, .error = ENOSPC, .writes_only = true } },
	{ "short transfer", { .kind = FAULT_SHORT } },
};

struct subject {
	const struct faults_task *task;
	const char *path;
	struct qd_io *image;		/* as it was */
	struct layers layers;
	uint64_t end;			/* of an undisturbed run */
	uint64_t cluster_size;		/* bytes */
};

static void die(const struct subject *s, const char *what, const struct qd_err *err)
{
	fprintf(stderr, "%s: %s: %s\n", s->path, what, err->msg);
	exit(1);
}

static int copy(const struct subject *s, struct qd_io **ret_io, struct qd_err *err)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(s->image, &nbytes);

	return qd_io_mem_new(data, nbytes, true, ret_io, err);
}

/* ---- what must hold ---- */

static const char *compare_layers(const struct subject *s, struct qd_io *io)
{
	struct qd_err err = { .code = 0 };
	struct layers now = { .n = 0 };
	const char *wrong = NULL;

	if (layers_read(io, &now, &err))
		return "the layers cannot be read";
	if (now.n != s->layers.n)
		wrong = "another number of layers";
	for (unsigned i = 0; !wrong && i < now.n; i++)
		if (now.v[i].size != s->layers.v[i].size ||
		    memcmp(now.v[i].bytes, s->layers.v[i].bytes, now.v[i].size) != 0)
			wrong = "a layer reads something else";
	layers_free(&now);
	return wrong;
}

static const char *check(const struct subject *s, struct qd_io *io, bool may_be_dirty)
{
	struct qd_check_opts opts = { .threads = 1, .memory = s->task->memory };
	struct qd_err err = { .code = 0 };
	struct qd_check_result r;

	if (qd_check(io, &opts, NULL, &r, &err))
		return "it cannot be checked";
	if (may_be_dirty && r.dirty)
		return NULL;
	if (r.corruptions || r.check_errors || r.dirty)
		return "it is not in order, and not marked dirty";
	return NULL;
}

/* F2 and F3. */
static const char *judge(const struct subject *s, struct faults_run *r, enum faults_stage stage)
{
	const char *wrong = compare_layers(s, r->image);

	r->stage = stage;
	r->undisturbed_end = s->end;
	r->cluster_size = s->cluster_size;
	if (!wrong)
		wrong = check(s, r->image, stage == FAULTS_FAILED);
	if (!wrong && s->task->look)
		wrong = s->task->look(r);
	return wrong;
}

static const char *mend_and_finish(const struct subject *s, struct qd_io *image)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = s->task->memory };
	struct faults_run r = { .io = image, .image = image };
	struct qd_err err = { .code = 0 };
	struct qd_repair_result repaired;
	const char *wrong;

	if (qd_repair(image, &opts, NULL, &repaired, &err))
		return "it cannot be repaired";
	wrong = compare_layers(s, image);
	if (!wrong)
		wrong = check(s, image, false);
	if (wrong)
		return wrong;
	if ((s->task->next ? s->task->next : s->task->run)(&r, &err))
		return "the next run fails";
	return r.wrong ? r.wrong : judge(s, &r, FAULTS_NEXT);
}

/* ---- the runs ---- */

/* *ret_struck false: the fault lies behind the end of the run. */
static const char *try_one(const struct subject *s, const struct fault *fault, bool *ret_struck)
{
	struct qd_err err = { .code = 0 };
	struct faults_run r = { .io = NULL };
	const char *wrong;
	int rc;

	if (copy(s, &r.image, &err) || faulty_new(r.image, fault, &r.io, &err))
		die(s, "setting up", &err);
	rc = s->task->run(&r, &err);
	*ret_struck = faulty_struck(r.io);
	if (rc && !*ret_struck)
		die(s, "undisturbed", &err);
	wrong = r.wrong;
	if (rc && !err.msg[0])
		wrong = "no message";
	if (rc && fault->kind == FAULT_SHORT)
		wrong = "a short transfer is no error";
	if (!wrong)
		wrong = judge(s, &r, rc ? FAULTS_FAILED : FAULTS_WENT_THROUGH);
	if (!wrong && rc)
		wrong = mend_and_finish(s, r.image);
	qd_io_close(r.io);
	qd_io_close(r.image);
	return wrong;
}

static uint64_t try_kind(const struct subject *s, const struct kind *kind, uint64_t step, uint64_t max_wrong,
			 uint64_t *nruns)
{
	struct fault fault = kind->fault;
	uint64_t nwrong = 0;
	bool struck = true;

	for (fault.n = 1; struck && nwrong < max_wrong; fault.n += step) {
		const char *wrong = try_one(s, &fault, &struck);

		(*nruns)++;
		nwrong += wrong != NULL;
		if (wrong)
			fprintf(stderr, "%s: %s, call %" PRIu64 ": %s\n", s->path, kind->name,
				fault.n, wrong);
	}
	return nwrong;
}

/* What the runs are compared with.  What is wrong without any fault shows in the last run of each kind. */
static void set_up(struct subject *s)
{
	struct qd_check_opts opts = { .threads = 1, .memory = s->task->memory };
	struct qd_err err = { .code = 0 };
	struct faults_run r = { .io = NULL };
	struct qd_check_result after;

	if (way_load(s->path, &s->image, &err) || layers_read(s->image, &s->layers, &err) ||
	    copy(s, &r.image, &err))
		die(s, "setting up", &err);
	r.io = r.image;
	if (s->task->run(&r, &err) || qd_check(r.image, &opts, NULL, &after, &err))
		die(s, "setting up", &err);
	s->end = r.end;
	s->cluster_size = after.cluster_size;
	qd_io_close(r.image);
}

static uint64_t test_image(const struct faults_task *task, const char *path, uint64_t step, uint64_t *nruns)
{
	struct subject s = { .task = task, .path = path };
	uint64_t nwrong = 0;

	set_up(&s);
	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		const struct fault *f = &kinds[k].fault;

		if (!(task->no_enospc_once && f->kind == FAULT_ONCE && f->error == ENOSPC))
			nwrong += try_kind(&s, &kinds[k], step, MAX_WRONG - nwrong, nruns);
	}
	layers_free(&s.layers);
	qd_io_close(s.image);
	return nwrong;
}

int faults_main(int argc, char **argv, const struct faults_task *task)
{
	uint64_t step = 1, nwrong = 0, nruns = 0;
	int c;

	while ((c = getopt(argc, argv, "s:")) != -1) {
		if (c != 's')
			return 2;
		step = strtoull(optarg, NULL, 10);
	}
	for (int i = optind; i < argc; i++)
		nwrong += test_image(task, argv[i], step ? step : 1, &nruns);
	printf("%" PRIu64 " runs of %d images\n", nruns, argc - optind);
	return nwrong ? 1 : 0;
}
