/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Radix sort from the first byte on: records are permuted into 256 buckets in place, and
 * each bucket is sorted by the bytes that follow.  Digests fill the buckets evenly, so two
 * or three rounds end in buckets of a few records, which insertion finishes.
 *
 * The time is linear whatever the content: a bucket all of whose records agree in a byte
 * costs one look at each.
 */
#include "dedup/sort.h"

#include <assert.h>
#include <stdint.h>
#include <string.h>

#include "base/bytes.h"

#define FEW 24u			/* records that insertion sorts faster */

/* Inlined into one function per common size, where the compiler turns memcpy into moves. */
#define INLINE static inline __attribute__((always_inline))

INLINE bool is_less(const uint8_t *a, const uint8_t *b, size_t size, size_t from)
{
	uint64_t x, y;

	if (from + 8 <= size) {
		x = qd_get_be64(a + from);
		y = qd_get_be64(b + from);
		if (x != y)
			return x < y;
	}
	return memcmp(a + from, b + from, size - from) < 0;
}

INLINE void insertion(uint8_t *p, size_t n, size_t size, size_t from)
{
	uint8_t one[QD_SORT_RECORD_MAX];

	for (size_t i = 1; i < n; i++) {
		size_t k = i;

		if (!is_less(p + i * size, p + (i - 1) * size, size, from))
			continue;
		memcpy(one, p + i * size, size);
		do {
			memcpy(p + k * size, p + (k - 1) * size, size);
			k--;
		} while (k && is_less(one, p + (k - 1) * size, size, from));
		memcpy(p + k * size, one, size);
	}
}

INLINE void swap(uint8_t *a, uint8_t *b, size_t size)
{
	uint8_t t[QD_SORT_RECORD_MAX];

	memcpy(t, a, size);
	memcpy(a, b, size);
	memcpy(b, t, size);
}

/* Moves every record into the bucket of its byte `at`; begin[] are where the buckets begin. */
INLINE void permute(uint8_t *p, size_t size, size_t at, const size_t begin[257])
{
	size_t next[256];

	memcpy(next, begin, sizeof(next));
	for (unsigned b = 0; b < 256; b++) {
		while (next[b] < begin[b + 1]) {
			uint8_t *r = p + next[b] * size;
			unsigned to = r[at];

			if (to == b)
				next[b]++;
			else
				swap(r, p + next[to]++ * size, size);
		}
	}
}

/* Finds the first byte from `at` on in which the records differ and sorts by it; 0: there is none. */
INLINE size_t by_next_byte(uint8_t *p, size_t n, size_t size, size_t at, size_t begin[257])
{
	for (; at < size; at++) {
		size_t sum = 0;

		memset(begin, 0, 257 * sizeof(*begin));
		for (size_t i = 0; i < n; i++)
			begin[p[i * size + at]]++;
		if (begin[p[at]] == n)
			continue;
		for (unsigned b = 0; b < 257; b++) {
			size_t count = begin[b];

			begin[b] = sum;
			sum += count;
		}
		permute(p, size, at, begin);
		return at + 1;
	}
	return 0;
}

/* Recursion is as deep as a record has bytes. */
#define DEFINE_SORT(name, size)							\
	static void name(uint8_t *p, size_t n, size_t nbytes, size_t from)		\
	{										\
		size_t begin[257], next;						\
											\
		(void)nbytes;								\
		if (n <= FEW) {								\
			insertion(p, n, size, from);					\
			return;								\
		}									\
		next = by_next_byte(p, n, size, from, begin);				\
		for (unsigned b = 0; next && b < 256; b++)				\
			if (begin[b + 1] - begin[b] > 1)				\
				name(p + begin[b] * (size), begin[b + 1] - begin[b], nbytes, next); \
	}

DEFINE_SORT(sort_24, (size_t)24)
DEFINE_SORT(sort_40, (size_t)40)
DEFINE_SORT(sort_any, nbytes)

void qd_sort_records(void *records, size_t n, size_t record_nbytes, size_t equal)
{
	assert(record_nbytes <= QD_SORT_RECORD_MAX);
	if (record_nbytes == 24)
		sort_24(records, n, record_nbytes, equal);
	else if (record_nbytes == 40)
		sort_40(records, n, record_nbytes, equal);
	else
		sort_any(records, n, record_nbytes, equal);
}
