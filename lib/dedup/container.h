/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The container of an image: hash table and journal, found through the header extension,
 * embedded or in a file of its own, and what can be believed of it.
 *
 *	state     extension   autoclear bit   table      what holds
 *	absent    no (or embedded and the pin that held it is gone)
 *	valid     yes         set             sound      every record
 *	partial   yes         clear           sound      records of clusters that the pin references
 *	stale     yes         -               not sound, or of another image: nothing
 *
 * Sound means: the extension's checksum, that of the directory, identity, geometry, and
 * for an embedded container that every cluster of its run is referenced by the pin, once,
 * and has a refcount of 1.  Blocks are checked when they are read.
 *
 * A container is never changed in place but for appends to its journal areas: a new one
 * is written elsewhere, and one write of the extension switches to it.
 *
 * Never opens anything that the image names: an external container only by the name the
 * user gave.
 */
#ifndef QD_DEDUP_CONTAINER_H
#define QD_DEDUP_CONTAINER_H

#include "dedup/table.h"
#include "image/image.h"

enum qd_container_state {
	QD_CONTAINER_ABSENT,
	QD_CONTAINER_VALID,
	QD_CONTAINER_PARTIAL,
	QD_CONTAINER_STALE,
};

const char *qd_container_state_name(enum qd_container_state state);

struct qd_container {
	enum qd_container_state state;
	bool external;			/* the image's extension says so */
	bool opened;			/* table can be read (external: only when its file was given) */
	struct qd_table_ext ext;	/* all 0 when absent */
	struct qd_io *io;		/* where the container's bytes are; the image's io, or owned */
	uint64_t off;			/* byte of io where it starts */
	struct qd_table *table;		/* NULL unless opened */
	char why[200];			/* stale, or not opened: the reason, as a message's end */
};

/*
 * img stays the caller's and outlives it.  index_path: the file of an external container,
 * or NULL.  What is wrong with the container is its state, not an error: errors are I/O
 * and memory.  writable: the external file is opened for writing too.
 */
int qd_container_open(struct qd_image *img, const char *index_path, bool writable,
		      struct qd_container **ret_container, struct qd_err *err);
void qd_container_close(struct qd_container *c);

/*
 * The set of entries that the pin references, sorted, those of the container's own
 * clusters left out: what holds in state partial, what is immutable under QEMU.
 */
struct qd_pinned;
int qd_pinned_load(const struct qd_image *img, const struct qd_table_ext *ext, uint64_t memory,
		   struct qd_pinned **ret_pinned, struct qd_err *err);
void qd_pinned_free(struct qd_pinned *p);
bool qd_pinned_has(const struct qd_pinned *p, uint64_t entry);
uint64_t qd_pinned_count(const struct qd_pinned *p);

/* True when the image cannot carry an embedded container, and why (compat 0.10, external data file, ...). */
bool qd_container_is_impossible(const struct qd_header *h, const char **ret_why);

/* An external container's file: head of QD_EXTERNAL_HEAD bytes, then the container. */
#define QD_EXTERNAL_HEAD 4096u
#define QD_EXTERNAL_MAGIC "QDEDUPIX"	/* 8 bytes; the extension's data follows, zeros to the head's end */

#endif
