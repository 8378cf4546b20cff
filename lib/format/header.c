/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The header, and the geometry that follows from it:
 *
 *	0       4                 72               104                header_length
 *	| magic | version 2 and 3 | version 3 only | compression_type | unknown |
 *
 * The fields are the rows of header_rows.  compression_type exists only where
 * header_length reaches it.
 *
 * Accepted is what QEMU accepts when it opens an image, so its limits on tables are
 * checked next to what the specification forbids.  A breach of the specification is
 * QD_E_CORRUPT; legal but past a limit, or unknown to us, is QD_E_UNSUPPORTED.
 *
 * Left to others: whether tables lie within the file or overlap, header extensions, and
 * keeping header bytes past the ones known here when an image is rewritten.
 */
#include "format/header.h"

#include <assert.h>
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/bytes.h"
#include "format/fields.h"

#define ROW(m, off) QD_FIELDS_ROW(struct qd_header, m, off)
static const struct qd_fields_row header_rows[] = {
	ROW(version, 4),
	ROW(backing_name_off, 8),
	ROW(backing_name_len, 16),
	ROW(cluster_bits, 20),
	ROW(virtual_size, 24),
	ROW(crypt_method, 32),
	ROW(l1_entries, QD_HEADER_OFF_L1_ENTRIES),
	ROW(l1_off, QD_HEADER_OFF_L1_OFF),
	ROW(reftable_off, QD_HEADER_OFF_REFTABLE_OFF),
	ROW(reftable_clusters, QD_HEADER_OFF_REFTABLE_CLUSTERS),
	ROW(snapshot_count, QD_HEADER_OFF_SNAPSHOT_COUNT),
	ROW(snapshots_off, QD_HEADER_OFF_SNAPSHOTS_OFF),
	ROW(incompatible, QD_HEADER_OFF_INCOMPATIBLE),
	ROW(compatible, QD_HEADER_OFF_COMPATIBLE),
	ROW(autoclear, QD_HEADER_OFF_AUTOCLEAR),
	ROW(refcount_order, 96),
	ROW(header_length, 100),
	ROW(compression_type, 104),
};
#undef ROW

const struct qd_fields qd_header_fields = QD_FIELDS(header_rows);

static int check_version(uint32_t version, struct qd_err *err)
{
	if (version != 2 && version != 3)
		return qd_err_set(err, QD_E_UNSUPPORTED, "header: unsupported qcow2 version %" PRIu32,
				  version);
	return 0;
}

bool qd_header_is_qcow2(const uint8_t *buf, size_t nbytes)
{
	return nbytes >= 4 && qd_get_be32(buf) == QD_MAGIC;
}

int qd_header_decode_raw(const uint8_t *buf, size_t nbytes, struct qd_header *ret_header,
			 struct qd_err *err)
{
	struct qd_header h = { .refcount_order = 4, .header_length = QD_HEADER_V2_SIZE };
	size_t known = QD_HEADER_V2_SIZE;

	if (!qd_header_is_qcow2(buf, nbytes))
		return qd_err_set(err, QD_E_CORRUPT, "header: not a qcow2 image");
	if (nbytes < known)
		return qd_err_set(err, QD_E_CORRUPT, "header: %zu bytes present, expected at least %zu",
				  nbytes, known);
	qd_fields_decode(&qd_header_fields, buf, known, &h);
	if (check_version(h.version, err) < 0)
		return QD_E_UNSUPPORTED;
	if (h.version >= 3) {
		known = QD_HEADER_V3_SIZE;
		if (nbytes < known)
			return qd_err_set(err, QD_E_CORRUPT,
					  "header: %zu bytes present, expected at least %zu", nbytes, known);
		qd_fields_decode(&qd_header_fields, buf, known, &h);
		if (h.header_length > known)
			qd_fields_decode(&qd_header_fields, buf, qd_min_u64(nbytes, h.header_length), &h);
	}
	*ret_header = h;
	return 0;
}

int qd_header_decode(const uint8_t *buf, size_t nbytes, struct qd_header *ret_header,
		     struct qd_err *err)
{
	struct qd_header h;
	int rc;

	rc = qd_header_decode_raw(buf, nbytes, &h, err);
	if (rc < 0)
		return rc;
	rc = qd_header_validate(&h, err);
	if (rc < 0)
		return rc;
	if (nbytes < qd_min_u64(h.header_length, QD_HEADER_FULL_SIZE))
		return qd_err_set(err, QD_E_CORRUPT, "header: %zu bytes present, expected %" PRIu32,
				  nbytes, h.header_length);
	*ret_header = h;
	return 0;
}

/* Names every unknown bit, because one that is fixed without the others helps nobody. */
static int refuse_unknown_bits(uint64_t unknown, struct qd_err *err)
{
	char list[4 * 64 + 1];
	size_t len = 0;

	for (unsigned int bit = 0; bit < 64; bit++) {
		if (unknown >> bit & 1)
			len += (size_t)snprintf(list + len, sizeof(list) - len, "%s%u", len ? ", " : "", bit);
	}
	return qd_err_set(err, QD_E_UNSUPPORTED, "header: unknown incompatible feature bit%s %s",
			  (unknown & (unknown - 1)) ? "s" : "", list);
}

