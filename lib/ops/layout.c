/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of a new image.  One table has a row per option: its name, its help, and
 * the function that takes its value; parsing and `-o help` read it.
 *
 *	text     = element { "," element } [ "," ]
 *	element  = name [ "=" value ]           a bare name is allowed for booleans: on
 *	value    = characters; "," is written ",,"
 *
 * Values are judged alone while parsing, against each other in qd_layout_validate, so
 * that their order does not matter.
 */
#include "ops/layout.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "format/header.h"
#include "image/build.h"

#define MIN_CLUSTER_SIZE (1u << QD_MIN_CLUSTER_BITS)
#define MAX_CLUSTER_SIZE (1u << QD_MAX_CLUSTER_BITS)
#define MIN_EXTL2_CLUSTER_SIZE (32u * 512u)	/* 32 subclusters of a sector */
#define DEFAULT_CLUSTER_SIZE (64u << 10)
#define DEFAULT_REFCOUNT_BITS 16u

static bool is_power_of_two(uint64_t v)
{
	return v != 0 && (v & (v - 1)) == 0;
}

static int set_bool(bool *member, const char *name, const char *value, struct qd_err *err)
{
	if (strcmp(value, "on") == 0 || strcmp(value, "yes") == 0 || strcmp(value, "true") == 0)
		*member = true;
	else if (strcmp(value, "off") == 0 || strcmp(value, "no") == 0 || strcmp(value, "false") == 0)
		*member = false;
	else
		return qd_err_set(err, QD_E_INVALID, "%s is '%s', expected on or off", name, value);
	return 0;
}

/* An empty value takes the option back. */
static int set_text(char **member, const char *value, struct qd_err *err)
{
	char *copy = NULL;

	if (*value) {
		copy = strdup(value);
		if (!copy)
			return qd_err_nomem(err, "image options");
	}
	free(*member);
	*member = copy;
	return 0;
}

static int set_cluster_size(struct qd_layout *l, const char *value, struct qd_err *err)
{
	uint64_t nbytes;
	int rc;

	if (strcmp(value, "auto") == 0) {
		l->cluster_size_auto = true;
		l->cluster_size = 0;
		return 0;
	}
	rc = qd_size_parse(value, &nbytes, err);
	if (rc)
		return qd_err_prefix(err, rc, "cluster_size");
	if (!is_power_of_two(nbytes) || nbytes < MIN_CLUSTER_SIZE || nbytes > MAX_CLUSTER_SIZE)
		return qd_err_set(err, QD_E_INVALID,
				  "cluster_size is '%s', expected a power of two from 512 to 2M",
				  value);
	l->cluster_size_auto = false;
	l->cluster_size = nbytes;
	return 0;
}

static int set_compat(struct qd_layout *l, const char *value, struct qd_err *err)
{
	if (strcmp(value, "0.10") == 0 || strcmp(value, "v2") == 0)
		l->version = 2;
	else if (strcmp(value, "1.1") == 0 || strcmp(value, "v3") == 0)
		l->version = 3;
	else
		return qd_err_set(err, QD_E_INVALID, "compat is '%s', expected 0.10 or 1.1", value);
	return 0;
}

static int set_refcount_bits(struct qd_layout *l, const char *value, struct qd_err *err)
{
	uint64_t bits;
	int rc = qd_number_parse(value, "refcount_bits", 1, 64, &bits, err);

	if (rc)
		return rc;
	if (!is_power_of_two(bits))
		return qd_err_set(err, QD_E_INVALID,
				  "refcount_bits is %" PRIu64 ", expected 1, 2, 4, 8, 16, 32 or 64", bits);
	l->refcount_bits = (uint32_t)bits;
	return 0;
}

static int set_lazy_refcounts(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_bool(&l->lazy_refcounts, "lazy_refcounts", value, err);
}

static int set_extended_l2(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_bool(&l->extended_l2, "extended_l2", value, err);
}

static int set_compression_type(struct qd_layout *l, const char *value, struct qd_err *err)
{
	if (strcmp(value, "zlib") == 0)
		l->compression_type = QD_COMPRESSION_ZLIB;
	else if (strcmp(value, "zstd") == 0)
		l->compression_type = QD_COMPRESSION_ZSTD;
	else
		return qd_err_set(err, QD_E_INVALID, "compression_type is '%s', expected zlib or zstd",
				  value);
	return 0;
}

static int set_preallocation(struct qd_layout *l, const char *value, struct qd_err *err)
{
	static const struct {
		const char *name;
		enum qd_prealloc value;
	} rows[] = {
		{ "off", QD_PREALLOC_OFF },
		{ "metadata", QD_PREALLOC_METADATA },
		{ "falloc", QD_PREALLOC_FALLOC },
		{ "full", QD_PREALLOC_FULL },
	};

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		if (strcmp(rows[i].name, value) == 0) {
			l->preallocation = rows[i].value;
			return 0;
		}
	}
	return qd_err_set(err, QD_E_INVALID,
			  "preallocation is '%s', expected off, metadata, falloc or full", value);
}

