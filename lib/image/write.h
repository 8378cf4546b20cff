/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Writing guest content into an existing qcow2 image, its active layer.
 *
 *	         in place                  the cluster is ours: COPIED set, refcount 1
 *	write -> new cluster, old one off  anything else: shared with a snapshot or by
 *	                                   deduplication, compressed, zero, unallocated
 *
 * L2 tables likewise.  Internal snapshots are never changed.
 *
 * Invariants
 *  W1  metadata changes stay in memory until a commit, which writes in this order, a
 *      flush between each: data, refcounts that grew | refcount table | L2 tables |
 *      L1 entries.  Only then are the clusters given up that nothing refers to any more.
 *      So a crash at any write leaks clusters at worst; what was flushed is there.
 *  W2  until the commit that unlinks it, an old cluster keeps its bytes and its refcount.
 *  W3  autoclear feature bits are cleared before the first change.  With lazy refcounts
 *      the dirty bit is set before the first claim or release; refcounts are written when
 *      the writer is closed, and the dirty bit is cleared after them.
 *  W4  with a hook (deduplication) nothing is written in place, the feature bit of the index
 *      stays set, and the dirty bit is set before the first change and cleared last; what
 *      a commit is about to write is logged first, data on stable storage before that, and
 *      released clusters are free only when the hook has noted it.
 *
 * Refused by name: encrypted images, external data files, persistent bitmaps (they would
 * become stale), images marked corrupt or dirty.
 *
 * Left to others: locks (the caller opens the io); knowing content by hash (write_hook.h).
 * One thread at a time.
 */
#ifndef QD_IMAGE_WRITE_H
#define QD_IMAGE_WRITE_H

#include "image/disk.h"
#include "image/write_hook.h"

struct qd_writer;

/*
 * img (its io is writable) and backing (what unallocated clusters read; NULL: zeros) stay
 * the caller's and outlive the writer; img is not kept up to date.  Nothing is written.
 */
int qd_writer_open(struct qd_image *img, const struct qd_disk *backing, struct qd_writer **ret_writer,
		   struct qd_err *err);

/*
 * From now on writes are deduplicated; before the first of them.  The hook outlives the
 * writer.  Not for images of version 2 or with extended L2 entries: QD_E_UNSUPPORTED.
 */
int qd_writer_set_hook(struct qd_writer *w, const struct qd_write_hook *hook, struct qd_err *err);

/* True until the hook had to be given up. */
bool qd_writer_has_hook(const struct qd_writer *w);

/* The refcount of a host cluster (number) as it will be. */
int qd_writer_refcount(struct qd_writer *w, uint64_t cluster, uint64_t *ret_count, struct qd_err *err);

/* Bytes of the disk, a multiple of 512; ranges below lie within it. */
uint64_t qd_writer_size(const struct qd_writer *w);

/* Guest content as written so far. */
int qd_writer_read(struct qd_writer *w, uint64_t guest_off, size_t nbytes, void *buf, struct qd_err *err);

int qd_writer_write(struct qd_writer *w, uint64_t guest_off, size_t nbytes, const void *buf,
		    struct qd_err *err);

/* The range reads as zeros afterwards, without being stored as far as the format can say so. */
int qd_writer_zero(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes, struct qd_err *err);

/*
 * Gives up whole clusters, which read as zeros afterwards; parts of clusters keep their
 * content, and so does all of a version 2 image with a backing file, which could only
 * show the backing file instead.
 */
int qd_writer_discard(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes, struct qd_err *err);

/* What was written before is on stable storage, and can be read after a crash. */
int qd_writer_flush(struct qd_writer *w, struct qd_err *err);

/*
 * As a crash would leave it after QEMU wrote back its L2 tables: everything is linked,
 * with lazy refcounts no count is written, and what was given up is not accounted for.
 * With a hook it is logged, and nothing of it is in its place yet.  The caller stops here,
 * without closing.
 */
int qd_writer_crash(struct qd_writer *w, struct qd_err *err);

/* Writes everything, clears the dirty bit, frees; frees also when it fails.  NULL is allowed. */
int qd_writer_close(struct qd_writer *w, struct qd_err *err);

#endif
