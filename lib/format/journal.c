/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A journal cluster:
 *
 *	0      4     8        24          32           40      48    52     53  54     56
 *	| QDjc | crc | identity | container | generation | batch | seq | kind | 0 | used | entries ... | 0xff ... |
 *	              \_____________________ checksum _________________________________________________________/
 *
 * Magic and checksum together see every changed byte: one compares, the other covers the
 * rest, itself included.  A cluster of zeros has no magic, and a checksum of zeros that
 * starts from the seed is not 0.
 */
#include "format/journal.h"

#include "base/crc32c.h"

#define CRC_FROM 8u	/* the first byte that the checksum covers */
#define USED_AT 54u

#define ROW(m, off) QD_FIELDS_ROW(struct qd_journal_header, m, off)
static const struct qd_fields_row header_rows[] = {
	ROW(magic, 0),
	ROW(crc, 4),
	ROW(identity_hi, 8),
	ROW(identity_lo, 16),
	ROW(container, 24),
	ROW(generation, 32),
	ROW(batch, 40),
	ROW(sequence, 48),
	ROW(kind, 52),
	ROW(reserved, 53),
	ROW(used, USED_AT),
};
#undef ROW

#define ROW(m, off) QD_FIELDS_ROW(struct qd_journal_mark, m, off)
static const struct qd_fields_row mark_rows[] = {
	ROW(magic, 0),
	ROW(crc, 4),
	ROW(identity_hi, 8),
	ROW(identity_lo, 16),
	ROW(container, 24),
	ROW(generation, 32),
	ROW(state, 40),
	ROW(nclusters, 44),
	ROW(batch_crc, 48),
	ROW(reserved, 52),
	ROW(target_nbytes, 56),
};
#undef ROW

#define MARK_USED 64u	/* zeros behind */

const struct qd_fields qd_journal_header_fields = QD_FIELDS(header_rows);
const struct qd_fields qd_journal_mark_fields = QD_FIELDS(mark_rows);

/* Payloads by type: bytes at least and at most; those of a HASH depend on the digest. */
static const struct shape {
	const char *name;
	uint8_t least, most;
} shapes[] = {
	[QD_JOURNAL_END] = { "END", 0, 0 },
	[QD_JOURNAL_HASH] = { "HASH", QD_TABLE_RECORD_HEAD + 1, QD_TABLE_RECORD_HEAD + 32 },
	[QD_JOURNAL_REVOKE] = { "REVOKE", 8, 8 },
	[QD_JOURNAL_COMMIT] = { "COMMIT", 8, 8 },
	[QD_JOURNAL_WRITE] = { "WRITE", QD_JOURNAL_WRITE_HEAD + 1,
			      QD_JOURNAL_WRITE_HEAD + QD_JOURNAL_MAX_WRITE },
	[QD_JOURNAL_BARRIER] = { "BARRIER", 0, 0 },
	[QD_JOURNAL_APPLIED] = { "APPLIED", 8, 8 },
	[QD_JOURNAL_COMPLETE] = { "COMPLETE", 0, 0 },
};

#define NSHAPES (sizeof(shapes) / sizeof(shapes[0]))

const char *qd_journal_type_name(unsigned type)
{
	return type < NSHAPES ? shapes[type].name : NULL;
}

void qd_journal_header_decode(const uint8_t *cluster, struct qd_journal_header *ret_header)
{
	qd_fields_decode(&qd_journal_header_fields, cluster, QD_JOURNAL_HEADER, ret_header);
}

static uint32_t checksum(const uint8_t *cluster)
{
	return qd_crc32c(QD_CRC32C_SEED, cluster + CRC_FROM, QD_JOURNAL_CLUSTER - CRC_FROM);
}

void qd_journal_cluster_close(const struct qd_journal_header *h, uint8_t *cluster)
{
	struct qd_journal_header own = *h;

	assert(h->used >= QD_JOURNAL_HEADER && h->used <= QD_JOURNAL_CLUSTER);
	own.magic = QD_JOURNAL_MAGIC;
	own.reserved = 0;
	memset(cluster + h->used, QD_JOURNAL_UNUSED, QD_JOURNAL_CLUSTER - h->used);
	qd_fields_encode(&qd_journal_header_fields, &own, cluster, QD_JOURNAL_HEADER);
	own.crc = checksum(cluster);
	qd_fields_encode(&qd_journal_header_fields, &own, cluster, QD_JOURNAL_HEADER);
}

bool qd_journal_cluster_is_valid(const uint8_t *cluster, const struct qd_journal_owner *owner,
				 enum qd_journal_kind kind, uint32_t sequence)
{
	struct qd_journal_header h;

