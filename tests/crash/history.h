/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a disk may hold after a crash: the bytes at the beginning, and the changes since,
 * each with the number of recorded operations when it began.
 *
 *	first | change change SETTLED change change change
 *	                  ^ these have happened    ^ crash: each byte is as before these, or
 *	                    by then                  as any of those that have begun made it
 */
#ifndef QD_TESTS_HISTORY_H
#define QD_TESTS_HISTORY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct history;

/* first: size bytes, copied. */
struct history *history_new(const uint8_t *first, uint64_t size);
void history_free(struct history *h);

/* As it is after all changes. */
const uint8_t *history_now(const struct history *h);

/* data NULL: zeros.  nops: operations recorded so far. */
void history_change(struct history *h, size_t nops, uint64_t off, uint64_t nbytes, const uint8_t *data);
void history_settled(struct history *h, size_t nops);

/* May the disk be so after a crash behind nops operations?  If not, *ret_at is the first byte. */
bool history_allows(const struct history *h, size_t nops, const uint8_t *disk, uint64_t *ret_at);

#endif