static int set_backing_file(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_text(&l->backing_file, value, err);
}

static int set_backing_fmt(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_text(&l->backing_fmt, value, err);
}

static int set_data_file(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_text(&l->data_file, value, err);
}

static int set_data_file_raw(struct qd_layout *l, const char *value, struct qd_err *err)
{
	return set_bool(&l->data_file_raw, "data_file_raw", value, err);
}

static int set_size(struct qd_layout *l, const char *value, struct qd_err *err)
{
	int rc = qd_size_parse(value, &l->size, err);

	return rc ? qd_err_prefix(err, rc, "size") : 0;
}

/* One order for both tables: help[i] describes what setters[i] takes. */
static const struct qd_layout_help help[] = {
	{ "cluster_size", "512 to 2M, a power of two (default 64K), or auto (convert)" },
	{ "compat", "1.1 (default), or 0.10 for software older than 2012" },
	{ "refcount_bits", "1, 2, 4, 8, 16 (default), 32 or 64: bounds how often a cluster can be shared" },
	{ "lazy_refcounts", "on or off (default): QEMU postpones refcount updates; needs compat=1.1" },
	{ "compression_type", "zlib (default) or zstd, for compressed clusters" },
	{ "backing_file", "what is not in the image is read from this file" },
	{ "backing_fmt", "format of backing_file: raw or qcow2" },
	{ "preallocation", "off (default), metadata, falloc or full" },
	{ "extended_l2", "on or off (default): 32 subclusters in a cluster of at least 16K" },
	{ "data_file", "keep guest data in this file, metadata in the image" },
	{ "data_file_raw", "on or off (default): data_file is a valid raw image as well" },
	{ "size", "virtual size" },
	{ NULL, NULL },
};

static int (*const setters[])(struct qd_layout *l, const char *value, struct qd_err *err) = {
	set_cluster_size, set_compat, set_refcount_bits, set_lazy_refcounts, set_compression_type,
	set_backing_file, set_backing_fmt, set_preallocation, set_extended_l2, set_data_file,
	set_data_file_raw, set_size,
};

#define NOPTIONS (sizeof(setters) / sizeof(setters[0]))
_Static_assert(sizeof(help) / sizeof(help[0]) == NOPTIONS + 1, "a help row per setter");

const struct qd_layout_help *qd_layout_help(void)
{
	return help;
}

static bool is_boolean(const char *name)
{
	return strcmp(name, "lazy_refcounts") == 0 || strcmp(name, "extended_l2") == 0 ||
	       strcmp(name, "data_file_raw") == 0;
}

static int apply(struct qd_layout *l, const char *name, const char *value, struct qd_err *err)
{
	if (strncmp(name, "encrypt", 7) == 0)
		return qd_err_set(err, QD_E_UNSUPPORTED, "%s: encrypted images are not supported", name);
	for (size_t i = 0; i < NOPTIONS; i++) {
		if (strcmp(help[i].name, name) != 0)
			continue;
		if (value)
			return setters[i](l, value, err);
		if (is_boolean(name))
			return setters[i](l, "on", err);
		return qd_err_set(err, QD_E_INVALID, "%s: value missing, expected %s=...", name, name);
	}
	return qd_err_set(err, QD_E_INVALID, "unknown image option '%s'", name);
}

/*
 * Cuts the next element off *pos in place: its name, and its value with ",," undone
 * (NULL when there is no "=").
 */
static char *cut_element(char **pos, char **ret_value)
{
	char *name = *pos;
	char *from = name + strcspn(name, "=,");
	char *to;

	*ret_value = NULL;
	if (*from == '=') {
		*from++ = '\0';
		*ret_value = to = from;
		for (; *from && (*from != ',' || from[1] == ','); from++) {
			if (*from == ',')
				from++;
			*to++ = *from;
		}
	} else {
		to = from;
	}
	*pos = *from ? from + 1 : from;
	*to = '\0';
	return name;
}

void qd_layout_init(struct qd_layout *l)
{
	*l = (struct qd_layout){
		.cluster_size = DEFAULT_CLUSTER_SIZE,
		.version = 3,
		.refcount_bits = DEFAULT_REFCOUNT_BITS,
		.compression_type = QD_COMPRESSION_ZLIB,
		.preallocation = QD_PREALLOC_OFF,
	};
}

void qd_layout_free(struct qd_layout *l)
{
	free(l->backing_file);
	free(l->backing_fmt);
	free(l->data_file);
	qd_layout_init(l);
}

bool qd_layout_is_default(const struct qd_layout *l)
{
	struct qd_layout d;

	qd_layout_init(&d);
	return l->cluster_size == d.cluster_size && l->cluster_size_auto == d.cluster_size_auto &&
	       l->version == d.version && l->refcount_bits == d.refcount_bits &&
	       l->lazy_refcounts == d.lazy_refcounts && l->extended_l2 == d.extended_l2 &&
	       l->compression_type == d.compression_type && l->preallocation == d.preallocation &&
	       !l->backing_file && !l->backing_fmt && !l->data_file && l->data_file_raw == d.data_file_raw &&
	       l->size == d.size;
}

