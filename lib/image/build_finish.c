/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The metadata of a new image, in the order in which it lies in the file:
 *
 *	L2 tables (where they were allocated) | pin: L2 tables, L1 | snapshot table | L1 |
 *	refcount blocks | refcount table | and last the header, in cluster 0
 *
 * The pin is a snapshot whose guest clusters are simply numbered: number i is the i-th
 * shared cluster, in the order of its first guest cluster; behind them come the clusters
 * of qd_build_add_pinned.  It exists only when there are such clusters.
 */
#include <assert.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "format/snapshot.h"
#include "image/build_int.h"
#include "space/refcount.h"

#define WRITE_CHUNK (1u << 20)
#define PIN_ID "1"		/* QD_BUILD_PIN_ID */

struct pin {
	struct qd_build *b;
	uint8_t *table;			/* the L2 table being filled */
	uint64_t used;			/* entries in it */
	struct qd_bigarray l1;		/* big-endian */
	uint64_t l1_entries;
	uint64_t l1_off;
	uint64_t snapshots_off;
};

static bool is_owner(void *ctx, uint64_t guest_cluster)
{
	const struct pin *pin = ctx;

	return qd_tally_get(&pin->b->shares, guest_cluster) > 0;
}

static int flush_pin_table(struct pin *pin, struct qd_err *err)
{
	size_t nbytes = (size_t)pin->b->geom.cluster_size;
	uint64_t off;
	int r;

	if (!pin->used)
		return 0;
	r = qd_build_alloc(pin->b, 1, &off, err);
	if (!r)
		r = qd_bigarray_need(&pin->l1, (pin->l1_entries + 1) * 8, "the pin's L1 table", err);
	if (!r)
		r = qd_io_write(pin->b->io, pin->table, nbytes, off, err);
	if (r)
		return r;
	qd_put_be64((uint8_t *)pin->l1.p + pin->l1_entries++ * 8, off);
	memset(pin->table, 0, nbytes);
	pin->used = 0;
	return 0;
}

static int add_slot(struct pin *pin, uint64_t entry, uint64_t bitmap, struct qd_err *err)
{
	const struct qd_geom *g = &pin->b->geom;
	uint8_t *p = pin->table + pin->used * g->l2_entry_size;

	qd_put_be64(p, entry);
	if (g->extended_l2)
		qd_put_be64(p + 8, bitmap);
	return ++pin->used == g->l2_entries ? flush_pin_table(pin, err) : 0;
}

static int on_owner(void *ctx, uint64_t entry, uint64_t bitmap, struct qd_err *err)
{
	struct pin *pin = ctx;

	return pin->b->opts.pin ? add_slot(pin, entry, bitmap, err) : 0;
}

static int add_pinned(struct pin *pin, struct qd_err *err)
{
	const struct qd_build *b = pin->b;
	int r = 0;

	for (uint64_t i = 0; !r && i < b->npinned; i++)
		r = add_slot(pin, (b->first_pinned + i) << b->geom.cluster_bits, QD_BUILD_ALL_ALLOCATED, err);
	return r;
}

/* Completes the L2 tables and, on the way, fills the pin's. */
static int write_l2(struct qd_build *b, struct pin *pin, struct qd_err *err)
{
	struct qd_l2store_pass pass = { .is_owner = is_owner, .on_owner = on_owner, .ctx = pin };
	int r;

	pin->table = calloc(1, (size_t)b->geom.cluster_size);
	if (!pin->table)
		return qd_err_nomem(err, "the pin");
	r = qd_l2store_finish(&b->l2, &pass, err);
	if (!r)
		r = add_pinned(pin, err);
	return r ? r : flush_pin_table(pin, err);
}

/* A table of whole clusters: allocates, writes nbytes and zeros up to the end of the cluster. */
static int write_table(struct qd_build *b, const void *data, uint64_t nbytes, uint64_t *ret_off, struct qd_err *err)
{
	uint64_t nclusters = qd_max_u64(qd_div_up(nbytes, b->geom.cluster_size), 1);
	uint64_t padding = nclusters * b->geom.cluster_size - nbytes;
	int r = qd_build_alloc(b, nclusters, ret_off, err);

	if (!r && nbytes)
		r = qd_io_write(b->io, data, (size_t)nbytes, *ret_off, err);
	return r || !padding ? r : qd_io_zero(b->io, *ret_off + nbytes, padding, err);
}

