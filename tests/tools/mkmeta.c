/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkmeta FILE SIZE CLUSTER [half|full] [order|random] [SEED]
 *
 * Makes a sound qcow2 image of which only the metadata is written: data clusters are
 * holes of a sparse file, so that an image of terabytes takes megabytes on disk.  For
 * measuring what walks metadata.
 *
 *	full    every guest cluster is mapped
 *	half    every second one is
 *	order   host clusters ascend with guest clusters
 *	random  they are a permutation
 *
 *	header | refcount table | refcount blocks | L1 | L2 ... | data ...
 *
 * Refcounts have 16 bits and are 1.  With "order", L2 tables lie where QEMU would have
 * put them: before the first data cluster that they map.
 */
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define COPIED (1ull << 63)

struct image {
	int fd;
	uint64_t size, cluster, l2_entries;
	uint64_t guest_clusters, l2_tables, mapped;
	uint64_t nclusters;	/* of the file */
	uint64_t blocks, table_clusters, l1_clusters;
	uint64_t first;		/* cluster after L1 */
	unsigned step;		/* every step-th guest cluster is mapped */
	bool random;
	uint64_t seed;
	unsigned half_bits;	/* of the permutation's domain */
};

static void die(const char *what)
{
	perror(what);
	exit(1);
}

static uint64_t parse_size(const char *text)
{
	char *end;
	uint64_t v = strtoull(text, &end, 10);

	switch (*end) {
	case 'T':
		v <<= 10; /* fall through */
	case 'G':
		v <<= 10; /* fall through */
	case 'M':
		v <<= 10; /* fall through */
	case 'K':
		v <<= 10;
	}
	return v;
}

static void put(uint8_t *p, uint64_t v, int nbytes)
{
	while (nbytes-- > 0) {
		p[nbytes] = (uint8_t)v;
		v >>= 8;
	}
}

static void write_at(const struct image *m, const void *buf, uint64_t nbytes, uint64_t off)
{
	if (pwrite(m->fd, buf, nbytes, (off_t)off) != (ssize_t)nbytes)
		die("write");
}

static uint64_t mix(uint64_t v)
{
	v = (v ^ (v >> 31)) * 0x9e3779b97f4a7c15ull;
	v = (v ^ (v >> 29)) * 0xbf58476d1ce4e5b9ull;
	return v ^ (v >> 32);
}

/* A permutation of [0, mapped): four Feistel rounds on a power of four, walked until inside. */
static uint64_t permute(const struct image *m, uint64_t v)
{
	uint64_t mask = (1ull << m->half_bits) - 1;

	do {
		uint64_t a = v >> m->half_bits, b = v & mask;

		for (uint64_t round = 0; round < 4; round++) {
			uint64_t next = a ^ (mix(b + (round << 40) + m->seed) & mask);

			a = b;
			b = next;
		}
		v = a << m->half_bits | b;
	} while (v >= m->mapped);
	return v;
}

/* Mapped guest clusters in one full L2 table. */
static uint64_t per_table(const struct image *m)
{
	return m->l2_entries / m->step;
}

static uint64_t l2_cluster(const struct image *m, uint64_t table)
{
	return m->random ? m->first + table : m->first + table * (per_table(m) + 1);
}

static uint64_t data_cluster(const struct image *m, uint64_t number)
{
	if (m->random)
		return m->first + m->l2_tables + permute(m, number);
	return m->first + number / per_table(m) + 1 + number;
}

