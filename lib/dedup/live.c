/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The overlay is a list of records, the last one of an entry counts, and a table from entry to
 * the last one.  Records that were superseded stay in the list, dead: the index may still
 * name them.
 *
 * The index keeps a few values of each fingerprint only.  So what cannot be shared (any more)
 * is not put into it, and gives its place to the next cluster of the same content.
 */
#include "dedup/live.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "dedup/entry_map.h"
#include "dedup/index.h"
#include "dedup/log.h"
#include "dedup/pin_bits.h"
#include "format/entry.h"

#define NONE QD_ENTRY_MAP_NONE

struct overlay {			/* what the log says of an entry */
	struct qd_record record;
	bool revoked;
	bool dead;			/* a later one is of the same entry */
};

struct qd_live {
	struct qd_live_opts o;
	struct qd_table *table;		/* the container's */
	uint64_t nrecords;		/* of the table */
	struct qd_digester *digester;
	const struct qd_digest *digest;
	struct qd_index *index;
	struct overlay *overlay;
	uint64_t noverlay, capacity;
	struct qd_entry_map by_entry;		/* entry -> number in the overlay */
	struct qd_entry_map new_pins;		/* pinned entries that the overlay tells of, or since */
	struct qd_pin_bits *pinned;	/* records of the table */
	bool has_compressed;
	uint8_t last_hash[QD_DIGEST_MAX];	/* of the last find */
	struct qd_write_candidate found[QD_WRITE_CANDIDATES];	/* by it */
	uint64_t found_value[QD_WRITE_CANDIDATES];		/* their values in the index */
	unsigned nfound;
	uint64_t reuse;			/* a value of that fingerprint that is of no use any more; NONE */
	struct qd_write_hook hook;
};

/* ---- records ---- */

static struct qd_fingerprint fingerprint(const struct qd_live *l, const uint8_t *hash)
{
	struct qd_fingerprint f = { .hi = qd_get_be64(hash), .lo = qd_get_be64(hash + 8) };

	(void)l;	/* every digest has 16 bytes at least */
	return f;
}

static int add_value(struct qd_live *l, const struct qd_record *record, uint64_t value, struct qd_err *err)
{
	struct qd_fingerprint f = fingerprint(l, record->hash);
	uint64_t old = l->reuse;

	l->reuse = NONE;
	return old == NONE ? qd_index_insert(l->index, f, value, err) :
			     qd_index_replace(l->index, f, old, value, err);
}

/* The last word on an entry, from here on. */
static int overlay_put(struct qd_live *l, const struct qd_record *record, bool revoked, struct qd_err *err)
{
	uint64_t old = qd_entry_map_get(&l->by_entry, record->entry);
	int rc;

	if (l->noverlay == l->capacity) {
		uint64_t capacity = l->capacity ? l->capacity * 2 : 256;
		struct overlay *overlay = realloc(l->overlay, (size_t)capacity * sizeof(*overlay));

		if (!overlay)
			return qd_err_nomem(err, "the index");
		l->overlay = overlay;
		l->capacity = capacity;
	}
	l->overlay[l->noverlay] = (struct overlay){ .record = *record, .revoked = revoked };
	rc = qd_entry_map_set(&l->by_entry, record->entry, l->noverlay, err);
	if (rc)
		return rc;
	if (old != NONE)
		l->overlay[old].dead = true;
	l->noverlay++;
	return revoked || (record->flags & (QD_RECORD_FULL | QD_RECORD_PARTIAL)) ? 0 :
	       add_value(l, record, l->nrecords + l->noverlay - 1, err);
}

/* 1: *ret_record is what holds of the entry; 0: nothing does. */
static int find_record(struct qd_live *l, uint64_t entry, struct qd_record *ret_record, struct qd_err *err)
{
	uint64_t n = qd_entry_map_get(&l->by_entry, entry);

	if (n == NONE)
		return qd_table_find(l->table, entry, ret_record, err);
	if (l->overlay[n].revoked)
		return 0;
	*ret_record = l->overlay[n].record;
	return 1;
}

