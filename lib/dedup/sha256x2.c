/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notation of FIPS 180-4.  The instructions keep the eight working variables in two
 * registers, and do two rounds at a time:
 *
 *	abef = a b e f		cdgh = c d g h		(the first one in the highest lane)
 *
 * A group is four rounds and four words of the message schedule; four groups of words are
 * kept, of which the oldest makes room for the next:
 *
 *	w[g] = sigma1(w[g - 1]) + w[g - 2 .. g - 1] shifted by a word + sigma0(w[g - 4 .. g - 3]) + w[g - 4]
 *
 * All is written for two messages side by side, which the compiler interleaves.
 */
#include "dedup/sha256x2.h"

#include <assert.h>

#ifdef __x86_64__

#include <cpuid.h>
#include <immintrin.h>
#include <string.h>

#include "base/bytes.h"

#define TARGET __attribute__((target("sha,sse4.1,ssse3")))
#define INLINE static inline __attribute__((always_inline))
#define GROUPS 16u

const uint32_t qd_sha256_k[64] = {
	0x428a2f98, 0x71374491, 0xb5c0fbcf, 0xe9b5dba5, 0x3956c25b, 0x59f111f1, 0x923f82a4, 0xab1c5ed5,
	0xd807aa98, 0x12835b01, 0x243185be, 0x550c7dc3, 0x72be5d74, 0x80deb1fe, 0x9bdc06a7, 0xc19bf174,
	0xe49b69c1, 0xefbe4786, 0x0fc19dc6, 0x240ca1cc, 0x2de92c6f, 0x4a7484aa, 0x5cb0a9dc, 0x76f988da,
	0x983e5152, 0xa831c66d, 0xb00327c8, 0xbf597fc7, 0xc6e00bf3, 0xd5a79147, 0x06ca6351, 0x14292967,
	0x27b70a85, 0x2e1b2138, 0x4d2c6dfc, 0x53380d13, 0x650a7354, 0x766a0abb, 0x81c2c92e, 0x92722c85,
	0xa2bfe8a1, 0xa81a664b, 0xc24b8b70, 0xc76c51a3, 0xd192e819, 0xd6990624, 0xf40e3585, 0x106aa070,
	0x19a4c116, 0x1e376c08, 0x2748774c, 0x34b0bcb5, 0x391c0cb3, 0x4ed8aa4a, 0x5b9cca4f, 0x682e6ff3,
	0x748f82ee, 0x78a5636f, 0x84c87814, 0x8cc70208, 0x90befffa, 0xa4506ceb, 0xbef9a3f7, 0xc67178f2,
};

struct lane {
	__m128i abef, cdgh;
};

bool qd_sha256x2_usable(void)
{
	unsigned a, b, c, d, b7;

	if (!__get_cpuid_count(7, 0, &a, &b7, &c, &d) || !__get_cpuid(1, &a, &b, &c, &d))
		return false;
	return (b7 & bit_SHA) && (c & bit_SSE4_1) && (c & bit_SSSE3);
}

TARGET INLINE __m128i load_words(const uint8_t *p)
{
	const __m128i swap = _mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll);

	return _mm_shuffle_epi8(_mm_loadu_si128((const __m128i *)(const void *)p), swap);
}

TARGET INLINE __m128i next_words(const __m128i w[4], unsigned g)
{
	__m128i last = w[(g + 3) % 4], sum = _mm_sha256msg1_epu32(w[g % 4], w[(g + 1) % 4]);

	sum = _mm_add_epi32(sum, _mm_alignr_epi8(last, w[(g + 2) % 4], 4));
	return _mm_sha256msg2_epu32(sum, last);
}

TARGET INLINE void four_rounds(struct lane *l, __m128i words, unsigned g)
{
	__m128i sum = _mm_add_epi32(words, _mm_loadu_si128((const __m128i *)(const void *)(qd_sha256_k + 4 * g)));

	l->cdgh = _mm_sha256rnds2_epu32(l->cdgh, l->abef, sum);
	l->abef = _mm_sha256rnds2_epu32(l->abef, l->cdgh, _mm_shuffle_epi32(sum, 0x0e));
}

TARGET INLINE void block(struct lane *l0, struct lane *l1, const uint8_t *p0, const uint8_t *p1)
{
	struct lane before0 = *l0, before1 = *l1;
	__m128i w0[4], w1[4];

#pragma GCC unroll 16
	for (unsigned g = 0; g < GROUPS; g++) {
		w0[g % 4] = g < 4 ? load_words(p0 + (size_t)16 * g) : next_words(w0, g);
		w1[g % 4] = g < 4 ? load_words(p1 + (size_t)16 * g) : next_words(w1, g);
		four_rounds(l0, w0[g % 4], g);
		four_rounds(l1, w1[g % 4], g);
	}
	l0->abef = _mm_add_epi32(l0->abef, before0.abef);
	l0->cdgh = _mm_add_epi32(l0->cdgh, before0.cdgh);
	l1->abef = _mm_add_epi32(l1->abef, before1.abef);
	l1->cdgh = _mm_add_epi32(l1->cdgh, before1.cdgh);
}

TARGET static void put_result(const struct lane *l, uint8_t *ret)
{
	uint32_t v[8];	/* f e b a, h g d c */

	_mm_storeu_si128((__m128i *)(void *)v, l->abef);
	_mm_storeu_si128((__m128i *)(void *)(v + 4), l->cdgh);
	qd_put_be32(ret, v[3]);
	qd_put_be32(ret + 4, v[2]);
	qd_put_be32(ret + 8, v[7]);
	qd_put_be32(ret + 12, v[6]);
	qd_put_be32(ret + 16, v[1]);
	qd_put_be32(ret + 20, v[0]);
	qd_put_be32(ret + 24, v[5]);
	qd_put_be32(ret + 28, v[4]);
}

TARGET void qd_sha256x2(const void *const data[2], size_t nbytes, uint8_t *const ret[2])
{
	const uint8_t *p0 = data[0], *p1 = data[1];
	uint8_t last[QD_SHA256_BLOCK] = { 0x80 };
	struct lane l0 = {
		.abef = _mm_set_epi32(0x6a09e667, (int)0xbb67ae85, 0x510e527f, (int)0x9b05688c),
		.cdgh = _mm_set_epi32(0x3c6ef372, (int)0xa54ff53a, 0x1f83d9ab, 0x5be0cd19),
	}, l1 = l0;

	assert(nbytes % QD_SHA256_BLOCK == 0);
	for (size_t i = 0; i < nbytes; i += QD_SHA256_BLOCK)
		block(&l0, &l1, p0 + i, p1 + i);
	qd_put_be64(last + QD_SHA256_BLOCK - 8, (uint64_t)nbytes * 8);
	block(&l0, &l1, last, last);
	put_result(&l0, ret[0]);
	put_result(&l1, ret[1]);
}

#else

bool qd_sha256x2_usable(void)
{
	return false;
}

void qd_sha256x2(const void *const data[2], size_t nbytes, uint8_t *const ret[2])
{
	(void)data, (void)nbytes, (void)ret;
	assert(false);
}

#endif
