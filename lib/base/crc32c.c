/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "base/crc32c.h"

#include <isa-l/crc.h>

#define MAX_PIECE (1u << 30)	/* isa-l takes the length as an int */

uint32_t qd_crc32c(uint32_t crc, const void *data, size_t nbytes)
{
	unsigned char *p = (unsigned char *)(uintptr_t)data;	/* only read */

	while (nbytes > MAX_PIECE) {
		crc = crc32_iscsi(p, (int)MAX_PIECE, crc);
		p += MAX_PIECE;
		nbytes -= MAX_PIECE;
	}
	return crc32_iscsi(p, (int)nbytes, crc);
}