static int log_record(struct qd_live *l, enum qd_journal_type type, const struct qd_record *record,
		      struct qd_err *err)
{
	int rc = overlay_put(l, record, type == QD_JOURNAL_REVOKE, err);

	return rc ? rc : qd_journal_log_add(l->o.journal, type, record, err);
}

/* ---- the hook ---- */

static int begin(void *ctx, struct qd_err *err)
{
	struct qd_live *l = ctx;

	return qd_journal_log_commit(l->o.journal, err);	/* V1: what loading found */
}

/* 1: the index's value names a record that holds; 0: it is of no use. */
static int take_value(struct qd_live *l, uint64_t value, struct qd_record *ret_record, struct qd_err *err)
{
	int rc;

	if (value >= l->nrecords) {
		const struct overlay *o = &l->overlay[value - l->nrecords];

		*ret_record = o->record;
		return !o->dead && !o->revoked;
	}
	rc = qd_table_get(l->table, value, ret_record, err);
	if (rc)
		return rc;
	return qd_entry_map_get(&l->by_entry, ret_record->entry) == NONE &&
	       !(ret_record->flags & (QD_RECORD_FULL | QD_RECORD_PARTIAL));
}

static int judge_value(struct qd_live *l, uint64_t value, struct qd_err *err)
{
	struct qd_record r;
	int rc = take_value(l, value, &r, err);

	if (rc < 0 || memcmp(r.hash, l->last_hash, l->digest->nbytes))
		return rc < 0 ? rc : 0;
	if (rc == 0) {
		l->reuse = value;
		return 0;
	}
	l->found_value[l->nfound] = value;
	l->found[l->nfound++] = (struct qd_write_candidate){
		.entry = r.entry, .guest = r.guest, .of_snapshot = (r.flags & QD_RECORD_SNAPSHOT) != 0,
	};
	return 0;
}

static int find(void *ctx, const uint8_t *content, struct qd_write_candidate *ret, unsigned *ret_n,
		struct qd_err *err)
{
	struct qd_live *l = ctx;
	uint64_t values[QD_INDEX_CANDIDATES];
	unsigned n = 0;
	int rc = qd_digester_compute(l->digester, content, (size_t)l->o.img->geom.cluster_size,
				     l->last_hash, err);

	l->nfound = 0;
	l->reuse = NONE;
	if (rc == 0)
		rc = qd_index_find(l->index, fingerprint(l, l->last_hash), values, &n, err);
	for (unsigned i = 0; rc == 0 && i < n && l->nfound < QD_WRITE_CANDIDATES; i++)
		rc = judge_value(l, values[i], err);
	memcpy(ret, l->found, sizeof(l->found));
	*ret_n = l->nfound;
	return rc;
}

static int stored(void *ctx, uint64_t entry, uint64_t guest, struct qd_err *err)
{
	struct qd_live *l = ctx;
	struct qd_record r = { .entry = entry, .guest = guest };

	memcpy(r.hash, l->last_hash, l->digest->nbytes);
	return log_record(l, QD_JOURNAL_HASH, &r, err);
}

static int full(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct qd_live *l = ctx;
	struct qd_record r;
	int rc = find_record(l, entry, &r, err);

	if (rc != 1)
		return rc;
	for (unsigned i = 0; i < l->nfound; i++)
		if (l->found[i].entry == entry)
			l->reuse = l->found_value[i];
	r.flags |= QD_RECORD_FULL;
	return log_record(l, QD_JOURNAL_HASH, &r, err);
}

static bool is_pinned(void *ctx, uint64_t entry)
{
	const struct qd_live *l = ctx;

	for (unsigned i = 0; i < l->nfound; i++)
		if (l->found[i].entry == entry && l->found_value[i] < l->nrecords &&
		    qd_pin_bits_has(l->pinned, l->found_value[i]))
			return true;
	return qd_entry_map_get(&l->new_pins, entry) != NONE;
}

