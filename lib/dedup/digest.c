/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "dedup/digest.h"

#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <xxhash.h>
#ifdef __x86_64__
#include <xxh_x86dispatch.h>	/* the same hash, by the widest vectors the processor has */
#endif

#include "base/bytes.h"
#include "dedup/sha256x16.h"
#include "dedup/sha256x2.h"

/*
 * BLAKE2b is OpenSSL's BLAKE2b-512 cut to its first 32 bytes: OpenSSL 3.0 has no shorter
 * variant, and `b2sum | cut -c1-64` computes the same.
 */
static const struct qd_digest table[] = {
	{ "xxh128", NULL, 16, 1, false },
	{ "sha256", "SHA256", 32, 2, true },
	{ "sha512-256", "SHA512-256", 32, 3, true },
	{ "sha3-256", "SHA3-256", 32, 4, true },
	{ "blake2b", "BLAKE2B-512", 32, 5, true },
	{ NULL, NULL, 0, 0, false },
};

/* Sixteen by sha256x16.h take the time of nine by sha256x2.h. */
#define MANY_PAYS 9u

struct qd_digester {
	const struct qd_digest *digest;
	EVP_MD *md;
	EVP_MD_CTX *ctx;
	bool pairs;		/* sha256x2.h computes the same, faster */
	bool many;		/* and sha256x16.h, faster still */
};

struct qd_fingerprint qd_fingerprint_of(const void *data, size_t nbytes)
{
	XXH128_hash_t h = XXH3_128bits(data, nbytes);

	return (struct qd_fingerprint){ .hi = h.high64, .lo = h.low64 };
}

const struct qd_digest *qd_digest_all(void)
{
	return table;
}

const struct qd_digest *qd_digest_find(const char *name)
{
	for (const struct qd_digest *d = table; d->name; d++)
		if (!strcmp(d->name, name))
			return d;
	return NULL;
}

int qd_digest_choose(const char *name, const struct qd_digest **ret_digest, struct qd_err *err)
{
	const struct qd_digest *found = qd_digest_find(name ? name : QD_DIGEST_DEFAULT);
	char names[120] = "";
	size_t n = 0;

	for (const struct qd_digest *d = table; !found && d->name && n < sizeof(names); d++)
		n += (size_t)snprintf(names + n, sizeof(names) - n, "%s%s",
				      d == table ? "" : d[1].name ? ", " : " or ", d->name);
	if (!found)
		return qd_err_set(err, QD_E_INVALID, "unknown hash \"%s\", expected %s", name, names);
	*ret_digest = found;
	return 0;
}

const struct qd_digest *qd_digest_by_id(uint8_t id)
{
	for (const struct qd_digest *d = table; d->name; d++)
		if (d->id == id)
			return d;
	return NULL;
}

static bool is_sha256(const struct qd_digest *digest)
{
	return digest->algorithm && !strcmp(digest->algorithm, "SHA256");
}

int qd_digester_new(const struct qd_digest *digest, struct qd_digester **ret_d, struct qd_err *err)
{
	struct qd_digester *d = calloc(1, sizeof(*d));

	if (!d)
		return qd_err_nomem(err, "a digest");
	d->digest = digest;
	d->pairs = is_sha256(digest) && qd_sha256x2_usable();
	d->many = is_sha256(digest) && qd_sha256x16_usable();
	if (digest->algorithm) {
		d->md = EVP_MD_fetch(NULL, digest->algorithm, NULL);
		d->ctx = EVP_MD_CTX_new();
		if (!d->md || !d->ctx) {
			qd_digester_free(d);
			return qd_err_set(err, QD_E_UNSUPPORTED, "this OpenSSL does not provide the hash %s", digest->name);
		}
	}
	*ret_d = d;
	return 0;
}

void qd_digester_free(struct qd_digester *d)
{
	if (!d)
		return;
	EVP_MD_CTX_free(d->ctx);
	EVP_MD_free(d->md);
	free(d);
}

int qd_digester_compute(struct qd_digester *d, const void *data, size_t nbytes, uint8_t *ret, struct qd_err *err)
{
	uint8_t full[EVP_MAX_MD_SIZE];
	unsigned len;

	if (!d->md) {
		struct qd_fingerprint f = qd_fingerprint_of(data, nbytes);

		qd_put_be64(ret, f.hi);
		qd_put_be64(ret + 8, f.lo);
		return 0;
	}
	if (EVP_DigestInit_ex2(d->ctx, d->md, NULL) != 1 || EVP_DigestUpdate(d->ctx, data, nbytes) != 1 ||
	    EVP_DigestFinal_ex(d->ctx, full, &len) != 1 || len < d->digest->nbytes)
		return qd_err_set(err, QD_E_NOMEM, "the hash %s could not be computed", d->digest->name);
	memcpy(ret, full, d->digest->nbytes);
	return 0;
}

/* Lanes that have no message of their own do the first one's again. */
static void compute_sixteen(const void *const *data, unsigned n, size_t nbytes, uint8_t *const *ret)
{
	const void *all[QD_SHA256X16_LANES];
	uint8_t *to[QD_SHA256X16_LANES];

	for (unsigned i = 0; i < QD_SHA256X16_LANES; i++) {
		all[i] = data[i < n ? i : 0];
		to[i] = ret[i < n ? i : 0];
	}
	qd_sha256x16(all, nbytes, to);
}

int qd_digester_compute_many(struct qd_digester *d, const void *const *data, unsigned n, size_t nbytes,
			     uint8_t *const *ret, struct qd_err *err)
{
	bool blocks = nbytes % QD_SHA256_BLOCK == 0;
	unsigned i = 0;
	int r = 0;

	while (d->many && blocks && n - i >= MANY_PAYS) {
		unsigned lanes = n - i < QD_SHA256X16_LANES ? n - i : QD_SHA256X16_LANES;

		compute_sixteen(data + i, lanes, nbytes, ret + i);
		i += lanes;
	}
	for (; d->pairs && blocks && n - i >= 2; i += 2)
		qd_sha256x2(data + i, nbytes, ret + i);
	for (; !r && i < n; i++)
		r = qd_digester_compute(d, data[i], nbytes, ret[i], err);
	return r;
}