static int write_pin(struct qd_build *b, struct pin *pin, struct qd_err *err)
{
	struct qd_snapshot_entry e = {
		.disk_size = QD_PIN_DISK_SIZE,
		.icount = UINT64_MAX,
		.id = PIN_ID,
		.id_len = sizeof(PIN_ID) - 1,
		.name = QD_PIN_NAME,
		.name_len = sizeof(QD_PIN_NAME) - 1,
	};
	uint8_t buf[128];
	size_t nbytes;
	int r;

	if (!pin->l1_entries)
		return 0;
	if (pin->l1_entries > QD_MAX_L1_BYTES / 8)
		return qd_err_set(err, QD_E_INVALID,
				  "too many shared clusters for a pin of this cluster size: use larger clusters or --no-pin");
	r = write_table(b, pin->l1.p, pin->l1_entries * 8, &pin->l1_off, err);
	if (r)
		return r;
	e.l1_off = pin->l1_off;
	e.l1_entries = (uint32_t)pin->l1_entries;
	assert(qd_snapshot_encoded_size(&e) <= sizeof(buf));
	nbytes = qd_snapshot_encode(&e, buf);
	r = write_table(b, buf, nbytes, &pin->snapshots_off, err);
	if (r)
		return r;
	b->header.snapshot_count = 1;
	b->header.snapshots_off = pin->snapshots_off;
	return 0;
}

static int write_l1(struct qd_build *b, struct qd_err *err)
{
	uint64_t entries = qd_geom_l1_entries(&b->geom, b->header.virtual_size);
	uint8_t *l1;
	int r;

	r = qd_build_check_size(b, b->header.virtual_size, err);
	if (r)
		return r;
	assert(entries >= b->l2.l1_used);
	b->header.l1_entries = (uint32_t)entries;
	if (!entries)	/* a disk of 0 bytes: a table that nothing refers to would be a leak */
		return 0;
	l1 = calloc(entries, 8);
	if (!l1)
		return qd_err_nomem(err, "the L1 table");
	for (uint64_t i = 0; i < b->l2.l1_used; i++)
		if (qd_l2store_table_off(&b->l2, i))
			qd_put_be64(l1 + i * 8, qd_l2store_table_off(&b->l2, i) | QD_COPIED);
	r = write_table(b, l1, entries * 8, &b->header.l1_off, err);
	free(l1);
	return r;
}

static void fill_block(const struct qd_build *b, uint8_t *block, uint64_t first)
{
	uint64_t end = qd_min_u64(first + b->geom.block_entries, b->next_cluster);

	memset(block, 0, (size_t)b->geom.cluster_size);
	for (uint64_t c = first; c < end; c++)
		qd_refcount_set(block, b->geom.refcount_order, c - first, qd_tally_get(&b->counts, c));
}

static int write_blocks(struct qd_build *b, uint64_t off, uint64_t nblocks, struct qd_err *err)
{
	size_t block_nbytes = (size_t)b->geom.cluster_size;
	uint64_t batch = qd_max_u64(WRITE_CHUNK / block_nbytes, 1);
	uint8_t *buf = malloc((size_t)batch * block_nbytes);
	int r = 0;

	if (!buf)
		return qd_err_nomem(err, "refcount blocks");
	for (uint64_t i = 0; !r && i < nblocks; i += batch) {
		uint64_t n = qd_min_u64(batch, nblocks - i);

		for (uint64_t k = 0; k < n; k++)
			fill_block(b, buf + k * block_nbytes, (i + k) * b->geom.block_entries);
		r = qd_io_write(b->io, buf, (size_t)n * block_nbytes, off + i * block_nbytes, err);
	}
	free(buf);
	return r;
}

/* Blocks and table count themselves; every cluster but the header is allocated by now. */
static int write_refcounts(struct qd_build *b, struct qd_err *err)
{
	uint64_t nblocks, ntable, blocks_off, size = b->geom.cluster_size;
	uint8_t *table;
	int r;

	qd_refcount_structure(&b->geom, b->next_cluster, &nblocks, &ntable);
	if (ntable * size > QD_MAX_REFTABLE_BYTES)
		return qd_err_set(err, QD_E_INVALID, "the new image is too large for this cluster size: use larger clusters");
	r = qd_build_alloc(b, nblocks, &blocks_off, err);
	if (!r)
		r = qd_build_alloc(b, ntable, &b->header.reftable_off, err);
	if (!r)
		r = write_blocks(b, blocks_off, nblocks, err);
	if (r)
		return r;
	table = calloc((size_t)ntable, (size_t)size);
	if (!table)
		return qd_err_nomem(err, "the refcount table");
	for (uint64_t i = 0; i < nblocks; i++)
		qd_put_be64(table + i * 8, blocks_off + i * size);
	r = qd_io_write(b->io, table, (size_t)(ntable * size), b->header.reftable_off, err);
	b->header.reftable_clusters = (uint32_t)ntable;
	free(table);
	return r;
}

