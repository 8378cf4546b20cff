/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 *	pin's slots --as many as fit--> sorted like the table --walk beside it--> bits
 *
 * and again with the next ones.
 */
#include "dedup/pin_bits.h"

#include <stdlib.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "dedup/pinned.h"
#include "dedup/table_int.h"

#define LEAST 16u			/* entries at a time */

struct qd_pin_bits {
	struct qd_bigarray bits;
};

struct loading {
	struct qd_pin_bits *b;
	const struct qd_geom *geom;
	struct qd_table *table;
	const struct qd_table_ext *ext;
	int (*each)(void *ctx, uint64_t entry, struct qd_err *err);
	void *ctx;
	struct qd_bigarray batch;	/* uint64_t */
	uint64_t n, most;
	uint64_t at;			/* of the batch, while the table is walked */
	bool unordered;
};

static struct qd_table_key key_at(const struct loading *l, uint64_t i)
{
	return qd_table_key_of(l->geom, ((const uint64_t *)l->batch.p)[i]);
}

static int compare(const void *pa, const void *pb, void *geom)
{
	return qd_table_key_compare(qd_table_key_of(geom, *(const uint64_t *)pa),
				    qd_table_key_of(geom, *(const uint64_t *)pb));
}

/* 1: nothing is left to look for. */
static int mark(void *ctx, uint64_t n, const struct qd_record *record, struct qd_err *err)
{
	struct loading *l = ctx;
	struct qd_table_key key = qd_table_key_of(l->geom, record->entry);

	(void)err;
	while (l->at < l->n && qd_table_key_compare(key_at(l, l->at), key) < 0)
		l->at++;
	if (l->at == l->n)
		return 1;
	if (qd_table_key_compare(key_at(l, l->at), key) == 0)
		((uint8_t *)l->b->bits.p)[n / 8] |= (uint8_t)(1u << n % 8);
	return 0;
}

static int mark_batch(struct loading *l, struct qd_err *err)
{
	int rc;

	if (l->unordered)
		qsort_r(l->batch.p, (size_t)l->n, sizeof(uint64_t), compare, (void *)(uintptr_t)l->geom);
	l->at = 0;
	rc = qd_table_walk(l->table, mark, l, err);
	l->n = 0;
	l->unordered = false;
	return rc < 0 ? rc : 0;
}

static int take_slot(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct loading *l = ctx;
	int rc = 0;

	if (qd_table_ext_holds(l->ext, entry))
		return 0;
	if (l->each)
		rc = l->each(l->ctx, entry, err);
	if (rc == 0 && l->n == l->most)
		rc = mark_batch(l, err);
	if (rc == 0)
		rc = qd_bigarray_need(&l->batch, (l->n + 1) * sizeof(uint64_t), "the pin", err);
	if (rc)
		return rc;
	((uint64_t *)l->batch.p)[l->n] = entry;
	l->unordered |= l->n && qd_table_key_compare(key_at(l, l->n - 1), key_at(l, l->n)) > 0;
	l->n++;
	return 0;
}

int qd_pin_bits_load(const struct qd_image *img, const struct qd_container *c, uint64_t memory,
		     int (*each)(void *ctx, uint64_t entry, struct qd_err *err), void *ctx,
		     struct qd_pin_bits **ret_bits, struct qd_err *err)
{
	struct qd_pin_bits *b = calloc(1, sizeof(*b));
	struct loading l = { .b = b, .geom = &img->geom, .table = c->table, .ext = &c->ext,
			     .each = each, .ctx = ctx,
			     .most = qd_max_u64(memory / sizeof(uint64_t), LEAST) };
	uint64_t bad;
	int rc;

	if (!b)
		return qd_err_nomem(err, "the pin");
	rc = qd_bigarray_need(&b->bits, qd_table_nrecords(c->table) / 8 + 1, "the pin", err);
	if (rc == 0)
		rc = qd_pinned_walk(img, take_slot, &l, &bad, err);
	if (rc == 0 && l.n)
		rc = mark_batch(&l, err);
	qd_bigarray_free(&l.batch);
	if (rc)
		qd_pin_bits_free(b);
	else
		*ret_bits = b;
	return rc;
}

void qd_pin_bits_free(struct qd_pin_bits *b)
{
	if (!b)
		return;
	qd_bigarray_free(&b->bits);
	free(b);
}

bool qd_pin_bits_has(const struct qd_pin_bits *b, uint64_t n)
{
	return ((const uint8_t *)b->bits.p)[n / 8] >> n % 8 & 1;
}
