/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A guest disk to read from: a raw or qcow2 file with its backing chain and external
 * data file, seen as one array of virtual_size bytes.
 *
 *	disk (depth 0) --backing--> disk (depth 1) --> ...
 *
 * The virtual size of a raw file is rounded up to 512 bytes, as QEMU does; what lies
 * past its end reads as zeros.
 *
 * What an image names (backing file, data file) is opened here and nowhere else:
 * relative to the directory of the image that names it; "json:" and protocol names
 * ("nbd://...") are refused by name, `untrusted` refuses everything.  Chain depth is
 * limited to 200 and loops are found.
 */
#ifndef QD_IMAGE_DISK_H
#define QD_IMAGE_DISK_H

#include "base/io_file.h"
#include "image/image.h"
#include "image/map.h"

struct qd_disk {			/* read-only for users */
	char *path;			/* as opened, relative names resolved */
	bool is_qcow2;
	uint64_t virtual_size;		/* bytes */
	unsigned depth;			/* 0: the disk that was opened */
	struct qd_io *io;		/* raw: the data; qcow2: the image file (owned by img) */
	struct qd_image *img;		/* NULL for raw */
	struct qd_map *map;		/* NULL for raw */
	struct qd_io *data_io;		/* where DATA runs point: io, or the external data file */
	char *data_path;		/* of data_io */
	struct qd_disk *backing;	/* NULL: none, unallocated reads as zeros */
};

struct qd_disk_opts {
	const char *format;		/* "raw", "qcow2", or NULL: the content decides */
	const char *snapshot;		/* read this internal snapshot (ID or name); NULL: the active layer */
	enum qd_cache_mode cache;
	bool no_lock;			/* -U */
	bool untrusted;			/* open nothing that the image names */
	bool no_backing;		/* do not open the backing file: unallocated reads as zeros */
	uint64_t map_cache_nbytes;	/* bound on cached L2 tables of the whole chain; 0: 32 MiB */
};

/* Opens path and what it needs.  Refuses encrypted images by name.  The caller owns *ret_disk. */
int qd_disk_open(const char *path, const struct qd_disk_opts *opts, struct qd_disk **ret_disk,
		 struct qd_err *err);

/* A disk over an open io (taken over on success): no backing or data file is opened. */
int qd_disk_open_io(struct qd_io *io, const struct qd_disk_opts *opts, struct qd_disk **ret_disk,
		    struct qd_err *err);

/* Closes the whole chain; NULL is allowed. */
void qd_disk_close(struct qd_disk *disk);

/*
 * A name found in the image at base_path -> a path to open, which the caller frees.
 * `what` names the name in messages.  Protocols and json: are QD_E_UNSUPPORTED.
 */
int qd_disk_resolve_name(const char *base_path, const char *name, const char *what, char **ret_path,
			 struct qd_err *err);

/* The format an image records for its backing file (may be NULL) -> "raw", "qcow2" or NULL: the content decides. */
int qd_disk_backing_format(const char *name, const char **ret_format, struct qd_err *err);

/* True when some file of the chain is the file that path names. */
bool qd_disk_uses_path(const struct qd_disk *disk, const char *path);

enum qd_run_kind {
	QD_RUN_HOLE,		/* allocated nowhere in the chain: zeros */
	QD_RUN_ZERO,		/* zeros, said so by some layer (also: a hole in a raw file) */
	QD_RUN_DATA,		/* nbytes at host_off of layer->data_io */
	QD_RUN_COMPRESSED,	/* (part of) one compressed cluster */
};

struct qd_disk_run {
	enum qd_run_kind kind;
	uint64_t guest_off;		/* bytes */
	uint64_t nbytes;
	uint64_t host_off;		/* DATA, preallocated ZERO and HOLE (or 0) */
	uint64_t entry;			/* COMPRESSED: the descriptor */
	const struct qd_disk *layer;	/* who decides; the deepest disk for HOLE */
};

/* The run that starts at guest_off (< virtual_size), at most max_nbytes long. */
int qd_disk_next(const struct qd_disk *disk, uint64_t guest_off, uint64_t max_nbytes,
		 struct qd_disk_run *ret_run, struct qd_err *err);

/*
 * Skips what reads as zeros: the first data at or after guest_off.  *ret_off ==
 * virtual_size when there is none; *ret_nbytes is the length of consecutive data found
 * (at most max_nbytes).
 */
int qd_disk_next_data(const struct qd_disk *disk, uint64_t guest_off, uint64_t max_nbytes,
		      uint64_t *ret_off, uint64_t *ret_nbytes, struct qd_err *err);

/* A reader holds the scratch memory one thread needs to read a disk. */
struct qd_reader;

int qd_reader_new(const struct qd_disk *disk, struct qd_reader **ret_reader, struct qd_err *err);
void qd_reader_free(struct qd_reader *reader);

/* Fills buf with guest content; what lies past virtual_size is zeros. */
int qd_reader_read(struct qd_reader *reader, uint64_t guest_off, size_t nbytes, void *buf, struct qd_err *err);

/*
 * As above, and says what read as zeros by metadata: *ret_zero is true when the whole
 * range does, and then buf is not written.
 */
int qd_reader_read_sparse(struct qd_reader *reader, uint64_t guest_off, size_t nbytes, void *buf,
			  bool *ret_zero, struct qd_err *err);

#endif
