/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What making and reading a table share: a block and its header.
 */
#ifndef QD_DEDUP_TABLE_INT_H
#define QD_DEDUP_TABLE_INT_H

#include "base/crc32c.h"
#include "dedup/table.h"

/* Where the checksums of directory and blocks start: behind magic and the checksum itself. */
#define QD_TABLE_CRC_FROM 8u

static inline uint32_t qd_table_crc(const uint8_t *p, size_t nbytes)
{
	return qd_crc32c(QD_CRC32C_SEED, p + QD_TABLE_CRC_FROM, nbytes - QD_TABLE_CRC_FROM);
}

/* What T1 sorts by. */
struct qd_table_key {
	uint64_t host_off;
	uint64_t entry;
};

static inline struct qd_table_key qd_table_key_of(const struct qd_geom *g, uint64_t entry)
{
	return (struct qd_table_key){ qd_record_host_off(g, entry), entry };
}

static inline int qd_table_key_compare(struct qd_table_key a, struct qd_table_key b)
{
	if (a.host_off != b.host_off)
		return a.host_off < b.host_off ? -1 : 1;
	return a.entry < b.entry ? -1 : a.entry > b.entry;
}

#endif
