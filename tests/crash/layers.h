/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What a sound image holds, byte for byte: the active layer, and every internal snapshot
 * but the pin.
 */
#ifndef QD_TESTS_LAYERS_H
#define QD_TESTS_LAYERS_H

#include "base/io.h"

struct layer {
	char *name;		/* NULL: the active one */
	uint8_t *bytes;
	uint64_t size;
};

struct layers {
	struct layer *v;	/* v[0] is the active one */
	unsigned n;
};

/* All layers of the image in io, which is only read. */
int layers_read(struct qd_io *io, struct layers *l, struct qd_err *err);
void layers_free(struct layers *l);

/* One of them; the caller frees l->bytes.  l->name says which. */
int layer_read(struct qd_io *io, struct layer *l, struct qd_err *err);

#endif
