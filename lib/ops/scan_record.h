/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The records of a scan as text, for sort, awk, DuckDB, Spark and qd_scan_merge: lines
 * of four columns, separated by tabs.
 *
 *	#image  NAME    SIZE    HASHNAME,CLUSTER_SIZE:ZERO:INHERITED,...	one for each view, first
 *	#backing ...						the same, of a file nobody named
 *	HASH    NAME    OFFSET  LENGTH				one for each cluster with data
 *
 * SIZE is that of the disk, ZERO and INHERITED are how much of it lies in such clusters: bytes.
 * HASH is lower-case hexadecimal, OFFSET and LENGTH are decimal bytes; LENGTH is the cluster
 * size, also of a last cluster that was padded.  Lines are ordered by HASH, then NAME, then
 * OFFSET.  '#' sorts before every digit, so files merged by `LC_ALL=C sort -m` keep the
 * views first.
 *
 * In NAME a backslash is \\, a tab \t, a newline \n, any other control character \xNN;
 * "\@" and the ID follow for an internal snapshot.
 */
#ifndef QD_OPS_SCAN_RECORD_H
#define QD_OPS_SCAN_RECORD_H

#include "ops/scan.h"

/* A new string: name, and "\@" and the snapshot's ID unless that is NULL; NULL: out of memory. */
char *qd_scan_record_label(const char *name, const char *snapshot);

/* The way back: a new name and, or NULL, a new ID.  QD_E_CORRUPT for a backslash that means nothing. */
int qd_scan_record_parse_label(const char *label, char **ret_name, char **ret_snapshot, struct qd_err *err);

/*
 * The line (with its newline) of a record; label is that of its view.  Returns its length;
 * what does not fit into size bytes is cut, as snprintf does.
 */
size_t qd_scan_record_line(char *buf, size_t size, const struct qd_scan_record *record,
			   unsigned digest_nbytes, const char *label);

/* The line of a view; the caller frees it.  NULL: out of memory. */
char *qd_scan_record_view_line(const struct qd_scan_view *view, const char *hash,
			       const uint64_t *cluster_sizes, unsigned nsizes);

/* A parsed line: of a view when is_view. */
struct qd_scan_line {
	bool is_view;
	bool backing;
	uint8_t digest[QD_SCAN_DIGEST_MAX];
	unsigned digest_nbytes;
	const char *label;		/* within the text; not unescaped */
	uint64_t offset;		/* of a record; a view's size */
	uint64_t cluster_size;		/* of a record */
	const char *hash;		/* of a view: its name, within the text */
	unsigned nsizes;
	uint64_t sizes[QD_SCAN_NSIZES_MAX];
	uint64_t zero_nbytes[QD_SCAN_NSIZES_MAX], inherited_nbytes[QD_SCAN_NSIZES_MAX];
};

/* text has no newline, and is cut into columns in place.  QD_E_CORRUPT says what is wrong with it. */
int qd_scan_record_parse(char *text, struct qd_scan_line *ret_line, struct qd_err *err);

#endif
