/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_hash.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

uint64_t qd_scan_cells_memory(const struct scan *s, uint64_t nbytes)
{
	return nbytes / s->unit * (s->key_nbytes + 1) * (s->nsizes > 1 ? 2 : 1);
}

int qd_scan_cells_init(struct scan_cells *c, const struct scan *s, uint64_t nbytes, struct qd_err *err)
{
	*c = (struct scan_cells){ .scan = s, .nbytes = nbytes };
	for (unsigned k = 0; k < s->nsizes; k++) {
		size_t n = (size_t)(nbytes / s->sizes[k]);

		c->keys[k] = calloc(n, s->key_nbytes);
		c->cells[k] = calloc(n, 1);
		if (!c->keys[k] || !c->cells[k])
			return qd_err_nomem(err, "digests");
	}
	return s->digest->algorithm ? qd_digester_new(s->digest, &c->digester, err) : 0;
}

void qd_scan_cells_free(struct scan_cells *c)
{
	for (unsigned k = 0; k < QD_SCAN_NSIZES_MAX; k++) {
		free(c->keys[k]);
		free(c->cells[k]);
	}
	qd_digester_free(c->digester);
	*c = (struct scan_cells){ .scan = NULL };
}

void qd_scan_cells_clear(struct scan_cells *c, bool own)
{
	const struct scan *s = c->scan;

	for (unsigned k = 0; k < s->nsizes; k++) {
		size_t n = (size_t)(c->nbytes / s->sizes[k]);

		memset(c->cells[k], own ? SCAN_OWN : 0, n);
		memset(c->keys[k], 0, n * s->key_nbytes);
	}
}

static void fingerprint(const void *data, size_t nbytes, uint8_t *ret)
{
	struct qd_fingerprint f = qd_fingerprint_of(data, nbytes);

	qd_put_be64(ret, f.hi);
	qd_put_be64(ret + 8, f.lo);
}

static int digest(struct scan_cells *c, const uint8_t *data, size_t nbytes, uint8_t *ret, struct qd_err *err)
{
	uint8_t full[QD_DIGEST_MAX];
	int r;

	if (!c->digester) {
		fingerprint(data, nbytes, ret);
		return 0;
	}
	r = qd_digester_compute(c->digester, data, nbytes, full, err);
	if (!r)
		memcpy(ret, full, c->scan->key_nbytes);
	return r;
}

/* Clusters of the smallest size whose digests are computed together. */
struct together {
	unsigned n;
	size_t unit[QD_DIGEST_BATCH];
	const void *data[QD_DIGEST_BATCH];
};

static int digest_together(struct scan_cells *c, struct together *t, struct qd_err *err)
{
	const struct scan *s = c->scan;
	uint8_t full[QD_DIGEST_BATCH][QD_DIGEST_MAX], *ret[QD_DIGEST_BATCH];
	int r;

	for (unsigned i = 0; i < t->n; i++)
		ret[i] = full[i];
	r = qd_digester_compute_many(c->digester, t->data, t->n, s->unit, ret, err);
	for (unsigned i = 0; !r && i < t->n; i++)
		memcpy(c->keys[0] + t->unit[i] * s->key_nbytes, full[i], s->key_nbytes);
	t->n = 0;
	return r;
}

int qd_scan_cells_units(struct scan_cells *c, uint64_t off, const uint8_t *data, uint64_t nbytes,
			struct qd_err *err)
{
	const struct scan *s = c->scan;
	size_t first = (size_t)(off / s->unit), n = (size_t)(nbytes / s->unit);
	struct together t = { .n = 0 };
	int r = 0;

	for (size_t i = 0; !r && i < n; i++, data += s->unit) {
		if (qd_is_zero(data, s->unit))
			continue;
		c->cells[0][first + i] |= SCAN_DATA;
		if (!c->digester) {
			fingerprint(data, s->unit, c->keys[0] + (first + i) * s->key_nbytes);
			continue;
		}
		t.unit[t.n] = first + i;
		t.data[t.n++] = data;
		if (t.n == QD_DIGEST_BATCH)
			r = digest_together(c, &t, err);
	}
	return r || !t.n ? r : digest_together(c, &t, err);
}

/* One cluster of size k from those of size k - 1. */
static int combine(struct scan_cells *c, unsigned k, size_t i, const uint8_t *data, struct qd_err *err)
{
	const struct scan *s = c->scan;
	size_t parts = (size_t)(s->sizes[k] / s->sizes[k - 1]);
	const uint8_t *cells = c->cells[k - 1] + i * parts;
	uint8_t *key = c->keys[k] + i * s->key_nbytes;
	uint8_t all = 0;

	for (size_t p = 0; p < parts; p++)
		all |= cells[p];
	c->cells[k][i] = all;
	/* Also what is inherited has a key: it may be a part of a larger cluster that is not. */
	if (!(all & SCAN_DATA) || (all & SCAN_LATER))
		return 0;
	if (s->named && data)
		return digest(c, data, (size_t)s->sizes[k], key, err);
	fingerprint(c->keys[k - 1] + i * parts * s->key_nbytes, parts * s->key_nbytes, key);
	return 0;
}

int qd_scan_cells_larger(struct scan_cells *c, uint64_t off, const uint8_t *data, uint64_t nbytes,
			 struct qd_err *err)
{
	const struct scan *s = c->scan;
	int r = 0;

	for (unsigned k = 1; !r && k < s->nsizes; k++) {
		size_t first = (size_t)(off / s->sizes[k]), n = (size_t)(nbytes / s->sizes[k]);

		for (size_t i = 0; !r && i < n; i++)
			r = combine(c, k, first + i, data ? data + i * s->sizes[k] : NULL, err);
	}
	return r;
}
