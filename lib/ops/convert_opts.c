/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What is asked for, checked as a whole: options that exclude one another, each refused by
 * name.  No file is looked at.
 */
#include <inttypes.h>
#include <string.h>

#include "dedup/digest.h"
#include "image/build.h"
#include "ops/convert_int.h"

#define MAX_SPARSE (16u << 20)		/* qemu-img's limit */

bool qd_convert_is_raw(const struct qd_convert_opts *o)
{
	const char *t = o->target, *end = t + strlen(t);

	if (o->target_format)
		return !strcmp(o->target_format, "raw");
	return !strcmp(t, "-") || (end - t >= 4 && !strcmp(end - 4, ".raw"));
}

static int check_raw(const struct qd_convert_opts *o, struct qd_err *err)
{
	const char *what = o->compress ? "-c" : o->bitmaps ? "--bitmaps" : o->layout.backing_file ? "-B" :
			   o->index_path ? "--index" : qd_layout_is_default(&o->layout) ? NULL : "-o";

	if (what)
		return qd_err_set(err, QD_E_INVALID, "%s needs a qcow2 target, and the target is raw", what);
	if (o->sparse_given && (o->sparse_size % 512 || o->sparse_size > MAX_SPARSE))
		return qd_err_set(err, QD_E_INVALID, "-S is %" PRIu64 ", expected a multiple of 512, at most 16M",
				  o->sparse_size);
	return 0;
}

static int check_dedup(const struct qd_convert_opts *o, struct qd_err *err)
{
	uint32_t order = (uint32_t)__builtin_ctz(o->layout.refcount_bits);
	uint64_t limit = qd_build_share_limit(order, !o->no_pin);

	if (o->layout.refcount_bits == 1)
		return qd_err_set(err, QD_E_INVALID,
				  "refcount_bits=1 cannot count shared clusters: use 2 or more, or --no-dedup");
	if (o->layout.data_file)
		return qd_err_set(err, QD_E_INVALID,
				  "data_file: clusters in an external data file cannot be shared: use --no-dedup");
	if (o->layout.preallocation != QD_PREALLOC_OFF)
		return qd_err_set(err, QD_E_INVALID, "preallocation gives every cluster a place of its own: use --no-dedup");
	if (o->sparse_given && !o->sparse_size)
		return qd_err_set(err, QD_E_INVALID, "-S 0 gives every cluster a place of its own: use --no-dedup");
	if (o->max_share && (o->max_share < 2 || o->max_share > limit))
		return qd_err_set(err, QD_E_INVALID,
				  "--max-share is %" PRIu64 ", expected 2 to %" PRIu64 " with refcount_bits=%" PRIu32,
				  o->max_share, limit, o->layout.refcount_bits);
	return 0;
}

static int refuse_auto(const struct qd_convert_opts *o, struct qd_err *err)
{
	const char *why = !o->layout.cluster_size_auto ? NULL :
			  !strcmp(o->source, "-") ? "reads the source twice, and a pipe can be read only once" :
			  o->no_dedup ? "weighs what deduplication saves, which --no-dedup forbids" :
			  o->layout.backing_file ? "does not know what the backing file (-B) saves: give a number" : NULL;

	return why ? qd_err_set(err, QD_E_INVALID, "-o: cluster_size=auto %s", why) : 0;
}

static int check_qcow2(const struct qd_convert_opts *o, struct qd_err *err)
{
	const struct qd_layout *l = &o->layout;
	int r = qd_layout_validate(l, err);

	if (r)
		return r;
	if (!strcmp(o->target, "-"))
		return qd_err_set(err, QD_E_INVALID, "standard output takes one pass, which a qcow2 target does not: use -O raw");
	if (o->no_create && !qd_layout_is_default(l))
		return qd_err_set(err, QD_E_INVALID, "-n: the existing target decides what -o and -B would say");
	r = refuse_auto(o, err);
	if (r)
		return r;
	if (o->bitmaps && o->snapshot)
		return qd_err_set(err, QD_E_INVALID, "--bitmaps: they belong to the active layer, and -l converts a snapshot");
	if (o->compress && l->data_file)
		return qd_err_set(err, QD_E_INVALID, "-c: clusters in an external data file cannot be compressed");
	if (l->backing_file && (l->preallocation != QD_PREALLOC_OFF || (o->sparse_given && !o->sparse_size)))
		return qd_err_set(err, QD_E_INVALID, "preallocation would hide the backing file");
	if (o->index_path && (o->no_dedup || o->no_index))
		return qd_err_set(err, QD_E_INVALID, "--index cannot be combined with %s",
				  o->no_index ? "--no-index" : "--no-dedup: hashes are stored of what was deduplicated");
	return o->no_dedup ? 0 : check_dedup(o, err);
}

int qd_convert_check_opts(const struct qd_convert_opts *o, struct qd_err *err)
{
	const struct qd_digest *digest;

	if (o->target_format && strcmp(o->target_format, "raw") && strcmp(o->target_format, "qcow2"))
		return qd_err_set(err, QD_E_INVALID, "unknown target format \"%s\", expected raw or qcow2", o->target_format);
	if (qd_digest_choose(o->hash, &digest, err))
		return QD_E_INVALID;
	if (o->compress_level && !o->compress)
		return qd_err_set(err, QD_E_INVALID, "--compress-level needs -c");
	return qd_convert_is_raw(o) ? check_raw(o, err) : check_qcow2(o, err);
}
