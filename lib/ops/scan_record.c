/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_record.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/size.h"

static const char hex[] = "0123456789abcdef";

/* ---- names ---- */

static char *escape(char *to, const char *text)
{
	for (; *text; text++) {
		unsigned char c = (unsigned char)*text;

		if (c == '\\' || c == '\t' || c == '\n') {
			*to++ = '\\';
			*to++ = c == '\\' ? '\\' : c == '\t' ? 't' : 'n';
		} else if (c < 0x20 || c == 0x7f) {
			*to++ = '\\';
			*to++ = 'x';
			*to++ = hex[c >> 4];
			*to++ = hex[c & 15];
		} else {
			*to++ = (char)c;
		}
	}
	return to;
}

char *qd_scan_record_label(const char *name, const char *snapshot)
{
	char *label = malloc(4 * (strlen(name) + (snapshot ? strlen(snapshot) : 0)) + 3);
	char *end;

	if (!label)
		return NULL;
	end = escape(label, name);
	if (snapshot) {
		*end++ = '\\';
		*end++ = '@';
		end = escape(end, snapshot);
	}
	*end = '\0';
	return label;
}

static int hex_value(char c)
{
	const char *at = c ? strchr(hex, c) : NULL;

	return at ? (int)(at - hex) : -1;
}

/* One escape after its backslash; returns the characters used, 0 when it is none. */
static size_t unescape_one(const char *s, char *ret_c)
{
	int high, low;

	switch (s[0]) {
	case '\\':
		*ret_c = '\\';
		return 1;
	case 't':
		*ret_c = '\t';
		return 1;
	case 'n':
		*ret_c = '\n';
		return 1;
	case 'x':
		high = hex_value(s[1]);
		low = high < 0 ? -1 : hex_value(s[2]);
		if (low < 0)
			return 0;
		*ret_c = (char)(high * 16 + low);
		return *ret_c ? 3 : 0;
	default:
		return 0;
	}
}

/* Up to the end or "\@"; *s stands behind what was used.  False: a backslash that means nothing. */
static bool unescape(const char **s, char *to)
{
	while (**s) {
		size_t used;

		if (**s != '\\') {
			*to++ = *(*s)++;
			continue;
		}
		if ((*s)[1] == '@')
			break;
		used = unescape_one(*s + 1, to);
		if (!used)
			return false;
		to++;
		*s += 1 + used;
	}
	*to = '\0';
	return true;
}

int qd_scan_record_parse_label(const char *label, char **ret_name, char **ret_snapshot, struct qd_err *err)
{
	char *name = malloc(strlen(label) + 1);
	char *snapshot = malloc(strlen(label) + 1);
	const char *s = label;
	bool good = name && snapshot;
	int r = good ? 0 : qd_err_nomem(err, "a name");

	good = good && unescape(&s, name) && *name;
	if (good && *s) {
		s += 2;
		good = unescape(&s, snapshot) && !*s && *snapshot;
	} else {
		free(snapshot);
		snapshot = NULL;
	}
	if (!good) {
		if (!r)
			r = qd_err_set(err, QD_E_CORRUPT, "'%s' is not a name as records have it", label);
		free(name);
		free(snapshot);
		return r;
	}
	*ret_name = name;
	*ret_snapshot = snapshot;
	return 0;
}

/* ---- writing ---- */

static size_t put_decimal(char *to, uint64_t v)
{
	char digits[24];
	size_t n = 0;

	do
		digits[n++] = (char)('0' + v % 10);
	while (v /= 10);
	for (size_t i = 0; i < n; i++)
		to[i] = digits[n - 1 - i];
	return n;
}

/* By hand: there may be a billion lines. */
size_t qd_scan_record_line(char *buf, size_t size, const struct qd_scan_record *record,
			   unsigned digest_nbytes, const char *label)
{
	size_t label_nbytes = strlen(label);
	char tail[64];
	size_t ntail = 0, n = 0, whole;

	tail[ntail++] = '\t';
	ntail += put_decimal(tail + ntail, record->offset);
	tail[ntail++] = '\t';
	ntail += put_decimal(tail + ntail, record->cluster_size);
	tail[ntail++] = '\n';
	whole = 2 * (size_t)digest_nbytes + 1 + label_nbytes + ntail;
	if (whole > size)
		return whole;
	for (unsigned i = 0; i < digest_nbytes; i++) {
		buf[n++] = hex[record->digest[i] >> 4];
		buf[n++] = hex[record->digest[i] & 15];
	}
	buf[n++] = '\t';
	memcpy(buf + n, label, label_nbytes);	/* NOLINT(bugprone-not-null-terminated-result) */
	memcpy(buf + n + label_nbytes, tail, ntail);
	return whole;
}

