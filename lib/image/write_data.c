/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Guest content of one cluster after the other: read, write, zero, discard.
 *
 * A write touches subclusters; without extended L2 a cluster is one of them:
 *
 *	old        D  D  u  z  u      data, unallocated, zero
 *	write         [----]
 *	in place   D  W  W  z  u      what is touched is written, its ends filled up
 *	elsewhere  C  W  W  z  u      data that is not touched is copied too
 *
 * The bytes are in the file before any table says so, and the old cluster is given up
 * after the table said otherwise.
 */
#include <inttypes.h>
#include <string.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "image/write_int.h"

static uint64_t sub_size(const struct qd_writer *w)
{
	return 1ull << w->geom->subcluster_bits;
}

static uint64_t bits_of(unsigned first, unsigned end)
{
	return ((1ull << end) - 1) & ~((1ull << first) - 1);
}

static bool has_backing(const struct qd_writer *w, uint64_t guest_off)
{
	return w->backing && guest_off < w->backing->virtual_size;
}

/* Bytes of the cluster that belong to the disk. */
static uint64_t bytes_in_disk(const struct qd_writer *w, uint64_t guest_off)
{
	return qd_min_u64(w->geom->cluster_size, w->size - guest_off);
}

/* ---- reading ---- */

int writer_unpack(struct qd_writer *w, uint64_t entry, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(w->geom, entry);
	size_t nread;
	int rc;

	if (w->plain_entry == entry)
		return 0;
	w->plain_entry = 0;
	rc = qd_io_read_upto(w->io, w->packed, (size_t)c.nbytes, c.host_off, &nread, err);
	if (rc == 0)
		rc = qd_codec_decompress(w->codec, w->packed, nread, w->plain, err);
	if (rc == 0)
		w->plain_entry = entry;
	return rc;
}

/* [from, to) lies within subclusters of one kind. */
static int read_sub(struct qd_writer *w, const struct part *p, enum sub_kind kind, uint64_t from, uint64_t to,
		    uint8_t *buf, struct qd_err *err)
{
	size_t nbytes = (size_t)(to - from);

	if (kind == SUB_DATA)
		return qd_io_read_padded(w->io, buf, nbytes, qd_entry_host_off(p->place.entry) + from, err);
	if (kind == SUB_UNALLOCATED && has_backing(w, p->guest_off + from))
		return qd_reader_read(w->backing_reader, p->guest_off + from, nbytes, buf, err);
	memset(buf, 0, nbytes);
	return 0;
}

int writer_read_cluster(struct qd_writer *w, const struct part *p, uint64_t from, uint64_t to, uint8_t *buf,
			struct qd_err *err)
{
	uint64_t size = sub_size(w);
	int rc = 0;

	if (qd_l2_is_compressed(p->place.entry)) {
		rc = writer_unpack(w, p->place.entry, err);
		if (rc == 0)
			memcpy(buf, w->plain + from, to - from);
		return rc;
	}
	for (uint64_t at = from; rc == 0 && at < to;) {
		enum sub_kind kind = writer_sub_kind(w, &p->place, (unsigned)(at / size));
		uint64_t end = qd_align_down(at, size) + size;

		while (end < to && writer_sub_kind(w, &p->place, (unsigned)(end / size)) == kind)
			end += size;
		end = qd_min_u64(end, to);
		rc = read_sub(w, p, kind, at, end, buf + (at - from), err);
		at = end;
	}
	return rc;
}

/* ---- writing ---- */

int writer_write_host(struct qd_writer *w, uint64_t host_off, const uint8_t *buf, uint64_t nbytes,
		      struct qd_err *err)
{
	w->wrote_data = true;
	qd_queue_wrote_data(w->queue);
	return qd_io_write(w->io, buf, (size_t)nbytes, host_off, err);
}

