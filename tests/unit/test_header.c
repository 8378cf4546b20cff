/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header against hand-placed bytes: what is read from where, and what is refused
 * with which words.
 */
#include "format/header.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "rows.h"
#include "suites.h"

#define COUNT(a) (sizeof(a) / sizeof((a)[0]))
#define KIB 1024u
#define CLUSTER (64 * KIB)

struct patch {
	unsigned int off;
	unsigned int width;	/* bytes; 0: no patch */
	uint64_t value;
};

static void put(uint8_t *buf, unsigned int off, unsigned int width, uint64_t value)
{
	for (unsigned int i = 0; i < width; i++)
		buf[off + i] = (uint8_t)(value >> (8 * (width - 1 - i)));
}

static void apply(uint8_t *buf, const struct patch *p, size_t count)
{
	for (size_t i = 0; i < count; i++)
		put(buf, p[i].off, p[i].width, p[i].value);
}

/* A disk of 1 GiB at 64 KiB clusters: two L1 entries are needed and there. */
static const struct patch base_fields[] = {
	{ 0, 4, 0x514649fb }, { 4, 4, 3 }, { 20, 4, 16 }, { 24, 8, 1u << 30 }, { 36, 4, 2 },
	{ 40, 8, 0x30000 }, { 48, 8, 0x10000 }, { 56, 4, 1 }, { 96, 4, 4 }, { 100, 4, 112 },
};

static void base_header(uint8_t *buf, size_t nbytes)
{
	memset(buf, 0, nbytes);
	apply(buf, base_fields, COUNT(base_fields));
}

static void rows_cover_every_byte_once(void)
{
	struct qd_header h;

	CU_ASSERT_TRUE(rows_are_contiguous(&qd_header_fields, 4, 105));
	CU_ASSERT_TRUE(rows_are_distinct(&qd_header_fields, 4, 105, &h, sizeof(h)));
}

static void every_member_comes_from_its_offset(void)
{
	uint8_t buf[128];
	struct qd_header h;

	for (size_t i = 0; i < sizeof(buf); i++)
		buf[i] = (uint8_t)i;
	put(buf, 0, 8, 0x514649fb00000003);
	CU_ASSERT_EQUAL(qd_header_decode_raw(buf, sizeof(buf), &h, NULL), 0);
	CU_ASSERT_EQUAL(h.version, 3);
	CU_ASSERT_EQUAL(h.backing_name_off, 0x08090a0b0c0d0e0f);
	CU_ASSERT_EQUAL(h.backing_name_len, 0x10111213);
	CU_ASSERT_EQUAL(h.cluster_bits, 0x14151617);
	CU_ASSERT_EQUAL(h.virtual_size, 0x18191a1b1c1d1e1f);
	CU_ASSERT_EQUAL(h.crypt_method, 0x20212223);
	CU_ASSERT_EQUAL(h.l1_entries, 0x24252627);
	CU_ASSERT_EQUAL(h.l1_off, 0x28292a2b2c2d2e2f);
	CU_ASSERT_EQUAL(h.reftable_off, 0x3031323334353637);
	CU_ASSERT_EQUAL(h.reftable_clusters, 0x38393a3b);
	CU_ASSERT_EQUAL(h.snapshot_count, 0x3c3d3e3f);
	CU_ASSERT_EQUAL(h.snapshots_off, 0x4041424344454647);
	CU_ASSERT_EQUAL(h.incompatible, 0x48494a4b4c4d4e4f);
	CU_ASSERT_EQUAL(h.compatible, 0x5051525354555657);
	CU_ASSERT_EQUAL(h.autoclear, 0x58595a5b5c5d5e5f);
	CU_ASSERT_EQUAL(h.refcount_order, 0x60616263);
	CU_ASSERT_EQUAL(h.header_length, 0x64656667);
	CU_ASSERT_EQUAL(h.compression_type, 0x68);
}

