/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters: what is written must inflate the way QEMU does it, with a window
 * of 4 KiB; what is read is never trusted.
 */
#include "image/codec.h"

#include <CUnit/CUnit.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#include "base/bytes.h"
#include "suites.h"

#define WINDOW_BITS 12
#define PIECE 100u
#define MAX_CLUSTER (2u << 20)

static uint64_t next_random(uint64_t *state)
{
	*state = *state * 6364136223846793005u + 1442695040888963407u;
	return *state >> 33 ^ *state << 31;
}

enum content { TEXT, FAR_REPEATS, ONE_BYTE, NOISE, NCONTENTS };

/*
 * FAR_REPEATS: noise that comes again after 4 KiB and a bit more, so that an encoder which
 * looks back further than it may has every reason to.
 */
static void fill(uint8_t *buf, size_t nbytes, enum content what)
{
	uint64_t seed = 77;
	size_t period = what == FAR_REPEATS ? 4096 + 300 : nbytes;

	for (size_t i = 0; i < nbytes; i++) {
		if (what == TEXT)
			buf[i] = (uint8_t)("the quick brown fox "[i % 20] ^ (next_random(&seed) % 16 == 0));
		else if (what == ONE_BYTE)
			buf[i] = 0x41;
		else
			buf[i] = i < period ? (uint8_t)next_random(&seed) : buf[i - period];
	}
}

static struct qd_codec *codec_of(enum qd_compression type, size_t cluster_size, int level)
{
	struct qd_codec *c = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_codec_new(type, cluster_size, level, &c, NULL), 0);
	return c;
}

static uint8_t *allocate(size_t nbytes)
{
	uint8_t *p = calloc(1, nbytes ? nbytes : 1);

	CU_ASSERT_PTR_NOT_NULL_FATAL(p);
	return p;
}

/*
 * Inflates with a window of 4 KiB, output taken in small pieces: the inflater then has
 * nothing but its window to copy from, and refuses a distance beyond it.
 */
static bool inflates_as_qemu_does(const uint8_t *in, size_t nbytes, const uint8_t *expected, size_t cluster_size)
{
	z_stream z = { .next_in = (z_const Bytef *)in, .avail_in = (uInt)nbytes };
	uint8_t piece[PIECE];
	size_t done = 0;
	bool same = inflateInit2(&z, -WINDOW_BITS) == Z_OK;
	int r = Z_OK;

	while (same && done < cluster_size && r == Z_OK) {
		z.next_out = piece;
		z.avail_out = PIECE;
		r = inflate(&z, Z_SYNC_FLUSH);
		same = (r == Z_OK || r == Z_STREAM_END) && PIECE - z.avail_out <= cluster_size - done &&
		       memcmp(piece, expected + done, PIECE - z.avail_out) == 0;
		done += PIECE - z.avail_out;
	}
	inflateEnd(&z);
	return same && done == cluster_size;
}

/* One cluster through compression and back; the stream goes to `packed`. */
static size_t round_trip(struct qd_codec *c, const uint8_t *in, size_t size, uint8_t *packed)
{
	uint8_t *out = allocate(size);
	size_t n = 0;

	CU_ASSERT_EQUAL_FATAL(qd_codec_compress(c, in, packed, &n, NULL), 0);
	CU_ASSERT_TRUE_FATAL(n < size);
	if (n) {
		CU_ASSERT_EQUAL(qd_codec_decompress(c, packed, n, out, NULL), 0);
		CU_ASSERT_EQUAL(memcmp(in, out, size), 0);
	}
	free(out);
	return n;
}

/* The same bytes from a codec that is new, that has been used, and wherever the input lies. */
static void check_deflate(size_t size, int level, enum content what)
{
	struct qd_codec *c = codec_of(QD_COMPRESSION_ZLIB, size, level), *fresh;
	uint8_t *in = allocate(size + 300), *packed = allocate(size), *again = allocate(size);
	size_t n, nagain;

	fill(in, size, what);
	n = round_trip(c, in, size, packed);
	if (what == TEXT || what == ONE_BYTE)
		CU_ASSERT_TRUE(n > 0);
	if (n && !inflates_as_qemu_does(packed, n, in, size)) {
		fprintf(stderr, "level %d, cluster %zu, content %d: not a stream with a 4 KiB window\n", level, size,
			(int)what);
		CU_FAIL("window");
	}
	nagain = round_trip(c, in, size, again);
	CU_ASSERT_TRUE(nagain == n && !memcmp(packed, again, n));
	/* Followed by what would go on matching. */
	memmove(in + 33, in, size);
	memcpy(in + 33 + size, in + 33 + size - 260, 260);
	fresh = codec_of(QD_COMPRESSION_ZLIB, size, level);
	nagain = round_trip(fresh, in + 33, size, again);
	CU_ASSERT_TRUE(nagain == n && !memcmp(packed, again, n));
	free(in);
	free(packed);
	free(again);
	qd_codec_free(c);
	qd_codec_free(fresh);
}

