/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The L2 tables of an image being built, filled in guest order.
 *
 *	open     the one table entries are added to; in memory
 *	held     complete, in memory while the budget lasts, written once by the last pass
 *	dropped  complete, written already; read back to look something up or to patch it
 *
 * Which tables are held depends on the budget, what they contain does not: a COPIED flag
 * that must go is cleared at once in a held table, and by the last pass in a dropped
 * one, which is why dropped tables are marked when that is owed (see qd_l2store_owe).
 */
#ifndef QD_IMAGE_L2STORE_H
#define QD_IMAGE_L2STORE_H

#include <stdbool.h>

#include "base/bigarray.h"
#include "base/io.h"
#include "format/header.h"

struct qd_l2store {
	struct qd_io *io;
	const struct qd_geom *geom;
	uint64_t budget;		/* bytes of complete tables to hold */
	uint64_t held_nbytes;
	struct qd_bigarray tables;	/* uint8_t *[l1 index]: NULL unless in memory */
	struct qd_bigarray l1;		/* uint64_t[l1 index]: offset of the table, 0: none */
	struct qd_bigarray owed;	/* uint8_t[l1 index]: has owners of shared clusters */
	uint64_t l1_used;		/* highest l1 index in use + 1 */
	uint8_t *scratch;		/* one table read back */
};

void qd_l2store_init(struct qd_l2store *s, struct qd_io *io, const struct qd_geom *geom, uint64_t budget);
void qd_l2store_free(struct qd_l2store *s);

/* True when entries of guest_cluster can be added: its table is the open one. */
bool qd_l2store_is_open(const struct qd_l2store *s, uint64_t guest_cluster);

/* Completes the open table and opens the one of guest_cluster, which is to lie at host_off. */
int qd_l2store_open(struct qd_l2store *s, uint64_t guest_cluster, uint64_t host_off, struct qd_err *err);

/* Sets an entry in the open table; `bitmap` is the extended half (ignored without extended L2). */
void qd_l2store_set(struct qd_l2store *s, uint64_t guest_cluster, uint64_t entry, uint64_t bitmap);

int qd_l2store_get(struct qd_l2store *s, uint64_t guest_cluster, uint64_t *ret_entry, struct qd_err *err);

/* guest_cluster's entry now owns a shared cluster: its COPIED flag goes, now or in the last pass. */
void qd_l2store_owe(struct qd_l2store *s, uint64_t guest_cluster);

/*
 * The last pass, in guest order: completes every table.  For each entry of an owing
 * table, is_owner(ctx, guest_cluster) decides whether COPIED goes, and then
 * on_owner(ctx, entry, bitmap) is told the final entry.
 */
struct qd_l2store_pass {
	bool (*is_owner)(void *ctx, uint64_t guest_cluster);
	int (*on_owner)(void *ctx, uint64_t entry, uint64_t bitmap, struct qd_err *err);
	void *ctx;
};
int qd_l2store_finish(struct qd_l2store *s, const struct qd_l2store_pass *pass, struct qd_err *err);

/* Offset of the L2 table, 0 when there is none. */
uint64_t qd_l2store_table_off(const struct qd_l2store *s, uint64_t l1_index);

#endif
