/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts in a block, for example of 2 bits (order 1), four in a byte:
 *
 *	byte 0:  7 6 | 5 4 | 3 2 | 1 0      byte 1:  7 6 | ...
 *	          #3    #2    #1    #0                #7
 *
 * Widths of 8 bits and more are big-endian numbers one after the other.
 *
 * Left to others: finding the block, and that a count stays within the width.
 */
#include "space/refcount.h"

#include <assert.h>

#include "base/bytes.h"

/* Mask of one count of a width below 8 bits. */
static unsigned int narrow_mask(uint32_t refcount_order)
{
	return (1u << (1u << refcount_order)) - 1;
}

/* Position of such a count within its byte. */
static unsigned int narrow_shift(uint32_t refcount_order, uint64_t index)
{
	return (unsigned int)(index << refcount_order & 7);
}

static unsigned int get_narrow(const uint8_t *block, uint32_t refcount_order, uint64_t index)
{
	unsigned int byte = block[index >> (3 - refcount_order)];

	return byte >> narrow_shift(refcount_order, index) & narrow_mask(refcount_order);
}

uint64_t qd_refcount_get(const uint8_t *block, uint32_t refcount_order, uint64_t index)
{
	switch (refcount_order) {
	case 0:
	case 1:
	case 2:
		return get_narrow(block, refcount_order, index);
	case 3:
		return block[index];
	case 4:
		return qd_get_be16(block + index * 2);
	case 5:
		return qd_get_be32(block + index * 4);
	default:
		assert(refcount_order == 6);
		return qd_get_be64(block + index * 8);
	}
}

static void set_narrow(uint8_t *block, uint32_t refcount_order, uint64_t index, uint64_t value)
{
	uint8_t *p = block + (index >> (3 - refcount_order));
	unsigned int shift = narrow_shift(refcount_order, index);

	*p = (uint8_t)((*p & ~(narrow_mask(refcount_order) << shift)) | ((unsigned int)value << shift));
}

void qd_refcount_set(uint8_t *block, uint32_t refcount_order, uint64_t index, uint64_t value)
{
	assert(refcount_order == 6 || value >> (1u << refcount_order) == 0);
	switch (refcount_order) {
	case 0:
	case 1:
	case 2:
		set_narrow(block, refcount_order, index, value);
		break;
	case 3:
		block[index] = (uint8_t)value;
		break;
	case 4:
		qd_put_be16(block + index * 2, (uint16_t)value);
		break;
	case 5:
		qd_put_be32(block + index * 4, (uint32_t)value);
		break;
	default:
		qd_put_be64(block + index * 8, value);
	}
}

/*
 * Blocks count the clusters of blocks and table, so the answer is the least fixed
 * point of two growing functions: start from nothing and repeat until nothing grows.
 * A block covers at least 64 clusters, so the growth shrinks 64-fold per round.
 */
void qd_refcount_structure(const struct qd_geom *g, uint64_t others, uint64_t *ret_blocks,
			   uint64_t *ret_table_clusters)
{
	uint64_t blocks = 0;
	uint64_t table = 0;

	assert(others <= UINT64_MAX / 2);
	for (;;) {
		uint64_t new_blocks = qd_div_up(others + blocks + table, g->block_entries);
		uint64_t new_table = qd_div_up(new_blocks, g->cluster_size / 8);

		if (new_blocks == blocks && new_table == table)
			break;
		blocks = new_blocks;
		table = new_table;
	}
	*ret_blocks = blocks;
	*ret_table_clusters = table;
}