static void every_level_keeps_to_the_window_of_qemu(void)
{
	static const size_t sizes[] = { 512, 4096, 65536, MAX_CLUSTER };

	for (size_t s = 0; s < sizeof(sizes) / sizeof(sizes[0]); s++)
		for (int level = 1; level <= 9; level++)
			for (int what = 0; what < NCONTENTS; what++)
				check_deflate(sizes[s], level, (enum content)what);
}

/* Proves that the judge above can tell: the same content with the whole window of deflate. */
static void a_wider_window_would_be_noticed(void)
{
	z_stream z = { .next_in = NULL };
	uint8_t *in = allocate(65536), *packed = allocate(65536);

	fill(in, 65536, FAR_REPEATS);
	CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 9, Z_DEFLATED, -15, 9, Z_DEFAULT_STRATEGY), Z_OK);
	z.next_in = in;
	z.avail_in = 65536;
	z.next_out = packed;
	z.avail_out = 65536;
	CU_ASSERT_EQUAL(deflate(&z, Z_FINISH), Z_STREAM_END);
	CU_ASSERT_FALSE(inflates_as_qemu_does(packed, 65536 - z.avail_out, in, 65536));
	deflateEnd(&z);
	free(in);
	free(packed);
}

static void zstd_goes_both_ways_at_every_level(void)
{
	for (int level = 1; level <= 9; level++) {
		for (size_t size = 512; size <= 65536; size *= 128) {
			struct qd_codec *c = codec_of(QD_COMPRESSION_ZSTD, size, level);
			uint8_t *in = allocate(size), *packed = allocate(size), *out = allocate(size);
			size_t n;

			fill(in, size, TEXT);
			n = round_trip(c, in, size, packed);
			CU_ASSERT_TRUE(n > 0);
			CU_ASSERT_EQUAL(ZSTD_decompress(out, size, packed, n), size);
			CU_ASSERT_EQUAL(memcmp(in, out, size), 0);
			free(in);
			free(packed);
			free(out);
			qd_codec_free(c);
		}
	}
}

static void what_does_not_get_smaller_is_left_alone(void)
{
	for (int type = QD_COMPRESSION_ZLIB; type <= QD_COMPRESSION_ZSTD; type++) {
		for (int level = 1; level <= 9; level++) {
			for (size_t size = 512; size <= 65536; size *= 128) {
				struct qd_codec *c = codec_of((enum qd_compression)type, size, level);
				uint8_t *in = allocate(size), *out = allocate(size);
				size_t n = 1;

				fill(in, size, NOISE);
				CU_ASSERT_EQUAL(qd_codec_compress(c, in, out, &n, NULL), 0);
				CU_ASSERT_EQUAL(n, 0);
				/* And what comes next is not harmed by it. */
				fill(in, size, TEXT);
				CU_ASSERT_TRUE(round_trip(c, in, size, out) > 0);
				free(in);
				free(out);
				qd_codec_free(c);
			}
		}
	}
}

/* Around the point at which compressing stops to pay, byte by byte: never a cluster or more. */
static void a_stream_is_always_smaller_than_a_cluster(void)
{
	for (int type = QD_COMPRESSION_ZLIB; type <= QD_COMPRESSION_ZSTD; type++) {
		for (int level = 1; level <= 9; level++) {
			struct qd_codec *c = codec_of((enum qd_compression)type, 512, level);
			size_t stored = 0, largest = 0;

			for (size_t noise = 300; noise <= 512; noise++) {
				uint8_t in[512] = { 0 }, packed[512];
				size_t n;

				fill(in, noise, NOISE);
				n = round_trip(c, in, sizeof(in), packed);
				stored += n == 0;
				largest = n > largest ? n : largest;
			}
			CU_ASSERT_TRUE(stored > 0 && largest > 480);
			qd_codec_free(c);
		}
	}
}

/* ---- streams that others wrote ------------------------------------------------------- */

struct stream {
	uint8_t bytes[16384];
	size_t nbytes;
};

/* The first `plain` bytes of text as one stream, finished or merely flushed. */
static void make_stream(enum qd_compression type, size_t plain, bool finished, struct stream *ret)
{
	uint8_t *in = allocate(plain);
	z_stream z = { .next_in = in, .avail_in = (uInt)plain, .next_out = ret->bytes, .avail_out = sizeof(ret->bytes) };

	fill(in, plain, TEXT);
	if (type == QD_COMPRESSION_ZSTD) {
		ret->nbytes = ZSTD_compress(ret->bytes, sizeof(ret->bytes), in, plain, 3);
	} else {
		CU_ASSERT_EQUAL_FATAL(deflateInit2(&z, 6, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY), Z_OK);
		deflate(&z, finished ? Z_FINISH : Z_SYNC_FLUSH);
		deflateEnd(&z);
		ret->nbytes = sizeof(ret->bytes) - z.avail_out;
	}
	free(in);
}

static int decode(struct qd_codec *c, const uint8_t *in, size_t nbytes, uint8_t *out, struct qd_err *err)
{
	uint8_t *exact = allocate(nbytes);	/* so that a read past the end is seen */
	int r;

	memcpy(exact, in, nbytes);
	r = qd_codec_decompress(c, exact, nbytes, out, err);
	free(exact);
	return r;
}

