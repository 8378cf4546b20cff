/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Compressed clusters (qcow2 specification, "Compressed clusters"): raw deflate with a
 * window of at most 4 KiB, or one zstd frame.
 *
 * A codec holds the state and scratch memory of one thread.
 *
 *	level 1..5  igzip (ISA-L), and zlib where that pays: fast; the default is level 3
 *	level 6..9  zlib: smaller and much slower
 *	zstd        the level is scaled to zstd's own; the default level is zstd's default, 3
 *
 * level 0 is the default.
 */
#ifndef QD_IMAGE_CODEC_H
#define QD_IMAGE_CODEC_H

#include <stddef.h>

#include "format/header.h"

struct qd_codec;

#define QD_CODEC_DEFAULT_LEVEL 3

int qd_codec_new(enum qd_compression type, uint64_t cluster_size, int level, struct qd_codec **ret_codec,
		 struct qd_err *err);
void qd_codec_free(struct qd_codec *codec);

/*
 * Decompresses one cluster into out (cluster_size bytes).  nbytes is what the
 * descriptor's sectors span, so what follows the stream is ignored.  QD_E_CORRUPT when
 * the stream is broken or yields less than a cluster.
 */
int qd_codec_decompress(struct qd_codec *codec, const void *in, size_t nbytes, void *out, struct qd_err *err);

/* Bytes of `in` that the last decompression needed, if it was a success. */
size_t qd_codec_stream_nbytes(const struct qd_codec *codec);

/*
 * Compresses one cluster into out.  *ret_nbytes is 0 when it does not get smaller than
 * a cluster: store it plain then.  out holds at least cluster_size bytes.
 */
int qd_codec_compress(struct qd_codec *codec, const void *in, void *out, size_t *ret_nbytes, struct qd_err *err);

#endif
