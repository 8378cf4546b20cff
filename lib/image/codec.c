/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters through other people's libraries, the fastest that fits each way.
 *
 *	deflate   out: igzip or zlib, both told to look back 4 KiB at most, because QEMU
 *	          inflates with window bits 12; libdeflate, which cannot be told, where a
 *	          cluster is no larger than that
 *	          in:  libdeflate, which wants a finished stream; zlib is asked when it refuses
 *	zstd      libzstd both ways
 *
 * A stream is never larger than cluster_size - 1 bytes: otherwise the cluster is stored plain.
 */
#include "image/codec.h"

#include <isa-l/igzip_lib.h>
#include <libdeflate.h>
#include <stdlib.h>
#include <string.h>
#include <zlib.h>
#include <zstd.h>

#define WINDOW_BITS 12
#define WINDOW_SIZE (1u << WINDOW_BITS)

/*
 * What a level does.  zlib with memory level 7 or 8 ends a block of symbols earlier than
 * with 9 (QEMU's choice): smaller and faster on clusters of mixed content.  Of what igzip
 * leaves, the clusters that shrink to about half gain the most from zlib's search, so the
 * middle levels give those a second try.
 */
struct level {
	int igzip;		/* igzip's level; 0: zlib alone */
	unsigned retry_from;	/* zlib too when igzip leaves that many percent or more ... */
	unsigned retry_below;	/* ... and less than that */
	int zlib;		/* zlib's level, with the parameters of deflateTune behind it */
	int mem_level;
	int tune[4];		/* good, lazy, nice, chain; 0: as the level has it */
	int libdeflate;		/* its level */
	int zstd;
};

static const struct level levels[] = {
	{ 1, 0, 0, 4, 8, { 0 }, 1, 1 },			/* unused: 0 is the default level */
	{ 1, 0, 0, 4, 8, { 0 }, 1, 1 },
	{ 2, 0, 0, 4, 8, { 0 }, 1, 2 },
	{ 3, 45, 50, 4, 8, { 0 }, 1, 3 },
	{ 3, 35, 60, 4, 8, { 0 }, 2, 5 },
	{ 3, 20, 80, 4, 8, { 0 }, 3, 7 },
	{ 0, 0, 0, 4, 8, { 0 }, 5, 9 },
	{ 0, 0, 0, 5, 8, { 0 }, 6, 12 },
	{ 0, 0, 0, 6, 8, { 4, 24, 96, 128 }, 6, 15 },
	{ 0, 0, 0, 6, 7, { 8, 24, 128, 128 }, 7, 19 },
};

struct qd_codec {
	enum qd_compression type;
	size_t cluster_size;
	const struct level *level;
	struct libdeflate_compressor *small;
	struct libdeflate_decompressor *inflater;
	z_stream inflate;
	bool inflate_ready;
	z_stream deflate;
	bool deflate_ready;
	struct isal_zstream *igzip;
	uint8_t *igzip_buf;
	uint32_t igzip_buf_nbytes;
	uint8_t *second;		/* zlib's try after igzip's */
	ZSTD_CCtx *zcctx;
	ZSTD_DCtx *zdctx;
	size_t stream_nbytes;		/* of the last stream decompressed */
};

int qd_codec_new(enum qd_compression type, uint64_t cluster_size, int level, struct qd_codec **ret_codec,
		 struct qd_err *err)
{
	struct qd_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return qd_err_nomem(err, "a compressor");
	c->type = type;
	c->cluster_size = (size_t)cluster_size;
	c->level = &levels[level ? level : QD_CODEC_DEFAULT_LEVEL];
	*ret_codec = c;
	return 0;
}

void qd_codec_free(struct qd_codec *c)
{
	if (!c)
		return;
	if (c->small)
		libdeflate_free_compressor(c->small);
	if (c->inflater)
		libdeflate_free_decompressor(c->inflater);
	if (c->inflate_ready)
		inflateEnd(&c->inflate);
	if (c->deflate_ready)
		deflateEnd(&c->deflate);
	ZSTD_freeCCtx(c->zcctx);
	ZSTD_freeDCtx(c->zdctx);
	free(c->igzip);
	free(c->igzip_buf);
	free(c->second);
	free(c);
}

