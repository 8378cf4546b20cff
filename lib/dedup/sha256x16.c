/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Notation of FIPS 180-4.  Every variable is a vector of sixteen: lane i belongs to message i.
 *
 *	block        one load a message: 16 words of it           (a row)
 *	transposed   one vector a word: that word of 16 messages  (a column)
 *
 * The words of the schedule take turns in sixteen vectors, which with the eight working
 * variables stay in the registers.
 */
#include "dedup/sha256x16.h"

#include <assert.h>

#include "dedup/sha256x2.h"

#ifdef __x86_64__

#include <immintrin.h>

#include "base/bytes.h"

#define TARGET __attribute__((target("avx512f,avx512bw")))
#define INLINE static inline __attribute__((always_inline))
#define LANES QD_SHA256X16_LANES
#define XOR3 0x96	/* truth tables of vpternlog */
#define CHOOSE 0xca
#define MAJORITY 0xe8

bool qd_sha256x16_usable(void)
{
	return __builtin_cpu_supports("avx512f") && __builtin_cpu_supports("avx512bw");
}

/* Four by four: words of four rows each become rows of a word's four. */
TARGET INLINE void transpose_quads(__m512i r[4])
{
	__m512i a = _mm512_unpacklo_epi32(r[0], r[1]), b = _mm512_unpackhi_epi32(r[0], r[1]);
	__m512i c = _mm512_unpacklo_epi32(r[2], r[3]), d = _mm512_unpackhi_epi32(r[2], r[3]);

	r[0] = _mm512_unpacklo_epi64(a, c);
	r[1] = _mm512_unpackhi_epi64(a, c);
	r[2] = _mm512_unpacklo_epi64(b, d);
	r[3] = _mm512_unpackhi_epi64(b, d);
}

/* The same of quarters of vectors, in vectors step apart. */
TARGET INLINE void transpose_quarters(__m512i *r, unsigned step)
{
	__m512i a = _mm512_shuffle_i32x4(r[0], r[step], 0x44);
	__m512i b = _mm512_shuffle_i32x4(r[0], r[step], 0xee);
	__m512i c = _mm512_shuffle_i32x4(r[2 * step], r[3 * step], 0x44);
	__m512i d = _mm512_shuffle_i32x4(r[2 * step], r[3 * step], 0xee);

	r[0] = _mm512_shuffle_i32x4(a, c, 0x88);
	r[step] = _mm512_shuffle_i32x4(a, c, 0xdd);
	r[2 * step] = _mm512_shuffle_i32x4(b, d, 0x88);
	r[3 * step] = _mm512_shuffle_i32x4(b, d, 0xdd);
}

/* Word i of all messages goes to w[i]: row 4 q + k of a quarter is word 4 (quarter) + k. */
TARGET INLINE void load_block(__m512i w[16], const uint8_t *const p[LANES], size_t off)
{
	const __m512i swap = _mm512_broadcast_i32x4(_mm_set_epi64x(0x0c0d0e0f08090a0bll, 0x0405060700010203ll));

#pragma GCC unroll 16
	for (unsigned i = 0; i < LANES; i++)
		w[i] = _mm512_shuffle_epi8(_mm512_loadu_si512(p[i] + off), swap);
#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		transpose_quads(w + 4 * i);
#pragma GCC unroll 4
	for (unsigned i = 0; i < 4; i++)
		transpose_quarters(w + i, 4);
}

TARGET INLINE __m512i next_word(const __m512i w[16], unsigned t)
{
	__m512i w15 = w[(t + 1) % 16], w2 = w[(t + 14) % 16];
	__m512i s0 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(w15, 7), _mm512_ror_epi32(w15, 18),
					       _mm512_srli_epi32(w15, 3), XOR3);
	__m512i s1 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(w2, 17), _mm512_ror_epi32(w2, 19),
					       _mm512_srli_epi32(w2, 10), XOR3);

	return _mm512_add_epi32(_mm512_add_epi32(w[t % 16], s0), _mm512_add_epi32(w[(t + 9) % 16], s1));
}