	qd_journal_header_decode(cluster, &h);
	return h.magic == QD_JOURNAL_MAGIC && h.kind == kind && h.identity_hi == owner->identity_hi &&
	       h.identity_lo == owner->identity_lo && h.container == owner->container &&
	       h.sequence == sequence && h.generation > 0 && h.batch > 0 && h.reserved == 0 &&
	       h.used >= QD_JOURNAL_HEADER && h.used <= QD_JOURNAL_CLUSTER &&
	       h.crc == checksum(cluster);
}

/* ---- the mark ---- */

static uint32_t mark_checksum(const uint8_t *p)
{
	return qd_crc32c(QD_CRC32C_SEED, p + CRC_FROM, QD_JOURNAL_MARK - CRC_FROM);
}

void qd_journal_mark_encode(const struct qd_journal_mark *m, uint8_t *p)
{
	struct qd_journal_mark own = *m;

	own.magic = QD_JOURNAL_MARK_MAGIC;
	own.reserved = 0;
	memset(p, 0, QD_JOURNAL_MARK);
	qd_fields_encode(&qd_journal_mark_fields, &own, p, MARK_USED);
	own.crc = mark_checksum(p);
	qd_fields_encode(&qd_journal_mark_fields, &own, p, MARK_USED);
}

bool qd_journal_mark_decode(const uint8_t *p, const struct qd_journal_owner *owner,
			    struct qd_journal_mark *ret_mark)
{
	struct qd_journal_mark m;

	qd_fields_decode(&qd_journal_mark_fields, p, MARK_USED, &m);
	if (m.magic != QD_JOURNAL_MARK_MAGIC || m.crc != mark_checksum(p) ||
	    m.identity_hi != owner->identity_hi || m.identity_lo != owner->identity_lo ||
	    m.container != owner->container || m.generation == 0 || m.nclusters == 0 || m.reserved != 0 ||
	    (m.state != QD_JOURNAL_MARK_COMMITTED && m.state != QD_JOURNAL_MARK_APPLIED))
		return false;
	*ret_mark = m;
	return true;
}

/* ---- entries ---- */

static int check_shape(const struct qd_journal_entry *e, size_t used, struct qd_err *err)
{
	const char *name = qd_journal_type_name(e->type);

	if (!name)
		return qd_err_set(err, QD_E_UNSUPPORTED, "journal entry at byte %u: type %u is not known",
				  e->off,
				  e->type);
	if (e->nbytes < shapes[e->type].least || e->nbytes > shapes[e->type].most)
		return qd_err_set(err, QD_E_CORRUPT,
				  "journal entry at byte %u: %s of %u bytes, expected %u..%u",
				  e->off, name, e->nbytes, shapes[e->type].least, shapes[e->type].most);
	if (e->off + 2u + e->nbytes > used)
		return qd_err_set(err, QD_E_CORRUPT,
				  "journal entry at byte %u: %u bytes run past the end at %zu",
				  e->off, e->nbytes, used);
	return 0;
}

int qd_journal_entry_next(const uint8_t *cluster, size_t *pos, struct qd_journal_entry *ret_entry,
			  struct qd_err *err)
{
	size_t used = qd_get_be16(cluster + USED_AT);
	struct qd_journal_entry e = { .off = (uint32_t)*pos };
	int rc;

	if (*pos >= used || cluster[*pos] == QD_JOURNAL_UNUSED)
		return 0;
	if (*pos + 2 > used)
		return qd_err_set(err, QD_E_CORRUPT, "journal entry at byte %zu: runs past the end at %zu",
				  *pos,
				  used);
	e.nbytes = cluster[*pos];
	e.type = cluster[*pos + 1];
	e.payload = cluster + *pos + 2;
	rc = check_shape(&e, used, err);
	if (rc)
		return rc;
	*pos = e.type == QD_JOURNAL_END ? used : *pos + 2 + e.nbytes;
	*ret_entry = e;
	return 1;
}

bool qd_journal_entry_append(uint8_t *cluster, size_t *pos, enum qd_journal_type type, const void *payload,
			     size_t nbytes)
{
	assert(nbytes <= QD_JOURNAL_MAX_PAYLOAD);
	if (*pos + 2 + nbytes > QD_JOURNAL_CLUSTER)
		return false;
	cluster[*pos] = (uint8_t)nbytes;
	cluster[*pos + 1] = (uint8_t)type;
	if (nbytes)
		memcpy(cluster + *pos + 2, payload, nbytes);
	*pos += 2 + nbytes;
	return true;
}