/* The patient way: takes what fills a cluster, whether or not the stream ends there. */
static int inflate_zlib(struct qd_codec *c, const void *in, size_t nbytes, void *out, struct qd_err *err)
{
	z_stream *z = &c->inflate;
	int r;

	if (!c->inflate_ready) {
		if (inflateInit2(z, -WINDOW_BITS) != Z_OK)
			return qd_err_nomem(err, "inflate");
		c->inflate_ready = true;
	}
	inflateReset(z);
	z->next_in = (z_const Bytef *)in;
	z->avail_in = (uInt)nbytes;
	z->next_out = out;
	z->avail_out = (uInt)c->cluster_size;
	r = inflate(z, Z_FINISH);
	c->stream_nbytes = r == Z_STREAM_END ? nbytes - z->avail_in : nbytes;
	if ((r == Z_STREAM_END || r == Z_BUF_ERROR) && z->avail_out == 0)
		return 0;
	return qd_err_set(err, QD_E_CORRUPT, "compressed cluster: damaged deflate stream (%s)",
			  r == Z_STREAM_END || r == Z_BUF_ERROR ? "ends early" : z->msg ? z->msg : "invalid");
}

static int inflate_cluster(struct qd_codec *c, const void *in, size_t nbytes, void *out, struct qd_err *err)
{
	size_t used, got;

	if (!c->inflater)
		c->inflater = libdeflate_alloc_decompressor();
	if (!c->inflater)
		return qd_err_nomem(err, "inflate");
	if (libdeflate_deflate_decompress_ex(c->inflater, in, nbytes, out, c->cluster_size, &used, &got) ==
	    LIBDEFLATE_SUCCESS && got == c->cluster_size) {
		c->stream_nbytes = used;
		return 0;
	}
	return inflate_zlib(c, in, nbytes, out, err);
}

/* What follows the frame belongs to other clusters. */
static int unzstd_cluster(struct qd_codec *c, const void *in, size_t nbytes, void *out, struct qd_err *err)
{
	size_t frame = ZSTD_findFrameCompressedSize(in, nbytes), r;

	if (ZSTD_isError(frame))
		return qd_err_set(err, QD_E_CORRUPT, "compressed cluster: damaged zstd frame (%s)", ZSTD_getErrorName(frame));
	if (!c->zdctx)
		c->zdctx = ZSTD_createDCtx();
	if (!c->zdctx)
		return qd_err_nomem(err, "zstd");
	r = ZSTD_decompressDCtx(c->zdctx, out, c->cluster_size, in, frame);
	if (ZSTD_isError(r))
		return qd_err_set(err, QD_E_CORRUPT, "compressed cluster: damaged zstd frame (%s)", ZSTD_getErrorName(r));
	if (r != c->cluster_size)
		return qd_err_set(err, QD_E_CORRUPT, "compressed cluster: zstd frame ends early");
	c->stream_nbytes = frame;
	return 0;
}

int qd_codec_decompress(struct qd_codec *c, const void *in, size_t nbytes, void *out, struct qd_err *err)
{
	if (c->type == QD_COMPRESSION_ZSTD)
		return unzstd_cluster(c, in, nbytes, out, err);
	return inflate_cluster(c, in, nbytes, out, err);
}

size_t qd_codec_stream_nbytes(const struct qd_codec *c)
{
	return c->stream_nbytes;
}

static int init_igzip(struct qd_codec *c, struct qd_err *err)
{
	/* A small buffer ends blocks earlier, which suits mixed content. */
	static const uint32_t sizes[] = { 0, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_SMALL, ISAL_DEF_LVL3_SMALL };

	/* It looks at what it has not written; zeros, so that the same input gives the same output for sure. */
	c->igzip_buf_nbytes = sizes[c->level->igzip];
	c->igzip_buf = calloc(1, c->igzip_buf_nbytes);
	c->igzip = calloc(1, sizeof(*c->igzip));
	c->second = malloc(c->cluster_size);
	return c->igzip && c->igzip_buf && c->second ? 0 : qd_err_nomem(err, "a compressor");
}