static uint64_t data_mask(const struct qd_writer *w, const struct place *p)
{
	uint64_t mask = 0;

	if (qd_l2_is_compressed(p->entry))
		return bits_of(0, writer_nsubs(w));
	for (unsigned i = 0; i < writer_nsubs(w); i++)
		if (writer_sub_kind(w, p, i) == SUB_DATA)
			mask |= 1ull << i;
	return mask;
}

/* Builds the subclusters of the mask in w->cluster and writes each run of them to host_off. */
static int write_subs(struct qd_writer *w, const struct part *p, uint64_t mask, const uint8_t *src,
		      uint64_t host_off, struct qd_err *err)
{
	uint64_t size = sub_size(w);
	int rc = 0;

	for (unsigned i = 0; rc == 0 && i < writer_nsubs(w);) {
		unsigned first = i;
		uint64_t from, to;

		if (!(mask >> i & 1)) {
			i++;
			continue;
		}
		while (i < writer_nsubs(w) && mask >> i & 1)
			i++;
		from = first * size;
		to = i * size;
		if (from < p->from || to > p->to)
			rc = writer_read_cluster(w, p, from, to, w->cluster + from, err);
		if (rc == 0 && p->from < to && p->to > from) {
			uint64_t at = qd_max_u64(from, p->from);

			memcpy(w->cluster + at, src + (at - p->from), qd_min_u64(to, p->to) - at);
		}
		if (rc == 0)
			rc = writer_write_host(w, host_off + from, w->cluster + from, to - from, err);
	}
	return rc;
}

static int write_elsewhere(struct qd_writer *w, struct part *p, uint64_t touched, const uint8_t *src,
			   struct qd_err *err)
{
	uint64_t mask = touched | data_mask(w, &p->place), cluster = 0, host_off;
	struct place old = p->place, new = { 0, 0 };
	int rc = qd_alloc_claim(w->alloc, &cluster, err);

	if (rc)
		return rc;
	host_off = cluster << w->geom->cluster_bits;
	rc = write_subs(w, p, mask, src, host_off, err);
	new.entry = host_off | QD_COPIED;
	if (w->geom->extended_l2)
		new.bitmap = (qd_l2_is_compressed(old.entry) ? 0 : old.bitmap & ~(mask << 32)) | mask;
	if (rc == 0)
		rc = writer_store(w, p->guest_off, &new, err);
	if (rc) {
		qd_alloc_release(w->alloc, cluster, NULL);
		return rc;
	}
	return writer_release(w, &old, err);
}

static int write_in_place(struct qd_writer *w, struct part *p, uint64_t touched, const uint8_t *src,
			  struct qd_err *err)
{
	uint64_t host_off = qd_entry_host_off(p->place.entry);
	struct place new = p->place;
	int rc;

	if ((touched & ~data_mask(w, &p->place)) == 0)
		return writer_write_host(w, host_off + p->from, src, p->to - p->from, err);
	rc = write_subs(w, p, touched, src, host_off, err);
	new.entry &= ~QD_L2_ZERO;
	if (w->geom->extended_l2)
		new.bitmap = (p->place.bitmap & ~(touched << 32)) | touched;
	return rc ? rc : writer_store(w, p->guest_off, &new, err);
}

static int write_cluster(struct qd_writer *w, struct part *p, const uint8_t *src, struct qd_err *err)
{
	uint64_t touched = bits_of((unsigned)(p->from / sub_size(w)),
				   (unsigned)qd_div_up(p->to, sub_size(w)));
	bool own, keeps;
	int rc;

	if (w->hook)
		return writer_write_dedup(w, p, src, err);
	rc = writer_is_own(w, &p->place, &own, err);

	if (rc)
		return rc;
	keeps = own && (touched & ~data_mask(w, &p->place)) == 0;
	rc = writer_begin(w, !keeps, err);
	if (rc)
		return rc;
	return own ? write_in_place(w, p, touched, src, err) : write_elsewhere(w, p, touched, src, err);
}

/* ---- zeros ---- */

static int store_and_release(struct qd_writer *w, const struct part *p, const struct place *new,
			     struct qd_err *err)
{
	int rc = writer_begin(w, true, err);

