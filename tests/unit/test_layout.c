/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of a new image: what each value becomes, what is refused and in which
 * words, and what contradicts itself.
 */
#include <stdlib.h>
#include <string.h>

#include "base/size.h"
#include "format/header.h"
#include "ops/layout.h"
#include "suites.h"

static void defaults_are_64k_version_3(void)
{
	struct qd_layout l;

	qd_layout_init(&l);
	CU_ASSERT_EQUAL(l.cluster_size, 65536);
	CU_ASSERT_FALSE(l.cluster_size_auto);
	CU_ASSERT_EQUAL(l.version, 3);
	CU_ASSERT_EQUAL(l.refcount_bits, 16);
	CU_ASSERT_EQUAL(l.compression_type, QD_COMPRESSION_ZLIB);
	CU_ASSERT_EQUAL(l.preallocation, QD_PREALLOC_OFF);
	CU_ASSERT_FALSE(l.lazy_refcounts || l.extended_l2 || l.data_file_raw);
	CU_ASSERT_PTR_NULL(l.backing_file);
	CU_ASSERT_EQUAL(l.size, 0);
	CU_ASSERT_EQUAL(qd_layout_validate(&l, NULL), 0);
	qd_layout_free(&l);
}

/* Parses text over the defaults; the caller frees. */
static struct qd_layout parsed(const char *text)
{
	struct qd_layout l;
	struct qd_err err;
	int rc;

	qd_layout_init(&l);
	rc = qd_layout_parse(&l, text, &err);
	CU_ASSERT_EQUAL(rc, 0);
	if (rc)
		fprintf(stderr, "%s: %s\n", text, err.msg);
	return l;
}

static void takes_every_cluster_size(void)
{
	for (uint64_t size = 512; size <= 2u << 20; size *= 2) {
		char text[64];
		struct qd_layout l;

		snprintf(text, sizeof(text), "cluster_size=%llu", (unsigned long long)size);
		l = parsed(text);
		CU_ASSERT_EQUAL(l.cluster_size, size);
		qd_layout_free(&l);
	}
}

static void takes_every_refcount_width(void)
{
	static const char *const texts[] = { "1", "2", "4", "8", "16", "32", "64" };

	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		char text[64];
		struct qd_layout l;

		snprintf(text, sizeof(text), "refcount_bits=%s", texts[i]);
		l = parsed(text);
		CU_ASSERT_EQUAL(l.refcount_bits, 1u << i);
		qd_layout_free(&l);
	}
}

static void takes_all_options_at_once(void)
{
	struct qd_layout l = parsed("cluster_size=4K,compat=0.10,refcount_bits=8,lazy_refcounts=on,"
				    "compression_type=zstd,backing_file=b.raw,backing_fmt=raw,"
				    "preallocation=falloc,extended_l2=on,data_file=d,data_file_raw=on,size=1.5G");

	CU_ASSERT_EQUAL(l.cluster_size, 4096);
	CU_ASSERT_EQUAL(l.version, 2);
	CU_ASSERT_EQUAL(l.refcount_bits, 8);
	CU_ASSERT_TRUE(l.lazy_refcounts);
	CU_ASSERT_EQUAL(l.compression_type, QD_COMPRESSION_ZSTD);
	CU_ASSERT_STRING_EQUAL(l.backing_file, "b.raw");
	CU_ASSERT_STRING_EQUAL(l.backing_fmt, "raw");
	CU_ASSERT_EQUAL(l.preallocation, QD_PREALLOC_FALLOC);
	CU_ASSERT_TRUE(l.extended_l2);
	CU_ASSERT_STRING_EQUAL(l.data_file, "d");
	CU_ASSERT_TRUE(l.data_file_raw);
	CU_ASSERT_EQUAL(l.size, 3ull << 29);
	qd_layout_free(&l);
	CU_ASSERT_PTR_NULL(l.backing_file);
}

static void every_help_row_is_an_option(void)
{
	size_t n = 0;

	for (const struct qd_layout_help *row = qd_layout_help(); row->name; row++, n++) {
		struct qd_layout l;
		struct qd_err err;
		char text[64];

		/* A value none takes, or a name that all take: never "unknown image option". */
		snprintf(text, sizeof(text), "%s=\x01", row->name);
		qd_layout_init(&l);
		if (qd_layout_parse(&l, text, &err))
			CU_ASSERT_PTR_NULL(strstr(err.msg, "unknown"));
		CU_ASSERT_TRUE(row->text && *row->text);
		qd_layout_free(&l);
	}
	CU_ASSERT_EQUAL(n, 12);
}

static void a_doubled_comma_stands_for_one(void)
{
	static const struct {
		const char *text, *file;
	} cases[] = {
		{ "backing_file=a,,b", "a,b" },
		{ "backing_file=,,", "," },
		{ "backing_file=a,,,,b,size=1K", "a,,b" },
		{ "backing_file=a,,,size=1K", "a," },
		{ "backing_file=a=b=c", "a=b=c" },
		{ "backing_file=x,", "x" },
		{ "backing_file=x,backing_file=y", "y" },
		{ "backing_file=with space", "with space" },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct qd_layout l = parsed(cases[i].text);

		CU_ASSERT_PTR_NOT_NULL_FATAL(l.backing_file);
		CU_ASSERT_STRING_EQUAL(l.backing_file, cases[i].file);
		CU_ASSERT_EQUAL(l.size, strstr(cases[i].text, "size") ? 1024 : 0);
		qd_layout_free(&l);
	}
}