static int deflate_igzip(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	struct isal_zstream *z;
	int r;

	if (!c->igzip) {
		r = init_igzip(c, err);
		if (r)
			return r;
	}
	z = c->igzip;
	isal_deflate_stateless_init(z);
	z->level = (uint32_t)c->level->igzip;
	z->level_buf = c->igzip_buf;
	z->level_buf_size = c->igzip_buf_nbytes;
	z->hist_bits = WINDOW_BITS;
	z->gzip_flag = IGZIP_DEFLATE;
	z->flush = NO_FLUSH;
	z->end_of_stream = 1;
	z->next_in = (uint8_t *)(uintptr_t)in;
	z->avail_in = (uint32_t)c->cluster_size;
	z->next_out = out;
	z->avail_out = (uint32_t)c->cluster_size - 1;
	r = isal_deflate_stateless(z);
	*ret_nbytes = r == COMP_OK && z->avail_in == 0 ? c->cluster_size - 1 - z->avail_out : 0;
	return 0;
}

static int init_zlib(struct qd_codec *c, struct qd_err *err)
{
	const struct level *l = c->level;

	if (deflateInit2(&c->deflate, l->zlib, Z_DEFLATED, -WINDOW_BITS, l->mem_level, Z_DEFAULT_STRATEGY) != Z_OK)
		return qd_err_nomem(err, "a compressor");
	c->deflate_ready = true;
	return 0;
}

static int deflate_zlib(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	const int *tune = c->level->tune;
	z_stream *z = &c->deflate;
	int r;

	if (!c->deflate_ready) {
		r = init_zlib(c, err);
		if (r)
			return r;
	}
	deflateReset(z);	/* which also undoes deflateTune */
	if (tune[0])
		deflateTune(z, tune[0], tune[1], tune[2], tune[3]);
	z->next_in = (z_const Bytef *)in;
	z->avail_in = (uInt)c->cluster_size;
	z->next_out = out;
	z->avail_out = (uInt)c->cluster_size - 1;
	r = deflate(z, Z_FINISH);
	*ret_nbytes = r == Z_STREAM_END ? c->cluster_size - 1 - z->avail_out : 0;
	return 0;
}

static int deflate_small(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	if (!c->small)
		c->small = libdeflate_alloc_compressor(c->level->libdeflate);
	if (!c->small)
		return qd_err_nomem(err, "a compressor");
	*ret_nbytes = libdeflate_deflate_compress(c->small, in, c->cluster_size, out, c->cluster_size - 1);
	return 0;
}

static int deflate_cluster(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	size_t percent, nbytes;
	int r;

	if (c->cluster_size <= WINDOW_SIZE)
		return deflate_small(c, in, out, ret_nbytes, err);
	if (!c->level->igzip)
		return deflate_zlib(c, in, out, ret_nbytes, err);
	r = deflate_igzip(c, in, out, ret_nbytes, err);
	percent = *ret_nbytes * 100 / c->cluster_size;
	if (r || percent < c->level->retry_from || percent >= c->level->retry_below)
		return r;
	r = deflate_zlib(c, in, c->second, &nbytes, err);
	if (!r && nbytes && nbytes < *ret_nbytes) {
		memcpy(out, c->second, nbytes);
		*ret_nbytes = nbytes;
	}
	return r;
}

static int zstd_cluster(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	size_t r;

	if (!c->zcctx) {
		c->zcctx = ZSTD_createCCtx();
		if (!c->zcctx)
			return qd_err_nomem(err, "a compressor");
		ZSTD_CCtx_setParameter(c->zcctx, ZSTD_c_compressionLevel, c->level->zstd);
	}
	r = ZSTD_compress2(c->zcctx, out, c->cluster_size - 1, in, c->cluster_size);
	*ret_nbytes = ZSTD_isError(r) ? 0 : r;
	return 0;
}

int qd_codec_compress(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	if (c->type == QD_COMPRESSION_ZSTD)
		return zstd_cluster(c, in, out, ret_nbytes, err);
	return deflate_cluster(c, in, out, ret_nbytes, err);
}
