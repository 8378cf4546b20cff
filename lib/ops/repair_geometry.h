/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Is the header's cluster size the one the image was written with?
 */
#ifndef QD_OPS_REPAIR_GEOMETRY_H
#define QD_OPS_REPAIR_GEOMETRY_H

#include "base/io.h"
#include "format/header.h"

/* *ret_bits: cluster_bits by which the tables lie; 0 when nothing speaks against the header's. */
int qd_rep_other_cluster_bits(struct qd_io *io, const struct qd_header *h, uint32_t *ret_bits,
			      struct qd_err *err);

#endif