	if (rc == 0)
		rc = writer_store(w, p->guest_off, new, err);
	return rc ? rc : writer_release(w, &p->place, err);
}

/* True when every subcluster of the mask reads as zeros because the tables say so. */
static bool reads_zero(const struct qd_writer *w, const struct part *p, uint64_t mask)
{
	if (qd_l2_is_compressed(p->place.entry))
		return false;
	for (unsigned i = 0; i < writer_nsubs(w); i++) {
		enum sub_kind kind = writer_sub_kind(w, &p->place, i);

		if (mask >> i & 1 && (kind == SUB_DATA || (kind == SUB_UNALLOCATED &&
							  has_backing(w, p->guest_off + i * sub_size(w)))))
			return false;
	}
	return true;
}

static int write_zeros(struct qd_writer *w, struct part *p, uint64_t from, uint64_t to, struct qd_err *err)
{
	struct part some = *p;
	int rc = 0;

	while (rc == 0 && from < to) {
		static const uint8_t zeros[65536];

		some.from = from;
		some.to = w->hook ? to : qd_min_u64(to, from + sizeof(zeros));
		rc = writer_lookup(w, p->guest_off, &some.place, err);
		if (rc == 0)
			rc = write_cluster(w, &some, w->hook ? w->zeros : zeros, err);
		from = some.to;
	}
	return rc;
}

/* The whole cluster, as far as the disk reaches. */
static int zero_whole(struct qd_writer *w, struct part *p, bool keep_place, struct qd_err *err)
{
	bool has_host = qd_l2_is_compressed(p->place.entry) || qd_entry_host_off(p->place.entry);
	struct place new = { 0, 0 };

	if (reads_zero(w, p, bits_of(0, writer_nsubs(w))) && (keep_place || !has_host))
		return 0;
	if (w->geom->extended_l2)
		new.bitmap = 0xffffffffull << 32;
	else if (w->img->header.version >= 3)
		new.entry = QD_L2_ZERO;
	else if (has_backing(w, p->guest_off))
		return write_zeros(w, p, 0, p->to, err);
	return store_and_release(w, p, &new, err);
}

int writer_zero_cluster(struct qd_writer *w, const struct part *p, struct qd_err *err)
{
	struct place new = { .entry = QD_L2_ZERO };	/* images of version 2 have no hook */

	return store_and_release(w, p, &new, err);
}

/* Whole subclusters of a cluster that keeps others. */
static int zero_subs(struct qd_writer *w, struct part *p, uint64_t mask, struct qd_err *err)
{
	struct place new = p->place;
	int rc;

	if (reads_zero(w, p, mask))
		return 0;
	new.bitmap = (new.bitmap & ~mask) | mask << 32;
	if (new.bitmap >> 32 == 0xffffffff)
		return zero_whole(w, p, false, err);
	rc = writer_begin(w, true, err);
	return rc ? rc : writer_store(w, p->guest_off, &new, err);
}

static int zero_part(struct qd_writer *w, struct part *p, struct qd_err *err)
{
	uint64_t size = sub_size(w), inner_from = qd_align_up(p->from, size);
	uint64_t inner_to = qd_align_down(p->to, size);
	uint64_t touched = bits_of((unsigned)(p->from / size), (unsigned)qd_div_up(p->to, size));
	int rc = 0;

	if (reads_zero(w, p, touched))
		return 0;
	if (!w->geom->extended_l2 || inner_from >= inner_to || qd_l2_is_compressed(p->place.entry))
		return write_zeros(w, p, p->from, p->to, err);
	if (p->from < inner_from)
		rc = write_zeros(w, p, p->from, inner_from, err);
	if (rc == 0 && inner_to < p->to)
		rc = write_zeros(w, p, inner_to, p->to, err);
	if (rc == 0)
		rc = writer_lookup(w, p->guest_off, &p->place, err);
	if (rc == 0)
		rc = zero_subs(w, p, bits_of((unsigned)(inner_from / size), (unsigned)(inner_to / size)),
			       err);
	return rc;
}

