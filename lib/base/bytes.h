/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Bytes: big-endian loads and stores, checked arithmetic on quantities that come
 * from a file, alignment, and the all-zero test.
 *
 * qcow2 is big-endian and so are our own files.  Sums and products of numbers read
 * from an image go through qd_add_u64/qd_mul_u64, which say when they overflow.
 */
#ifndef QD_BASE_BYTES_H
#define QD_BASE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t qd_get_be16(const uint8_t *p)
{
	uint16_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap16(v);
}

static inline uint32_t qd_get_be32(const uint8_t *p)
{
	uint32_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap32(v);
}

static inline uint64_t qd_get_be64(const uint8_t *p)
{
	uint64_t v;

	memcpy(&v, p, sizeof(v));
	return __builtin_bswap64(v);
}

static inline void qd_put_be16(uint8_t *p, uint16_t v)
{
	v = __builtin_bswap16(v);
	memcpy(p, &v, sizeof(v));
}

static inline void qd_put_be32(uint8_t *p, uint32_t v)
{
	v = __builtin_bswap32(v);
	memcpy(p, &v, sizeof(v));
}

static inline void qd_put_be64(uint8_t *p, uint64_t v)
{
	v = __builtin_bswap64(v);
	memcpy(p, &v, sizeof(v));
}

/* Returns false, and leaves *ret alone, when the sum does not fit. */
static inline bool qd_add_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t v;

	if (__builtin_add_overflow(a, b, &v))
		return false;
	*ret = v;
	return true;
}

/* Returns false, and leaves *ret alone, when the product does not fit. */
static inline bool qd_mul_u64(uint64_t a, uint64_t b, uint64_t *ret)
{
	uint64_t v;

	if (__builtin_mul_overflow(a, b, &v))
		return false;
	*ret = v;
	return true;
}

/* True when [off, off + nbytes) lies within [0, limit). */
static inline bool qd_range_within(uint64_t off, uint64_t nbytes, uint64_t limit)
{
	return off <= limit && nbytes <= limit - off;
}

/* `align` is a power of two here and below; the caller excludes overflow. */
static inline uint64_t qd_align_up(uint64_t v, uint64_t align)
{
	return (v + align - 1) & ~(align - 1);
}

static inline uint64_t qd_align_down(uint64_t v, uint64_t align)
{
	return v & ~(align - 1);
}

static inline bool qd_is_aligned(uint64_t v, uint64_t align)
{
	return (v & (align - 1)) == 0;
}

static inline uint64_t qd_div_up(uint64_t v, uint64_t d)
{
	return v / d + (v % d != 0);
}

static inline uint64_t qd_min_u64(uint64_t a, uint64_t b)
{
	return a < b ? a : b;
}

static inline uint64_t qd_max_u64(uint64_t a, uint64_t b)
{
	return a > b ? a : b;
}

/* True when all nbytes are zero; looks at a few places first, so that data is recognised fast. */
bool qd_is_zero(const void *buf, size_t nbytes);

#endif
