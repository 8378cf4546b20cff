/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * damage FILE STATEMENT...		(or "-": one per line from standard input, # comments)
 *
 * Edits a qcow2 file in place, by the names of places:
 *
 *	damage disk.qcow2 'l1[0] = refblock[0] | COPIED' 'header.snapshot_count = 3'
 *
 *	PLACE = VALUE          PLACE += VALUE        truncate = VALUE
 *	fill OFFSET, LENGTH, BYTE
 *	print VALUE
 *
 * places (values too: what is there now)
 *	header.FIELD                version backing_off backing_len cluster_bits size crypt l1_entries
 *	                            l1_off reftable_off reftable_clusters snapshot_count snapshots_off
 *	                            incompatible compatible autoclear refcount_order header_length compression
 *	l1[N]  l2[GUEST]  bitmap[GUEST]       entries of the active layer; bitmap: of an extended entry
 *	snap[N].l1[N]  snap[N].l2[GUEST]  snap[N].bitmap[GUEST]
 *	snap[N].FIELD               l1_off l1_entries id_len name_len extra_len disk_size
 *	reftable[N]                 refcount table entry
 *	refcount[HOST]              count of the cluster at this host offset, of any width
 *	ext[TYPE].len  ext[TYPE].be32[N]  ext[TYPE].be64[N]    header extension, N a byte of its data
 *	be16[OFF]  be32[OFF]  be64[OFF]  byte[OFF]
 * values
 *	NUMBER (0x.., K M G T)  + - * / | & ~ ( )
 *	host[GUEST]  snap[N].host[GUEST]   host offset of the cluster
 *	table[N]  snap[N].table[N]         host offset of the L2 table
 *	refblock[N]                        host offset of the refcount block
 *	CLUSTER  END (size, up to a full cluster)  SPAN (bytes that an L2 table maps)
 *	COPIED  COMPRESSED  ZERO
 *	BITMAPS  CRYPTO  DATAFILE  NAMES   types of extensions
 *	new                                a cluster of zeros added at the end; its refcount is not set
 */
#include <ctype.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#define OFFSET_MASK 0x00fffffffffffe00ull

static int fd;
static const char *at;		/* what is left of the statement */
static const char *statement;

struct place {
	uint64_t off;		/* byte in the file */
	unsigned nbytes;
	unsigned bits;		/* 0: the whole; else a count of so many bits ... */
	unsigned shift;		/* ... at this position of the byte */
};

static void die(const char *why)
{
	fprintf(stderr, "damage: %s: %s, at '%s'\n", statement ? statement : "", why, at ? at : "");
	exit(1);
}

/* ---- the file ---- */

static uint64_t get(uint64_t off, unsigned nbytes)
{
	uint8_t b[8] = { 0 };
	uint64_t v = 0;

	if (pread(fd, b, nbytes, (off_t)off) < 0)
		die("cannot read");
	for (unsigned i = 0; i < nbytes; i++)
		v = v << 8 | b[i];
	return v;
}

static void put(uint64_t off, unsigned nbytes, uint64_t v)
{
	uint8_t b[8];

	for (unsigned i = nbytes; i-- > 0; v >>= 8)
		b[i] = (uint8_t)v;
	if (pwrite(fd, b, nbytes, (off_t)off) != (ssize_t)nbytes)
		die("cannot write");
}

static uint64_t file_size(void)
{
	struct stat st;

	if (fstat(fd, &st) < 0)
		die("cannot stat");
	return (uint64_t)st.st_size;
}

static uint64_t cluster_size(void)
{
	uint64_t bits = get(20, 4);

	return bits >= 9 && bits <= 21 ? 1ull << bits : 65536;
}

static bool is_extended(void)
{
	return get(4, 4) >= 3 && (get(72, 8) & 16);
}

static uint64_t span(void)
{
	return cluster_size() / (is_extended() ? 16 : 8) * cluster_size();
}

static uint64_t end_of_file(void)
{
	uint64_t cs = cluster_size();

	return (file_size() + cs - 1) / cs * cs;
}

static uint64_t new_cluster(void)
{
	uint64_t end = end_of_file();

	if (ftruncate(fd, (off_t)(end + cluster_size())) < 0)
		die("cannot grow the file");
	return end;
}

/* ---- words ---- */

static void skip(void)
{
	while (isspace((unsigned char)*at))
		at++;
}

static bool take(const char *text)
{
	size_t n = strlen(text);

	skip();
	if (strncmp(at, text, n) != 0)
		return false;
	if (isalpha((unsigned char)text[0]) && (isalnum((unsigned char)at[n]) || at[n] == '_'))
		return false;
	at += n;
	return true;
}

static void expect(const char *text)
{
	if (!take(text)) {
		fprintf(stderr, "damage: expected '%s'\n", text);
		die("syntax");
	}
}

static uint64_t value(void);

static uint64_t subscript(void)
{
	uint64_t v;

	expect("[");
	v = value();
	expect("]");
	return v;
}

/* ---- places ---- */

static const struct {
	const char *name;
	uint8_t off, nbytes;
} header_fields[] = {
	{ "magic", 0, 4 }, { "version", 4, 4 }, { "backing_off", 8, 8 }, { "backing_len", 16, 4 },
	{ "cluster_bits", 20, 4 }, { "size", 24, 8 }, { "crypt", 32, 4 }, { "l1_entries", 36, 4 },
	{ "l1_off", 40, 8 }, { "reftable_off", 48, 8 }, { "reftable_clusters", 56, 4 },
	{ "snapshot_count", 60, 4 }, { "snapshots_off", 64, 8 }, { "incompatible", 72, 8 },
	{ "compatible", 80, 8 }, { "autoclear", 88, 8 }, { "refcount_order", 96, 4 },
	{ "header_length", 100, 4 }, { "compression", 104, 1 },
}, snapshot_fields[] = {
	{ "l1_off", 0, 8 }, { "l1_entries", 8, 4 }, { "id_len", 12, 2 }, { "name_len", 14, 2 },
	{ "extra_len", 36, 4 }, { "disk_size", 48, 8 },
};

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))

