/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * One check, judged by kind of finding.  A kind is taken to concern counts unless it is listed
 * here: a new one is safe before somebody thought about it.
 */
#include "ops/soundness.h"

#include <inttypes.h>

#include "ops/check.h"

/* The counts are right for all that the finding says; whether a cluster is shared is read from them. */
static bool leaves_counts_right(enum qd_finding_type type)
{
	switch (type) {
	case QD_F_COPIED_SET:
	case QD_F_COPIED_CLEAR:
	case QD_F_L1_COPIED_SET:
	case QD_F_L1_COPIED_CLEAR:
	case QD_F_COMPRESSED_COPIED:
		return true;
	default:
		return false;
	}
}

/* Corruptions that the level does not put up with. */
static uint64_t count_corruptions(const struct qd_check_result *r, enum qd_soundness level)
{
	uint64_t n = 0;

	for (unsigned i = 0; i < QD_F_NTYPES; i++) {
		enum qd_finding_type type = (enum qd_finding_type)i;

		if (qd_finding_kind(type)->severity == QD_SEV_CORRUPTION &&
		    (level != QD_SOUND_COUNTS || !leaves_counts_right(type)))
			n += r->count[type];
	}
	return n;
}

static int ask(void *listener, uint64_t current, uint64_t total)
{
	(void)current;
	(void)total;
	return qd_progress_add(listener, 0, NULL);
}

/* The check counts for itself. */
static int check(struct qd_io *io, const struct qd_check_opts *opts, struct qd_progress *listener,
		 struct qd_check_result *r, struct qd_err *err)
{
	struct qd_progress own;
	int rc;

	qd_progress_init(&own, ask, listener);
	rc = qd_check(io, opts, &own, r, err);
	qd_progress_destroy(&own);
	return rc;
}

int qd_soundness_require(struct qd_io *io, enum qd_soundness level, unsigned threads, uint64_t memory,
			 struct qd_progress *listener, struct qd_err *err)
{
	struct qd_check_opts opts = { .threads = threads, .memory = memory };
	struct qd_check_result r;
	uint64_t corruptions, leaks;
	int rc = check(io, &opts, listener, &r, err);

	if (rc)
		return rc;
	corruptions = count_corruptions(&r, level);
	leaks = level == QD_SOUND_SPACE ? r.leaks : 0;
	if (r.is_qcow2 && !r.check_errors && !r.blind && !corruptions && !leaks)
		return 0;
	if (!corruptions && !leaks)
		return qd_err_set(err, QD_E_CORRUPT,
				  "parts of the image's metadata cannot be read, and it is left alone: "
				  "qdedup check tells more, and qdedup check --repair what can be done");
	return qd_err_set(err, QD_E_CORRUPT,
			  "the image is not consistent (%" PRIu64 " corruptions, %" PRIu64 " leaked clusters) "
			  "and is left alone: run qdedup check --repair first", corruptions + r.check_errors,
			  r.leaks);
}