static void version_2_has_the_implied_values(void)
{
	uint8_t buf[112];
	struct qd_header h;

	base_header(buf, sizeof(buf));
	memset(buf + 72, 0xff, sizeof(buf) - 72);
	put(buf, 4, 4, 2);
	CU_ASSERT_EQUAL_FATAL(qd_header_decode(buf, sizeof(buf), &h, NULL), 0);
	CU_ASSERT_EQUAL(h.incompatible | h.compatible | h.autoclear, 0);
	CU_ASSERT_EQUAL(h.refcount_order, 4);
	CU_ASSERT_EQUAL(h.header_length, 72);
	CU_ASSERT_EQUAL(h.compression_type, 0);
	CU_ASSERT_EQUAL(qd_header_decode(buf, 72, &h, NULL), 0);
}

static void compression_type_is_absent_from_a_header_of_104(void)
{
	uint8_t buf[112];
	struct qd_header h;

	base_header(buf, sizeof(buf));
	put(buf, 100, 4, 104);
	put(buf, 104, 1, 1);
	CU_ASSERT_EQUAL_FATAL(qd_header_decode(buf, sizeof(buf), &h, NULL), 0);
	CU_ASSERT_EQUAL(h.compression_type, 0);
	CU_ASSERT_EQUAL(qd_header_decode(buf, 104, &h, NULL), 0);
}

static void encode_gives_the_bytes_that_were_decoded(void)
{
	static const struct { uint32_t version, length; } cases[] = {
		{ 2, 72 }, { 3, 104 }, { 3, 112 }, { 3, 120 }, { 3, 4096 },
	};
	uint8_t in[4096];
	uint8_t out[4096 + 1];
	struct qd_header h;

	for (size_t i = 0; i < COUNT(cases); i++) {
		base_header(in, sizeof(in));
		put(in, 4, 4, cases[i].version);
		put(in, 100, 4, cases[i].version == 2 ? 0 : cases[i].length);
		put(in, 96, 4, cases[i].version == 2 ? 0 : 6);
		put(in, 80, 8, cases[i].version == 2 ? 0 : 0x8000000000000001);
		memset(out, 0xee, sizeof(out));
		CU_ASSERT_EQUAL_FATAL(qd_header_decode(in, sizeof(in), &h, NULL), 0);
		CU_ASSERT_EQUAL(qd_header_encode(&h, out), cases[i].length);
		CU_ASSERT_EQUAL(memcmp(in, out, cases[i].length), 0);
		CU_ASSERT_EQUAL(out[cases[i].length], 0xee);
	}
}

struct refusal {
	const char *claim;
	struct patch patch[3];
	int code;
	const char *msg;
};