/* Where the L1 table is, and how long: of the active layer, or of the snapshot whose entry is at `snap`. */
static uint64_t l1_entry_off(uint64_t snap, uint64_t i)
{
	return (snap ? get(snap, 8) : get(40, 8)) + i * 8;
}

static uint64_t l2_entry_off(uint64_t snap, uint64_t guest)
{
	uint64_t table = get(l1_entry_off(snap, guest / span()), 8) & OFFSET_MASK;

	if (table == 0)
		die("there is no L2 table");
	return table + guest % span() / cluster_size() * (is_extended() ? 16 : 8);
}

static uint64_t snapshot_off(uint64_t n)
{
	uint64_t off = get(64, 8);

	while (n-- > 0) {
		off += 40 + get(off + 36, 4) + get(off + 12, 2) + get(off + 14, 2);
		off = (off + 7) & ~7ull;
	}
	return off;
}

static uint64_t refblock_off(uint64_t i)
{
	return get(get(48, 8) + i * 8, 8) & ~511ull;
}

static struct place refcount_place(uint64_t host)
{
	unsigned order = get(4, 4) >= 3 ? (unsigned)get(96, 4) : 4, bits = 1u << order;
	uint64_t n = host / cluster_size(), per_block = cluster_size() * 8 / bits, i = n % per_block;
	uint64_t block = refblock_off(n / per_block);

	if (block == 0)
		die("there is no refcount block");
	if (bits >= 8)
		return (struct place){ .off = block + i * bits / 8, .nbytes = bits / 8 };
	return (struct place){ .off = block + i * bits / 8, .nbytes = 1, .bits = bits,
			       .shift = (unsigned)(i * bits % 8) };
}

static struct place ext_place(void)
{
	uint64_t type = subscript();
	uint64_t off = get(4, 4) >= 3 ? get(100, 4) : 72;

