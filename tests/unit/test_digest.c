/* SPDX-License-Identifier: GPL-2.0-or-later */
/* Published vectors for every hash, and the names and numbers that never change. */
#include "dedup/digest.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>
#include <xxhash.h>

#include "base/bytes.h"
#include "suites.h"

static const struct vector {
	const char *name;
	uint8_t id;		/* in the file format */
	bool strong;
	const char *empty;
	const char *abc;
} vectors[] = {
	{ "xxh128", 1, false, "99aa06d3014798d86001c324468d497f", "06b05ab6733a618578af5f94892f3950" },
	{ "sha256", 2, true, "e3b0c44298fc1c149afbf4c8996fb92427ae41e4649b934ca495991b7852b855",
	  "ba7816bf8f01cfea414140de5dae2223b00361a396177a9cb410ff61f20015ad" },
	{ "sha512-256", 3, true, "c672b8d1ef56ed28ab87c3622c5114069bdd3ad7b8f9737498d0c01ecef0967a",
	  "53048e2681941ef99b2e29b76b4c7dabe4c2d0c634fc6d46e0e2f13107e7af23" },
	{ "sha3-256", 4, true, "a7ffc6f8bf1ed76651c14756a061d662f580ff4de43b49fa82d80a4b80f8434a",
	  "3a985da74fe225b2045c172d6bd390bd855f086e3e9d525b46bfe24511431532" },
	{ "blake2b", 5, true, "786a02f742015903c6c6fd852552d272912f4740e15847618a86e217f71f5419",
	  "ba80a53f981c4d0d6a2797b69f12f6e94c212f14685ac4b74b12bb6fdbffa2d1" },
};

#define NVECTORS (sizeof(vectors) / sizeof(vectors[0]))

static bool digests_to(struct qd_digester *d, const struct qd_digest *digest, const char *text, const char *hex)
{
	uint8_t out[QD_DIGEST_MAX + 1];
	char got[2 * QD_DIGEST_MAX + 1] = "";

	memset(out, 0xee, sizeof(out));
	CU_ASSERT_EQUAL_FATAL(qd_digester_compute(d, text, strlen(text), out, NULL), 0);
	for (uint32_t i = 0; i < digest->nbytes; i++)
		snprintf(got + 2 * i, 3, "%02x", out[i]);
	if (strcmp(got, hex))
		fprintf(stderr, "%s of \"%s\": %s, expected %s\n", digest->name, text, got, hex);
	return !strcmp(got, hex) && out[digest->nbytes] == 0xee;
}

static void every_hash_gives_its_published_values(void)
{
	for (size_t i = 0; i < NVECTORS; i++) {
		const struct vector *v = &vectors[i];
		const struct qd_digest *digest = qd_digest_find(v->name);
		struct qd_digester *d = NULL;

		CU_ASSERT_PTR_NOT_NULL_FATAL(digest);
		CU_ASSERT_EQUAL(digest->nbytes, strlen(v->abc) / 2);
		CU_ASSERT_EQUAL(digest->id, v->id);
		CU_ASSERT_EQUAL(digest->strong, v->strong);
		CU_ASSERT_EQUAL_FATAL(qd_digester_new(digest, &d, NULL), 0);
		/* A digester is used again and again. */
		CU_ASSERT_TRUE(digests_to(d, digest, "abc", v->abc));
		CU_ASSERT_TRUE(digests_to(d, digest, "", v->empty));
		CU_ASSERT_TRUE(digests_to(d, digest, "abc", v->abc));
		qd_digester_free(d);
	}
}

static void the_table_has_these_names_and_no_others(void)
{
	const struct qd_digest *d = qd_digest_all();
	size_t n = 0;

	for (; d[n].name; n++)
		CU_ASSERT_TRUE(d[n].nbytes > 0 && d[n].nbytes <= QD_DIGEST_MAX);
	CU_ASSERT_EQUAL(n, NVECTORS);
	CU_ASSERT_PTR_NULL(qd_digest_find("md5"));
	CU_ASSERT_PTR_NULL(qd_digest_find(""));
	CU_ASSERT_PTR_NULL(qd_digest_find("sha25"));
	CU_ASSERT_PTR_NULL(qd_digest_find("SHA256"));
	CU_ASSERT_PTR_NOT_NULL(qd_digest_find(QD_DIGEST_DEFAULT));
	qd_digester_free(NULL);
}

