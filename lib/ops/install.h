/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Putting a new container into an existing image in place of the old one, or taking it
 * out.  Guest content and its mapping are never touched.
 *
 *	write it into free space | pin its clusters | flush | switch the extension | flush |
 *	take the old one's clusters out of the pin | free them
 *
 * Invariants
 *  N1  at every write the extension names a container that is complete and pinned, and
 *      that is the old one or the new one.
 *  N2  the autoclear bit is set only when the records of the container that the extension
 *      names hold, and never while the image has snapshots other than the pin: stock QEMU
 *      (4.2 and later) forgets all snapshots when `qemu-img check -r` finds an autoclear bit
 *      that it does not know.  The index of such an image is partial.
 *  N3  new journal areas are zeros: nothing of an older journal is taken for one of theirs.
 */
#ifndef QD_OPS_INSTALL_H
#define QD_OPS_INSTALL_H

#include "dedup/container.h"
#include "dedup/table.h"
#include "image/image.h"

struct qd_install {
	/* All records added, qd_table_maker_finish not called yet: it is here, with the new generation. */
	struct qd_table_maker *maker;
	uint64_t log_nbytes;		/* of each log area, and of the redo log: multiples of 4096; */
	uint64_t redo_nbytes;		/* both 0: no journal */
	uint64_t journal_id;		/* drawn; 0: that of the old container's journal, or made of the image */
	const char *index_path;		/* external: the file, replaced when it is complete; NULL: embedded */
	bool valid;			/* every record holds: the autoclear bit is set (N2) */
	/*
	 * Clusters to pin besides the container's, and slots of the pin to clear (their
	 * reference is given up); both may be NULL.  add is called until it returns 0: 1 with
	 * *ret_entry (COPIED clear) and *ret_bitmap set.  Not for external ones.
	 */
	int (*add)(void *ctx, uint64_t *ret_entry, uint64_t *ret_bitmap, struct qd_err *err);
	bool (*remove)(void *ctx, uint64_t entry);
	void *ctx;
};

struct qd_install_result {
	struct qd_table_ext ext;	/* as written */
	uint64_t nbytes;		/* of the container */
	uint64_t nrecords;
	uint64_t pinned;		/* clusters pinned besides the container's */
	uint64_t unpinned;		/* slots cleared besides the old container's */
	uint64_t flushes;
};

/*
 * Writes the container in->maker makes and switches to it.  old: what qd_container_open found, any
 * state (its generation is continued, its clusters are freed where it can be known which those
 * are).  Refuses by name what qd_change_refuse and qd_container_is_impossible do, and a
 * first cluster without room for the extension; nothing is written then.
 *
 * Afterwards img and old do not say any more what the file holds: close old first, then img.
 */
int qd_install_container(struct qd_image *img, const struct qd_container *old, const struct qd_install *in,
			 struct qd_install_result *ret_result, struct qd_err *err);

/*
 * Removes extension, autoclear bit and the container's clusters; the pin stays while it
 * references anything else.  The file of an external one is left alone.
 */
int qd_install_drop(struct qd_image *img, const struct qd_container *old,
		    struct qd_install_result *ret_result,
		    struct qd_err *err);

/* The same, and slots of the pin are cleared for which remove(ctx, entry) says so. */
int qd_install_drop_more(struct qd_image *img, const struct qd_container *old,
			 bool (*remove)(void *ctx, uint64_t entry), void *ctx,
			 struct qd_install_result *ret_result, struct qd_err *err);

#endif