static const struct refusal refusals[] = {
	{ "magic", { { 0, 4, 0x514649fc } }, QD_E_CORRUPT, "header: not a qcow2 image" },
	{ "version 0", { { 4, 4, 0 } }, QD_E_UNSUPPORTED, "header: unsupported qcow2 version 0" },
	{ "version 1", { { 4, 4, 1 } }, QD_E_UNSUPPORTED, "header: unsupported qcow2 version 1" },
	{ "version 4", { { 4, 4, 4 } }, QD_E_UNSUPPORTED, "header: unsupported qcow2 version 4" },
	{ "cluster_bits 8", { { 20, 4, 8 } }, QD_E_CORRUPT, "header: cluster_bits is 8, expected 9..21" },
	{ "cluster_bits 22", { { 20, 4, 22 } }, QD_E_CORRUPT, "header: cluster_bits is 22, expected 9..21" },
	{ "cluster_bits 2^32-1", { { 20, 4, 0xffffffff } }, QD_E_CORRUPT,
	  "header: cluster_bits is 4294967295, expected 9..21" },
	{ "cluster_bits 8 in version 2", { { 4, 4, 2 }, { 20, 4, 8 } }, QD_E_CORRUPT,
	  "header: cluster_bits is 8, expected 9..21" },
	{ "header_length 103", { { 100, 4, 103 } }, QD_E_CORRUPT,
	  "header: header_length is 103, expected at least 104" },
	{ "header_length 108", { { 100, 4, 108 } }, QD_E_CORRUPT,
	  "header: header_length is 108, expected a multiple of 8" },
	{ "header_length past the cluster", { { 100, 4, CLUSTER + 8 } }, QD_E_CORRUPT,
	  "header: header_length is 65544, expected at most the cluster size 65536" },
	{ "incompatible bit 5", { { 72, 8, 1u << 5 } }, QD_E_UNSUPPORTED,
	  "header: unknown incompatible feature bit 5" },
	{ "incompatible bits 6 and 63", { { 72, 8, 1ull << 63 | 1u << 6 | 1 } }, QD_E_UNSUPPORTED,
	  "header: unknown incompatible feature bits 6, 63" },
	{ "extended L2 at 8 KiB", { { 72, 8, 1u << 4 }, { 20, 4, 13 } }, QD_E_CORRUPT,
	  "header: cluster_bits is 13, expected 14..21 with extended L2 entries" },
	{ "refcount_order 7", { { 96, 4, 7 } }, QD_E_CORRUPT, "header: refcount_order is 7, expected 0..6" },
	{ "compression type 2", { { 72, 8, 8 }, { 104, 1, 2 } }, QD_E_UNSUPPORTED,
	  "header: compression_type is 2, expected 0..1" },
	{ "compression bit without type", { { 72, 8, 8 } }, QD_E_CORRUPT,
	  "header: compression_type is 0, expected another with incompatible bit 3" },
	{ "compression bit with a header of 104", { { 72, 8, 8 }, { 100, 4, 104 }, { 104, 1, 1 } },
	  QD_E_CORRUPT, "header: compression_type is 0, expected another with incompatible bit 3" },
	{ "compression type without bit", { { 104, 1, 1 } }, QD_E_CORRUPT,
	  "header: compression_type is 1, expected 0 without incompatible bit 3" },
	{ "crypt_method 3", { { 32, 4, 3 } }, QD_E_UNSUPPORTED, "header: crypt_method is 3, expected 0..2" },
	{ "backing name past the cluster", { { 8, 8, CLUSTER + 1 } }, QD_E_CORRUPT,
	  "header: backing_name_off is 0x10001, expected within the first cluster (0x10000 bytes)" },
	{ "backing name of 1024", { { 8, 8, 512 }, { 16, 4, 1024 } }, QD_E_CORRUPT,
	  "header: backing_name_len is 1024, expected at most 1023" },
	{ "backing name across the cluster end", { { 8, 8, CLUSTER - 4 }, { 16, 4, 5 } }, QD_E_CORRUPT,
	  "header: backing_name_len is 5, expected at most 4" },
	{ "no refcount table", { { 56, 4, 0 } }, QD_E_CORRUPT,
	  "header: reftable_clusters is 0, expected at least 1" },
	{ "refcount table past 8 MiB", { { 56, 4, 129 } }, QD_E_UNSUPPORTED,
	  "header: reftable_clusters is 129, expected at most 128" },
	{ "refcount table unaligned", { { 48, 8, 0x10200 } }, QD_E_CORRUPT,
	  "header: reftable_off is 0x10200, expected a multiple of the cluster size 0x10000" },
	{ "refcount table past 2^63", { { 48, 8, 0x7fffffffffff0000 } , { 56, 4, 2 } }, QD_E_CORRUPT,
	  "header: reftable_off is 0x7fffffffffff0000, expected a table that ends below 2^63" },
	{ "65537 snapshots", { { 60, 4, 65537 } }, QD_E_UNSUPPORTED,
	  "header: snapshot_count is 65537, expected at most 65536" },
	{ "snapshot table unaligned", { { 60, 4, 1 }, { 64, 8, 0x8000 } }, QD_E_CORRUPT,
	  "header: snapshots_off is 0x8000, expected a multiple of the cluster size 0x10000" },
	{ "snapshot table unaligned though empty", { { 64, 8, 1 } }, QD_E_CORRUPT,
	  "header: snapshots_off is 0x1, expected a multiple of the cluster size 0x10000" },
	{ "snapshot table past 2^63", { { 60, 4, 1 }, { 64, 8, 0xffffffffffff0000 } }, QD_E_CORRUPT,
	  "header: snapshots_off is 0xffffffffffff0000, expected a table that ends below 2^63" },
	{ "L1 past 32 MiB", { { 36, 4, 0x400001 } }, QD_E_UNSUPPORTED,
	  "header: l1_entries is 4194305, expected at most 4194304" },
	{ "L1 unaligned", { { 40, 8, 0x30008 } }, QD_E_CORRUPT,
	  "header: l1_off is 0x30008, expected a multiple of the cluster size 0x10000" },
	{ "L1 past 2^63", { { 40, 8, 0x8000000000000000 } }, QD_E_CORRUPT,
	  "header: l1_off is 0x8000000000000000, expected a table that ends below 2^63" },
	{ "L1 too small", { { 36, 4, 1 } }, QD_E_CORRUPT,
	  "header: l1_entries is 1, expected at least 2 for the virtual size 1073741824" },
	{ "L1 too small for the last byte", { { 24, 8, (1u << 30) + 1 } }, QD_E_CORRUPT,
	  "header: l1_entries is 2, expected at least 3 for the virtual size 1073741825" },
	{ "L1 too small with extended L2", { { 72, 8, 1u << 4 } }, QD_E_CORRUPT,
	  "header: l1_entries is 2, expected at least 4 for the virtual size 1073741824" },
	{ "disk larger than any L1", { { 24, 8, (1ull << 51) + 1 }, { 36, 4, 0x400000 } }, QD_E_UNSUPPORTED,
	  "header: virtual_size is 2251799813685249, expected at most 2251799813685248" },
	{ "disk of 2^64 - 1", { { 24, 8, UINT64_MAX }, { 36, 4, 0 } }, QD_E_UNSUPPORTED,
	  "header: virtual_size is 18446744073709551615, expected at most 2251799813685248" },
};