	while (get(off, 4) != type) {
		if (get(off, 4) == 0 || off > cluster_size())
			die("there is no such extension");
		off += 8 + ((get(off + 4, 4) + 7) & ~7ull);
	}
	expect(".");
	if (take("len"))
		return (struct place){ .off = off + 4, .nbytes = 4 };
	if (take("be32"))
		return (struct place){ .off = off + 8 + subscript(), .nbytes = 4 };
	expect("be64");
	return (struct place){ .off = off + 8 + subscript(), .nbytes = 8 };
}

/* What is the same for the active layer and for snapshots. */
static bool layer_place(uint64_t snap, struct place *ret)
{
	if (take("l1"))
		*ret = (struct place){ .off = l1_entry_off(snap, subscript()), .nbytes = 8 };
	else if (take("l2"))
		*ret = (struct place){ .off = l2_entry_off(snap, subscript()), .nbytes = 8 };
	else if (take("bitmap"))
		*ret = (struct place){ .off = l2_entry_off(snap, subscript()) + 8, .nbytes = 8 };
	else
		return false;
	return true;
}

static bool snapshot_place(uint64_t snap, struct place *ret)
{
	if (layer_place(snap, ret))
		return true;
	for (size_t i = 0; i < COUNT(snapshot_fields); i++) {
		if (take(snapshot_fields[i].name)) {
			*ret = (struct place){ .off = snap + snapshot_fields[i].off, .nbytes = snapshot_fields[i].nbytes };
			return true;
		}
	}
	return false;
}

static bool header_place(struct place *ret)
{
	for (size_t i = 0; i < COUNT(header_fields); i++) {
		if (take(header_fields[i].name)) {
			*ret = (struct place){ .off = header_fields[i].off, .nbytes = header_fields[i].nbytes };
			return true;
		}
	}
	die("no such field");
	return false;
}

static bool place(struct place *ret)
{
	if (take("header") && take("."))
		return header_place(ret);
	if (take("reftable"))
		*ret = (struct place){ .off = get(48, 8) + subscript() * 8, .nbytes = 8 };
	else if (take("refcount"))
		*ret = refcount_place(subscript());
	else if (take("ext"))
		*ret = ext_place();
	else if (take("be64"))
		*ret = (struct place){ .off = subscript(), .nbytes = 8 };
	else if (take("be32"))
		*ret = (struct place){ .off = subscript(), .nbytes = 4 };
	else if (take("be16"))
		*ret = (struct place){ .off = subscript(), .nbytes = 2 };
	else if (take("byte"))
		*ret = (struct place){ .off = subscript(), .nbytes = 1 };
	else
		return layer_place(0, ret);
	return true;
}

static uint64_t read_place(const struct place *p)
{
	uint64_t v = get(p->off, p->nbytes);

	return p->bits ? v >> p->shift & ((1u << p->bits) - 1) : v;
}

static void write_place(const struct place *p, uint64_t v)
{
	uint64_t mask;

	if (p->bits) {
		mask = (((1u << p->bits) - 1) << p->shift);
		v = (get(p->off, 1) & ~mask) | (v << p->shift & mask);
	}
	put(p->off, p->nbytes, v);
}

/* ---- values ---- */

static uint64_t number(void)
{
	char *end;
	uint64_t v = strtoull(at, &end, 0);

	if (end == at)
		die("expected a value");
	at = end;
	switch (*at) {
	case 'T':
		v <<= 10; /* fall through */
	case 'G':
		v <<= 10; /* fall through */
	case 'M':
		v <<= 10; /* fall through */
	case 'K':
		v <<= 10;
		at++;
	}
	return v;
}

static bool layer_value(uint64_t snap, uint64_t *ret)
{
	if (take("host"))
		*ret = get(l2_entry_off(snap, subscript()), 8) & OFFSET_MASK;
	else if (take("table"))
		*ret = get(l1_entry_off(snap, subscript()), 8) & OFFSET_MASK;
	else
		return false;
	return true;
}

