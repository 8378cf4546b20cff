/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A scan of the guest's view, backing files included: what will be in the new image.
 */
#include "ops/autosize.h"

#include "base/bytes.h"
#include "image/disk_io.h"
#include "ops/scan.h"

static void take_report(const struct qd_scan_report *rep, const struct qd_autosize_opts *opts,
			struct qd_autosize *a)
{
	a->nsizes = rep->nsizes;
	a->best = 0;
	for (unsigned i = 0; i < rep->nsizes; i++) {
		a->cluster_size[i] = rep->sizes[i].cluster_size;
		a->nbytes[i] = rep->sizes[i].total_nbytes + rep->sizes[i].unique * opts->record_nbytes;
		if (a->nbytes[i] <= a->nbytes[a->best])	/* of equals the largest: fewer tables in memory */
			a->best = i;
	}
}

int qd_autosize(const struct qd_disk *disk, const struct qd_autosize_opts *opts, struct qd_progress *progress,
		struct qd_autosize *ret_auto, struct qd_err *err)
{
	struct qd_scan_source source = { .path = disk->path };
	struct qd_scan_opts scan = {
		.sources = &source, .nsources = 1, .threads = opts->threads, .memory = opts->memory,
		.tmpdir = opts->tmpdir, .progress = progress,
	};
	struct qd_scan_report report;
	uint64_t size = qd_max_u64(opts->smallest, QD_AUTOSIZE_MIN);
	int rc = qd_disk_io_new(disk, &source.io, err);

	for (; size <= QD_AUTOSIZE_MAX; size *= 2)
		scan.cluster_sizes[scan.nsizes++] = size;
	if (rc == 0)
		rc = qd_scan(&scan, &report, err);
	if (rc)
		return rc;
	take_report(&report, opts, ret_auto);
	qd_scan_report_free(&report);
	return 0;
}
