/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The hash table of the image being written: one record for each cluster that is stored,
 * as it is stored; the container when all are.
 *
 *	embedded   in the image, behind its data, referenced by the pin
 *	external   in a file of its own (--index=FILE)
 *	none       --no-index, --no-dedup, --no-pin without FILE; compat=0.10; no room for the
 *	           header extension beside a long backing file name in a tiny first cluster
 *
 * The generation is 1: a new image has no older one.
 */
#ifndef QD_OPS_CONVERT_INDEX_H
#define QD_OPS_CONVERT_INDEX_H

#include "ops/convert_qcow2.h"

/* Decides which of the three, and makes w->table when there is a table.  After the builder. */
int qd_cv_index_open(struct qd_cv_writer *w, struct qd_err *err);

/* Prepare: the digest of a cluster that will probably be stored. */
int qd_cv_index_hash(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err);

/* Commit: the cluster is stored, its place is known. */
int qd_cv_index_stored(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err);

/* Commit: `owner`, whose content is the cluster's, may not be shared any more. */
int qd_cv_index_full(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, uint64_t owner,
		     struct qd_err *err);

/* Writes the container; *ret_autoclear gets the bit to set, if there is one. */
int qd_cv_index_write(struct qd_cv_writer *w, uint64_t *ret_autoclear, struct qd_err *err);

#endif