static void refuses_what_qemu_refuses_and_says_why(void)
{
	for (size_t i = 0; i < COUNT(refusals); i++) {
		const struct refusal *r = &refusals[i];
		struct qd_header h = { .version = 77 };
		struct qd_err err = { .code = 0 };
		uint8_t buf[112];
		int rc;

		base_header(buf, sizeof(buf));
		apply(buf, r->patch, COUNT(r->patch));
		rc = qd_header_decode(buf, sizeof(buf), &h, &err);
		if (rc != r->code || err.code != r->code || strcmp(err.msg, r->msg) != 0) {
			fprintf(stderr, "%s: %d \"%s\", expected %d \"%s\"\n", r->claim, rc, err.msg, r->code,
				r->msg);
			CU_FAIL("refusal");
		}
		CU_ASSERT_EQUAL(h.version, 77);
	}
}

struct acceptance {
	const char *claim;
	struct patch patch[3];
};

static const struct acceptance acceptances[] = {
	{ "as it is", { { 0, 0, 0 } } },
	{ "512 byte clusters", { { 20, 4, 9 }, { 24, 8, 65536 } } },
	{ "2 MiB clusters", { { 20, 4, 21 }, { 40, 8, 0x600000 }, { 48, 8, 0x200000 } } },
	{ "header_length of a whole cluster", { { 100, 4, CLUSTER } } },
	{ "all known incompatible bits", { { 72, 8, 0x1f }, { 104, 1, 1 }, { 36, 4, 4 } } },
	{ "unknown compatible and autoclear bits", { { 80, 8, UINT64_MAX }, { 88, 8, UINT64_MAX } } },
	{ "extended L2 at 16 KiB", { { 72, 8, 1u << 4 }, { 20, 4, 14 }, { 36, 4, 64 } } },
	{ "refcount_order 0", { { 96, 4, 0 } } },
	{ "refcount_order 6", { { 96, 4, 6 } } },
	{ "AES", { { 32, 4, 1 } } },
	{ "LUKS", { { 32, 4, 2 } } },
	{ "backing name of 1023", { { 8, 8, 512 }, { 16, 4, 1023 } } },
	{ "backing name up to the cluster end", { { 8, 8, CLUSTER - 4 }, { 16, 4, 4 } } },
	{ "backing name of no length at the cluster end", { { 8, 8, CLUSTER } } },
	{ "name length without a backing file", { { 16, 4, 0xffffffff } } },
	{ "refcount table of 8 MiB", { { 56, 4, 128 } } },
	{ "65536 snapshots", { { 60, 4, 65536 }, { 64, 8, 0x100000 } } },
	{ "L1 of 32 MiB", { { 36, 4, 0x400000 } } },
	{ "largest disk", { { 36, 4, 0x400000 }, { 24, 8, 1ull << 51 } } },
	{ "empty disk without L1", { { 36, 4, 0 }, { 24, 8, 0 }, { 40, 8, 0 } } },
	{ "disk size no multiple of 512", { { 24, 8, 4097 } } },
};

