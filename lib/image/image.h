/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * An open qcow2 file: header, geometry, L1 tables, snapshots, names; not its data
 * (map.h finds clusters, disk.h reads guest content through the backing chain).
 *
 * The struct is open for reading to everything above; only this file pair writes it.
 * Whatever stands in it has been validated: tables lie within the file, counts are
 * within QEMU's limits, names are NUL-terminated strings without embedded NUL.
 */
#ifndef QD_IMAGE_IMAGE_H
#define QD_IMAGE_IMAGE_H

#include "base/io.h"
#include "format/bitmap.h"
#include "format/header.h"

#define QD_PIN_NAME "qdedup"		/* the pin's snapshot name (design of sharing) */
#define QD_PIN_DISK_SIZE 4097u		/* not a multiple of 512: QEMU refuses to revert to it */

struct qd_snapshot {
	char *id;
	char *name;
	uint64_t l1_off;
	uint32_t l1_entries;
	uint32_t date_sec;
	uint32_t date_nsec;
	uint64_t vm_clock_nsec;
	uint64_t vm_state_size;		/* bytes */
	uint64_t disk_size;		/* bytes */
	uint64_t icount;		/* UINT64_MAX: not recorded */
};

struct qd_ext_copy {		/* a header extension as it stands in the file */
	uint32_t type;
	uint32_t nbytes;
	uint8_t *data;
};

struct qd_image {
	struct qd_io *io;		/* owned */
	uint64_t file_size;		/* bytes, when opened */
	struct qd_header header;
	struct qd_geom geom;
	uint64_t *l1;			/* active L1 table, header.l1_entries values, host-endian */
	struct qd_snapshot *snapshots;
	uint32_t nsnapshots;
	uint64_t snapshots_nbytes;	/* bytes of the snapshot table */
	struct qd_ext_copy *exts;	/* all extensions, in file order */
	uint32_t nexts;
	char *backing_name;		/* NULL: none */
	char *backing_format;		/* NULL: not recorded */
	char *data_file_name;		/* NULL: not recorded */
};

enum qd_image_open_flags {
	/* Do not refuse an image because its snapshot table is damaged: nsnapshots is 0 then. */
	QD_IMAGE_LENIENT = 1 << 0,
};

/*
 * Reads and validates; takes over io only on success.  QD_E_CORRUPT/UNSUPPORTED as
 * format/header.h, plus tables past the end of the file.
 */
int qd_image_open(struct qd_io *io, unsigned flags, struct qd_image **ret_img, struct qd_err *err);

/* Closes io too; NULL is allowed. */
void qd_image_close(struct qd_image *img);

/* Frees img but not its io, which is the caller's (again); NULL is allowed. */
void qd_image_detach(struct qd_image *img);

/* QD_E_UNSUPPORTED, naming AES or LUKS, when guest data is encrypted. */
int qd_image_require_plain(const struct qd_image *img, struct qd_err *err);

/* Loads an L1 table (a snapshot's) into a new array the caller frees. */
int qd_image_load_l1(const struct qd_image *img, uint64_t l1_off, uint32_t l1_entries,
		     uint64_t **ret_l1, struct qd_err *err);

/* By ID, else by name, as qemu-img looks them up; NULL when there is none. */
const struct qd_snapshot *qd_image_find_snapshot(const struct qd_image *img, const char *id_or_name);

/* The pin: the snapshot named QD_PIN_NAME whose disk size is not a multiple of 512; NULL when there is none. */
const struct qd_snapshot *qd_image_find_pin(const struct qd_image *img);

/* Snapshots that its user made: others than the pin. */
bool qd_image_has_own_snapshots(const struct qd_image *img);

/* The extension of that type, or NULL. */
const struct qd_ext_copy *qd_image_find_ext(const struct qd_image *img, uint32_t type);

#endif
