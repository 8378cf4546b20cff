/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The check's look at the snapshot table.  Entries have no length field and lie back to
 * back, so the first broken one ends the table.  What is kept of each is its L1 table's
 * place and a label; names may take 64 KiB each and are cut short.
 *
 *	window:  | entry | entry | ent...        refilled when less than one longest entry is left
 */
#include "ops/check_int.h"

#include <stdio.h>
#include <stdlib.h>

#include "format/snapshot.h"
#include "image/image.h"

#define WINDOW (1u << 20)
#define LONGEST (QD_SNAPSHOT_FIXED + QD_SNAPSHOT_MAX_EXTRA + 2 * 65535u + 8)
#define MIN_EXTRA_V3 16u	/* a version 3 image records VM state size and disk size */
#define LABEL_PART 64

struct table {
	struct chk *c;
	uint8_t *buf;
	uint64_t buf_off;	/* in the file */
	size_t buf_size;
};

/* FNV-1a: only to find equal IDs. */
static uint64_t hash(const char *text, size_t nbytes)
{
	uint64_t h = 0xcbf29ce484222325ull;

	for (size_t i = 0; i < nbytes; i++)
		h = (h ^ (uint8_t)text[i]) * 0x100000001b3ull;
	return h;
}

static char *make_label(const struct qd_snapshot_entry *e)
{
	int id_len = e->id_len < LABEL_PART ? e->id_len : LABEL_PART;
	int name_len = e->name_len < LABEL_PART ? e->name_len : LABEL_PART;
	char *label;

	if (asprintf(&label, "%.*s '%.*s'", id_len, e->id, name_len, e->name) < 0)
		return NULL;
	return label;
}

static bool is_pin(const struct qd_snapshot_entry *e)
{
	return e->disk_size % 512 != 0 && e->name_len == sizeof(QD_PIN_NAME) - 1 &&
	       memcmp(e->name, QD_PIN_NAME, e->name_len) == 0;
}

/* What follows a table that has fewer entries than the header says. */
static bool is_nothing(const struct qd_snapshot_entry *e)
{
	return e->l1_off == 0 && e->l1_entries == 0 && e->id_len == 0 && e->name_len == 0;
}

static int take_entry(struct chk *c, uint32_t i, const struct qd_snapshot_entry *e, struct qd_err *err)
{
	struct qd_chk_snapshot *s = &c->snapshots[i];

	s->label = make_label(e);
	if (!s->label)
		return qd_err_nomem(err, "the snapshot table");
	s->l1_off = e->l1_off;
	s->l1_entries = e->l1_entries;
	if (!qd_add_u64(e->disk_size, e->vm_state_size, &s->mapped_size))
		s->mapped_size = UINT64_MAX;
	s->id_hash = hash(e->id, e->id_len);
	c->nsnapshots = i + 1;
	if (is_pin(e) && c->pin_layer == 0)
		c->pin_layer = i + 1;
	if (c->header.version >= 3 && e->extra_len < MIN_EXTRA_V3)
		qd_chk_found(c, QD_F_SNAPSHOT_EXTRA, QD_AT_SNAPSHOT, i, e->extra_len, MIN_EXTRA_V3,
			     QD_SNAPSHOT_MAX_EXTRA);
	return 0;
}

/* Makes the bytes from off on available; *ret_left of them are in the window and the file. */
static int fill_window(struct table *t, uint64_t off, const uint8_t **ret_p, size_t *ret_left,
		       struct qd_err *err)
{
	struct chk *c = t->c;
	bool ok;
	int rc;

	if (off - t->buf_off + LONGEST > t->buf_size) {
		t->buf_off = off;
		t->buf_size = WINDOW;
		rc = qd_chk_read(c, t->buf, WINDOW, off, &ok, err);
		if (rc)
			return rc;
		if (!ok)
			t->buf_size = 0;
	}
	*ret_p = t->buf + (off - t->buf_off);
	*ret_left = (size_t)qd_min_u64(t->buf_off + t->buf_size - off,
				       c->file_size - qd_min_u64(off, c->file_size));
	return 0;
}

