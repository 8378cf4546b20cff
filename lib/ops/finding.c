/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The table of finding kinds, and the text made from a finding and its row.
 *
 * Slugs are a contract (JSON, tests, scripts): they are added, never renamed.  What the
 * values mean is said by the row's own detail text; finders fill them accordingly.
 */
#include "ops/finding.h"

#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "space/overlap.h"

#define NOTE QD_SEV_NOTE
#define LEAK QD_SEV_LEAK
#define CORR QD_SEV_CORRUPTION
#define ERRO QD_SEV_ERROR

static const struct qd_finding_kind kinds[QD_F_NTYPES] = {
	[QD_F_UNREADABLE] = { "unreadable", ERRO, false, "parts of the file cannot be read",
			      "%x1 bytes at %x0 cannot be read" },
	[QD_F_DIRTY] = { "dirty", NOTE, true,
			 "the image was not closed properly; its refcounts may be out of date",
			 "the dirty bit is set" },
	[QD_F_CORRUPT_BIT] = { "corrupt-bit", NOTE, true,
			       "QEMU found damage before and refuses to write to the image",
			       "the corrupt bit is set" },
	[QD_F_HEADER_LENGTH] = { "header-length", CORR, true, "the header's length is wrong",
				 "header_length is %u0, expected a multiple of 8 from %u1 to %u2" },
	[QD_F_HEADER_FEATURE] = { "header-feature", ERRO, false, "the image uses features that are not known",
				  "unknown incompatible feature bits %x0" },
	[QD_F_HEADER_GEOMETRY] = { "header-geometry", ERRO, false, "the header does not describe an image",
				   "cluster_bits is %u0, expected %u2..21; refcount_order is %u1, expected "
				   "0..6" },
	[QD_F_HEADER_COMPRESSION] = { "header-compression", CORR, true,
				      "the compression type is not possible",
				      "compression_type is %u0, incompatible bit 3 is %u1" },
	[QD_F_HEADER_DATA_FILE] = { "header-data-file", CORR, true,
				    "a raw external data file without an external data file",
				    "autoclear feature bits %x0, incompatible feature bits %x1" },
	[QD_F_HEADER_CRYPT] = { "header-crypt", CORR, false, "the encryption method is not known",
				"crypt_method is %u0, expected 0..2" },
	[QD_F_HEADER_BACKING] = { "header-backing", CORR, false,
				  "the backing file's name does not lie in the header",
				  "the name has %u1 bytes at %x0, expected it to end before %x2" },
	[QD_F_HEADER_EXTENSION] = { "header-extension", CORR, true, "a header extension is broken",
				    "the extension at %x0 (type %x1) has %u2 bytes and does not fit" },
	[QD_F_HEADER_SIZE] = { "header-size", CORR, false, "the disk is larger than its L1 table can ever be",
			       "virtual size %u0 needs %u1 L1 entries, expected at most %u2" },
	[QD_F_CRYPTO_HEADER] = { "crypto-header", CORR, false,
				 "the encryption header is not where it must be", "%u1 bytes at %x0" },

	[QD_F_REFTABLE_SIZE] = { "reftable-size", CORR, true, "the refcount table's size is not possible",
				 "the table has %u0 clusters, expected 1..%u1" },
	[QD_F_REFTABLE_UNALIGNED] = { "reftable-unaligned", CORR, true,
				      "the refcount table does not begin at a cluster",
				      "the table is at %x0" },
	[QD_F_REFTABLE_PAST_END] = { "reftable-past-end", CORR, true,
				     "the refcount table lies past the end of the file",
				     "the table is at %x0 and has %u1 bytes" },
	[QD_F_REFBLOCK_RESERVED] = { "refblock-reserved", CORR, true,
				     "refcount table entries have reserved bits set", "entry %x0" },
	[QD_F_REFBLOCK_UNALIGNED] = { "refblock-unaligned", CORR, true,
				      "refcount blocks do not begin at a cluster", "entry %x0" },
	[QD_F_REFBLOCK_PAST_END] = { "refblock-past-end", CORR, true,
				     "refcount blocks lie past the end of the file", "entry %x0" },
	[QD_F_REFBLOCK_SHARED] = { "refblock-shared", CORR, true,
				   "refcount table entries share a refcount block",
				   "the block at %x0 is also named by entry %u1" },

	[QD_F_SNAPSHOT_COUNT] = { "snapshot-count", CORR, true, "the number of snapshots is not possible",
				  "%u0 snapshots, expected at most %u1" },
	[QD_F_SNAPSHOT_TABLE] = { "snapshot-table", CORR, true, "the snapshot table is not where it can be",
				  "the table is at %x0, for %u1 snapshots" },
	[QD_F_SNAPSHOT_ENTRY] = { "snapshot-entry", CORR, true, "the snapshot table breaks off",
				  "the entry at %x0 is broken, and with it the %u1 snapshots from here on" },
	[QD_F_SNAPSHOT_EXTRA] = { "snapshot-extra", CORR, true, "snapshots have extra data of a wrong size",
				  "%u0 bytes of extra data, expected %u1..%u2" },
	[QD_F_SNAPSHOT_DUPLICATE] = { "snapshot-duplicate", NOTE, false, "several snapshots have the same ID",
				      "snapshot number %u0 has the same ID" },
	[QD_F_SNAPSHOT_DATA_FILE] = { "snapshot-data-file", CORR, false,
				      "internal snapshots in an image with an external data file",
				      "%u0 snapshots" },

	[QD_F_BITMAP_STALE] = { "bitmaps-stale", NOTE, true,
				"a program without bitmaps has changed the image: its bitmaps are void",
				"the bitmaps extension is there, its autoclear bit is not" },
	[QD_F_BITMAP_IN_USE] = { "bitmap-in-use", NOTE, false, "bitmaps were not saved properly and are void",
				 "flags %x0" },
	[QD_F_BITMAP_EXTENSION] = { "bitmap-extension", CORR, true, "the bitmaps extension is broken",
				    "%u0 bitmaps, a directory of %u1 bytes at %x2" },
	[QD_F_BITMAP_DIRECTORY] = { "bitmap-directory", CORR, true,
				    "the bitmap directory is not where it can be", "%u1 bytes at %x0" },
	[QD_F_BITMAP_ENTRY] = { "bitmap-entry", CORR, true, "entries of the bitmap directory are broken",
				"the entry at byte %x0 of the directory" },
	[QD_F_BITMAP_TABLE] = { "bitmap-table", CORR, true,
				"bitmap tables are not where they can be, or of a wrong size",
				"%u1 entries at %x0" },
	[QD_F_BITMAP_TABLE_ENTRY] = { "bitmap-table-entry", CORR, true,
				      "bitmap table entries are not possible", "entry %x0" },

	[QD_F_L1_SIZE] = { "l1-size", CORR, true, "L1 tables have an impossible size",
			   "%u0 entries, expected %u1..%u2" },
	[QD_F_L1_UNALIGNED] = { "l1-unaligned", CORR, true, "L1 tables do not begin at a cluster",
				"the table is at %x0" },
	[QD_F_L1_PAST_END] = { "l1-past-end", CORR, true, "L1 tables lie past the end of the file",
			       "the table is at %x0 and has %u1 bytes" },
	[QD_F_L1_ENTRY_RESERVED] = { "l1-entry-reserved", CORR, true, "L1 entries have reserved bits set",
				     "entry %x0" },
	[QD_F_L1_ENTRY_UNALIGNED] = { "l1-entry-unaligned", CORR, true, "L2 tables do not begin at a cluster",
				      "entry %x0" },
	[QD_F_L1_ENTRY_PAST_END] = { "l1-entry-past-end", CORR, true,
				     "L2 tables lie past the end of the file", "entry %x0" },
	[QD_F_L1_ENTRY_OVERLAP] = { "l1-entry-overlap", CORR, true,
				    "L1 entries point at something that is not an L2 table",
				    "the table at %x0 is the %t1" },
	[QD_F_L2_GARBAGE] = { "l2-garbage", CORR, true,
			      "L1 entries point at something that does not look like an L2 table",
			      "%u0 of %u1 entries of the table at %x2 are impossible" },
	[QD_F_L2_SHARED] = { "l2-shared", NOTE, false, "L1 entries of one layer share an L2 table",
			     "the table at %x0 is also named by L1 entry %u1" },
	[QD_F_L1_COPIED_SET] = { "l1-copied-set", CORR, true,
				 "L1 entries say that their L2 table is used once; it is not",
				 "entry %x0, refcount %u1" },
	[QD_F_L1_COPIED_CLEAR] = { "l1-copied-clear", CORR, true,
				   "L1 entries do not say that their L2 table is used once",
				   "entry %x0, refcount %u1" },

	[QD_F_L2_ENTRY_RESERVED] = { "l2-entry-reserved", CORR, true, "L2 entries have reserved bits set",
				     "entry %x0" },
	[QD_F_L2_ENTRY_UNALIGNED] = { "l2-entry-unaligned", CORR, true,
				      "data clusters do not begin at a cluster", "entry %x0" },
	[QD_F_L2_ENTRY_PAST_END] = { "l2-entry-past-end", CORR, true,
				     "data clusters lie past the end of the file", "entry %x0" },
	[QD_F_L2_ENTRY_OVERLAP] = { "l2-entry-overlap", CORR, true, "L2 entries point at metadata",
				    "entry %x0 points into the %t1" },
	[QD_F_L2_ENTRY_ZERO] = { "l2-entry-zero", CORR, true, "zero flags in a version 2 image",
				 "entry %x0" },
	[QD_F_L2_ENTRY_DATA_FILE] = { "l2-entry-data-file", CORR, true,
				      "data clusters are not at the guest's offset in the external data file",
				      "entry %x0 for the cluster at %x1" },
	[QD_F_SUBCLUSTERS] = { "subclusters", CORR, true, "subcluster bitmaps contradict themselves",
			       "entry %x0, bitmap %x1" },
	[QD_F_COMPRESSED_COPIED] = { "compressed-copied", CORR, true,
				     "compressed clusters have the COPIED flag", "entry %x0" },
	[QD_F_COMPRESSED_PAST_END] = { "compressed-past-end", CORR, true,
				       "compressed clusters lie past the end of the file", "entry %x0" },
	[QD_F_COMPRESSED_OVERLAP] = { "compressed-overlap", CORR, true, "compressed clusters lie in metadata",
				      "entry %x0 reaches into the %t1" },
	[QD_F_COMPRESSED_DATA_FILE] = { "compressed-data-file", CORR, true,
					"compressed clusters in an image with an external data file",
					"entry %x0" },
	[QD_F_COMPRESSED_SUBCLUSTERS] = { "compressed-subclusters", CORR, true,
					  "compressed clusters have a subcluster bitmap",
					  "entry %x0, bitmap %x1" },
	[QD_F_COPIED_SET] = { "copied-set", CORR, true,
			      "L2 entries say that their cluster is used once; it is not",
			      "entry %x0: COPIED, but the refcount is not 1" },
	[QD_F_COPIED_CLEAR] = { "copied-clear", CORR, true,
				"L2 entries do not say that their cluster is used once",
				"entry %x0: not COPIED, but the refcount is 1" },

	[QD_F_OVERLAP] = { "overlap", CORR, true, "two structures lie at the same place",
			   "%s0 and %s1, %u2 clusters" },

	[QD_F_REFCOUNT_LOW] = { "refcount-low", CORR, true,
				"clusters are used more often than their refcount says",
				"refcount %u0, %u1 references" },
	[QD_F_REFCOUNT_OVERFLOW] = { "refcount-overflow", CORR, false,
				     "clusters are used more often than a refcount can say",
				     "%u1 references, a refcount holds at most %u2" },
	[QD_F_REFCOUNT_HIGH] = { "refcount-high", LEAK, true,
				 "clusters are used less often than their refcount says",
				 "refcount %u0, %u1 references" },
	[QD_F_LEAK] = { "leak", LEAK, true, "clusters are allocated, but nothing uses them", "refcount %u0" },
	[QD_F_REFCOUNT_PAST_END] = { "refcount-past-end", NOTE, true,
				     "clusters past the end of the file have a refcount", "refcount %u0" },

	[QD_F_UNPINNED] = { "unpinned", NOTE, false, "shared clusters that the pin does not hold",
			    "%u0 references" },

	[QD_F_PINNED_TWICE] = { "pinned-twice", NOTE, false, "clusters that the pin references more than once",
				"%u0 references by the pin" },
	[QD_F_INDEX_STALE] = { "index-stale", NOTE, true, "the index cannot be used", "%l0" },
	[QD_F_INDEX_BLOCK] = { "index-block", NOTE, true, "blocks of the hash table are damaged",
			       "block %u0: %l0" },
	[QD_F_INDEX_RECORD] = { "index-record", NOTE, true,
				"the hash table tells of clusters that nothing refers to", "%u0 records" },
	[QD_F_INDEX_JOURNAL] = { "index-journal", NOTE, true, "the journal is damaged", "%l0" },
};