static int pinned(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct qd_live *l = ctx;

	return qd_entry_map_set(&l->new_pins, entry, 1, err);
}

static int redo(void *ctx, struct qd_queue *queue, struct qd_err *err)
{
	struct qd_live *l = ctx;

	return qd_journal_redo_log(l->o.journal, queue, l->o.img->io, err);
}

static bool touches(const struct qd_geom *g, uint64_t entry, uint64_t cluster)
{
	uint64_t first, last;

	qd_l2_clusters(g, entry, &first, &last);
	return first <= cluster && cluster <= last;
}

static int revoke(struct qd_live *l, uint64_t entry, struct qd_err *err)
{
	struct qd_record r;
	int rc = find_record(l, entry, &r, err);

	return rc == 1 ? log_record(l, QD_JOURNAL_REVOKE, &r, err) : rc;
}

/* Streams that begin in a cluster before may end in this one. */
static int revoke_streams(struct qd_live *l, uint64_t cluster, struct qd_err *err)
{
	const struct qd_geom *g = &l->o.img->geom;
	uint64_t from = cluster > 2 ? (cluster - 2) << g->cluster_bits : 0, n = 0;
	int rc = qd_table_lower(l->table, from, &n, err);

	for (; rc == 0 && n < l->nrecords; n++) {
		struct qd_record r;

		rc = qd_table_get(l->table, n, &r, err);
		if (rc || qd_record_host_off(g, r.entry) >> g->cluster_bits > cluster)
			break;
		if (qd_l2_is_compressed(r.entry) && touches(g, r.entry, cluster))
			rc = revoke(l, r.entry, err);
	}
	return rc;
}

static int freed(void *ctx, uint64_t cluster, struct qd_err *err)
{
	struct qd_live *l = ctx;
	int rc = revoke(l, cluster << l->o.img->geom.cluster_bits, err);

	return rc == 0 && l->has_compressed ? revoke_streams(l, cluster, err) : rc;
}

static int linked(void *ctx, struct qd_err *err)
{
	struct qd_live *l = ctx;
	int rc = qd_journal_redo_applied(l->o.journal, err);

	return rc ? rc : qd_journal_log_commit(l->o.journal, err);
}

static int closing(void *ctx, struct qd_queue *queue, struct qd_err *err)
{
	struct qd_live *l = ctx;

	return qd_log_record_closed(l->o.img, false, &l->o.container->ext, l->o.journal, queue, err);
}

/* ---- loading ---- */

/* *ret_gone: a cluster of it has no reference: whatever it held, it can be used for anything. */
static int is_gone(struct qd_live *l, uint64_t entry, bool *ret_gone, struct qd_err *err)
{
	uint64_t first, last;
	int rc = 0;

	*ret_gone = false;
	qd_l2_clusters(&l->o.img->geom, entry, &first, &last);
	for (uint64_t c = first; rc == 0 && c <= last && !*ret_gone; c++) {
		uint64_t count = 0;

		rc = l->o.count(l->o.ctx, c, &count, err);
		*ret_gone = count == 0;
	}
	return rc;
}

static int load_change(void *ctx, enum qd_journal_type type, const struct qd_record *record,
		       struct qd_err *err)
{
	return overlay_put(ctx, record, type == QD_JOURNAL_REVOKE, err);
}

static int load_pin(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct qd_live *l = ctx;

	return qd_entry_map_get(&l->by_entry, entry) == NONE ? 0 : qd_entry_map_set(&l->new_pins, entry, 1, err);
}

static int load_record(void *ctx, uint64_t n, const struct qd_record *record, struct qd_err *err)
{
	struct qd_live *l = ctx;
	bool gone;
	int rc;

	l->has_compressed = l->has_compressed || qd_l2_is_compressed(record->entry);
	if (qd_entry_map_get(&l->by_entry, record->entry) != NONE)
		return 0;
	rc = is_gone(l, record->entry, &gone, err);
	if (rc)
		return rc;
	if (gone)
		return log_record(l, QD_JOURNAL_REVOKE, record, err);
	return record->flags & (QD_RECORD_FULL | QD_RECORD_PARTIAL) ? 0 : add_value(l, record, n, err);
}