static void accepts_what_qemu_accepts(void)
{
	for (size_t i = 0; i < COUNT(acceptances); i++) {
		struct qd_header h;
		struct qd_err err = { .code = 0 };
		uint8_t buf[112];

		base_header(buf, sizeof(buf));
		apply(buf, acceptances[i].patch, COUNT(acceptances[i].patch));
		if (qd_header_decode(buf, sizeof(buf), &h, &err) != 0) {
			fprintf(stderr, "%s: %s\n", acceptances[i].claim, err.msg);
			CU_FAIL("acceptance");
		}
	}
}

static void refuses_a_header_cut_anywhere(void)
{
	uint8_t buf[112];
	struct qd_header h = { .version = 77 };

	base_header(buf, sizeof(buf));
	for (size_t n = 0; n < sizeof(buf); n++)
		CU_ASSERT_EQUAL(qd_header_decode(buf, n, &h, NULL), QD_E_CORRUPT);
	put(buf, 4, 4, 2);
	for (size_t n = 0; n < 72; n++)
		CU_ASSERT_EQUAL(qd_header_decode(buf, n, &h, NULL), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(h.version, 77);
}

static void raw_decoding_takes_what_can_be_read(void)
{
	for (size_t i = 0; i < COUNT(refusals); i++) {
		uint8_t buf[112];
		struct qd_header h;
		bool readable;

		base_header(buf, sizeof(buf));
		apply(buf, refusals[i].patch, COUNT(refusals[i].patch));
		readable = qd_get_be32(buf) == QD_MAGIC && (buf[7] == 2 || buf[7] == 3);
		CU_ASSERT_EQUAL(qd_header_decode_raw(buf, sizeof(buf), &h, NULL) == 0, readable);
	}
}

static void recognises_qcow2_by_its_magic(void)
{
	static const uint8_t magic[] = { 'Q', 'F', 'I', 0xfb };
	static const uint8_t other[] = { 'Q', 'F', 'I', 0xfa };

	CU_ASSERT_TRUE(qd_header_is_qcow2(magic, 4));
	CU_ASSERT_FALSE(qd_header_is_qcow2(magic, 3));
	CU_ASSERT_FALSE(qd_header_is_qcow2(other, 4));
}

/* A struct can say in version 2 what bytes cannot. */
static void version_2_refuses_what_it_cannot_say(void)
{
	static const struct { size_t member; size_t width; uint64_t value; } cases[] = {
		{ offsetof(struct qd_header, incompatible), 8, 1 },
		{ offsetof(struct qd_header, compatible), 8, 1 },
		{ offsetof(struct qd_header, autoclear), 8, 1 },
		{ offsetof(struct qd_header, refcount_order), 4, 3 },
		{ offsetof(struct qd_header, header_length), 4, 104 },
		{ offsetof(struct qd_header, compression_type), 1, 1 },
	};
	uint8_t buf[112];
	struct qd_header good, h;

	base_header(buf, sizeof(buf));
	put(buf, 4, 4, 2);
	CU_ASSERT_EQUAL_FATAL(qd_header_decode(buf, sizeof(buf), &good, NULL), 0);
	CU_ASSERT_EQUAL(qd_header_validate(&good, NULL), 0);
	for (size_t i = 0; i < COUNT(cases); i++) {
		h = good;
		memcpy((uint8_t *)&h + cases[i].member, &cases[i].value, cases[i].width);
		CU_ASSERT_EQUAL(qd_header_validate(&h, NULL), QD_E_CORRUPT);
	}
}

static void extensions_come_back_as_appended(void)
{
	static const char *const data[] = { "", "raw", "12345678", "123456789" };
	uint8_t buf[128];
	size_t pos = 8;
	struct qd_header_ext ext;

	memset(buf, 0xee, sizeof(buf));
	for (uint32_t i = 0; i < COUNT(data); i++)
		CU_ASSERT_EQUAL(qd_header_ext_append(buf, 120, &pos, i + 1, data[i], strlen(data[i]), NULL),
				0);
	CU_ASSERT_EQUAL(pos, 8 + 4 * 8 + 0 + 8 + 8 + 16);
	CU_ASSERT_EQUAL(qd_header_ext_append(buf, 120, &pos, QD_EXT_END, NULL, 0, NULL), 0);
	CU_ASSERT_EQUAL(buf[pos], 0xee);
	CU_ASSERT_EQUAL(buf[8 + 8 + 8 + 3], 0);		/* padding behind "raw" */

	pos = 8;
	for (uint32_t i = 0; i < COUNT(data); i++) {
		CU_ASSERT_EQUAL_FATAL(qd_header_ext_next(buf, 120, &pos, &ext, NULL), 1);
		CU_ASSERT_EQUAL(ext.type, i + 1);
		CU_ASSERT_EQUAL(ext.nbytes, strlen(data[i]));
		CU_ASSERT_EQUAL(memcmp(ext.data, data[i], ext.nbytes), 0);
	}
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 120, &pos, &ext, NULL), 0);
	CU_ASSERT_EQUAL(qd_get_be32(buf + pos), QD_EXT_END);
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 120, &pos, &ext, NULL), 0);
}