static void the_fingerprint_is_xxh128(void)
{
	static const char text[] = "a cluster's worth of something";
	struct qd_fingerprint f = qd_fingerprint_of(text, sizeof(text)), other;
	struct qd_digester *d = NULL;
	uint8_t out[QD_DIGEST_MAX];

	CU_ASSERT_EQUAL_FATAL(qd_digester_new(qd_digest_find("xxh128"), &d, NULL), 0);
	CU_ASSERT_EQUAL(qd_digester_compute(d, text, sizeof(text), out, NULL), 0);
	CU_ASSERT_EQUAL(qd_get_be64(out), f.hi);
	CU_ASSERT_EQUAL(qd_get_be64(out + 8), f.lo);
	other = qd_fingerprint_of(text, sizeof(text) - 1);
	CU_ASSERT_TRUE(other.hi != f.hi && other.lo != f.lo);
	qd_digester_free(d);
}

/* Whichever implementation the library picks for this processor: every length, wherever the bytes lie. */
static void every_length_agrees_with_the_portable_code(void)
{
	static uint8_t data[9000 + 64];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + i / 256);
	for (size_t n = 0; n <= 9000; n += n < 1100 ? 1 : 37) {
		XXH128_hash_t expected = XXH3_128bits(data + n % 61, n);
		struct qd_fingerprint f = qd_fingerprint_of(data + n % 61, n);

		CU_ASSERT_TRUE(f.hi == expected.high64 && f.lo == expected.low64);
	}
}

/* Many at a time are as one after the other, wherever they lie and whatever the processor can do. */
static void many_are_as_one_after_the_other(void)
{
	static uint8_t data[65536 + 40 * 7];

	for (size_t i = 0; i < sizeof(data); i++)
		data[i] = (uint8_t)(i * 31 + i / 256);
	for (const struct qd_digest *digest = qd_digest_all(); digest->name; digest++) {
		struct qd_digester *d = NULL;
		uint8_t out[40][QD_DIGEST_MAX + 1], one[QD_DIGEST_MAX];
		const void *from[40];
		uint8_t *ret[40];

		CU_ASSERT_EQUAL_FATAL(qd_digester_new(digest, &d, NULL), 0);
		for (unsigned i = 0; i < 40; i++) {
			from[i] = data + i * 7;
			ret[i] = out[i];
		}
		for (size_t nbytes = 0; nbytes <= 65536; nbytes += nbytes < 1024 ? 64 : 15 * 1024 + 1) {
			unsigned n = (unsigned)(nbytes / 64 * 7 % 41);

			memset(out, 0xee, sizeof(out));
			CU_ASSERT_EQUAL(qd_digester_compute_many(d, from, n, nbytes, ret, NULL), 0);
			for (unsigned i = 0; i < 40; i++) {
				memset(one, 0xee, sizeof(one));
				if (i < n)
					qd_digester_compute(d, from[i], nbytes, one, NULL);
				CU_ASSERT_EQUAL(memcmp(out[i], one, digest->nbytes), 0);
				CU_ASSERT_EQUAL(out[i][digest->nbytes], 0xee);
			}
		}
		qd_digester_free(d);
	}
}

CU_ErrorCode suite_digest(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_hash_gives_its_published_values),
		QD_TEST(the_table_has_these_names_and_no_others),
		QD_TEST(the_fingerprint_is_xxh128),
		QD_TEST(every_length_agrees_with_the_portable_code),
		QD_TEST(many_are_as_one_after_the_other),
	};

	return QD_SUITE_ADD("digest", tests);
}