static void a_bare_boolean_means_on(void)
{
	struct qd_layout l = parsed("lazy_refcounts,extended_l2,data_file_raw");

	CU_ASSERT_TRUE(l.lazy_refcounts && l.extended_l2 && l.data_file_raw);
	qd_layout_free(&l);
	l = parsed("lazy_refcounts,lazy_refcounts=off,extended_l2=yes,extended_l2=no");
	CU_ASSERT_FALSE(l.lazy_refcounts || l.extended_l2);
	qd_layout_free(&l);
}

static void a_later_value_wins(void)
{
	struct qd_layout l = parsed("cluster_size=auto,compat=0.10");
	struct qd_err err;

	CU_ASSERT_TRUE(l.cluster_size_auto);
	CU_ASSERT_EQUAL(qd_layout_parse(&l, "cluster_size=8K,compat=1.1,backing_file=x", &err), 0);
	CU_ASSERT_FALSE(l.cluster_size_auto);
	CU_ASSERT_EQUAL(l.cluster_size, 8192);
	CU_ASSERT_EQUAL(l.version, 3);
	CU_ASSERT_EQUAL(qd_layout_parse(&l, "backing_file=", &err), 0);
	CU_ASSERT_PTR_NULL(l.backing_file);
	qd_layout_free(&l);
}

static void refuses_and_names_the_value(void)
{
	static const struct {
		const char *text, *message;
		int code;
	} cases[] = {
		{ "", "empty", QD_E_INVALID },
		{ ",", "name is missing", QD_E_INVALID },
		{ ",size=1", "name is missing", QD_E_INVALID },
		{ "=4", "name is missing", QD_E_INVALID },
		{ "size=1,=4", "name is missing", QD_E_INVALID },
		{ "nonsense=1", "'nonsense'", QD_E_INVALID },
		{ "cluster_siz=4K", "'cluster_siz'", QD_E_INVALID },
		{ "CLUSTER_SIZE=4K", "'CLUSTER_SIZE'", QD_E_INVALID },
		{ "cluster_size", "value missing", QD_E_INVALID },
		{ "backing_file", "value missing", QD_E_INVALID },
		{ "cluster_size=", "cluster_size", QD_E_INVALID },
		{ "cluster_size=0", "'0'", QD_E_INVALID },
		{ "cluster_size=256", "'256'", QD_E_INVALID },
		{ "cluster_size=3K", "'3K'", QD_E_INVALID },
		{ "cluster_size=Auto", "cluster_size", QD_E_INVALID },
		{ "cluster_size=4M", "'4M'", QD_E_INVALID },
		{ "cluster_size=64KiB", "cluster_size", QD_E_INVALID },
		{ "cluster_size=-1", "cluster_size", QD_E_INVALID },
		{ "compat=1.0", "'1.0'", QD_E_INVALID },
		{ "compat=", "compat", QD_E_INVALID },
		{ "refcount_bits=0", "refcount_bits", QD_E_INVALID },
		{ "refcount_bits=3", "expected 1, 2, 4", QD_E_INVALID },
		{ "refcount_bits=128", "refcount_bits", QD_E_INVALID },
		{ "refcount_bits=16x", "refcount_bits", QD_E_INVALID },
		{ "lazy_refcounts=maybe", "'maybe'", QD_E_INVALID },
		{ "lazy_refcounts=", "expected on or off", QD_E_INVALID },
		{ "compression_type=lz4", "'lz4'", QD_E_INVALID },
		{ "preallocation=some", "'some'", QD_E_INVALID },
		{ "size=1MB", "size", QD_E_INVALID },
		{ "encryption=on", "encrypted images", QD_E_UNSUPPORTED },
		{ "encrypt.format=luks", "encrypt.format", QD_E_UNSUPPORTED },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct qd_layout l;
		struct qd_err err;

		qd_layout_init(&l);
		CU_ASSERT_EQUAL(qd_layout_parse(&l, cases[i].text, &err), cases[i].code);
		CU_ASSERT_EQUAL(err.code, cases[i].code);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, cases[i].message));
		if (!strstr(err.msg, cases[i].message))
			fprintf(stderr, "'%s': %s\n", cases[i].text, err.msg);
		CU_ASSERT_EQUAL(qd_layout_parse(&l, cases[i].text, NULL), cases[i].code);
		qd_layout_free(&l);
	}
}

