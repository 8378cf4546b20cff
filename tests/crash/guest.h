/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a guest can read of an image in memory, as a list: one digest for each cluster of
 * the active layer and of each snapshot that an entry says anything about.  Written from
 * the qcow2 specification, apart from the code under test (format/ excepted).
 *
 * An entry that cannot be true is not readable and has no digest; a cluster that reads as
 * zeros has none either.  Of compressed clusters the stream counts, as it is stored.
 */
#ifndef QD_TESTS_GUEST_H
#define QD_TESTS_GUEST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct guest_cluster {
	uint32_t layer;		/* 0: active; n: snapshot number n - 1 */
	uint64_t number;	/* guest cluster */
	uint64_t digest;
};

struct guest {
	struct guest_cluster *v;	/* by layer and number */
	size_t n;
	size_t capacity;
};

/* False when the image cannot be opened at all; *g is empty then. */
bool guest_read(const uint8_t *image, size_t nbytes, struct guest *g);
void guest_free(struct guest *g);

/*
 * The first cluster of `wanted` that `got` has differently or not at all, or NULL.  Where
 * `only` is given, just those that it has with the same digest count.
 */
const struct guest_cluster *guest_missing(const struct guest *wanted, const struct guest *only,
					  const struct guest *got);

#endif
