/* SPDX-License-Identifier: GPL-2.0-or-later */
/* What pin.c (reading, slots that go) and pin_change.c (slots that come, what is written) share. */
#ifndef QD_IMAGE_PIN_INT_H
#define QD_IMAGE_PIN_INT_H

#include "image/pin.h"

struct run {			/* clusters in a row; n 0: none */
	uint64_t first;
	uint64_t n;
};

struct qd_pin {
	struct qd_pin_image pi;
	const struct qd_geom *geom;
	bool exists;
	uint32_t id;
	uint8_t *table;			/* the snapshot table as it will be */
	size_t table_nbytes;
	size_t entry_off;		/* of the pin's entry in it, when it exists */
	size_t entry_nbytes;
	uint32_t count;			/* snapshots, the pin included */
	struct run table_at;		/* where it lies; n 0: nowhere yet */
	uint64_t *l1;			/* host-endian */
	uint32_t l1_entries;
	uint32_t l1_written;		/* entries that the file's table has */
	struct run l1_at;
	uint32_t l1_dirty_first, l1_dirty_end;
	bool relink;			/* the snapshot table or the L1 table lies elsewhere now */
	uint32_t at_l1;			/* no free slot before this one */
	uint64_t at_slot;
};

uint64_t qd_pin_clusters_of(const struct qd_pin *p, uint64_t nbytes);

/* An ID as a number from 1 on; 0 when it is none. */
uint32_t qd_pin_id_number(const char *id, size_t nbytes);

void qd_pin_touch_l1(struct qd_pin *p, uint32_t index, uint64_t entry);

/* The L2 table's bytes, valid until the next use of the cache; the L1 entry names one. */
int qd_pin_get_table(struct qd_pin *p, uint32_t index, uint8_t **ret_table, struct qd_err *err);

uint64_t qd_pin_slot(const struct qd_pin *p, const uint8_t *table, uint64_t slot, uint64_t *ret_bitmap);

/* The table is the one that the cache gave last. */
void qd_pin_set_slot(struct qd_pin *p, uint8_t *table, uint64_t slot, uint64_t entry, uint64_t bitmap);

/* A cluster of the pin's own tables is not needed any more. */
int qd_pin_give_up(struct qd_pin *p, uint64_t cluster, struct qd_err *err);

#endif
