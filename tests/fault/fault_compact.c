/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault_compact [-s STEP] IMAGE...: each I/O call of `qdedup compact` going wrong.
 *
 * For every kind of fault and n = 1, 2, 3 ... (every STEP-th) until a run is not touched by it:
 *
 *	- the run fails with a message, or ends with what an undisturbed one does
 *	- every layer reads what it did
 *	- the file is clean, has leaks at worst, or is marked dirty
 *	- after a repair the next run ends as an undisturbed one does, but for a few clusters
 *
 * Prints "RUNS runs of IMAGES images"; what goes wrong goes to stderr, status 1.
 */
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/io_mem.h"
#include "faulty.h"
#include "layers.h"
#include "ops/check.h"
#include "ops/compact.h"
#include "ops/repair.h"
#include "ways.h"

#define MEMORY (64u << 20)
#define SLACK 4u		/* clusters */

static const struct {
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
	const char *path;
	struct qd_io *image;		/* as it was */
	struct layers layers;
	uint64_t nbytes;		/* of the file after an undisturbed run */
	uint64_t cluster_size;
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

/* *ret_nbytes: the file's length afterwards. */
static int compact(struct qd_io *io, uint64_t *ret_nbytes, struct qd_err *err)
{
	struct qd_compact_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_compact_result result;
	int rc = qd_compact_io(io, &opts, NULL, &result, err);

	*ret_nbytes = result.file_size[1];
	return rc;
}

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

static const char *check(struct qd_io *io, bool may_be_dirty)
{
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
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

static const char *mend_and_finish(const struct subject *s, struct qd_io *io)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };
	struct qd_err err = { .code = 0 };
	struct qd_repair_result repaired;
	uint64_t nbytes;
	const char *wrong;

	if (qd_repair(io, &opts, NULL, &repaired, &err))
		return "it cannot be repaired";
	wrong = compare_layers(s, io);
	if (!wrong)
		wrong = check(io, false);
	if (!wrong && compact(io, &nbytes, &err))
		return "the next run fails";
	if (!wrong)
		wrong = compare_layers(s, io);
	if (!wrong)
		wrong = check(io, false);
	/* So many free clusters are not worth a run that has to put a hash table back. */
	return wrong || nbytes <= s->nbytes + SLACK * s->cluster_size ? wrong : "the next run leaves a longer file";
}

/* *ret_struck false: the fault lies behind the end of the run. */
static const char *try_one(const struct subject *s, const struct fault *fault, bool *ret_struck)
{
	struct qd_err err = { .code = 0 };
	struct qd_io *image = NULL, *io = NULL;
	const char *wrong = NULL;
	uint64_t nbytes;
	int rc;

	if (copy(s, &image, &err) || faulty_new(image, fault, &io, &err))
		die(s, "setting up", &err);
	rc = compact(io, &nbytes, &err);
	*ret_struck = faulty_struck(io);
	if (rc && !*ret_struck)
		die(s, "undisturbed", &err);
	if (rc && !err.msg[0])
		wrong = "no message";
	if (rc && fault->kind == FAULT_SHORT)
		wrong = "a short transfer is no error";
	if (!wrong)
		wrong = compare_layers(s, image);
	if (!wrong)
		wrong = check(image, rc != 0);
	if (!wrong && !rc && nbytes != s->nbytes)
		wrong = "a file of another length";
	if (!wrong && rc)
		wrong = mend_and_finish(s, image);
	qd_io_close(io);
	qd_io_close(image);
	return wrong;
}

static uint64_t try_all(const struct subject *s, uint64_t step, uint64_t *nruns)
{
	uint64_t nwrong = 0;

	for (size_t k = 0; k < sizeof(kinds) / sizeof(kinds[0]); k++) {
		struct fault fault = kinds[k].fault;
		bool struck = true;

		for (fault.n = 1; struck && nwrong < 10; fault.n += step) {
			const char *wrong = try_one(s, &fault, &struck);

			(*nruns)++;
			nwrong += wrong != NULL;
			if (wrong)
				fprintf(stderr, "%s: %s, call %" PRIu64 ": %s\n", s->path, kinds[k].name,
					fault.n, wrong);
		}
	}
	return nwrong;
}

static uint64_t test_image(const char *path, uint64_t step, uint64_t *nruns)
{
	struct subject s = { .path = path };
	struct qd_check_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_err err = { .code = 0 };
	struct qd_check_result before;
	struct qd_io *io = NULL;
	uint64_t nwrong;

	if (way_load(path, &s.image, &err) || layers_read(s.image, &s.layers, &err) || copy(&s, &io, &err) ||
	    compact(io, &s.nbytes, &err))
		die(&s, "setting up", &err);
	if (qd_check(io, &opts, NULL, &before, &err))
		die(&s, "setting up", &err);
	s.cluster_size = before.cluster_size;
	qd_io_close(io);
	nwrong = try_all(&s, step, nruns);
	layers_free(&s.layers);
	qd_io_close(s.image);
	return nwrong;
}

int main(int argc, char **argv)
{
	uint64_t step = 1, nwrong = 0, nruns = 0;
	int c;

	while ((c = getopt(argc, argv, "s:")) != -1) {
		if (c != 's')
			return 2;
		step = strtoull(optarg, NULL, 10);
	}
	for (int i = optind; i < argc; i++)
		nwrong += test_image(argv[i], step ? step : 1, &nruns);
	printf("%" PRIu64 " runs of %d images\n", nruns, argc - optind);
	return nwrong ? 1 : 0;
}
