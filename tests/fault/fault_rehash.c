/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault_rehash [-s STEP] IMAGE...: each I/O call of a table being made, made anew and dropped going
 * wrong.  For every kind of fault and n = 1, 2, 3 ... (every STEP-th) until a run is not
 * touched by it:
 *
 *	- the run fails with a message, or verify finds nothing afterwards
 *	- every layer reads what it did, and no hash that is believed is wrong
 *	- the file is clean, has leaks at worst, or is marked dirty
 *	- after a repair a table can be made
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
#include "ops/rehash.h"
#include "ops/repair.h"
#include "ops/verify.h"
#include "ways.h"

#define MEMORY (8u << 20)

static const struct fault faults[] = {
	{ .kind = FAULT_ONCE, .error = EIO },
	{ .kind = FAULT_FOR_GOOD, .error = EIO },
	{ .kind = FAULT_FOR_GOOD, .error = ENOSPC, .writes_only = true },
	{ .kind = FAULT_SHORT },
};

struct subject {
	const char *path;
	struct qd_io *image;		/* as it was */
	struct layers layers;
};

static void die(const struct subject *s, const char *what, const struct qd_err *err)
{
	fprintf(stderr, "%s: %s: %s\n", s->path, what, err->msg);
	exit(1);
}

static int rehash(struct qd_io *io, const char *hash, bool drop, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .hash = hash, .drop = drop, .threads = 1, .memory = MEMORY };
	struct qd_rehash_result result;

	return qd_rehash_io(io, &opts, NULL, &result, err);
}

/* ---- what must hold ---- */

static const char *compare_layers(const struct subject *s, struct qd_io *io)
{
	struct qd_err err = { .code = 0 };
	struct layers now = { .n = 0 };
	bool same;

	if (layers_read(io, &now, &err))
		return "the layers cannot be read";
	same = now.n == s->layers.n;
	for (unsigned i = 0; same && i < now.n; i++)
		same = now.v[i].size == s->layers.v[i].size &&
		       !memcmp(now.v[i].bytes, s->layers.v[i].bytes, now.v[i].size);
	layers_free(&now);
	return same ? NULL : "a layer reads something else";
}

/* needed: there must be an index. */
static const char *verify(struct qd_io *io, bool needed)
{
	struct qd_verify_opts opts = { .threads = 1, .memory = MEMORY };
	struct qd_err err = { .code = 0 };
	struct qd_verify_result r;
	int rc = qd_verify_io(io, &opts, NULL, &r, &err);

	if (rc == QD_E_INVALID && !needed)
		return NULL;
	if (rc)
		return "the index cannot be compared with";
	return r.bad_clusters || r.index_damaged ? "the index says what is not so" : NULL;
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
	return r.corruptions || r.check_errors || r.dirty ? "it is not in order, and not marked dirty" : NULL;
}

static const char *mend(const struct subject *s, struct qd_io *io)
{
	struct qd_repair_opts opts = { .what = QD_REPAIR_ALL, .threads = 1, .memory = MEMORY };
	struct qd_err err = { .code = 0 };
	struct qd_repair_result repaired;
	const char *wrong;

	if (qd_repair(io, &opts, NULL, &repaired, &err))
		return "it cannot be repaired";
	wrong = check(io, false);
	if (!wrong && rehash(io, NULL, false, &err))
		return "no table can be made after the repair";
	if (!wrong)
		wrong = verify(io, true);
	if (!wrong)
		wrong = check(io, false);
	return wrong ? wrong : compare_layers(s, io);
}

/* ---- the runs ---- */

/* image: what lies under io, for looking at it undisturbed after each step that succeeded. */
static int run(struct qd_io *io, struct qd_io *image, const char **ret_wrong, struct qd_err *err)
{
	static const char *const hashes[] = { "xxh128", "sha256" };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		rc = rehash(io, hashes[i], false, err);
		if (rc == 0 && !*ret_wrong)
			*ret_wrong = verify(image, true);
	}
	return rc ? rc : rehash(io, NULL, true, err);
}

static int copy(const struct subject *s, struct qd_io **ret_io, struct qd_err *err)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(s->image, &nbytes);

	return qd_io_mem_new(data, nbytes, true, ret_io, err);
}

static const char *try_one(const struct subject *s, const struct fault *fault, bool *ret_struck)
{
	struct qd_io *image = NULL, *io = NULL;
	struct qd_err err = { .code = 0 };
	const char *wrong = NULL;
	int rc;

	if (copy(s, &image, &err) || faulty_new(image, fault, &io, &err))
		die(s, "setting up", &err);
	rc = run(io, image, &wrong, &err);
	*ret_struck = faulty_struck(io);
	if (rc && (!*ret_struck || fault->kind == FAULT_SHORT))
		die(s, "a run that nothing should stop", &err);
	if (!wrong && rc && !err.msg[0])
		wrong = "no message";
	if (!wrong)
		wrong = compare_layers(s, image);
	if (!wrong)
		wrong = check(image, rc != 0);
	if (!wrong)
		wrong = verify(image, false);
	if (!wrong && rc)
		wrong = mend(s, image);
	qd_io_close(io);
	qd_io_close(image);
	return wrong;
}

static uint64_t test_image(const char *path, uint64_t step, uint64_t *nruns)
{
	struct subject s = { .path = path };
	struct qd_err err = { .code = 0 };
	uint64_t nwrong = 0;

	if (way_load(path, &s.image, &err) || layers_read(s.image, &s.layers, &err))
		die(&s, "setting up", &err);
	for (size_t k = 0; k < sizeof(faults) / sizeof(faults[0]); k++) {
		struct fault fault = faults[k];
		bool struck = true;

		for (fault.n = 1; struck && nwrong < 10; fault.n += step) {
			const char *wrong = try_one(&s, &fault, &struck);

			++*nruns;
			nwrong += wrong != NULL;
			if (wrong)
				fprintf(stderr, "%s: fault %zu, call %" PRIu64 ": %s\n", path, k, fault.n,
					wrong);
		}
	}
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