/* v is a to h, which move on by a place each round: round t's a is v[-t mod 8]. */
TARGET INLINE void do_round(__m512i v[8], __m512i word, unsigned t)
{
	__m512i a = v[(64 - t) % 8], b = v[(65 - t) % 8], c = v[(66 - t) % 8];
	__m512i e = v[(68 - t) % 8], f = v[(69 - t) % 8], g = v[(70 - t) % 8], h = v[(71 - t) % 8];
	__m512i s1 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(e, 6), _mm512_ror_epi32(e, 11),
					       _mm512_ror_epi32(e, 25), XOR3);
	__m512i s0 = _mm512_ternarylogic_epi32(_mm512_ror_epi32(a, 2), _mm512_ror_epi32(a, 13),
					       _mm512_ror_epi32(a, 22), XOR3);
	__m512i t1 = _mm512_add_epi32(_mm512_add_epi32(h, word), _mm512_set1_epi32((int)qd_sha256_k[t]));

	t1 = _mm512_add_epi32(t1, _mm512_add_epi32(s1, _mm512_ternarylogic_epi32(e, f, g, CHOOSE)));
	s0 = _mm512_add_epi32(s0, _mm512_ternarylogic_epi32(a, b, c, MAJORITY));
	v[(67 - t) % 8] = _mm512_add_epi32(v[(67 - t) % 8], t1);
	v[(71 - t) % 8] = _mm512_add_epi32(t1, s0);
}

TARGET INLINE void do_block(__m512i state[8], const uint8_t *const p[LANES], size_t off)
{
	__m512i w[16], v[8];

	load_block(w, p, off);
#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		v[i] = state[i];
#pragma GCC unroll 64
	for (unsigned t = 0; t < 64; t++) {
		if (t >= 16)
			w[t % 16] = next_word(w, t);
		do_round(v, w[t % 16], t);
	}
#pragma GCC unroll 8
	for (unsigned i = 0; i < 8; i++)
		state[i] = _mm512_add_epi32(state[i], v[i]);
}

TARGET void qd_sha256x16(const void *const data[QD_SHA256X16_LANES], size_t nbytes,
			 uint8_t *const ret[QD_SHA256X16_LANES])
{
	static const uint32_t first[8] = {
		0x6a09e667, 0xbb67ae85, 0x3c6ef372, 0xa54ff53a,
		0x510e527f, 0x9b05688c, 0x1f83d9ab, 0x5be0cd19,
	};
	uint8_t last[QD_SHA256_BLOCK] = { 0x80 };
	const uint8_t *p[LANES], *end[LANES];
	uint32_t words[LANES];
	__m512i state[8];

	assert(nbytes % QD_SHA256_BLOCK == 0);
	for (unsigned i = 0; i < LANES; i++) {
		p[i] = data[i];
		end[i] = last;
	}
	for (unsigned i = 0; i < 8; i++)
		state[i] = _mm512_set1_epi32((int)first[i]);
	qd_put_be64(last + QD_SHA256_BLOCK - 8, (uint64_t)nbytes * 8);
	for (size_t off = 0; off < nbytes; off += QD_SHA256_BLOCK)
		do_block(state, p, off);
	do_block(state, end, 0);
	for (unsigned i = 0; i < 8; i++) {
		_mm512_storeu_si512(words, state[i]);
		for (unsigned k = 0; k < LANES; k++)
			qd_put_be32(ret[k] + (size_t)4 * i, words[k]);
	}
}

#else

bool qd_sha256x16_usable(void)
{
	return false;
}

void qd_sha256x16(const void *const data[QD_SHA256X16_LANES], size_t nbytes,
		  uint8_t *const ret[QD_SHA256X16_LANES])
{
	(void)data, (void)nbytes, (void)ret;
	assert(false);
}

#endif
