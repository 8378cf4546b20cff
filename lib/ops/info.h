/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What an image says about itself.  Nothing that it names is opened, unless the chain
 * is asked for.
 *
 * Strings are owned by the struct; NULL means "not there".
 */
#ifndef QD_OPS_INFO_H
#define QD_OPS_INFO_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/err.h"
#include "ops/index_info.h"

struct qd_info_snapshot {
	char *id;
	char *name;
	uint64_t vm_state_size;		/* bytes */
	uint64_t disk_size;		/* bytes */
	uint32_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t icount;
	bool has_icount;
	bool is_pin;
};

struct qd_info_bitmap {
	char *name;
	uint64_t granularity;		/* bytes */
	bool in_use;			/* not closed properly: inconsistent */
	bool enabled;			/* "auto" */
};

#define QD_LUKS_SLOTS 8

struct qd_info_luks {
	char *cipher;			/* "aes" */
	char *mode;			/* "xts-plain64" */
	char *hash;
	char *uuid;
	uint32_t key_nbytes;
	uint32_t iterations;		/* of the master key */
	uint64_t payload_off;		/* bytes */
	struct {
		bool active;
		uint32_t iterations;
		uint32_t stripes;
		uint64_t key_off;	/* bytes */
	} slots[QD_LUKS_SLOTS];
};

struct qd_info {
	char *path;			/* as given, or as resolved from the name in the overlay */
	const char *format;		/* "raw" or "qcow2" */
	uint64_t virtual_size;		/* bytes */
	uint64_t actual_size;		/* bytes the host has allocated for this file alone */

	/* The rest says nothing for raw. */
	bool is_qcow2;
	uint64_t cluster_size;
	uint32_t version;		/* 2 or 3 */
	uint32_t refcount_bits;
	uint8_t compression_type;	/* enum qd_compression */
	bool lazy_refcounts;
	bool extended_l2;
	bool dirty;
	bool corrupt;
	bool encrypted;
	bool has_data_file;
	bool data_file_raw;
	char *data_file;
	char *backing_name;
	char *backing_path;		/* resolved against path */
	char *backing_format;
	struct qd_info_snapshot *snapshots;
	size_t nsnapshots;
	struct qd_info_bitmap *bitmaps;	/* only when the image says they are valid */
	size_t nbitmaps;
	struct qd_info_luks *luks;	/* NULL also for AES */
	uint64_t shared_clusters;
	bool has_shared_clusters;	/* false: they could not be counted */
	struct qd_index_info index;

	/* What is wrong with parts that had to be left out; "" when nothing is. */
	char warning[QD_ERR_MSG_MAX];
	struct qd_info *backing;	/* the chain, when asked for */
};

struct qd_info_opts {
	const char *format;		/* "raw", "qcow2"; NULL: the content decides */
	bool force_share;		/* -U */
	bool untrusted;			/* open nothing that the image names */
	bool backing_chain;
	uint64_t memory;		/* bytes; 0: the default */
};

/* The caller frees *ret_info with qd_info_free. */
int qd_info_get(const char *path, const struct qd_info_opts *opts, struct qd_info **ret_info,
		struct qd_err *err);

/* Frees the chain too; NULL is allowed. */
void qd_info_free(struct qd_info *info);

#endif