const struct qd_finding_kind *qd_finding_kind(enum qd_finding_type type)
{
	return &kinds[type];
}

const char *qd_finding_advice(enum qd_finding_type type)
{
	switch (type) {
	case QD_F_UNREADABLE:
		return "copy the file to a sound disk, with ddrescue, and repair the copy";
	case QD_F_HEADER_FEATURE:
		return "use the program that made the image, or a newer version of this one";
	case QD_F_HEADER_GEOMETRY:
		return "restore the first cluster of the file from a backup";
	case QD_F_HEADER_CRYPT:
		return "write the method that the image was made with (0 none, 1 AES, 2 LUKS) to bytes 32..35";
	case QD_F_HEADER_BACKING:
		return "set the backing file again: qemu-img rebase -u -b FILE -F FORMAT IMAGE, after bytes "
		       "8..19 have been set to zero";
	case QD_F_HEADER_SIZE:
		return "write the size that the disk had, in bytes, to bytes 24..31";
	case QD_F_CRYPTO_HEADER:
		return "restore the encryption header from a backup: without it nothing can be decrypted";
	case QD_F_SNAPSHOT_DATA_FILE:
		return "delete the snapshots: they do not hold what is in the external data file";
	default:
		return NULL;
	}
}

const char *qd_severity_name(enum qd_severity severity)
{
	static const char *const severities[] = {
		[QD_SEV_NOTE] = "note", [QD_SEV_LEAK] = "leak",
		[QD_SEV_CORRUPTION] = "corruption", [QD_SEV_ERROR] = "error",
	};

	return severities[severity];
}

