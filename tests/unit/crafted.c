/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "crafted.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/io_mem.h"

#define HEADER 112u

static void die(const char *what)
{
	fprintf(stderr, "crafted image: %s\n", what);
	abort();
}

void crafted_put(struct crafted *c, uint64_t off, unsigned width, uint64_t value)
{
	if (off + width > c->nbytes)
		die("a value past the end");
	for (unsigned i = 0; i < width; i++)
		c->bytes[off + i] = (uint8_t)(value >> 8 * (width - 1 - i));
}

uint64_t crafted_get64(const struct crafted *c, uint64_t off)
{
	uint64_t v = 0;

	for (unsigned i = 0; i < 8; i++)
		v = v << 8 | c->bytes[off + i];
	return v;
}

uint64_t crafted_alloc(struct crafted *c, uint64_t nclusters)
{
	uint64_t off = (c->nbytes + c->cluster_size - 1) & ~(c->cluster_size - 1);
	uint64_t end = off + nclusters * c->cluster_size;
	uint8_t *bytes = realloc(c->bytes, end);

	if (!bytes)
		die("out of memory");
	memset(bytes + c->nbytes, 0, end - c->nbytes);
	c->bytes = bytes;
	c->nbytes = end;
	return off;
}

void crafted_pattern(uint8_t *buf, uint64_t nbytes, uint64_t seed)
{
	uint64_t state = seed * 0x9e3779b97f4a7c15u + 1;

	for (uint64_t i = 0; i < nbytes; i++) {
		state = state * 6364136223846793005u + 1442695040888963407u;
		buf[i] = (uint8_t)(state >> 56);
	}
}

uint64_t crafted_data(struct crafted *c, uint64_t seed)
{
	uint64_t off = crafted_alloc(c, 1);

	crafted_pattern(c->bytes + off, c->cluster_size, seed);
	return off;
}

void crafted_map(struct crafted *c, uint64_t l1_off, uint64_t guest_cluster, uint64_t entry, uint64_t bitmap)
{
	uint64_t width = c->extended_l2 ? 16 : 8, per_table = c->cluster_size / width;
	uint64_t slot = l1_off + guest_cluster / per_table * 8;
	uint64_t table = crafted_get64(c, slot) & 0x00fffffffffffe00u;

	if (!table) {
		table = crafted_alloc(c, 1);
		crafted_put(c, slot, 8, table | 1ull << 63);
	}
	crafted_put(c, table + guest_cluster % per_table * width, 8, entry);
	if (c->extended_l2)
		crafted_put(c, table + guest_cluster % per_table * width + 8, 8, bitmap);
}

void crafted_ext(struct crafted *c, uint32_t type, const void *data, uint32_t nbytes)
{
	crafted_put(c, c->ext_off, 4, type);
	crafted_put(c, c->ext_off + 4, 4, nbytes);
	if (nbytes)
		memcpy(c->bytes + c->ext_off + 8, data, nbytes);
	c->ext_off += 8 + ((uint64_t)nbytes + 7) / 8 * 8;
}

/* The name stands behind the mark that ends the extensions. */
static void put_backing_name(struct crafted *c, const char *name)
{
	uint64_t off = c->ext_off + 8;

	memcpy(c->bytes + off, name, strlen(name));
	crafted_put(c, 8, 8, off);
	crafted_put(c, 16, 4, strlen(name));
}

static uint64_t l1_entries_for(const struct crafted *c, uint64_t virtual_size)
{
	uint64_t span = c->cluster_size / (c->extended_l2 ? 16 : 8) * c->cluster_size;

	return (virtual_size + span - 1) / span;
}

static void put_header(struct crafted *c, const struct crafted_opts *o, uint64_t reftable_off)
{
	uint64_t incompatible = o->incompatible | (o->extended_l2 ? 16u : 0) | (o->compression ? 8u : 0) |
				(o->data_file_name ? 4u : 0);

	crafted_put(c, 0, 4, 0x514649fb);
	crafted_put(c, 4, 4, o->version ? o->version : 3);
	crafted_put(c, 20, 4, c->cluster_bits);
	crafted_put(c, 24, 8, o->virtual_size);
	crafted_put(c, 36, 4, c->l1_entries);
	crafted_put(c, 40, 8, c->l1_off);
	crafted_put(c, 48, 8, reftable_off);
	crafted_put(c, 56, 4, 1);
	if (o->version == 2)
		return;
	crafted_put(c, 72, 8, incompatible);
	crafted_put(c, 88, 8, o->autoclear);
	crafted_put(c, 96, 4, 4);
	crafted_put(c, 100, 4, HEADER);
	crafted_put(c, 104, 1, o->compression);
}

void crafted_new(struct crafted *c, const struct crafted_opts *o)
{
	uint64_t reftable_off;

	*c = (struct crafted){ .cluster_bits = o->cluster_bits ? o->cluster_bits : 9, .extended_l2 = o->extended_l2 };
	c->cluster_size = 1ull << c->cluster_bits;
	crafted_alloc(c, 1);
	reftable_off = crafted_alloc(c, 1);
	c->l1_entries = l1_entries_for(c, o->virtual_size);
	c->l1_off = crafted_alloc(c, c->l1_entries * 8 / c->cluster_size + 1);
	put_header(c, o, reftable_off);
	c->ext_off = o->version == 2 ? 72 : HEADER;
	if (o->backing_format)
		crafted_ext(c, 0xe2792aca, o->backing_format, (uint32_t)strlen(o->backing_format));
	if (o->data_file_name)
		crafted_ext(c, 0x44415441, o->data_file_name, (uint32_t)strlen(o->data_file_name));
	if (o->backing_name)
		put_backing_name(c, o->backing_name);
}

void crafted_free(struct crafted *c)
{
	free(c->bytes);
	c->bytes = NULL;
}

uint64_t crafted_snapshot(struct crafted *c, const char *id, const char *name, uint64_t disk_size, uint64_t l1_off,
			  uint32_t l1_entries)
{
	uint64_t count = crafted_get64(c, 56) & 0xffffffff, pos;

	if (!count) {
		c->snapshots_end = crafted_alloc(c, 8192 / c->cluster_size + 1);
		crafted_put(c, 64, 8, c->snapshots_end);
	}
	crafted_put(c, 60, 4, count + 1);
	pos = c->snapshots_end;
	crafted_put(c, pos, 8, l1_off);
	crafted_put(c, pos + 8, 4, l1_entries);
	crafted_put(c, pos + 12, 2, strlen(id));
	crafted_put(c, pos + 14, 2, strlen(name));
	crafted_put(c, pos + 16, 4, 1700000000 + count);
	crafted_put(c, pos + 36, 4, 24);
	crafted_put(c, pos + 48, 8, disk_size);
	crafted_put(c, pos + 56, 8, UINT64_MAX);
	memcpy(c->bytes + pos + 64, id, strlen(id));
	memcpy(c->bytes + pos + 64 + strlen(id), name, strlen(name));
	c->snapshots_end = (pos + 64 + strlen(id) + strlen(name) + 7) / 8 * 8;
	return pos;
}

struct qd_io *crafted_io(const struct crafted *c)
{
	struct qd_io *io = NULL;

	if (qd_io_mem_new(c->bytes, c->nbytes, true, &io, NULL))
		die("out of memory");
	return io;
}
