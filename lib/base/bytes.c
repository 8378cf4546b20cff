/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The all-zero test.  Every cluster of a source passes through it, so it must keep up
 * with memory: data is nearly always recognised by one of three words, and zeros are
 * read in blocks of vectors, which every compiler of ours turns into SIMD loads.
 */
#include "base/bytes.h"

typedef uint64_t vec __attribute__((vector_size(16)));

#define BLOCK (8 * sizeof(vec))

static uint64_t load64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static vec load_vec(const uint8_t *p)
{
	vec v;

	memcpy(&v, p, sizeof(v));
	return v;
}

static bool block_is_zero(const uint8_t *p)
{
	vec v = load_vec(p);

#pragma GCC unroll 8
	for (size_t i = sizeof(vec); i < BLOCK; i += sizeof(vec))
		v |= load_vec(p + i);
	return (v[0] | v[1]) == 0;
}

static bool bytes_are_zero(const uint8_t *p, size_t nbytes)
{
	for (size_t i = 0; i < nbytes; i++)
		if (p[i] != 0)
			return false;
	return true;
}

bool qd_is_zero(const void *buf, size_t nbytes)
{
	const uint8_t *p = buf;
	size_t i;

	if (nbytes < BLOCK)
		return bytes_are_zero(p, nbytes);
	if ((load64(p) | load64(p + nbytes / 2) | load64(p + nbytes - 8)) != 0)
		return false;
	for (i = 0; i + BLOCK <= nbytes; i += BLOCK)
		if (!block_is_zero(p + i))
			return false;
	/* The last block may overlap the one before: cheaper than a tail loop. */
	return block_is_zero(p + nbytes - BLOCK);
}