int qd_layout_copy(const struct qd_layout *from, struct qd_layout *ret_to, struct qd_err *err)
{
	struct qd_layout copy = *from;
	int rc;

	copy.backing_file = copy.backing_fmt = copy.data_file = NULL;
	rc = set_text(&copy.backing_file, from->backing_file ? from->backing_file : "", err);
	if (rc == 0)
		rc = set_text(&copy.backing_fmt, from->backing_fmt ? from->backing_fmt : "", err);
	if (rc == 0)
		rc = set_text(&copy.data_file, from->data_file ? from->data_file : "", err);
	if (rc)
		qd_layout_free(&copy);
	else
		*ret_to = copy;
	return rc;
}

int qd_layout_parse(struct qd_layout *l, const char *text, struct qd_err *err)
{
	char *work = strdup(text);
	char *pos = work;
	int rc = 0;

	if (!work)
		return qd_err_nomem(err, "image options");
	if (!*pos)
		rc = qd_err_set(err, QD_E_INVALID, "image options are empty, expected NAME=VALUE");
	while (rc == 0 && *pos) {
		char *value;
		char *name = cut_element(&pos, &value);

		if (*name)
			rc = apply(l, name, value, err);
		else
			rc = qd_err_set(err, QD_E_INVALID, "image options '%s': a name is missing", text);
	}
	free(work);
	return rc;
}

/* What version 2 has no place for in its header. */
static int validate_version2(const struct qd_layout *l, struct qd_err *err)
{
	if (l->refcount_bits != DEFAULT_REFCOUNT_BITS)
		return qd_err_set(err, QD_E_INVALID,
				  "refcount_bits is %" PRIu32 ", compat=0.10 can only have 16",
				  l->refcount_bits);
	if (l->lazy_refcounts)
		return qd_err_set(err, QD_E_INVALID, "lazy_refcounts=on needs compat=1.1");
	if (l->extended_l2)
		return qd_err_set(err, QD_E_INVALID, "extended_l2=on needs compat=1.1");
	if (l->compression_type != QD_COMPRESSION_ZLIB)
		return qd_err_set(err, QD_E_INVALID, "compression_type=zstd needs compat=1.1");
	if (l->data_file)
		return qd_err_set(err, QD_E_INVALID, "data_file needs compat=1.1");
	return 0;
}

static int validate_files(const struct qd_layout *l, struct qd_err *err)
{
	if (l->backing_file && strlen(l->backing_file) > QD_MAX_BACKING_NAME)
		return qd_err_set(err, QD_E_INVALID, "backing_file: name of %zu bytes, expected at most %u",
				  strlen(l->backing_file), QD_MAX_BACKING_NAME);
	if (l->backing_fmt && !l->backing_file)
		return qd_err_set(err, QD_E_INVALID, "backing_fmt is given without a backing file");
	if (l->backing_fmt && strcmp(l->backing_fmt, "raw") != 0 && strcmp(l->backing_fmt, "qcow2") != 0)
		return qd_err_set(err, QD_E_UNSUPPORTED, "backing_fmt is '%s', expected raw or qcow2",
				  l->backing_fmt);
	if (l->data_file_raw && !l->data_file)
		return qd_err_set(err, QD_E_INVALID, "data_file_raw=on is given without data_file");
	if (l->data_file_raw && l->backing_file)
		return qd_err_set(err, QD_E_INVALID,
				  "data_file_raw=on excludes a backing file: a raw image cannot have one");
	return 0;
}

int qd_layout_validate(const struct qd_layout *l, struct qd_err *err)
{
	int rc = l->version == 2 ? validate_version2(l, err) : 0;

	if (rc == 0)
		rc = validate_files(l, err);
	if (rc)
		return rc;
	if (l->extended_l2 && l->cluster_size != 0 &&
	    l->cluster_size < MIN_EXTL2_CLUSTER_SIZE)
		return qd_err_set(err, QD_E_INVALID,
				  "extended_l2=on needs a cluster_size of at least 16K, not %" PRIu64,
				  l->cluster_size);
	if (l->preallocation != QD_PREALLOC_OFF && l->backing_file && !l->extended_l2)
		return qd_err_set(err, QD_E_INVALID,
				  "preallocation hides the backing file unless extended_l2=on");
	return 0;
}

void qd_layout_to_build(const struct qd_layout *l, struct qd_build_opts *ret_opts)
{
	*ret_opts = (struct qd_build_opts){
		.version = l->version,
		.cluster_bits = (uint32_t)__builtin_ctzll(l->cluster_size),
		.refcount_order = (uint32_t)__builtin_ctz(l->refcount_bits),
		.lazy_refcounts = l->lazy_refcounts,
		.extended_l2 = l->extended_l2,
		.compression = l->compression_type,
		.backing_name = l->backing_file,
		.backing_format = l->backing_fmt,
		.data_file_name = l->data_file,
		.data_file_raw = l->data_file_raw,
	};
}
