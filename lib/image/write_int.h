/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What write.c (the session), write_map.c (tables) and write_data.c (content) share. */
#ifndef QD_IMAGE_WRITE_INT_H
#define QD_IMAGE_WRITE_INT_H

#include "image/codec.h"
#include "image/pin.h"
#include "image/write.h"
#include "space/alloc.h"

/* An L2 entry that lost COPIED, where it may be on disk with it. */
struct cleared {
	uint64_t place_off;			/* byte of the file */
	uint64_t host_off;			/* what it refers to */
};

struct qd_writer {
	struct qd_image *img;
	struct qd_io *io;
	const struct qd_geom *geom;
	const struct qd_disk *backing;		/* NULL: none */
	struct qd_reader *backing_reader;
	struct qd_queue *queue;
	struct qd_cache *cache;
	struct qd_extents guard;
	struct qd_alloc *alloc;
	uint64_t size;				/* bytes of the disk */
	uint64_t *l1;				/* host-endian */
	uint64_t l1_dirty_first, l1_dirty_end;	/* entries to be written: [first, end) */
	bool lazy;				/* refcounts wait for the end */
	bool begun;				/* W3: the autoclear bits are done with */
	bool dirty;				/* W3: the dirty bit is set */
	uint8_t *cluster;			/* scratch: the cluster being made */
	uint8_t *table;				/* scratch: an L2 table being copied */
	struct qd_codec *codec;
	uint8_t *packed;			/* a compressed stream, up to two clusters */
	uint8_t *plain;				/* what it holds */
	uint64_t plain_entry;			/* whose stream that is; 0: none */
	const struct qd_write_hook *hook;	/* NULL: no deduplication */
	struct qd_pin *pin;			/* with a hook */
	uint8_t *zeros;				/* likewise: a cluster of them */
	struct cleared *cleared;
	size_t ncleared, cleared_capacity;
	bool wrote_data;			/* since the last flush of a commit */
};

/* What the L2 table says about one guest cluster. */
struct place {
	uint64_t entry;
	uint64_t bitmap;	/* extended L2, else 0 */
};

/* A range within one guest cluster. */
struct part {
	uint64_t guest_off;	/* of the cluster */
	uint64_t from, to;	/* bytes in the cluster */
	struct place place;
};

enum sub_kind { SUB_UNALLOCATED, SUB_ZERO, SUB_DATA };

/* ---- write.c ---- */

/* Before a change (W3); refcounts: of which clusters are used, too. */
int writer_begin(struct qd_writer *w, bool refcounts, struct qd_err *err);

/* After each cluster: commits when much is waiting. */
int writer_relieve(struct qd_writer *w, struct qd_err *err);

/* ---- write_map.c ---- */

/* The place of the guest cluster that guest_off lies in, validated. */
int writer_lookup(struct qd_writer *w, uint64_t guest_off, struct place *ret_place, struct qd_err *err);

/* Puts it into the L2 table, which is made our own first. */
int writer_store(struct qd_writer *w, uint64_t guest_off, const struct place *place, struct qd_err *err);

/* True when the guest cluster's L2 table does not exist. */
bool writer_has_no_table(const struct qd_writer *w, uint64_t guest_off);

/* Gives up the host clusters that the place refers to, if any. */
int writer_release(struct qd_writer *w, const struct place *place, struct qd_err *err);

/* *ret_own: its host cluster may be written to. */
int writer_is_own(struct qd_writer *w, const struct place *place, bool *ret_own, struct qd_err *err);

/* Subclusters of a cluster (1 without extended L2), and what one of them is; not for compressed places. */
unsigned writer_nsubs(const struct qd_writer *w);
enum sub_kind writer_sub_kind(const struct qd_writer *w, const struct place *place, unsigned sub);

/* Byte of the file where the guest cluster's L2 entry is or will be; its table exists. */
uint64_t writer_entry_off(const struct qd_writer *w, uint64_t guest_off);

/* Writes L1 entries that changed to the queue. */
int writer_queue_l1(struct qd_writer *w, struct qd_err *err);

/* ---- write_data.c ---- */

/* Fills buf with the content of the cluster's bytes [from, to). */
int writer_read_cluster(struct qd_writer *w, const struct part *p, uint64_t from, uint64_t to, uint8_t *buf,
			struct qd_err *err);

/* w->plain: what the compressed entry's stream holds. */
int writer_unpack(struct qd_writer *w, uint64_t entry, struct qd_err *err);

int writer_write_host(struct qd_writer *w, uint64_t host_off, const uint8_t *buf, uint64_t nbytes,
		      struct qd_err *err);

/* The whole cluster reads as zeros afterwards, without data. */
int writer_zero_cluster(struct qd_writer *w, const struct part *p, struct qd_err *err);

/* ---- write_dedup.c (with a hook, and without extended L2) ---- */

int writer_write_dedup(struct qd_writer *w, struct part *p, const uint8_t *src, struct qd_err *err);

/* Queues what owners' entries lost, and a barrier. */
int writer_queue_cleared(struct qd_writer *w, struct qd_err *err);

#endif
