/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Hashes of cluster contents.
 *
 * Two kinds, for two uses:
 *  - the fingerprint, XXH3 with 128 bits, nominates candidates in memory.  It keeps up
 *    with memory and is what the index is keyed by, whatever digest is asked for: a
 *    duplicate found by it and confirmed byte by byte needs no other hash;
 *  - the digest, chosen by name (--hash), is what others are to trust.
 */
#ifndef QD_DEDUP_DIGEST_H
#define QD_DEDUP_DIGEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct qd_fingerprint {
	uint64_t hi;
	uint64_t lo;
};

struct qd_fingerprint qd_fingerprint_of(const void *data, size_t nbytes);

#define QD_DIGEST_MAX 32u		/* bytes */
#define QD_DIGEST_BATCH 16u		/* contents, of qd_digester_compute_many */
#define QD_DIGEST_DEFAULT "xxh128"

/* A named digest: one row of the table in digest.c. */
struct qd_digest {
	const char *name;		/* as --hash takes it */
	const char *algorithm;		/* OpenSSL's name; NULL: XXH3-128 */
	uint32_t nbytes;		/* of its result */
	uint8_t id;			/* in the file format; never changes */
	bool strong;			/* collisions cannot be crafted */
};

/* NULL when there is none of that name. */
const struct qd_digest *qd_digest_find(const char *name);

/* The one that the user named, or with NULL the default; QD_E_INVALID tells the names there are. */
int qd_digest_choose(const char *name, const struct qd_digest **ret_digest, struct qd_err *err);

/* By the number in the file format; NULL when there is none. */
const struct qd_digest *qd_digest_by_id(uint8_t id);

/* The table, ended by a NULL name. */
const struct qd_digest *qd_digest_all(void);

/* A digester holds the state of one thread. */
struct qd_digester;

int qd_digester_new(const struct qd_digest *digest, struct qd_digester **ret_d, struct qd_err *err);
void qd_digester_free(struct qd_digester *d);

/* ret gets digest->nbytes bytes. */
int qd_digester_compute(struct qd_digester *d, const void *data, size_t nbytes, uint8_t *ret, struct qd_err *err);

/*
 * The same of n contents of one length, which may be faster than one after the other; how much
 * grows with n up to QD_DIGEST_BATCH.
 */
int qd_digester_compute_many(struct qd_digester *d, const void *const *data, unsigned n, size_t nbytes,
			     uint8_t *const *ret, struct qd_err *err);

#endif
