/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Metadata saved before a repair: what --save-metadata writes.
 *
 *	| record | data, up to 512 | record | data | ... | record of length 0 |
 *
 * A record is 512 bytes of text, filled up with zero bytes, so that a person can undo a
 * repair with strings(1) and dd(1):
 *
 *	qdedup-metadata 1
 *	offset 131072
 *	length 65536
 *	crc32 1c291ca3
 *	restore dd if=SAVED of=IMAGE bs=512 skip=2 seek=256 count=128 conv=notrunc
 *
 * offset and length are bytes of the image, in decimal; crc32 is that of zlib, over the
 * data.  The last record has length 0, the size of the file as its offset, and
 * "restore truncate -s OFFSET IMAGE".
 */
#ifndef QD_OPS_SAVED_H
#define QD_OPS_SAVED_H

#include "ops/repair_int.h"

/* Writes what the plan will change of the image, as it is now, and flushes it. */
int qd_rep_save_metadata(struct rep *r, struct qd_io *to, struct qd_err *err);

#endif
