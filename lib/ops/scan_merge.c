/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_int.h"

int qd_scan_merge(const struct qd_scan_opts *opts, struct qd_scan_report *ret_report, struct qd_err *err)
{
	(void)opts;
	(void)ret_report;
	return qd_err_set(err, QD_E_UNSUPPORTED, "not available yet");
}