static int take_table(struct table *t, uint32_t count, uint64_t *ret_nbytes, struct qd_err *err)
{
	struct chk *c = t->c;
	uint64_t off = c->header.snapshots_off, used = 0;

	for (uint32_t i = 0; i < count; i++) {
		struct qd_snapshot_entry e;
		const uint8_t *p;
		size_t left, nbytes;
		int rc;

		rc = fill_window(t, off + used, &p, &left, err);
		if (rc)
			return rc;
		if (used > QD_SNAPSHOT_MAX_TABLE ||
		    qd_snapshot_decode(p, left, c->header.virtual_size, &e, &nbytes, NULL) < 0 ||
		    is_nothing(&e)) {
			qd_chk_found(c, QD_F_SNAPSHOT_ENTRY, QD_AT_SNAPSHOT, i, off + used, count - i, 0);
			c->result->blind = true;
			break;
		}
		rc = take_entry(c, i, &e, err);
		if (rc)
			return rc;
		*ret_nbytes = used + QD_SNAPSHOT_FIXED + e.extra_len + e.id_len + e.name_len;
		used += nbytes;
	}
	return 0;
}

struct id {
	uint64_t hash;
	uint32_t number;
};

static int compare_ids(const void *pa, const void *pb)
{
	const struct id *a = pa, *b = pb;

	if (a->hash != b->hash)
		return a->hash < b->hash ? -1 : 1;
	return a->number < b->number ? -1 : a->number > b->number;
}

static int find_duplicates(struct chk *c, struct qd_err *err)
{
	struct id *ids = calloc(c->nsnapshots ? c->nsnapshots : 1, sizeof(*ids));

	if (!ids)
		return qd_err_nomem(err, "the snapshot table");
	for (uint32_t i = 0; i < c->nsnapshots; i++)
		ids[i] = (struct id){ c->snapshots[i].id_hash, i };
	qsort(ids, c->nsnapshots, sizeof(*ids), compare_ids);
	for (uint32_t i = 1; i < c->nsnapshots; i++)
		if (ids[i].hash == ids[i - 1].hash)
			qd_chk_found(c, QD_F_SNAPSHOT_DUPLICATE, QD_AT_SNAPSHOT, ids[i].number,
				     ids[i - 1].number, 0, 0);
	free(ids);
	return 0;
}

static bool check_place(struct chk *c, uint32_t *ret_count)
{
	const struct qd_header *h = &c->header;

	*ret_count = h->snapshot_count;
	if (h->snapshot_count == 0) {
		/* Nothing is there; but stock QEMU opens no image where it could not be. */
		if (!qd_is_aligned(h->snapshots_off, c->geom.cluster_size) || h->snapshots_off > INT64_MAX)
			qd_chk_found(c, QD_F_SNAPSHOT_TABLE, QD_AT_SNAPSHOT_TABLE, 0, h->snapshots_off, 0, 0);
		return false;
	}
	if (h->snapshot_count > QD_MAX_SNAPSHOTS) {
		qd_chk_found(c, QD_F_SNAPSHOT_COUNT, QD_AT_SNAPSHOT_TABLE, 0, h->snapshot_count,
			     QD_MAX_SNAPSHOTS, 0);
		*ret_count = QD_MAX_SNAPSHOTS;
		c->result->blind = true;
	}
	if (!qd_is_aligned(h->snapshots_off, c->geom.cluster_size) || h->snapshots_off == 0 ||
	    !qd_chk_in_file(c, h->snapshots_off, QD_SNAPSHOT_FIXED)) {
		qd_chk_found(c, QD_F_SNAPSHOT_TABLE, QD_AT_SNAPSHOT_TABLE, 0, h->snapshots_off,
			     h->snapshot_count, 0);
		c->result->blind = true;
		return false;
	}
	return true;
}

int qd_chk_snapshots(struct chk *c, struct qd_err *err)
{
	struct table t = { .c = c };
	uint64_t nbytes = 0;
	uint32_t count;
	int rc;

	if (!check_place(c, &count))
		return 0;
	if (c->data_file)
		qd_chk_found(c, QD_F_SNAPSHOT_DATA_FILE, QD_AT_SNAPSHOT_TABLE, 0, c->header.snapshot_count, 0,
			     0);
	c->snapshots = calloc(count, sizeof(*c->snapshots));
	t.buf = malloc(WINDOW);
	if (!c->snapshots || !t.buf) {
		free(t.buf);
		return qd_err_nomem(err, "the snapshot table");
	}
	rc = take_table(&t, count, &nbytes, err);
	free(t.buf);
	if (rc == 0)
		rc = find_duplicates(c, err);
	if (rc == 0 && nbytes > 0)
		rc = qd_chk_add_struct(c, c->header.snapshots_off, nbytes, QD_STRUCT_SNAPSHOT_TABLE, 0, err);
	return rc;
}