static void append_refuses_what_does_not_fit(void)
{
	uint8_t buf[32];
	size_t pos;

	for (size_t end = 0; end < 24; end++) {
		pos = 0;
		memset(buf, 0xee, sizeof(buf));
		CU_ASSERT_EQUAL(qd_header_ext_append(buf, end, &pos, 1, "123456789", 9, NULL), QD_E_INVALID);
		CU_ASSERT_EQUAL(pos, 0);
		CU_ASSERT_EQUAL(buf[0], 0xee);
	}
	pos = 0;
	CU_ASSERT_EQUAL(qd_header_ext_append(buf, 24, &pos, 1, "123456789", 9, NULL), 0);
	CU_ASSERT_EQUAL(pos, 24);
	CU_ASSERT_EQUAL(qd_header_ext_append(buf, 24, &pos, QD_EXT_END, NULL, 0, NULL), QD_E_INVALID);
	pos = 0;
	CU_ASSERT_EQUAL(qd_header_ext_append(buf, 32, &pos, 1, buf, SIZE_MAX, NULL), QD_E_INVALID);
}

static void an_extension_may_end_where_the_room_ends(void)
{
	static const struct { size_t nbytes, end; } cases[] = { { 0, 8 }, { 8, 16 }, { 3, 16 }, { 16, 24 } };
	static const char data[] = "0123456789abcdef";
	uint8_t buf[32];
	struct qd_header_ext ext;

	for (size_t i = 0; i < COUNT(cases); i++) {
		size_t nbytes = cases[i].nbytes;
		size_t end = cases[i].end;
		size_t pos = 0;

		CU_ASSERT_EQUAL(qd_header_ext_append(buf, end, &pos, 1, data, nbytes, NULL), 0);
		CU_ASSERT_EQUAL(pos, end);
		pos = 0;
		CU_ASSERT_EQUAL(qd_header_ext_next(buf, end, &pos, &ext, NULL), 1);
		CU_ASSERT_EQUAL(pos, end);
		CU_ASSERT_EQUAL(ext.nbytes, nbytes);
		CU_ASSERT_EQUAL(qd_header_ext_next(buf, end, &pos, &ext, NULL), 0);
	}
}

static void walk_refuses_an_extension_past_the_end(void)
{
	uint8_t buf[32] = { 0 };
	struct qd_header_ext ext;
	struct qd_err err;
	size_t pos;

	put(buf, 0, 4, 0xe2792aca);
	put(buf, 4, 4, 13);
	for (size_t end = 1; end < 8 + 13; end++) {
		pos = 0;
		CU_ASSERT_EQUAL(qd_header_ext_next(buf, end, &pos, &ext, &err), QD_E_CORRUPT);
		CU_ASSERT_EQUAL(pos, 0);
	}
	CU_ASSERT_STRING_EQUAL(err.msg, "header extension 0xe2792aca: length is 13, expected at most 12");
	put(buf, 4, 4, 0xffffffff);
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 32, &pos, &ext, &err), QD_E_CORRUPT);
}