static bool constant(uint64_t *ret)
{
	static const struct {
		const char *name;
		uint64_t v;
	} constants[] = {
		{ "COPIED", 1ull << 63 }, { "COMPRESSED", 1ull << 62 }, { "ZERO", 1 },
		{ "BITMAPS", 0x23852875 }, { "CRYPTO", 0x0537be77 }, { "DATAFILE", 0x44415441 },
		{ "NAMES", 0x6803f857 },
	};

	for (size_t i = 0; i < COUNT(constants); i++) {
		if (take(constants[i].name)) {
			*ret = constants[i].v;
			return true;
		}
	}
	if (take("CLUSTER"))
		*ret = cluster_size();
	else if (take("END"))
		*ret = end_of_file();
	else if (take("SPAN"))
		*ret = span();
	else if (take("new"))
		*ret = new_cluster();
	else
		return false;
	return true;
}

static uint64_t term(void)
{
	struct place p;
	uint64_t v;

	if (take("(")) {
		v = value();
		expect(")");
		return v;
	}
	if (take("~"))
		return ~term();
	if (constant(&v) || layer_value(0, &v))
		return v;
	if (take("refblock"))
		return refblock_off(subscript());
	if (take("snap")) {
		uint64_t snap = snapshot_off(subscript());

		expect(".");
		if (layer_value(snap, &v))
			return v;
		if (!snapshot_place(snap, &p))
			die("no such field of a snapshot");
		return read_place(&p);
	}
	if (place(&p))
		return read_place(&p);
	skip();
	return number();
}

static uint64_t product(void)
{
	uint64_t v = term();

	for (;;) {
		if (take("*"))
			v *= term();
		else if (take("/"))
			v /= term();
		else
			return v;
	}
}

static uint64_t sum(void)
{
	uint64_t v = product();

	for (;;) {
		if (take("+"))
			v += product();
		else if (take("-"))
			v -= product();
		else
			return v;
	}
}

static uint64_t value(void)
{
	uint64_t v = sum();

	for (;;) {
		if (take("|"))
			v |= sum();
		else if (take("&"))
			v &= sum();
		else
			return v;
	}
}

/* ---- statements ---- */

static void fill(void)
{
	uint64_t off = value(), nbytes, byte;
	uint8_t *buf;

	expect(",");
	nbytes = value();
	expect(",");
	byte = value();
	buf = malloc(nbytes ? nbytes : 1);
	if (!buf)
		die("memory");
	memset(buf, (int)byte, nbytes);
	if (pwrite(fd, buf, nbytes, (off_t)off) != (ssize_t)nbytes)
		die("cannot write");
	free(buf);
}

static void assign(void)
{
	struct place p = { .nbytes = 0 };
	uint64_t v;

	if (take("snap")) {
		uint64_t snap = snapshot_off(subscript());

		expect(".");
		if (!snapshot_place(snap, &p))
			die("no such field of a snapshot");
	} else if (!place(&p)) {
		die("no such place");
	}
	if (take("+=")) {
		v = read_place(&p) + value();
	} else {
		expect("=");
		v = value();
	}
	write_place(&p, v);
}

static void run(const char *text)
{
	statement = at = text;
	skip();
	if (!*at || *at == '#')
		return;
	if (take("truncate")) {
		expect("=");
		if (ftruncate(fd, (off_t)value()) < 0)
			die("cannot truncate");
	} else if (take("fill")) {
		fill();
	} else if (take("print")) {
		printf("%" PRIu64 "\n", value());
	} else {
		assign();
	}
	skip();
	if (*at)
		die("more than one statement");
}

int main(int argc, char **argv)
{
	char *line = NULL;
	size_t size = 0;

	if (argc < 3) {
		fprintf(stderr, "usage: damage FILE STATEMENT...\n");
		return 2;
	}
	fd = open(argv[1], O_RDWR);
	if (fd < 0) {
		perror(argv[1]);
		return 1;
	}
	for (int i = 2; i < argc; i++) {
		if (strcmp(argv[i], "-") != 0) {
			run(argv[i]);
			continue;
		}
		while (getline(&line, &size, stdin) > 0) {
			line[strcspn(line, "\n")] = '\0';
			run(line);
		}
	}
	free(line);
	return close(fd) < 0;
}