char *qd_scan_record_view_line(const struct qd_scan_view *view, const char *hash,
			       const uint64_t *cluster_sizes, unsigned nsizes)
{
	char *label = qd_scan_record_label(view->name, view->snapshot);
	size_t room = label ? strlen(label) + strlen(hash) + 64 + 72 * (size_t)nsizes : 0;
	char *line = label ? malloc(room) : NULL;
	size_t n;

	if (line) {
		n = (size_t)snprintf(line, room, "%s\t%s\t%" PRIu64 "\t%s",
				     view->backing ? "#backing" : "#image", label, view->size, hash);
		for (unsigned i = 0; i < nsizes; i++)
			n += (size_t)snprintf(line + n, room - n, ",%" PRIu64 ":%" PRIu64 ":%" PRIu64,
					      cluster_sizes[i], view->zero_nbytes[i],
					      view->inherited_nbytes[i]);
		snprintf(line + n, room - n, "\n");
	}
	free(label);
	return line;
}

/* ---- reading ---- */

static bool parse_number(const char **s, uint64_t *ret)
{
	uint64_t v = 0;
	const char *p = *s;

	if (*p < '0' || *p > '9')
		return false;
	for (; *p >= '0' && *p <= '9'; p++)
		if (!qd_mul_u64(v, 10, &v) || !qd_add_u64(v, (uint64_t)(*p - '0'), &v))
			return false;
	*s = p;
	*ret = v;
	return true;
}

static bool whole_number(const char *s, uint64_t *ret)
{
	return parse_number(&s, ret) && !*s;
}

static bool is_cluster_size(uint64_t v)
{
	return v >= QD_SCAN_SIZE_MIN && v <= QD_SCAN_SIZE_MAX && (v & (v - 1)) == 0;
}

/* "xxh128,4096:12:0,8192:3:0" */
static bool parse_sizes(char *text, struct qd_scan_line *line)
{
	char *comma = strchr(text, ',');
	const char *s = comma ? comma + 1 : "";

	if (comma)
		*comma = '\0';
	line->hash = text;
	for (;;) {
		unsigned i = line->nsizes;

		if (i == QD_SCAN_NSIZES_MAX || !parse_number(&s, &line->sizes[i]) ||
		    !is_cluster_size(line->sizes[i]) || (i && line->sizes[i] <= line->sizes[i - 1]))
			return false;
		if (*s++ != ':' || !parse_number(&s, &line->zero_nbytes[i]) || *s++ != ':' ||
		    !parse_number(&s, &line->inherited_nbytes[i]))
			return false;
		line->nsizes++;
		if (!*s)
			return true;
		if (*s++ != ',')
			return false;
	}
}

static bool parse_digest(const char *s, struct qd_scan_line *line)
{
	size_t n = strlen(s);

	if (n != 32 && n != 64)
		return false;
	line->digest_nbytes = (unsigned)(n / 2);
	for (size_t i = 0; i < n / 2; i++) {
		int high = hex_value(s[2 * i]), low = hex_value(s[2 * i + 1]);

		if (high < 0 || low < 0)
			return false;
		line->digest[i] = (uint8_t)(high << 4 | low);
	}
	return true;
}

static unsigned cut_columns(char *text, char *column[4])
{
	unsigned n = 0;

	while (n < 4) {
		column[n++] = text;
		text = strchr(text, '\t');
		if (!text)
			return n;
		*text++ = '\0';
	}
	return 5;
}

int qd_scan_record_parse(char *text, struct qd_scan_line *ret_line, struct qd_err *err)
{
	struct qd_scan_line line = { .is_view = *text == '#' };
	char *column[4];
	unsigned n = cut_columns(text, column);

	if (n != 4)
		return qd_err_set(err, QD_E_CORRUPT, "not a record: expected 4 columns separated by tabs");
	line.label = column[1];
	if (line.is_view) {
		line.backing = !strcmp(column[0], "#backing");
		if (!line.backing && strcmp(column[0], "#image"))
			return qd_err_set(err, QD_E_CORRUPT, "'%s' is not known, expected #image or #backing",
					  column[0]);
		if (!whole_number(column[2], &line.offset) || line.offset > INT64_MAX ||
		    !parse_sizes(column[3], &line))
			return qd_err_set(err, QD_E_CORRUPT, "not the description of an image: '%s', '%s'",
					  column[2], column[3]);
	} else {
		if (!parse_digest(column[0], &line))
			return qd_err_set(err, QD_E_CORRUPT,
					  "'%.80s' is not a hash, expected 32 or 64 digits 0-9a-f",
					  column[0]);
		if (!whole_number(column[2], &line.offset) || line.offset > INT64_MAX)
			return qd_err_set(err, QD_E_CORRUPT, "'%s' is not an offset", column[2]);
		if (!whole_number(column[3], &line.cluster_size) || !is_cluster_size(line.cluster_size))
			return qd_err_set(err, QD_E_CORRUPT,
					  "length '%s', expected a power of two from %u to %u", column[3],
					  QD_SCAN_SIZE_MIN, QD_SCAN_SIZE_MAX);
	}
	*ret_line = line;
	return 0;
}