/* Version 2 has no place for these: they must have the values that the specification implies. */
static int check_v2_defaults(const struct qd_header *h, struct qd_err *err)
{
	if (h->incompatible | h->compatible | h->autoclear)
		return qd_err_set(err, QD_E_CORRUPT,
				  "header: feature bits are set, expected none in version 2");
	if (h->refcount_order != 4)
		return qd_err_set(err, QD_E_CORRUPT, "header: refcount_order is %" PRIu32
				  ", expected 4 in version 2", h->refcount_order);
	if (h->header_length != QD_HEADER_V2_SIZE)
		return qd_err_set(err, QD_E_CORRUPT, "header: header_length is %" PRIu32
				  ", expected 72 in version 2", h->header_length);
	if (h->compression_type != QD_COMPRESSION_ZLIB)
		return qd_err_set(err, QD_E_CORRUPT,
				  "header: compression_type is %u, expected 0 in version 2",
				  h->compression_type);
	return 0;
}

static int check_length(const struct qd_header *h, struct qd_err *err)
{
	if (h->header_length < QD_HEADER_V3_SIZE)
		return qd_err_set(err, QD_E_CORRUPT, "header: header_length is %" PRIu32
				  ", expected at least 104", h->header_length);
	if (h->header_length > 1u << h->cluster_bits)
		return qd_err_set(err, QD_E_CORRUPT, "header: header_length is %" PRIu32
				  ", expected at most the cluster size %u", h->header_length,
				  1u << h->cluster_bits);
	if (h->header_length % 8 != 0)
		return qd_err_set(err, QD_E_CORRUPT, "header: header_length is %" PRIu32
				  ", expected a multiple of 8", h->header_length);
	return 0;
}

static int check_compression(const struct qd_header *h, struct qd_err *err)
{
	bool bit = (h->incompatible & QD_INCOMPAT_COMPRESSION) != 0;

	if (h->compression_type > QD_COMPRESSION_ZSTD)
		return qd_err_set(err, QD_E_UNSUPPORTED, "header: compression_type is %u, expected 0..1",
				  h->compression_type);
	if (bit && h->compression_type == QD_COMPRESSION_ZLIB)
		return qd_err_set(err, QD_E_CORRUPT,
				  "header: compression_type is 0, expected another with incompatible bit 3");
	if (!bit && h->compression_type != QD_COMPRESSION_ZLIB)
		return qd_err_set(err, QD_E_CORRUPT,
				  "header: compression_type is %u, expected 0 without incompatible bit 3",
				  h->compression_type);
	return 0;
}

static int check_features(const struct qd_header *h, struct qd_err *err)
{
	int rc;

	rc = check_length(h, err);
	if (rc < 0)
		return rc;
	if (h->incompatible & ~QD_INCOMPAT_KNOWN)
		return refuse_unknown_bits(h->incompatible & ~QD_INCOMPAT_KNOWN, err);
	/* A subcluster is a 32nd of a cluster and holds at least one sector of 512 bytes. */
	if ((h->incompatible & QD_INCOMPAT_EXTL2) && h->cluster_bits < 14)
		return qd_err_set(err, QD_E_CORRUPT, "header: cluster_bits is %" PRIu32
				  ", expected 14..21 with extended L2 entries", h->cluster_bits);
	if (h->refcount_order > 6)
		return qd_err_set(err, QD_E_CORRUPT, "header: refcount_order is %" PRIu32 ", expected 0..6",
				  h->refcount_order);
	return check_compression(h, err);
}

static int check_backing(const struct qd_header *h, struct qd_err *err)
{
	uint64_t cluster_size = 1ull << h->cluster_bits;
	uint64_t max;

	if (h->backing_name_off == 0)
		return 0;
	if (h->backing_name_off > cluster_size)
		return qd_err_set(err, QD_E_CORRUPT, "header: backing_name_off is 0x%" PRIx64
				  ", expected within the first cluster (0x%" PRIx64 " bytes)",
				  h->backing_name_off, cluster_size);
	max = qd_min_u64(QD_MAX_BACKING_NAME, cluster_size - h->backing_name_off);
	if (h->backing_name_len > max)
		return qd_err_set(err, QD_E_CORRUPT, "header: backing_name_len is %" PRIu32
				  ", expected at most %" PRIu64, h->backing_name_len, max);
	return 0;
}

/* A table of `count` entries at off; count * entry_size stays below 2^26 for every limit passed. */
static int check_table(const struct qd_header *h, const char *name, const char *count_name, uint64_t off,
		       uint32_t count, uint64_t max_count, uint64_t entry_size, struct qd_err *err)
{
	uint64_t cluster_size = 1ull << h->cluster_bits;

	if (count > max_count)
		return qd_err_set(err, QD_E_UNSUPPORTED, "header: %s is %" PRIu32
				  ", expected at most %" PRIu64, count_name, count, max_count);
	if (!qd_is_aligned(off, cluster_size))
		return qd_err_set(err, QD_E_CORRUPT, "header: %s is 0x%" PRIx64
				  ", expected a multiple of the cluster size 0x%" PRIx64,
				  name, off, cluster_size);
	if (!qd_range_within(off, count * entry_size, INT64_MAX))
		return qd_err_set(err, QD_E_CORRUPT, "header: %s is 0x%" PRIx64
				  ", expected a table that ends below 2^63", name, off);
	return 0;
}

