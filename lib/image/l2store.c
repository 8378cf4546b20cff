/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "image/l2store.h"

#include <assert.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

void qd_l2store_init(struct qd_l2store *s, struct qd_io *io, const struct qd_geom *geom, uint64_t budget)
{
	*s = (struct qd_l2store){ .io = io, .geom = geom, .budget = budget };
}

static uint8_t **table_slot(const struct qd_l2store *s, uint64_t l1_index)
{
	return &((uint8_t **)s->tables.p)[l1_index];
}

static uint64_t l1_index_of(const struct qd_l2store *s, uint64_t guest_cluster)
{
	return guest_cluster >> s->geom->l2_bits;
}

static size_t entry_pos(const struct qd_l2store *s, uint64_t guest_cluster)
{
	return (size_t)(guest_cluster & (s->geom->l2_entries - 1)) * s->geom->l2_entry_size;
}

void qd_l2store_free(struct qd_l2store *s)
{
	for (uint64_t i = 0; i < s->l1_used; i++)
		free(*table_slot(s, i));
	qd_bigarray_free(&s->tables);
	qd_bigarray_free(&s->l1);
	qd_bigarray_free(&s->owed);
	free(s->scratch);
}

uint64_t qd_l2store_table_off(const struct qd_l2store *s, uint64_t l1_index)
{
	return l1_index < s->l1_used ? ((uint64_t *)s->l1.p)[l1_index] : 0;
}

bool qd_l2store_is_open(const struct qd_l2store *s, uint64_t guest_cluster)
{
	return s->l1_used && l1_index_of(s, guest_cluster) == s->l1_used - 1;
}

static int write_table(struct qd_l2store *s, uint64_t l1_index, const uint8_t *table, struct qd_err *err)
{
	return qd_io_write(s->io, table, (size_t)s->geom->cluster_size, qd_l2store_table_off(s, l1_index), err);
}

/* Holds the table that was open, or writes and drops it. */
static int complete(struct qd_l2store *s, uint64_t l1_index, struct qd_err *err)
{
	uint8_t **slot = table_slot(s, l1_index);
	int r;

	if (s->held_nbytes + s->geom->cluster_size <= s->budget) {
		s->held_nbytes += s->geom->cluster_size;
		return 0;
	}
	r = write_table(s, l1_index, *slot, err);
	free(*slot);
	*slot = NULL;
	return r;
}

int qd_l2store_open(struct qd_l2store *s, uint64_t guest_cluster, uint64_t host_off, struct qd_err *err)
{
	uint64_t l1_index = l1_index_of(s, guest_cluster);
	int r = 0;

	assert(!s->l1_used || l1_index >= s->l1_used);
	if (s->l1_used)
		r = complete(s, s->l1_used - 1, err);
	if (!r)
		r = qd_bigarray_need(&s->tables, (l1_index + 1) * sizeof(uint8_t *), "L2 tables", err);
	if (!r)
		r = qd_bigarray_need(&s->l1, (l1_index + 1) * sizeof(uint64_t), "the L1 table", err);
	if (!r)
		r = qd_bigarray_need(&s->owed, l1_index + 1, "the L1 table", err);
	if (r)
		return r;
	*table_slot(s, l1_index) = calloc(1, (size_t)s->geom->cluster_size);
	if (!*table_slot(s, l1_index))
		return qd_err_nomem(err, "an L2 table");
	((uint64_t *)s->l1.p)[l1_index] = host_off;
	s->l1_used = l1_index + 1;
	return 0;
}

void qd_l2store_set(struct qd_l2store *s, uint64_t guest_cluster, uint64_t entry, uint64_t bitmap)
{
	uint8_t *p = *table_slot(s, l1_index_of(s, guest_cluster)) + entry_pos(s, guest_cluster);

	assert(qd_l2store_is_open(s, guest_cluster));
	qd_put_be64(p, entry);
	if (s->geom->extended_l2)
		qd_put_be64(p + 8, bitmap);
}

/* A dropped table's entry is read back alone: neighbours are seldom asked for next. */
int qd_l2store_get(struct qd_l2store *s, uint64_t guest_cluster, uint64_t *ret_entry, struct qd_err *err)
{
	uint64_t l1_index = l1_index_of(s, guest_cluster);
	uint8_t *table = *table_slot(s, l1_index);
	uint8_t be[8];
	int r;

	assert(l1_index < s->l1_used);
	if (table) {
		*ret_entry = qd_get_be64(table + entry_pos(s, guest_cluster));
		return 0;
	}
	r = qd_io_read(s->io, be, sizeof(be), qd_l2store_table_off(s, l1_index) + entry_pos(s, guest_cluster), err);
	if (!r)
		*ret_entry = qd_get_be64(be);
	return r;
}

void qd_l2store_owe(struct qd_l2store *s, uint64_t guest_cluster)
{
	uint64_t l1_index = l1_index_of(s, guest_cluster);
	uint8_t *table = *table_slot(s, l1_index);

	((uint8_t *)s->owed.p)[l1_index] = 1;
	if (table) {
		uint8_t *p = table + entry_pos(s, guest_cluster);

		qd_put_be64(p, qd_get_be64(p) & ~QD_COPIED);
	}
}

static int load_table(struct qd_l2store *s, uint64_t l1_index, struct qd_err *err)
{
	if (!s->scratch)
		s->scratch = malloc((size_t)s->geom->cluster_size);
	if (!s->scratch)
		return qd_err_nomem(err, "an L2 table");
	return qd_io_read(s->io, s->scratch, (size_t)s->geom->cluster_size, qd_l2store_table_off(s, l1_index), err);
}

static int visit_owners(const struct qd_l2store *s, uint64_t l1_index, uint8_t *table,
			const struct qd_l2store_pass *pass, struct qd_err *err)
{
	uint64_t first = l1_index << s->geom->l2_bits;

	for (uint64_t i = 0; i < s->geom->l2_entries; i++) {
		uint8_t *p = table + i * s->geom->l2_entry_size;
		uint64_t entry;
		int r;

		if (!pass->is_owner(pass->ctx, first + i))
			continue;
		entry = qd_get_be64(p) & ~QD_COPIED;
		qd_put_be64(p, entry);
		r = pass->on_owner(pass->ctx, entry, s->geom->extended_l2 ? qd_get_be64(p + 8) : 0, err);
		if (r)
			return r;
	}
	return 0;
}

static int finish_table(struct qd_l2store *s, uint64_t l1_index, const struct qd_l2store_pass *pass,
			struct qd_err *err)
{
	uint8_t *table = *table_slot(s, l1_index);
	bool owed = ((uint8_t *)s->owed.p)[l1_index] != 0;
	int r = 0;

	if (!table && !owed)
		return 0;
	if (!table) {
		r = load_table(s, l1_index, err);
		table = s->scratch;
	}
	if (!r && owed)
		r = visit_owners(s, l1_index, table, pass, err);
	return r ? r : write_table(s, l1_index, table, err);
}

int qd_l2store_finish(struct qd_l2store *s, const struct qd_l2store_pass *pass, struct qd_err *err)
{
	int r = 0;

	for (uint64_t i = 0; !r && i < s->l1_used; i++)
		if (qd_l2store_table_off(s, i))
			r = finish_table(s, i, pass, err);
	return r;
}