static void what_follows_a_stream_is_ignored(void)
{
	for (int type = QD_COMPRESSION_ZLIB; type <= QD_COMPRESSION_ZSTD; type++) {
		struct qd_codec *c = codec_of((enum qd_compression)type, 4096, 3);
		uint8_t out[4096], expected[4096];
		struct stream s;

		fill(expected, 4096, TEXT);
		make_stream((enum qd_compression)type, 4096, true, &s);
		memset(s.bytes + s.nbytes, 0xdb, 511);
		memset(out, 0, sizeof(out));
		CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes + 511, out, NULL), 0);
		CU_ASSERT_EQUAL(memcmp(out, expected, 4096), 0);
		qd_codec_free(c);
	}
}

/* A deflate stream that was flushed and not finished fills a cluster; QEMU takes it. */
static void a_deflate_stream_need_not_be_finished(void)
{
	struct qd_codec *c = codec_of(QD_COMPRESSION_ZLIB, 4096, 3);
	uint8_t out[4096], expected[4096];
	struct stream s;

	fill(expected, 4096, TEXT);
	make_stream(QD_COMPRESSION_ZLIB, 4096, false, &s);
	CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(out, expected, 4096), 0);
	/* More than a cluster comes out of it: the first is what was meant. */
	make_stream(QD_COMPRESSION_ZLIB, 5000, true, &s);
	CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(out, expected, 4096), 0);
	qd_codec_free(c);
}

static void streams_that_end_early_are_refused(void)
{
	for (int type = QD_COMPRESSION_ZLIB; type <= QD_COMPRESSION_ZSTD; type++) {
		struct qd_codec *c = codec_of((enum qd_compression)type, 4096, 3);
		uint8_t out[4096];
		struct qd_err err;
		struct stream s;

		make_stream((enum qd_compression)type, 4095, true, &s);
		CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, &err), QD_E_CORRUPT);
		CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "ends early"));
		make_stream((enum qd_compression)type, 4096, true, &s);
		/* The last bytes of a stream may say no more than that it ends. */
		for (size_t n = 0; n + 8 < s.nbytes; n++)
			CU_ASSERT_EQUAL(decode(c, s.bytes, n, out, NULL), QD_E_CORRUPT);
		CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, NULL), 0);
		qd_codec_free(c);
	}
}

static void a_zstd_frame_larger_than_a_cluster_is_refused(void)
{
	struct qd_codec *c = codec_of(QD_COMPRESSION_ZSTD, 4096, 3);
	uint8_t out[4096];
	struct qd_err err;
	struct stream s;

	make_stream(QD_COMPRESSION_ZSTD, 4097, true, &s);
	CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "zstd"));
	qd_codec_free(c);
}

/* Noise, and streams with a bit turned over: refused or decoded to something, never more. */
static void garbage_is_survived(void)
{
	uint64_t seed = 5;

	for (int type = QD_COMPRESSION_ZLIB; type <= QD_COMPRESSION_ZSTD; type++) {
		struct qd_codec *c = codec_of((enum qd_compression)type, 4096, 3);
		uint8_t *out = allocate(4096), noise[600], expected[4096];
		unsigned refused = 0;
		struct stream s;

		make_stream((enum qd_compression)type, 4096, true, &s);
		for (int i = 0; i < 3000; i++) {
			size_t n = next_random(&seed) % sizeof(noise), at = next_random(&seed) % s.nbytes;
			uint8_t bit = (uint8_t)(1u << next_random(&seed) % 8);
			struct qd_err err = { .code = 0 };

			for (size_t k = 0; k < n; k++)
				noise[k] = (uint8_t)next_random(&seed);
			refused += decode(c, noise, n, out, &err) == QD_E_CORRUPT && err.msg[0];
			s.bytes[at] ^= bit;
			decode(c, s.bytes, s.nbytes, out, NULL);
			s.bytes[at] ^= bit;
		}
		CU_ASSERT_TRUE(refused > 2900);
		/* A codec that has seen garbage still works. */
		fill(expected, 4096, TEXT);
		CU_ASSERT_EQUAL(decode(c, s.bytes, s.nbytes, out, NULL), 0);
		CU_ASSERT_EQUAL(memcmp(out, expected, 4096), 0);
		free(out);
		qd_codec_free(c);
	}
}

CU_ErrorCode suite_codec(void)
{
	static const struct qd_test tests[] = {
		QD_TEST(every_level_keeps_to_the_window_of_qemu),
		QD_TEST(a_wider_window_would_be_noticed),
		QD_TEST(zstd_goes_both_ways_at_every_level),
		QD_TEST(what_does_not_get_smaller_is_left_alone),
		QD_TEST(a_stream_is_always_smaller_than_a_cluster),
		QD_TEST(what_follows_a_stream_is_ignored),
		QD_TEST(a_deflate_stream_need_not_be_finished),
		QD_TEST(streams_that_end_early_are_refused),
		QD_TEST(a_zstd_frame_larger_than_a_cluster_is_refused),
		QD_TEST(garbage_is_survived),
	};

	return QD_SUITE_ADD("codec", tests);
}