static int check_l1_covers_disk(const struct qd_header *h, struct qd_err *err)
{
	struct qd_geom g;
	uint64_t needed;

	qd_geom_init(h, &g);
	needed = qd_geom_l1_entries(&g, h->virtual_size);
	if (needed > QD_MAX_L1_BYTES / 8)
		return qd_err_set(err, QD_E_UNSUPPORTED, "header: virtual_size is %" PRIu64
				  ", expected at most %" PRIu64, h->virtual_size,
				  (uint64_t)(QD_MAX_L1_BYTES / 8) << (g.cluster_bits + g.l2_bits));
	if (h->l1_entries < needed)
		return qd_err_set(err, QD_E_CORRUPT, "header: l1_entries is %" PRIu32
				  ", expected at least %" PRIu64 " for the virtual size %" PRIu64,
				  h->l1_entries, needed, h->virtual_size);
	return 0;
}

static int check_tables(const struct qd_header *h, struct qd_err *err)
{
	uint64_t cluster_size = 1ull << h->cluster_bits;
	int rc;

	if (h->reftable_clusters == 0)
		return qd_err_set(err, QD_E_CORRUPT, "header: reftable_clusters is 0, expected at least 1");
	rc = check_table(h, "reftable_off", "reftable_clusters", h->reftable_off, h->reftable_clusters,
			 QD_MAX_REFTABLE_BYTES / cluster_size, cluster_size, err);
	if (rc < 0)
		return rc;
	/* Entries have 40 bytes and more; how many more only the table itself tells. */
	rc = check_table(h, "snapshots_off", "snapshot_count", h->snapshots_off, h->snapshot_count,
			 QD_MAX_SNAPSHOTS, 40, err);
	if (rc < 0)
		return rc;
	rc = check_table(h, "l1_off", "l1_entries", h->l1_off, h->l1_entries, QD_MAX_L1_BYTES / 8, 8, err);
	if (rc < 0)
		return rc;
	return check_l1_covers_disk(h, err);
}

int qd_header_validate(const struct qd_header *h, struct qd_err *err)
{
	int rc;

	rc = check_version(h->version, err);
	if (rc < 0)
		return rc;
	if (h->cluster_bits < QD_MIN_CLUSTER_BITS || h->cluster_bits > QD_MAX_CLUSTER_BITS)
		return qd_err_set(err, QD_E_CORRUPT, "header: cluster_bits is %" PRIu32 ", expected 9..21",
				  h->cluster_bits);
	rc = h->version == 2 ? check_v2_defaults(h, err) : check_features(h, err);
	if (rc < 0)
		return rc;
	if (h->crypt_method > QD_CRYPT_LUKS)
		return qd_err_set(err, QD_E_UNSUPPORTED, "header: crypt_method is %" PRIu32 ", expected 0..2",
				  h->crypt_method);
	rc = check_backing(h, err);
	if (rc < 0)
		return rc;
	return check_tables(h, err);
}

size_t qd_header_encode(const struct qd_header *h, uint8_t *buf)
{
	assert(h->header_length >= (h->version == 2 ? QD_HEADER_V2_SIZE : QD_HEADER_V3_SIZE));
	memset(buf, 0, h->header_length);
	qd_put_be32(buf, QD_MAGIC);
	qd_fields_encode(&qd_header_fields, h, buf, h->header_length);
	return h->header_length;
}

void qd_geom_init(const struct qd_header *h, struct qd_geom *ret_geom)
{
	struct qd_geom g = { .cluster_bits = h->cluster_bits };

	g.cluster_size = 1ull << h->cluster_bits;
	g.virtual_size = h->virtual_size;
	g.extended_l2 = (h->incompatible & QD_INCOMPAT_EXTL2) != 0;
	g.l2_entry_size = g.extended_l2 ? 16 : 8;
	g.l2_bits = h->cluster_bits - (g.extended_l2 ? 4 : 3);
	g.l2_entries = 1ull << g.l2_bits;
	g.subcluster_bits = h->cluster_bits - (g.extended_l2 ? 5 : 0);
	g.refcount_order = h->refcount_order;
	g.refcount_bits = 1u << h->refcount_order;
	g.refcount_max = UINT64_MAX >> (64 - g.refcount_bits);
	g.block_entries = g.cluster_size * 8 >> h->refcount_order;
	g.csize_shift = 62 - (h->cluster_bits - 8);
	*ret_geom = g;
}

uint64_t qd_geom_l1_entries(const struct qd_geom *g, uint64_t virtual_size)
{
	return qd_div_up(virtual_size, 1ull << (g->cluster_bits + g->l2_bits));
}
