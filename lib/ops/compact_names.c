/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A generation that is being added to is a table maker; `filled` has the host clusters in which its new
 * names begin.  A move out of one of those may begin where another one ended.
 */
#include "ops/compact_names.h"

#include <stdlib.h>

#include "base/bigarray.h"
#include "base/bytes.h"
#include "base/tmpfile.h"
#include "format/entry.h"

#define MAX_GENERATIONS 4u

struct compact_names {
	const struct qd_geom *geom;
	const struct qd_digest *digest;		/* whose hashes have room for a name */
	uint64_t memory;			/* bytes */
	const char *tmpdir;
	struct qd_table_maker *maker;		/* NULL: nothing was added to this generation */
	struct qd_bigarray filled;		/* a bit for each host cluster */
	struct compact_stored generations[MAX_GENERATIONS];
	unsigned n;
};

/* ---- tables in temporary files ---- */

void compact_stored_close(struct compact_stored *s)
{
	qd_table_close(s->table);
	qd_io_close(s->io);
	*s = (struct compact_stored){ 0 };
}

int compact_stored_make(struct qd_table_maker *maker, const struct qd_geom *geom, const char *tmpdir,
			struct compact_stored *ret_stored, struct qd_err *err)
{
	struct compact_stored s = { 0 };
	struct qd_table_ext ext = { .journal_off = 0 };	/* finish fills what is of the table only */
	int rc = qd_table_maker_finish(maker, 1, &ext, &ext.container_nbytes, err);

	if (rc == 0)
		rc = qd_tmpfile_open(tmpdir, &s.io, err);
	if (rc == 0)
		rc = qd_table_maker_write(maker, s.io, 0, err);
	qd_table_maker_free(maker);
	if (rc == 0)
		rc = qd_table_open(s.io, 0, &ext, geom, &s.table, err);
	if (rc)
		compact_stored_close(&s);
	else
		*ret_stored = s;
	return rc;
}

/* ---- generations ---- */

int compact_names_new(const struct qd_geom *geom, uint64_t memory, const char *tmpdir,
		      struct compact_names **ret_names, struct qd_err *err)
{
	struct compact_names *n = calloc(1, sizeof(*n));

	if (!n)
		return qd_err_nomem(err, "the names of moved clusters");
	n->geom = geom;
	n->digest = qd_digest_find(QD_DIGEST_DEFAULT);
	n->memory = memory;
	n->tmpdir = tmpdir;
	*ret_names = n;
	return 0;
}

void compact_names_free(struct compact_names *n)
{
	if (!n)
		return;
	for (unsigned i = 0; i < n->n; i++)
		compact_stored_close(&n->generations[i]);
	qd_table_maker_free(n->maker);
	qd_bigarray_free(&n->filled);
	free(n);
}

static int put(struct qd_table_maker *maker, uint64_t now, uint64_t was, struct qd_err *err)
{
	struct qd_record r = { .entry = now };

	qd_put_be64(r.hash, was);
	return qd_table_maker_add(maker, &r, err);
}

/* Back through the first `count` generations. */
static int find_in(const struct compact_names *n, unsigned count, uint64_t entry, uint64_t *ret_was,
		   struct qd_err *err)
{
	struct qd_record r;
	int rc = 0;

	while (rc >= 0 && count--) {
		rc = qd_table_find(n->generations[count].table, entry, &r, err);
		if (rc == 1)
			entry = qd_get_be64(r.hash);
	}
	*ret_was = entry;
	return rc < 0 ? rc : 0;
}

struct joining {
	struct compact_names *n;
	unsigned generation;
	struct qd_table_maker *maker;
};

static int join(void *ctx, uint64_t number, const struct qd_record *record, struct qd_err *err)
{
	struct joining *j = ctx;
	uint64_t was;
	int rc = find_in(j->n, j->generation, qd_get_be64(record->hash), &was, err);

	(void)number;
	return rc ? rc : put(j->maker, record->entry, was, err);
}

/* All generations become one: of equal names the last one counts. */
static int join_all(struct compact_names *n, struct qd_err *err)
{
	struct joining j = { .n = n };
	struct compact_stored one = { 0 };
	int rc = qd_table_maker_new(n->geom, n->digest, n->memory, n->tmpdir, &j.maker, err);

	for (; rc == 0 && j.generation < n->n; j.generation++)
		rc = qd_table_walk(n->generations[j.generation].table, join, &j, err);
	if (rc) {
		qd_table_maker_free(j.maker);
		return rc;
	}
	rc = compact_stored_make(j.maker, n->geom, n->tmpdir, &one, err);
	if (rc)
		return rc;
	while (n->n)
		compact_stored_close(&n->generations[--n->n]);
	n->generations[n->n++] = one;
	return 0;
}

static int close_generation(struct compact_names *n, struct qd_err *err)
{
	struct qd_table_maker *maker = n->maker;
	int rc = maker && n->n == MAX_GENERATIONS ? join_all(n, err) : 0;

	if (rc || !maker)
		return rc;
	n->maker = NULL;
	qd_bigarray_free(&n->filled);
	rc = compact_stored_make(maker, n->geom, n->tmpdir, &n->generations[n->n], err);
	n->n += rc == 0;
	return rc;
}

/* ---- names ---- */

static uint64_t cluster_of(const struct compact_names *n, uint64_t entry)
{
	return qd_l2_compressed(n->geom, entry).host_off >> n->geom->cluster_bits;
}

static bool is_filled(const struct compact_names *n, uint64_t cluster)
{
	const uint8_t *bits = n->filled.p;

	return cluster / 8 < n->filled.nbytes && (bits[cluster / 8] >> (cluster % 8) & 1);
}

int compact_names_add(struct compact_names *n, uint64_t from, uint64_t to, struct qd_err *err)
{
	uint64_t cluster = cluster_of(n, to);
	int rc = is_filled(n, cluster_of(n, from)) ? close_generation(n, err) : 0;

	if (rc == 0 && !n->maker)
		rc = qd_table_maker_new(n->geom, n->digest, n->memory, n->tmpdir, &n->maker, err);
	if (rc == 0)
		rc = qd_bigarray_need(&n->filled, cluster / 8 + 1, "the names of moved clusters", err);
	if (rc)
		return rc;
	((uint8_t *)n->filled.p)[cluster / 8] |= (uint8_t)(1u << (cluster % 8));
	return put(n->maker, to, from, err);
}

int compact_names_find(struct compact_names *n, uint64_t entry, uint64_t *ret_was, struct qd_err *err)
{
	int rc = close_generation(n, err);

	return rc ? rc : find_in(n, n->n, entry, ret_was, err);
}
