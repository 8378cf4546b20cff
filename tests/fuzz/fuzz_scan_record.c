/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Lines that may be records of a scan: a line is refused, or is what its parts say, and a
 * name that is understood is written back as it was read.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "ops/scan_record.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

static void try_name(const char *label)
{
	char *name = NULL, *snapshot = NULL, *again, *name2 = NULL, *snapshot2 = NULL;
	struct qd_err err;

	if (qd_scan_record_parse_label(label, &name, &snapshot, &err))
		return;
	again = qd_scan_record_label(name, snapshot);
	MUST(again);
	MUST(!qd_scan_record_parse_label(again, &name2, &snapshot2, &err));
	MUST(!strcmp(name, name2) && !snapshot == !snapshot2 && (!snapshot || !strcmp(snapshot, snapshot2)));
	free(name);
	free(snapshot);
	free(again);
	free(name2);
	free(snapshot2);
}

static void try_line(char *text)
{
	struct qd_scan_line line;
	struct qd_err err;
	char buf[512];

	if (qd_scan_record_parse(text, &line, &err))
		return;
	try_name(line.label);
	MUST(line.offset <= INT64_MAX);
	if (!line.is_view) {
		struct qd_scan_record record = {
			.digest = line.digest, .offset = line.offset, .cluster_size = line.cluster_size,
		};

		MUST(line.digest_nbytes <= QD_SCAN_DIGEST_MAX && line.cluster_size <= QD_SCAN_SIZE_MAX);
		MUST(qd_scan_record_line(buf, sizeof(buf), &record, line.digest_nbytes, line.label) >
		     strlen(line.label) + 2ul * line.digest_nbytes);
		return;
	}
	MUST(line.nsizes >= 1 && line.nsizes <= QD_SCAN_NSIZES_MAX);
	for (unsigned k = 1; k < line.nsizes; k++)
		MUST(line.sizes[k] > line.sizes[k - 1]);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	char *all = malloc(size + 1), *at = all;

	MUST(all);
	memcpy(all, data, size);
	all[size] = '\0';
	while (at) {
		char *newline = strchr(at, '\n');

		if (newline)
			*newline++ = '\0';
		try_line(at);
		at = newline;
	}
	free(all);
	return 0;
}