static int append_text(uint8_t *buf, size_t end, size_t *pos, uint32_t type, const char *text, struct qd_err *err)
{
	return text ? qd_header_ext_append(buf, end, pos, type, text, strlen(text), err) : 0;
}

/* The extensions that the caller gave: the index's, or all others. */
static int append_given(const struct qd_build *b, uint8_t *buf, size_t end, size_t *pos, bool index,
			struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < b->nexts; i++)
		if ((b->exts[i].type == QD_EXT_QDEDUP) == index)
			r = qd_header_ext_append(buf, end, pos, b->exts[i].type, b->exts[i].data, b->exts[i].nbytes, err);
	return r;
}

/*
 * The index's comes first: it is changed in place later, by one write, which is atomic only
 * within a sector.
 */
static int append_exts(const struct qd_build *b, uint8_t *buf, size_t end, size_t *pos, struct qd_err *err)
{
	uint8_t names[1024];
	size_t nbytes;
	int r = append_given(b, buf, end, pos, true, err);

	if (!r)
		r = append_text(buf, end, pos, QD_EXT_BACKING_FORMAT, b->backing_format, err);
	if (!r)
		r = append_text(buf, end, pos, QD_EXT_DATA_FILE, b->data_file_name, err);
	if (!r)
		r = append_given(b, buf, end, pos, false, err);
	/* The feature names help people; a tiny first cluster may have no room for them. */
	nbytes = qd_feature_names_encode(b->header.autoclear, names, sizeof(names));
	if (!r && b->opts.version >= 3 && nbytes + 16 + QD_MAX_BACKING_NAME <= end - *pos)
		r = qd_header_ext_append(buf, end, pos, QD_EXT_FEATURE_NAMES, names, nbytes, err);
	return r ? r : qd_header_ext_append(buf, end, pos, QD_EXT_END, NULL, 0, err);
}

static int write_header(struct qd_build *b, struct qd_err *err)
{
	size_t size = (size_t)b->geom.cluster_size, pos = b->header.header_length, name_len = 0;
	uint8_t *buf = calloc(1, size);
	int r;

	if (!buf)
		return qd_err_nomem(err, "the header");
	r = append_exts(b, buf, size, &pos, err);
	if (!r && b->backing_name) {
		name_len = strlen(b->backing_name);
		if (name_len > QD_MAX_BACKING_NAME || name_len > size - pos)
			r = qd_err_set(err, QD_E_INVALID, "the backing file name is too long (%zu bytes)", name_len);
	}
	if (!r && name_len) {
		memcpy(buf + pos, b->backing_name, name_len);
		b->header.backing_name_off = pos;
		b->header.backing_name_len = (uint32_t)name_len;
	}
	if (!r) {
		qd_header_encode(&b->header, buf);
		r = qd_io_write(b->io, buf, size, 0, err);
	}
	free(buf);
	return r;
}

int qd_build_finish(struct qd_build *b, uint64_t virtual_size, uint64_t autoclear,
		    struct qd_build_stats *ret_stats, struct qd_err *err)
{
	struct pin pin = { .b = b };
	int r;

	b->header.virtual_size = virtual_size;
	b->header.autoclear = autoclear | (b->opts.data_file_raw ? QD_AUTOCLEAR_DATA_FILE_RAW : 0);
	r = write_l2(b, &pin, err);
	if (!r)
		r = write_pin(b, &pin, err);
	if (!r)
		r = write_l1(b, err);
	if (!r)
		r = write_refcounts(b, err);
	if (!r)
		r = qd_io_truncate(b->io, b->next_cluster << b->geom.cluster_bits, err);
	if (!r)
		r = write_header(b, err);
	b->stats.file_size = b->next_cluster << b->geom.cluster_bits;
	if (!r)
		*ret_stats = b->stats;
	free(pin.table);
	qd_bigarray_free(&pin.l1);
	return r;
}
