/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Results on stdout.  They count only when they have arrived: a command whose result
 * could not be written has failed, whatever it did before.
 */
#include <errno.h>
#include <signal.h>

#include "cmd.h"

bool output_set(json_t *object, const char *key, json_t *value)
{
	return json_object_set_new(object, key, value) == 0;
}

/* jansson's integers are signed: what is larger is clamped, and no size or count of ours is. */
bool output_set_u64(json_t *object, const char *key, uint64_t value)
{
	return output_set(object, key, json_integer(value > INT64_MAX ? INT64_MAX : (json_int_t)value));
}

/* Names in JSON are plain ASCII, as qemu-img writes them, so that no terminal obeys them. */
int output_json(json_t *root)
{
	struct qd_err err;
	int rc;

	if (!root) {
		qd_err_nomem(&err, "the JSON result");
		return report_error(&err);
	}
	rc = json_dumpf(root, stdout, JSON_INDENT(4) | JSON_ENSURE_ASCII | JSON_REAL_PRECISION(12));
	json_decref(root);
	if (rc == 0)
		putchar('\n');
	return 0;
}

bool output_set_sizes(json_t *object, const uint64_t *file_size, const uint64_t *allocated)
{
	return output_set_u64(object, "file-size-before", file_size[0]) &&
	       output_set_u64(object, "file-size-after", file_size[1]) &&
	       output_set_u64(object, "actual-size-before", allocated[0]) &&
	       output_set_u64(object, "actual-size-after", allocated[1]);
}

int output_finish(int status)
{
	struct qd_err err;
	int was_bad = ferror(stdout);

	errno = 0;
	if (fflush(stdout) == 0 && !was_bad)
		return status;
	if (status > 128)
		return status;		/* interrupted, and said so */
	if (errno == 0)		/* an earlier write failed, and its errno is gone */
		errno = signals_caught() == SIGPIPE ? EPIPE : EIO;
	qd_err_sys(&err, errno, "cannot write to standard output");
	return report_error(&err);
}
