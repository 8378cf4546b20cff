/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Merging: table and log of an index become a new container, in one pass over the table,
 * with journal areas of the sizes wanted.  Creating, dropping and resizing a journal are
 * the same thing.
 */
#ifndef QD_OPS_MERGE_H
#define QD_OPS_MERGE_H

#include "ops/install.h"
#include "ops/known.h"

/* What a journal gets unless the caller wants something else: bytes of each log area and of the redo log. */
#define QD_MERGE_LOG_NBYTES (256u << 10)
#define QD_MERGE_REDO_NBYTES (1u << 20)

struct qd_merge {
	uint64_t log_nbytes;		/* as in struct qd_install */
	uint64_t redo_nbytes;
	uint64_t journal_id;		/* as in struct qd_install */
	const char *index_path;		/* where the index lies and stays; NULL: in the image */
	uint64_t memory;		/* bytes; 0: the default */
	const char *tmpdir;		/* NULL: /tmp */
};

/*
 * A table maker with all that is known, table and log together; what is damaged is left out.  geom
 * and the index of known outlive it; tmpdir must stay valid.
 */
int qd_merge_gather(struct qd_known *known, const struct qd_geom *geom, uint64_t memory, const char *tmpdir,
		    struct qd_table_maker **ret_maker, struct qd_err *err);

/*
 * old: opened, state valid or partial; its records hold afterwards as they did before.  Afterwards
 * img and old do not say any more what the file holds: close old first, then img.
 */
int qd_merge(struct qd_image *img, struct qd_container *old, const struct qd_merge *opts,
	     struct qd_install_result *ret_result, struct qd_err *err);

#endif
