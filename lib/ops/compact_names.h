/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What compressed clusters were called before they moved, in bounded memory.
 *
 *	generation 1     B <- A   C <- X        moves none of which begins where another one ended
 *	generation 2     D <- B   A <- Y        one that does begins a new generation
 *
 * D was called B before generation 2, and that A before generation 1.  A generation is a
 * sorted file, made as hash tables are, with the old name in place of the hash; when there are several
 * they become one.
 *
 * Memory: what was given, and a bit for each cluster of the file that holds moved streams.
 */
#ifndef QD_OPS_COMPACT_NAMES_H
#define QD_OPS_COMPACT_NAMES_H

#include "dedup/table.h"

struct compact_names;

/* geom outlives it; tmpdir (NULL: /tmp) must stay valid. */
int compact_names_new(const struct qd_geom *geom, uint64_t memory, const char *tmpdir,
		      struct compact_names **ret_names, struct qd_err *err);
void compact_names_free(struct compact_names *n);

/* The descriptor `from`, as it is called now, is called `to` from now on. */
int compact_names_add(struct compact_names *n, uint64_t from, uint64_t to, struct qd_err *err);

/* What the descriptor was called at first. */
int compact_names_find(struct compact_names *n, uint64_t entry, uint64_t *ret_was, struct qd_err *err);

/* ---- tables in temporary files ---- */

struct compact_stored {		/* all zero: none */
	struct qd_io *io;
	struct qd_table *table;
};

/* The table of all that was added to the maker, which is freed. */
int compact_stored_make(struct qd_table_maker *maker, const struct qd_geom *geom, const char *tmpdir,
			struct compact_stored *ret_stored, struct qd_err *err);
void compact_stored_close(struct compact_stored *s);

#endif