/* Appends like snprintf and stays within buf. */
static void append(char *buf, size_t buf_size, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void append(char *buf, size_t buf_size, const char *fmt, ...)
{
	size_t used = strlen(buf);
	va_list ap;

	va_start(ap, fmt);
	vsnprintf(buf + used, buf_size - used, fmt, ap);
	va_end(ap);
}

static void append_layer(const struct qd_finding *f, char *buf, size_t buf_size)
{
	if (f->place.layer == 0)
		return;
	append(buf, buf_size, "snapshot %" PRIu32, f->place.layer - 1);
	if (f->label)
		append(buf, buf_size, " (%s)", f->label);
	append(buf, buf_size, ", ");
}

static void append_numbered(const struct qd_finding *f, const char *what, uint64_t number, char *buf,
			    size_t buf_size)
{
	append(buf, buf_size, "%s %" PRIu64, what, number);
	if (f->label)
		append(buf, buf_size, " (%s)", f->label);
}

static void append_range(uint64_t off, uint64_t nbytes, uint64_t unit, char *buf, size_t buf_size)
{
	append(buf, buf_size, "0x%" PRIx64, off);
	if (nbytes > unit)
		append(buf, buf_size, "..0x%" PRIx64, off + nbytes);
}

const char *qd_finding_where(const struct qd_finding *f, uint64_t cluster_size, char *buf, size_t buf_size)
{
	const struct qd_place *p = &f->place;

	buf[0] = '\0';
	switch (p->kind) {
	case QD_AT_HEADER:
		append(buf, buf_size, "header");
		break;
	case QD_AT_REFTABLE:
		append(buf, buf_size, "refcount table");
		break;
	case QD_AT_REFTABLE_ENTRY:
		append(buf, buf_size, "refcount table entry %" PRIu64, p->index);
		break;
	case QD_AT_SNAPSHOT_TABLE:
		append(buf, buf_size, "snapshot table");
		break;
	case QD_AT_SNAPSHOT:
		append_numbered(f, "snapshot", p->index, buf, buf_size);
		break;
	case QD_AT_BITMAPS:
		append(buf, buf_size, "bitmaps");
		break;
	case QD_AT_BITMAP:
		append_numbered(f, "bitmap", p->index, buf, buf_size);
		break;
	case QD_AT_BITMAP_ENTRY:
		append_numbered(f, "bitmap", p->layer, buf, buf_size);
		append(buf, buf_size, ", entry %" PRIu64, p->index);
		break;
	case QD_AT_L1:
		append_layer(f, buf, buf_size);
		append(buf, buf_size, "L1 table");
		break;
	case QD_AT_L1_ENTRY:
		append_layer(f, buf, buf_size);
		append(buf, buf_size, "L1 entry %" PRIu64 " (guest 0x%" PRIx64 ")", p->index, p->guest_off);
		break;
	case QD_AT_GUEST:
		append_layer(f, buf, buf_size);
		append(buf, buf_size, "guest ");
		append_range(p->guest_off, f->nitems * cluster_size, cluster_size, buf, buf_size);
		break;
	case QD_AT_HOST:
		append(buf, buf_size, "host ");
		append_range(p->host_off, f->nitems * cluster_size, cluster_size, buf, buf_size);
		break;
	}
	return buf;
}

/* "refcount block 3": the number only where there are several of the kind. */
static void append_struct(uint64_t kind, uint64_t id, char *buf, size_t buf_size)
{
	append(buf, buf_size, "%s", qd_struct_name((enum qd_struct_kind)kind));
	switch (kind) {
	case QD_STRUCT_REFBLOCK:
		append(buf, buf_size, " %" PRIu64, id);
		break;
	case QD_STRUCT_L2:
		append(buf, buf_size, " of L1 entry %" PRIu64, id);
		break;
	case QD_STRUCT_SNAPSHOT_L1:
	case QD_STRUCT_BITMAP_TABLE:
	case QD_STRUCT_BITMAP_DATA:
		append(buf, buf_size, " (number %" PRIu64 ")", id);
		break;
	default:
		break;
	}
}

const char *qd_finding_detail(const struct qd_finding *f, char *buf, size_t buf_size)
{
	const char *s = kinds[f->type].detail;

	buf[0] = '\0';
	for (; *s; s++) {
		uint64_t v;

		if (*s != '%') {
			append(buf, buf_size, "%c", *s);
			continue;
		}
		v = f->value[s[2] - '0'];
		if (s[1] == 'x')
			append(buf, buf_size, "0x%" PRIx64, v);
		else if (s[1] == 'u')
			append(buf, buf_size, "%" PRIu64, v);
		else if (s[1] == 'l')
			append(buf, buf_size, "%s", f->label ? f->label : "");
		else if (s[1] == 't')
			append_struct(v, f->value[s[2] - '0' + 1], buf, buf_size);
		else
			append(buf, buf_size, "%s", qd_struct_name((enum qd_struct_kind)v));
		s += 2;
	}
	return buf;
}

/* Kinds whose values are counts: a run holds only neighbours of equal counts. */
static bool compares_counts(enum qd_finding_type type)
{
	switch (type) {
	case QD_F_REFCOUNT_LOW:
	case QD_F_REFCOUNT_OVERFLOW:
	case QD_F_REFCOUNT_HIGH:
	case QD_F_LEAK:
	case QD_F_REFCOUNT_PAST_END:
	case QD_F_UNPINNED:
		return true;
	default:
		return false;
	}
}

bool qd_finding_merge(struct qd_finding *run, const struct qd_finding *next, uint64_t cluster_size)
{
	const struct qd_place *a = &run->place, *b = &next->place;

	if (run->type != next->type || a->kind != b->kind || a->layer != b->layer)
		return false;
	if (compares_counts(run->type) && memcmp(run->value, next->value, sizeof(run->value)) != 0)
		return false;
	if (a->kind == QD_AT_GUEST) {
		if (a->guest_off + run->nitems * cluster_size != b->guest_off)
			return false;
	} else if (a->kind == QD_AT_HOST) {
		if (a->host_off + run->nitems * cluster_size != b->host_off)
			return false;
	} else {
		return false;
	}
	run->nitems += next->nitems;
	return true;
}