static void lay_out(struct image *m)
{
	uint64_t others, blocks = 0, table = 0;

	m->l2_entries = m->cluster / 8;
	m->guest_clusters = m->size / m->cluster;
	m->l2_tables = (m->guest_clusters + m->l2_entries - 1) / m->l2_entries;
	m->mapped = m->guest_clusters / m->step;
	m->l1_clusters = (m->l2_tables * 8 + m->cluster - 1) / m->cluster;
	others = 1 + m->l1_clusters + m->l2_tables + m->mapped;
	do {
		m->blocks = blocks;
		m->table_clusters = table;
		blocks = (others + m->blocks + m->table_clusters + m->cluster / 2 - 1) / (m->cluster / 2);
		table = (blocks * 8 + m->cluster - 1) / m->cluster;
	} while (blocks != m->blocks || table != m->table_clusters);
	m->nclusters = others + blocks + table;
	m->first = 1 + table + blocks + m->l1_clusters;
	while (1ull << (2 * m->half_bits) < m->mapped)
		m->half_bits++;
}

static void write_header(const struct image *m)
{
	uint8_t h[112] = { 'Q', 'F', 'I', 0xfb };

	put(h + 4, 3, 4);
	put(h + 20, (uint64_t)__builtin_ctzll(m->cluster), 4);
	put(h + 24, m->size, 8);
	put(h + 36, m->l2_tables, 4);
	put(h + 40, (1 + m->table_clusters + m->blocks) * m->cluster, 8);
	put(h + 48, m->cluster, 8);
	put(h + 56, m->table_clusters, 4);
	put(h + 96, 4, 4);
	put(h + 100, 112, 4);
	write_at(m, h, sizeof(h), 0);
}

static void write_refcounts(const struct image *m)
{
	uint8_t *table = calloc(m->table_clusters, m->cluster), *block = malloc(m->cluster);
	uint64_t per_block = m->cluster / 2;

	if (!table || !block)
		die("memory");
	for (uint64_t i = 0; i < m->blocks; i++) {
		uint64_t at = 1 + m->table_clusters + i, left = m->nclusters - i * per_block;

		put(table + i * 8, at * m->cluster, 8);
		memset(block, 0, m->cluster);
		for (uint64_t k = 0; k < per_block && k < left; k++)
			block[k * 2 + 1] = 1;
		write_at(m, block, m->cluster, at * m->cluster);
	}
	write_at(m, table, m->table_clusters * m->cluster, m->cluster);
	free(table);
	free(block);
}

static void write_tables(const struct image *m)
{
	uint8_t *l1 = calloc(m->l1_clusters, m->cluster), *l2 = malloc(m->cluster);
	uint64_t number = 0;

	if (!l1 || !l2)
		die("memory");
	for (uint64_t t = 0; t < m->l2_tables; t++) {
		memset(l2, 0, m->cluster);
		for (uint64_t i = 0; i < m->l2_entries && number < m->mapped; i += m->step)
			put(l2 + i * 8, COPIED | data_cluster(m, number++) * m->cluster, 8);
		put(l1 + t * 8, COPIED | l2_cluster(m, t) * m->cluster, 8);
		write_at(m, l2, m->cluster, l2_cluster(m, t) * m->cluster);
	}
	write_at(m, l1, m->l1_clusters * m->cluster, (1 + m->table_clusters + m->blocks) * m->cluster);
	free(l1);
	free(l2);
}

int main(int argc, char **argv)
{
	struct image m = { .step = 1, .seed = 1 };

	if (argc < 4) {
		fprintf(stderr, "usage: mkmeta FILE SIZE CLUSTER [half|full] [order|random] [SEED]\n");
		return 2;
	}
	m.size = parse_size(argv[2]);
	m.cluster = parse_size(argv[3]);
	if (argc > 4 && !strcmp(argv[4], "half"))
		m.step = 2;
	m.random = argc > 5 && !strcmp(argv[5], "random");
	if (argc > 6)
		m.seed = strtoull(argv[6], NULL, 10);
	lay_out(&m);
	m.fd = open(argv[1], O_RDWR | O_CREAT | O_TRUNC, 0666);
	if (m.fd < 0 || ftruncate(m.fd, (off_t)(m.nclusters * m.cluster)) < 0)
		die(argv[1]);
	write_header(&m);
	write_refcounts(&m);
	write_tables(&m);
	if (close(m.fd) < 0)
		die("close");
	return 0;
}