static int drop_gone(struct qd_live *l, struct qd_err *err)
{
	uint64_t n = l->noverlay;
	int rc = 0;

	for (uint64_t i = 0; rc == 0 && i < n; i++) {
		struct qd_record r = l->overlay[i].record;
		bool gone = false;

		if (l->overlay[i].dead || l->overlay[i].revoked)
			continue;
		rc = is_gone(l, r.entry, &gone, err);
		if (rc == 0 && gone)
			rc = log_record(l, QD_JOURNAL_REVOKE, &r, err);
	}
	return rc;
}

static int load(struct qd_live *l, struct qd_err *err)
{
	int rc = qd_digester_new(l->digest, &l->digester, err);

	if (rc == 0)
		rc = qd_index_new(l->o.memory, l->o.tmpdir, &l->index, err);
	if (rc == 0)
		rc = qd_log_walk(l->o.journal, &l->o.img->geom, load_change, l, err);
	if (rc == 0)
		rc = qd_pin_bits_load(l->o.img, l->o.container, l->o.memory, load_pin, l, &l->pinned, err);
	if (rc == 0)
		rc = drop_gone(l, err);
	return rc ? rc : qd_table_walk(l->table, load_record, l, err);
}

int qd_live_open(const struct qd_live_opts *opts, struct qd_live **ret_live, struct qd_err *err)
{
	struct qd_live *l = calloc(1, sizeof(*l));
	int rc;

	if (!l)
		return qd_err_nomem(err, "the index");
	l->o = *opts;
	l->reuse = NONE;
	l->table = opts->container->table;
	l->nrecords = qd_table_nrecords(l->table);
	l->digest = qd_table_digest(l->table);
	l->hook = (struct qd_write_hook){
		.ctx = l, .max_share = opts->max_share, .begin = begin, .find = find, .stored = stored,
		.full = full, .is_pinned = is_pinned, .pinned = pinned, .redo = redo, .freed = freed,
		.linked = linked, .closing = closing,
	};
	rc = load(l, err);
	if (rc) {
		qd_live_free(l);
		return rc;
	}
	*ret_live = l;
	return 0;
}

void qd_live_free(struct qd_live *l)
{
	if (!l)
		return;
	qd_pin_bits_free(l->pinned);
	qd_index_free(l->index);
	qd_digester_free(l->digester);
	free(l->overlay);
	qd_entry_map_free(&l->by_entry);
	qd_entry_map_free(&l->new_pins);
	free(l);
}

const struct qd_write_hook *qd_live_hook(const struct qd_live *l)
{
	return &l->hook;
}

/* ---- room ---- */

uint32_t qd_live_cost(const struct qd_live *l, uint64_t nclusters)
{
	/* A cluster written: its HASH, a REVOKE of the old one, a HASH that marks one as full. */
	uint64_t nbytes = nclusters * (2 * (2 + QD_TABLE_RECORD_HEAD + l->digest->nbytes) + 10);

	return (uint32_t)(nbytes / (QD_JOURNAL_CLUSTER - QD_JOURNAL_HEADER - 64) + 2);
}

static int in_table(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct qd_live *l = ctx;
	struct qd_record record;

	return qd_table_find(l->table, entry, &record, err);
}

int qd_live_make_room(struct qd_live *l, bool *ret_merge, struct qd_err *err)
{
	const struct qd_journal_live live = { .in_table = in_table, .ctx = l };
	struct qd_journal_state s;
	uint32_t n = 0;
	int rc = qd_journal_log_measure(l->o.journal, &live, &n, err);

	if (rc)
		return rc;
	qd_journal_state(l->o.journal, &s);
	*ret_merge = n > s.log_size / 2;
	return *ret_merge ? 0 : qd_journal_log_pack(l->o.journal, &live, err);
}
