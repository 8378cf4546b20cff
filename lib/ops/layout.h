/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The options of a new qcow2 image, as `-o name=value,...` writes them: parsed once,
 * used by convert, create and measure.
 */
#ifndef QD_OPS_LAYOUT_H
#define QD_OPS_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum qd_prealloc { QD_PREALLOC_OFF, QD_PREALLOC_METADATA, QD_PREALLOC_FALLOC, QD_PREALLOC_FULL };

struct qd_layout {
	uint64_t cluster_size;		/* bytes, 512..2M; 0: 64K */
	bool cluster_size_auto;		/* cluster_size=auto */
	uint32_t version;		/* compat 0.10: 2; 1.1: 3 */
	uint32_t refcount_bits;		/* 1..64 */
	bool lazy_refcounts;
	bool extended_l2;
	uint8_t compression_type;	/* enum qd_compression of format/header.h */
	enum qd_prealloc preallocation;
	char *backing_file;		/* NULL: none; the strings are owned */
	char *backing_fmt;
	char *data_file;
	bool data_file_raw;
	uint64_t size;			/* size=, for create; 0: not given */
};

/* 64K clusters, version 3, 16-bit refcounts, zlib, no preallocation. */
void qd_layout_init(struct qd_layout *l);
void qd_layout_free(struct qd_layout *l);
int qd_layout_copy(const struct qd_layout *from, struct qd_layout *ret_to, struct qd_err *err);

/*
 * Applies one "name=value,name=value" text (",," is a comma within a value; a bare
 * boolean name means on); later ones win.  QD_E_INVALID names the unknown option or the
 * value and what is expected.
 */
int qd_layout_parse(struct qd_layout *l, const char *text, struct qd_err *err);

/* True when nothing was changed since qd_layout_init. */
bool qd_layout_is_default(const struct qd_layout *l);

/* What contradicts itself (lazy refcounts with compat 0.10, extended L2 below 16K, ...). */
int qd_layout_validate(const struct qd_layout *l, struct qd_err *err);

/* What the builder of image/build.h is to be told; the strings stay the layout's. */
struct qd_build_opts;
void qd_layout_to_build(const struct qd_layout *l, struct qd_build_opts *ret_opts);

/* One row per option for `-o help`; NULL name ends the table. */
struct qd_layout_help {
	const char *name;
	const char *text;
};
const struct qd_layout_help *qd_layout_help(void);

#endif