static void walk_allows_padding_to_be_cut_off_by_the_end(void)
{
	uint8_t buf[32] = { 0 };
	struct qd_header_ext ext;
	size_t pos = 0;

	put(buf, 0, 4, 0xe2792aca);
	put(buf, 4, 4, 3);
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 11, &pos, &ext, NULL), 1);
	CU_ASSERT_EQUAL(pos, 11);
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 11, &pos, &ext, NULL), 0);
	pos = 24;	/* the header reaches past the backing file name */
	CU_ASSERT_EQUAL(qd_header_ext_next(buf, 16, &pos, &ext, NULL), 0);
}

static void feature_names_are_those_of_qemu(void)
{
	static const struct { uint8_t kind, bit; const char *name; } expected[] = {
		{ 0, 0, "dirty bit" }, { 0, 1, "corrupt bit" }, { 0, 2, "external data file" },
		{ 0, 3, "compression type" }, { 0, 4, "extended L2 entries" }, { 1, 0, "lazy refcounts" },
		{ 2, 0, "bitmaps" }, { 2, 1, "raw external data" },
	};
	uint8_t buf[48 * 8 + 1];
	struct qd_header_ext ext = { .type = QD_EXT_FEATURE_NAMES, .nbytes = 48 * 8, .data = buf };
	struct qd_feature_name name;

	memset(buf, 0xee, sizeof(buf));
	CU_ASSERT_EQUAL(qd_feature_names_encode(0, buf, 48 * 8), 48 * 8);
	CU_ASSERT_EQUAL(qd_feature_names_encode(0, buf, sizeof(buf)), 48 * 8);
	CU_ASSERT_EQUAL(buf[48 * 8], 0xee);
	for (size_t i = 0; i < COUNT(expected); i++) {
		CU_ASSERT_TRUE_FATAL(qd_feature_name_get(&ext, i, &name));
		CU_ASSERT_EQUAL(name.kind, expected[i].kind);
		CU_ASSERT_EQUAL(name.bit, expected[i].bit);
		CU_ASSERT_STRING_EQUAL(name.name, expected[i].name);
		CU_ASSERT_EQUAL(buf[48 * i + 47], 0);
	}
	CU_ASSERT_FALSE(qd_feature_name_get(&ext, COUNT(expected), &name));
}

static void our_feature_is_named_when_it_is_set(void)
{
	uint8_t buf[48 * 9];
	struct qd_header_ext ext = { .type = QD_EXT_FEATURE_NAMES, .nbytes = sizeof(buf), .data = buf };
	struct qd_feature_name name;

	CU_ASSERT_EQUAL(qd_feature_names_encode(QD_AUTOCLEAR_BITMAPS, buf, sizeof(buf)), 48 * 8);
	CU_ASSERT_EQUAL(qd_feature_names_encode(QD_AUTOCLEAR_INDEX, buf, sizeof(buf)), 48 * 9);
	CU_ASSERT_TRUE_FATAL(qd_feature_name_get(&ext, 8, &name));
	CU_ASSERT_EQUAL(name.kind, QD_FEATURE_AUTOCLEAR);
	CU_ASSERT_EQUAL(name.bit, 48);
	CU_ASSERT_STRING_EQUAL(name.name, "qdedup index");
}

static void feature_names_stay_within_their_bytes(void)
{
	uint8_t buf[48 * 2];
	struct qd_header_ext ext = { .nbytes = 95, .data = buf };
	struct qd_feature_name name;

	CU_ASSERT_EQUAL(qd_feature_names_encode(0, buf, 47), 0);
	CU_ASSERT_EQUAL(qd_feature_names_encode(0, buf, sizeof(buf)), 96);
	memset(buf, 'x', 48);	/* a name of full length has no terminator on disk */
	CU_ASSERT_TRUE_FATAL(qd_feature_name_get(&ext, 0, &name));
	CU_ASSERT_EQUAL(strlen(name.name), 46);
	CU_ASSERT_FALSE(qd_feature_name_get(&ext, 1, &name));
	CU_ASSERT_FALSE(qd_feature_name_get(&ext, SIZE_MAX / 48 + 1, &name));
}

