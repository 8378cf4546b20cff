/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * fault_rehash [-s STEP] IMAGE...: each I/O call of a table being made, made anew and dropped
 * going wrong (faults.h).
 *
 * After each step that goes through verify finds nothing, no hash that is believed is wrong
 * at any time, and after a repair a table can be made.
 */
#include "faults.h"
#include "ops/rehash.h"
#include "ops/verify.h"

#define MEMORY (8u << 20)

static int rehash(struct qd_io *io, const char *hash, bool drop, struct qd_err *err)
{
	struct qd_rehash_opts opts = { .hash = hash, .drop = drop, .threads = 1, .memory = MEMORY };
	struct qd_rehash_result result;

	return qd_rehash_io(io, &opts, NULL, &result, err);
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

static int make_and_drop(struct faults_run *r, struct qd_err *err)
{
	static const char *const hashes[] = { "xxh128", "sha256" };
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < 2; i++) {
		rc = rehash(r->io, hashes[i], false, err);
		if (rc == 0 && !r->wrong)
			r->wrong = verify(r->image, true);
	}
	return rc ? rc : rehash(r->io, NULL, true, err);
}

static int make(struct faults_run *r, struct qd_err *err)
{
	return rehash(r->io, NULL, false, err);
}

static const char *look(const struct faults_run *r)
{
	return verify(r->image, r->stage == FAULTS_NEXT);
}

int main(int argc, char **argv)
{
	static const struct faults_task task = {
		.memory = MEMORY, .no_enospc_once = true, .run = make_and_drop, .next = make, .look = look,
	};

	return faults_main(argc, argv, &task);
}