static void contradictions_are_found_in_any_order(void)
{
	static const struct {
		const char *text, *message;	/* NULL: there is none */
	} cases[] = {
		{ "compat=0.10", NULL },
		{ "compat=0.10,refcount_bits=16,lazy_refcounts=off,compression_type=zlib", NULL },
		{ "compat=0.10,refcount_bits=8", "refcount_bits is 8" },
		{ "refcount_bits=8,compat=0.10", "refcount_bits is 8" },
		{ "refcount_bits=8,compat=0.10,compat=1.1", NULL },
		{ "compat=0.10,lazy_refcounts", "lazy_refcounts" },
		{ "compat=0.10,extended_l2=on", "extended_l2" },
		{ "compat=0.10,compression_type=zstd", "compression_type" },
		{ "compat=0.10,data_file=d", "data_file" },
		{ "cluster_size=auto,cluster_size=4K", NULL },
		{ "extended_l2=on", NULL },
		{ "extended_l2=on,cluster_size=16K", NULL },
		{ "extended_l2=on,cluster_size=8K", "16K" },
		{ "cluster_size=512,extended_l2=on", "16K" },
		{ "backing_fmt=raw", "without a backing file" },
		{ "backing_fmt=raw,backing_file=b", NULL },
		{ "backing_fmt=vmdk,backing_file=b", "'vmdk'" },
		{ "backing_file=b", NULL },
		{ "data_file_raw=on", "without data_file" },
		{ "data_file_raw=on,data_file=d", NULL },
		{ "data_file_raw=on,data_file=d,backing_file=b", "excludes a backing file" },
		{ "preallocation=full", NULL },
		{ "preallocation=metadata,backing_file=b", "preallocation" },
		{ "preallocation=metadata,backing_file=b,extended_l2=on", NULL },
		{ "preallocation=off,backing_file=b", NULL },
	};

	for (size_t i = 0; i < sizeof(cases) / sizeof(cases[0]); i++) {
		struct qd_layout l = parsed(cases[i].text);
		struct qd_err err = { .code = 0 };
		int rc = qd_layout_validate(&l, &err);

		CU_ASSERT_EQUAL(rc != 0, cases[i].message != NULL);
		CU_ASSERT_EQUAL(rc, err.code);
		if (cases[i].message)
			CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, cases[i].message));
		if (cases[i].message ? !strstr(err.msg, cases[i].message) : rc)
			fprintf(stderr, "'%s': %s\n", cases[i].text, err.msg);
		qd_layout_free(&l);
	}
}

static void a_backing_name_has_1023_bytes_at_most(void)
{
	char text[1100] = "backing_file=";
	struct qd_layout l;

	memset(text + strlen(text), 'x', 1023);
	l = parsed(text);
	CU_ASSERT_EQUAL(qd_layout_validate(&l, NULL), 0);
	qd_layout_free(&l);
	text[strlen(text)] = 'x';
	l = parsed(text);
	CU_ASSERT_EQUAL(qd_layout_validate(&l, NULL), QD_E_INVALID);
	qd_layout_free(&l);
}

static void every_option_ends_the_default(void)
{
	static const char *const texts[] = {
		"cluster_size=4K", "cluster_size=auto", "compat=0.10", "refcount_bits=8", "lazy_refcounts",
		"compression_type=zstd", "backing_file=b", "backing_fmt=raw", "preallocation=full",
		"extended_l2", "data_file=d", "data_file_raw", "size=1",
	};
	struct qd_layout l = parsed("cluster_size=64K,compat=1.1,lazy_refcounts=off,backing_file=");

	CU_ASSERT_TRUE(qd_layout_is_default(&l));
	qd_layout_free(&l);
	CU_ASSERT_TRUE(qd_layout_is_default(&l));
	for (size_t i = 0; i < sizeof(texts) / sizeof(texts[0]); i++) {
		l = parsed(texts[i]);
		CU_ASSERT_FALSE(qd_layout_is_default(&l));
		qd_layout_free(&l);
	}
}

static void a_copy_lives_on_its_own(void)
{
	struct qd_layout l = parsed("backing_file=b,backing_fmt=raw,data_file=d,cluster_size=4K");
	struct qd_layout copy;

	CU_ASSERT_EQUAL_FATAL(qd_layout_copy(&l, &copy, NULL), 0);
	qd_layout_free(&l);
	CU_ASSERT_EQUAL(copy.cluster_size, 4096);
	CU_ASSERT_STRING_EQUAL(copy.backing_file, "b");
	CU_ASSERT_STRING_EQUAL(copy.backing_fmt, "raw");
	CU_ASSERT_STRING_EQUAL(copy.data_file, "d");
	qd_layout_free(&copy);
}

CU_ErrorCode suite_layout(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(defaults_are_64k_version_3),
		QD_TEST(takes_every_cluster_size),
		QD_TEST(takes_every_refcount_width),
		QD_TEST(takes_all_options_at_once),
		QD_TEST(every_help_row_is_an_option),
		QD_TEST(a_doubled_comma_stands_for_one),
		QD_TEST(a_bare_boolean_means_on),
		QD_TEST(a_later_value_wins),
		QD_TEST(refuses_and_names_the_value),
		QD_TEST(contradictions_are_found_in_any_order),
		QD_TEST(a_backing_name_has_1023_bytes_at_most),
		QD_TEST(every_option_ends_the_default),
		QD_TEST(a_copy_lives_on_its_own),
	};

	return QD_SUITE_ADD("layout", tests);
}