static int zero_cluster(struct qd_writer *w, struct part *p, struct qd_err *err)
{
	if (p->from == 0 && p->to == bytes_in_disk(w, p->guest_off))
		return zero_whole(w, p, true, err);
	return zero_part(w, p, err);
}

static int discard_cluster(struct qd_writer *w, struct part *p, struct qd_err *err)
{
	if (p->from != 0 || p->to != bytes_in_disk(w, p->guest_off))
		return 0;
	return zero_whole(w, p, false, err);
}

/* ---- ranges ---- */

static int in_cluster(struct qd_writer *w, uint64_t guest_off, uint64_t end, struct part *ret_part,
		      struct qd_err *err)
{
	uint64_t size = w->geom->cluster_size;

	ret_part->guest_off = qd_align_down(guest_off, size);
	ret_part->from = guest_off - ret_part->guest_off;
	ret_part->to = qd_min_u64(end - ret_part->guest_off, size);
	return writer_lookup(w, guest_off, &ret_part->place, err);
}

static int place_error(struct qd_writer *w, int rc, struct qd_err *err)
{
	return qd_err_file(err, rc, w->io->name);
}

int qd_writer_read(struct qd_writer *w, uint64_t guest_off, size_t nbytes, void *buf, struct qd_err *err)
{
	uint64_t end = guest_off + nbytes;
	uint8_t *to = buf;
	struct part p;

	for (uint64_t at = guest_off; at < end; at = p.guest_off + p.to) {
		int rc = in_cluster(w, at, end, &p, err);

		if (rc == 0)
			rc = writer_read_cluster(w, &p, p.from, p.to, to + (at - guest_off), err);
		if (rc)
			return place_error(w, rc, err);
	}
	return 0;
}

int qd_writer_write(struct qd_writer *w, uint64_t guest_off, size_t nbytes, const void *buf,
		    struct qd_err *err)
{
	uint64_t end = guest_off + nbytes;
	const uint8_t *from = buf;
	struct part p;

	for (uint64_t at = guest_off; at < end; at = p.guest_off + p.to) {
		int rc = in_cluster(w, at, end, &p, err);

		if (rc == 0)
			rc = write_cluster(w, &p, from + (at - guest_off), err);
		if (rc == 0)
			rc = writer_relieve(w, err);
		if (rc)
			return place_error(w, rc, err);
	}
	return 0;
}

/* Where no table is and nothing lies behind, there is nothing to do up to the next table's range. */
static uint64_t skip_empty(const struct qd_writer *w, uint64_t at)
{
	uint64_t span = w->geom->l2_entries << w->geom->cluster_bits;

	return writer_has_no_table(w, at) && !has_backing(w, at) ? qd_align_down(at, span) + span : at;
}

static int each_cluster(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes,
			int (*fn)(struct qd_writer *w, struct part *p, struct qd_err *err),
			struct qd_err *err)
{
	uint64_t end = guest_off + nbytes, at = guest_off;
	struct part p;

	while (at < end) {
		int rc;

		if (skip_empty(w, at) != at) {
			at = skip_empty(w, at);
			continue;
		}
		rc = in_cluster(w, at, end, &p, err);
		if (rc == 0)
			rc = fn(w, &p, err);
		if (rc == 0)
			rc = writer_relieve(w, err);
		if (rc)
			return place_error(w, rc, err);
		at = p.guest_off + p.to;
	}
	return 0;
}

int qd_writer_zero(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes, struct qd_err *err)
{
	return each_cluster(w, guest_off, nbytes, zero_cluster, err);
}

int qd_writer_discard(struct qd_writer *w, uint64_t guest_off, uint64_t nbytes, struct qd_err *err)
{
	if (w->img->header.version < 3 && w->backing)
		return 0;
	return each_cluster(w, guest_off, nbytes, discard_cluster, err);
}