static uint64_t power(unsigned int bits)
{
	uint64_t v = 1;

	while (bits-- > 0)
		v *= 2;
	return v;
}

static void check_geom(const struct qd_header *h, const struct qd_geom *g)
{
	bool extended = (h->incompatible & QD_INCOMPAT_EXTL2) != 0;
	uint64_t cluster = power(h->cluster_bits);
	uint64_t covered = cluster / (extended ? 16 : 8) * cluster;

	CU_ASSERT_EQUAL(g->cluster_bits, h->cluster_bits);
	CU_ASSERT_EQUAL(g->cluster_size, cluster);
	CU_ASSERT_EQUAL(g->virtual_size, h->virtual_size);
	CU_ASSERT_EQUAL(g->extended_l2, extended);
	CU_ASSERT_EQUAL(g->l2_entry_size, extended ? 16 : 8);
	CU_ASSERT_EQUAL(g->l2_entries * g->l2_entry_size, cluster);
	CU_ASSERT_EQUAL(power(g->l2_bits), g->l2_entries);
	CU_ASSERT_EQUAL(power(g->subcluster_bits), extended ? cluster / 32 : cluster);
	CU_ASSERT_EQUAL(g->refcount_order, h->refcount_order);
	CU_ASSERT_EQUAL(g->refcount_bits, power(h->refcount_order));
	CU_ASSERT_EQUAL(g->refcount_max, g->refcount_bits == 64 ? UINT64_MAX : power(g->refcount_bits) - 1);
	CU_ASSERT_EQUAL(g->block_entries * g->refcount_bits, cluster * 8);
	CU_ASSERT_EQUAL(g->csize_shift, 62 - (h->cluster_bits - 8));
	CU_ASSERT_EQUAL(qd_geom_l1_entries(g, 0), 0);
	CU_ASSERT_EQUAL(qd_geom_l1_entries(g, 1), 1);
	CU_ASSERT_EQUAL(qd_geom_l1_entries(g, covered), 1);
	CU_ASSERT_EQUAL(qd_geom_l1_entries(g, covered + 1), 2);
	CU_ASSERT_EQUAL(qd_geom_l1_entries(g, UINT64_MAX), UINT64_MAX / covered + 1);
}

static void geometry_follows_from_the_header(void)
{
	struct qd_header h = { .version = 3, .virtual_size = 12345678 };
	struct qd_geom g;

	for (h.cluster_bits = 9; h.cluster_bits <= 21; h.cluster_bits++) {
		for (h.refcount_order = 0; h.refcount_order <= 6; h.refcount_order++) {
			h.incompatible = 0;
			qd_geom_init(&h, &g);
			check_geom(&h, &g);
			h.incompatible = QD_INCOMPAT_EXTL2;
			qd_geom_init(&h, &g);
			check_geom(&h, &g);
		}
	}
}

CU_ErrorCode suite_header(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(rows_cover_every_byte_once),
		QD_TEST(every_member_comes_from_its_offset),
		QD_TEST(version_2_has_the_implied_values),
		QD_TEST(compression_type_is_absent_from_a_header_of_104),
		QD_TEST(encode_gives_the_bytes_that_were_decoded),
		QD_TEST(refuses_what_qemu_refuses_and_says_why),
		QD_TEST(accepts_what_qemu_accepts),
		QD_TEST(refuses_a_header_cut_anywhere),
		QD_TEST(raw_decoding_takes_what_can_be_read),
		QD_TEST(recognises_qcow2_by_its_magic),
		QD_TEST(version_2_refuses_what_it_cannot_say),
		QD_TEST(extensions_come_back_as_appended),
		QD_TEST(append_refuses_what_does_not_fit),
		QD_TEST(an_extension_may_end_where_the_room_ends),
		QD_TEST(walk_refuses_an_extension_past_the_end),
		QD_TEST(walk_allows_padding_to_be_cut_off_by_the_end),
		QD_TEST(feature_names_are_those_of_qemu),
		QD_TEST(feature_names_stay_within_their_bytes),
		QD_TEST(our_feature_is_named_when_it_is_set),
		QD_TEST(geometry_follows_from_the_header),
	};

	return QD_SUITE_ADD("header", tests);
}
