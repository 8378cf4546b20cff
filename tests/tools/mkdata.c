/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * mkdata FILE SIZE SEED KIND: test data, the same bytes for the same arguments.
 *
 *	random   every 512 bytes differ from all others
 *	dup50    half of the 64 KiB units are copies of other units, in shuffled order;
 *	         within the units that are not, half of the 4 KiB blocks are copies too
 *	dup50x64k  only the first: half of the 64 KiB units are copies, nothing else repeats
 *	sparse   runs of data between holes; about one sixteenth is data
 *	zeros    zeros that are written, not a hole
 *	text     words: compresses about as text does, no two clusters alike
 *
 * SIZE takes K, M, G and T and need not be a multiple of anything.  FILE may be "-".
 * Content is a function of (seed, position), so that any size is made in one pass and
 * in little memory.
 */
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define UNIT 65536u
#define BLOCK 4096u

struct out {
	int fd;
	bool can_seek;
	uint64_t size;
	uint64_t seed;
};

static void die(const char *what)
{
	fprintf(stderr, "mkdata: %s: %s\n", what, strerror(errno));
	exit(1);
}

/* splitmix64: good enough to make every input bit matter */
static uint64_t mix(uint64_t x)
{
	x += 0x9e3779b97f4a7c15u;
	x = (x ^ (x >> 30)) * 0xbf58476d1ce4e5b9u;
	x = (x ^ (x >> 27)) * 0x94d049bb133111ebu;
	return x ^ (x >> 31);
}

/* Bytes that depend on (seed, id) only: never zero as a whole, never equal for two ids. */
static void fill_random(uint8_t *buf, size_t nbytes, uint64_t seed, uint64_t id)
{
	uint64_t x = mix(seed) ^ mix(~id);
	size_t i;

	for (i = 0; i + 8 <= nbytes; i += 8) {
		x += 0x9e3779b97f4a7c15u;
		uint64_t v = mix(x);

		if (i % 512 == 0)
			v = id * (UNIT / 512) + i / 512 + 1;
		memcpy(buf + i, &v, 8);
	}
}

/*
 * A shuffle of 0..n-1 that needs no table: a Feistel network over the next power of
 * four, walked until it lands inside.
 */
static uint64_t permute(uint64_t v, uint64_t n, uint64_t seed)
{
	unsigned int half = 1;

	while ((1ull << (2 * half)) < n)
		half++;
	do {
		uint64_t mask = (1ull << half) - 1, left = v >> half, right = v & mask;

		for (uint64_t round = 0; round < 4; round++) {
			uint64_t next = left ^ (mix(seed + round * 0x1000193u + right) & mask);

			left = right;
			right = next;
		}
		v = left << half | right;
	} while (v >= n);
	return v;
}

/* Position -> id of the content: positions p and p + n/2 of the shuffle have the same. */
static uint64_t halved(uint64_t pos, uint64_t n, uint64_t seed)
{
	uint64_t v = permute(pos, n, seed);

	return v >= (n + 1) / 2 ? v - (n + 1) / 2 : v;
}

static void fill_dup(uint8_t *buf, const struct out *o, uint64_t unit, bool blocks_too)
{
	uint64_t units = (o->size + UNIT - 1) / UNIT;
	uint64_t id = halved(unit, units, o->seed);
	uint64_t per_unit = UNIT / BLOCK, distinct = (units + 1) / 2;

	if (!blocks_too) {
		fill_random(buf, UNIT, o->seed, id);
		return;
	}
	for (uint64_t i = 0; i < per_unit; i++) {
		uint64_t block = halved(id * per_unit + i, distinct * per_unit, o->seed + 1);

		fill_random(buf + i * BLOCK, BLOCK, o->seed, block);
	}
}

