/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters through other people's libraries, the fastest that fits each way.
 *
 *	deflate   out: igzip (levels 1..5) or zlib (6..9), both told to look back 4 KiB at most,
 *	          because QEMU inflates with window bits 12
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
#define FIRST_ZLIB_LEVEL 6

struct qd_codec {
	enum qd_compression type;
	size_t cluster_size;
	int level;
	struct libdeflate_decompressor *inflater;
	z_stream inflate;
	bool inflate_ready;
	z_stream deflate;
	bool deflate_ready;
	struct isal_zstream *igzip;
	uint8_t *igzip_buf;
	uint32_t igzip_buf_nbytes;
	ZSTD_CCtx *zcctx;
	ZSTD_DCtx *zdctx;
};

int qd_codec_new(enum qd_compression type, uint64_t cluster_size, int level, struct qd_codec **ret_codec,
		 struct qd_err *err)
{
	struct qd_codec *c = calloc(1, sizeof(*c));

	if (!c)
		return qd_err_nomem(err, "a compressor");
	c->type = type;
	c->cluster_size = (size_t)cluster_size;
	c->level = level;
	*ret_codec = c;
	return 0;
}

void qd_codec_free(struct qd_codec *c)
{
	if (!c)
		return;
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
	    LIBDEFLATE_SUCCESS && got == c->cluster_size)
		return 0;
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
	return 0;
}

int qd_codec_decompress(struct qd_codec *c, const void *in, size_t nbytes, void *out, struct qd_err *err)
{
	if (c->type == QD_COMPRESSION_ZSTD)
		return unzstd_cluster(c, in, nbytes, out, err);
	return inflate_cluster(c, in, nbytes, out, err);
}

/* Levels 1, 2 and 3..5 are igzip's 1, 2 and 3. */
static int igzip_init(struct qd_codec *c, struct qd_err *err)
{
	static const uint32_t sizes[] = { ISAL_DEF_LVL0_DEFAULT, ISAL_DEF_LVL1_DEFAULT, ISAL_DEF_LVL2_DEFAULT,
					  ISAL_DEF_LVL3_DEFAULT };
	int level = c->level > 3 ? 3 : c->level;

	c->igzip_buf_nbytes = sizes[level];
	c->igzip_buf = malloc(c->igzip_buf_nbytes);
	c->igzip = malloc(sizeof(*c->igzip));
	if (!c->igzip || !c->igzip_buf)
		return qd_err_nomem(err, "a compressor");
	return 0;
}

static int deflate_igzip(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	struct isal_zstream *z = c->igzip;
	int r;

	if (!z) {
		r = igzip_init(c, err);
		if (r)
			return r;
		z = c->igzip;
	}
	isal_deflate_stateless_init(z);
	z->level = (uint32_t)(c->level > 3 ? 3 : c->level);
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

static int deflate_zlib(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	z_stream *z = &c->deflate;
	int r;

	if (!c->deflate_ready) {
		if (deflateInit2(z, c->level, Z_DEFLATED, -WINDOW_BITS, 9, Z_DEFAULT_STRATEGY) != Z_OK)
			return qd_err_nomem(err, "a compressor");
		c->deflate_ready = true;
	}
	deflateReset(z);
	z->next_in = (z_const Bytef *)in;
	z->avail_in = (uInt)c->cluster_size;
	z->next_out = out;
	z->avail_out = (uInt)c->cluster_size - 1;
	r = deflate(z, Z_FINISH);
	*ret_nbytes = r == Z_STREAM_END ? c->cluster_size - 1 - z->avail_out : 0;
	return 0;
}

static int zstd_cluster(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	static const int levels[] = { 3, 1, 2, 3, 5, 7, 9, 12, 15, 19 };
	size_t r;

	if (!c->zcctx) {
		c->zcctx = ZSTD_createCCtx();
		if (!c->zcctx)
			return qd_err_nomem(err, "a compressor");
		ZSTD_CCtx_setParameter(c->zcctx, ZSTD_c_compressionLevel, levels[c->level]);
	}
	r = ZSTD_compress2(c->zcctx, out, c->cluster_size - 1, in, c->cluster_size);
	*ret_nbytes = ZSTD_isError(r) ? 0 : r;
	return 0;
}

int qd_codec_compress(struct qd_codec *c, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err)
{
	if (c->type == QD_COMPRESSION_ZSTD)
		return zstd_cluster(c, in, out, ret_nbytes, err);
	if (c->level < FIRST_ZLIB_LEVEL)
		return deflate_igzip(c, in, out, ret_nbytes, err);
	return deflate_zlib(c, in, out, ret_nbytes, err);
}