static void fill_text(uint8_t *buf, const struct out *o, uint64_t unit)
{
	static const char *const words[] = {
		"the", "cluster", "image", "of", "a", "journal", "and", "refcount", "table", "is",
		"written", "before", "snapshot", "which", "disk", "block", "offset", "in", "to", "entry",
		"allocates", "shared", "by", "guest", "host", "data", "metadata", "never", "hash", "size",
		"sector", "backing",
	};
	size_t n = 0;
	uint64_t x = mix(o->seed) ^ unit;
	char word[64];

	while (n < UNIT) {
		x = mix(x);
		int len = x % 97 == 0 ? snprintf(word, sizeof(word), "%llu.\n", (unsigned long long)(x >> 20))
				      : snprintf(word, sizeof(word), "%s ", words[x % 32]);
		size_t take = (size_t)len < UNIT - n ? (size_t)len : UNIT - n;

		memcpy(buf + n, word, take);
		n += take;
	}
	memcpy(buf, &unit, sizeof(unit));
}

/* Runs of 1 to 8 units of data, about 15 times as much nothing between them. */
static bool is_data(const struct out *o, uint64_t unit)
{
	uint64_t group = unit / 64, run = 1 + mix(o->seed ^ group) % 7;
	uint64_t start = mix(o->seed + group) % (64 - run);

	return unit % 64 >= start && unit % 64 < start + run;
}

static void put(const struct out *o, const uint8_t *buf, size_t nbytes)
{
	while (nbytes > 0) {
		ssize_t n = write(o->fd, buf, nbytes);

		if (n < 0)
			die("write");
		buf += n;
		nbytes -= (size_t)n;
	}
}

static void generate(struct out *o, const char *kind)
{
	static uint8_t buf[UNIT];
	bool sparse = strcmp(kind, "sparse") == 0;

	for (uint64_t unit = 0; unit * UNIT < o->size; unit++) {
		uint64_t left = o->size - unit * UNIT;
		size_t nbytes = left < UNIT ? (size_t)left : UNIT;

		if (sparse && !is_data(o, unit) && o->can_seek) {
			if (lseek(o->fd, (off_t)nbytes, SEEK_CUR) < 0)
				die("lseek");
			continue;
		}
		if (strcmp(kind, "zeros") == 0 || (sparse && !is_data(o, unit)))
			memset(buf, 0, UNIT);
		else if (strcmp(kind, "dup50") == 0)
			fill_dup(buf, o, unit, true);
		else if (strcmp(kind, "dup50x64k") == 0)
			fill_dup(buf, o, unit, false);
		else if (strcmp(kind, "text") == 0)
			fill_text(buf, o, unit);
		else
			fill_random(buf, UNIT, o->seed, unit);
		put(o, buf, nbytes);
	}
	if (o->can_seek && ftruncate(o->fd, (off_t)o->size) < 0)
		die("ftruncate");
}

static uint64_t parse_size(const char *s)
{
	static const char suffixes[] = "KMGT";
	char *end;
	uint64_t v = strtoull(s, &end, 10);
	const char *p = *end ? strchr(suffixes, *end) : NULL;

	if (p) {
		v <<= 10 * (p - suffixes + 1);
		end++;
	}
	if (end == s || *end) {
		fprintf(stderr, "mkdata: %s: not a size\n", s);
		exit(1);
	}
	return v;
}

int main(int argc, char **argv)
{
	static const char kinds[] = " random dup50 dup50x64k sparse zeros text ";
	struct out o = { .fd = 1 };
	char word[32];

	if (argc != 5) {
		fprintf(stderr, "usage: mkdata FILE SIZE SEED KIND; KIND is one of%s\n", kinds);
		return 1;
	}
	snprintf(word, sizeof(word), " %s ", argv[4]);
	if (!strstr(kinds, word)) {
		fprintf(stderr, "mkdata: %s: not one of%s\n", argv[4], kinds);
		return 1;
	}
	o.size = parse_size(argv[2]);
	o.seed = parse_size(argv[3]);
	if (strcmp(argv[1], "-") != 0) {
		o.can_seek = true;
		o.fd = open(argv[1], O_WRONLY | O_CREAT | O_TRUNC, 0666);
		if (o.fd < 0)
			die(argv[1]);
	}
	generate(&o, argv[4]);
	return close(o.fd) == 0 ? 0 : 1;
}
