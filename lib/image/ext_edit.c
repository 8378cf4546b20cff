/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The first cluster is in memory as it will be; each change there is queued as it is made.
 */
#include "image/ext_edit.h"

#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"

#define HEAD 8u				/* bytes of an extension before its data; of the END mark */
#define SECTOR 512u
#define OFF_BACKING_NAME_OFF 8u		/* in the header: u64 offset, u32 length */
#define OFF_BACKING_NAME_LEN 16u

struct qd_ext_edit {
	struct qd_queue *queue;		/* NULL: in memory only */
	uint8_t *buf;			/* the first cluster */
	size_t size;
	size_t start;			/* where extensions begin */
	size_t limit;			/* where they must end: the backing file name, or the cluster's end */
};

/* ---- writing ---- */

static int put(struct qd_ext_edit *e, size_t off, size_t nbytes, struct qd_err *err)
{
	return e->queue ? qd_queue_write(e->queue, e->buf + off, nbytes, off, err) : 0;
}

static int barrier(struct qd_ext_edit *e, struct qd_err *err)
{
	return e->queue ? qd_queue_barrier(e->queue, err) : 0;
}

static void make_head(struct qd_ext_edit *e, size_t off, uint32_t type, size_t nbytes)
{
	qd_put_be32(e->buf + off, type);
	qd_put_be32(e->buf + off + 4, (uint32_t)nbytes);
}

/* The head alone, behind a barrier and with one after it: 8 aligned bytes are within a sector. */
static int switch_head(struct qd_ext_edit *e, size_t off, uint32_t type, size_t nbytes, struct qd_err *err)
{
	int rc = barrier(e, err);

	make_head(e, off, type, nbytes);
	if (rc == 0)
		rc = put(e, off, HEAD, err);
	return rc ? rc : barrier(e, err);
}

/* ---- looking ---- */

struct item {			/* an extension, or the END mark (type QD_EXT_END, last) */
	uint32_t type;
	size_t off;		/* of its head */
	size_t nbytes;		/* of its data */
	size_t room;		/* head, data and padding; END: all up to the limit */
};

/* The item at *pos, which is moved behind it.  1, or 0 behind the last. */
static int next_item(const struct qd_ext_edit *e, size_t *pos, struct item *ret_item, struct qd_err *err)
{
	struct qd_header_ext ext = { 0 };
	size_t off = *pos;
	int rc;

	if (off >= e->limit)
		return 0;
	rc = qd_header_ext_next(e->buf, e->limit, pos, &ext, err);
	if (rc < 0)
		return rc;
	*ret_item = (struct item){ .type = rc ? ext.type : QD_EXT_END, .off = off, .nbytes = ext.nbytes,
				   .room = (rc ? *pos : e->limit) - off };
	if (!rc)
		*pos = e->limit;
	return 1;
}

/* The first item of the type that begins at or after `from`; 1 found, 0 not. */
static int find(const struct qd_ext_edit *e, uint32_t type, size_t from, struct item *ret_item,
		struct qd_err *err)
{
	size_t pos = e->start;
	int rc;

	while ((rc = next_item(e, &pos, ret_item, err)) == 1)
		if (ret_item->type == type && ret_item->off >= from)
			return 1;
	return rc;
}

int qd_ext_edit_open(const struct qd_image *img, struct qd_queue *queue, struct qd_ext_edit **ret_edit,
		     struct qd_err *err)
{
	const struct qd_header *h = &img->header;
	struct qd_ext_edit *e = calloc(1, sizeof(*e));
	struct item end = { .type = QD_EXT_END };
	int rc = 0;

	if (!e)
		return qd_err_nomem(err, "header extensions");
	e->queue = queue;
	e->size = e->limit = (size_t)img->geom.cluster_size;
	e->start = h->header_length;
	if (h->backing_name_off)
		e->limit = (size_t)h->backing_name_off;
	e->buf = malloc(e->size);
	if (!e->buf)
		rc = qd_err_nomem(err, "header extensions");
	else if (queue)
		rc = qd_queue_read(queue, e->buf, e->size, 0, err);
	else
		rc = qd_io_read_padded(img->io, e->buf, e->size, 0, err);
	if (rc == 0)
		rc = find(e, QD_EXT_END, 0, &end, err);
	if (rc == 1 && end.room >= HEAD && end.off % HEAD == 0)
		rc = 0;
	else if (rc >= 0)
		rc = qd_err_set(err, QD_E_UNSUPPORTED,
				"the header extensions have no end mark that another one "
				"could be put behind");
	if (rc) {
		qd_ext_edit_free(e);
		return rc;
	}
	*ret_edit = e;
	return 0;
}

void qd_ext_edit_free(struct qd_ext_edit *e)
{
	if (!e)
		return;
	free(e->buf);
	free(e);
}

/* ---- places ---- */

struct place {
	struct item in;		/* the filler or END it goes to */
	size_t skip;		/* bytes before its head: 0, or a filler of 8 and more */
};

static bool crosses(size_t off, size_t nbytes)
{
	return nbytes && off / SECTOR != (off + nbytes - 1) / SECTOR;
}

/* Bytes that the item must have for an extension of nbytes, and how many to skip. */
static size_t need(const struct item *in, size_t nbytes, bool whole, size_t *ret_skip)
{
	size_t skip = 0;

	while (whole && nbytes <= SECTOR && crosses(in->off + skip + HEAD, nbytes))
		skip += HEAD;
	*ret_skip = skip;
	return skip + HEAD + qd_align_up(nbytes, 8) + (in->type == QD_EXT_END ? HEAD : 0);
}

/* The backing file name goes behind `to`, so that extensions may reach there. */
static int move_name(struct qd_ext_edit *e, size_t to, struct qd_err *err)
{
	size_t off = e->limit, len = qd_get_be32(e->buf + OFF_BACKING_NAME_LEN);
	int rc;

	to = qd_align_up(qd_max_u64(to, off + len), 8);
	if (off == e->size || to + len > e->size)
		return qd_err_set(err, QD_E_UNSUPPORTED,
				  "the first cluster (%zu bytes) has no room for another "
				  "header extension", e->size);
	memmove(e->buf + to, e->buf + off, len);
	rc = put(e, to, len, err);
	if (rc == 0)
		rc = barrier(e, err);
	qd_put_be64(e->buf + OFF_BACKING_NAME_OFF, to);
	if (rc == 0)
		rc = put(e, OFF_BACKING_NAME_OFF, 12, err);
	if (rc == 0)
		rc = barrier(e, err);
	e->limit = to;
	return rc;
}

/* The first filler that is large enough, else END, for which the name may have to move. */
static int find_place(struct qd_ext_edit *e, size_t nbytes, bool whole, struct place *ret_place,
		      struct qd_err *err)
{
	size_t pos = e->start, wanted;
	struct place p;
	int rc;

	while ((rc = next_item(e, &pos, &p.in, err)) == 1) {
		if (p.in.type != QD_EXT_FILLER && p.in.type != QD_EXT_END)
			continue;
		wanted = need(&p.in, nbytes, whole, &p.skip);
		if (p.in.type == QD_EXT_END && wanted > p.in.room) {
			rc = move_name(e, p.in.off + wanted, err);
			if (rc)
				return rc;
			p.in.room = e->limit - p.in.off;
		}
		if (wanted <= p.in.room && (p.in.type == QD_EXT_END || (p.in.room - wanted) % HEAD == 0)) {
			*ret_place = p;
			return 0;
		}
	}
	return rc ? rc : qd_err_set(err, QD_E_UNSUPPORTED, "the header extensions have no end mark");
}

/* Body first, then the head of what was there. */
static int fill_place(struct qd_ext_edit *e, const struct place *p, uint32_t type, const void *data,
		      size_t nbytes, struct qd_err *err)
{
	size_t head = p->in.off + p->skip, body = head + HEAD, end = body + qd_align_up(nbytes, 8);
	size_t from = p->in.off + HEAD, left = p->in.off + p->in.room - end, to = end;
	int rc;

	if (p->skip) {
		memset(e->buf + from, 0, head - from);
		make_head(e, head, type, nbytes);
	}
	memset(e->buf + body, 0, end - body);
	if (nbytes)
		memcpy(e->buf + body, data, nbytes);
	if (p->in.type == QD_EXT_END || left) {
		bool is_end = p->in.type == QD_EXT_END;

		make_head(e, end, is_end ? QD_EXT_END : QD_EXT_FILLER, is_end ? 0 : left - HEAD);
		to += HEAD;
	}
	rc = put(e, from, to - from, err);
	if (rc)
		return rc;
	if (p->skip)
		return switch_head(e, p->in.off, QD_EXT_FILLER, p->skip - HEAD, err);
	return switch_head(e, p->in.off, type, nbytes, err);
}

/* ---- setting and removing ---- */

/* Fillers at the end of the list are nothing. */
static int trim(struct qd_ext_edit *e, struct qd_err *err)
{
	size_t pos = e->start, last = 0;
	struct item it;
	int rc;

	while ((rc = next_item(e, &pos, &it, err)) == 1) {
		if (it.type == QD_EXT_END)
			break;
		if (it.type != QD_EXT_FILLER)
			last = 0;
		else if (!last)
			last = it.off;
	}
	if (rc < 0 || !last)
		return rc < 0 ? rc : 0;
	return switch_head(e, last, QD_EXT_END, 0, err);
}

/* Every extension of the type but the one whose head is at `keep` becomes a filler. */
static int retire(struct qd_ext_edit *e, uint32_t type, size_t keep, struct qd_err *err)
{
	struct item it;
	size_t from = 0;
	int rc;

	while ((rc = find(e, type, from, &it, err)) == 1) {
		from = it.off + HEAD;
		if (it.off == keep)
			continue;
		rc = switch_head(e, it.off, QD_EXT_FILLER, it.nbytes, err);
		if (rc)
			return rc;
	}
	return rc;
}

static int overwrite(struct qd_ext_edit *e, const struct item *it, const void *data, struct qd_err *err)
{
	int rc = barrier(e, err);

	memcpy(e->buf + it->off + HEAD, data, it->nbytes);
	if (rc == 0)
		rc = put(e, it->off + HEAD, it->nbytes, err);
	return rc ? rc : barrier(e, err);
}

static int set(struct qd_ext_edit *e, uint32_t type, const void *data, size_t nbytes, bool whole,
	       struct qd_err *err)
{
	struct place p = { .skip = 0 };
	struct item it;
	size_t keep;
	int rc = find(e, type, 0, &it, err);

	if (rc < 0)
		return rc;
	keep = it.off;
	if (rc == 1 && it.nbytes == nbytes && !memcmp(e->buf + it.off + HEAD, data, nbytes)) {
		rc = 0;
	} else if (rc == 1 && whole && it.nbytes == nbytes && !crosses(it.off + HEAD, nbytes)) {
		rc = overwrite(e, &it, data, err);
	} else {
		rc = find_place(e, nbytes, whole, &p, err);
		keep = p.in.off + p.skip;
		if (rc == 0)
			rc = fill_place(e, &p, type, data, nbytes, err);
	}
	if (rc == 0)
		rc = retire(e, type, keep, err);
	return rc ? rc : trim(e, err);
}

int qd_ext_edit_set(struct qd_ext_edit *e, uint32_t type, const void *data, size_t nbytes, struct qd_err *err)
{
	return set(e, type, data, nbytes, true, err);
}

int qd_ext_edit_remove(struct qd_ext_edit *e, uint32_t type, struct qd_err *err)
{
	int rc = retire(e, type, SIZE_MAX, err);

	return rc ? rc : trim(e, err);
}

/* ---- features ---- */

int qd_ext_edit_autoclear(struct qd_ext_edit *e, uint64_t set_bits, uint64_t clear_bits, struct qd_err *err)
{
	uint64_t old = qd_get_be64(e->buf + QD_HEADER_OFF_AUTOCLEAR), new = (old & ~clear_bits) | set_bits;
	int rc = barrier(e, err);

	if (rc || new == old)
		return rc;
	qd_put_be64(e->buf + QD_HEADER_OFF_AUTOCLEAR, new);
	rc = put(e, QD_HEADER_OFF_AUTOCLEAR, 8, err);
	return rc ? rc : barrier(e, err);
}

/* The rows there are, those for the autoclear bit left out; *ret_nbytes 0 when there is no table. */
static int load_names(const struct qd_ext_edit *e, unsigned bit, uint8_t **ret_rows, size_t *ret_nbytes,
		      struct qd_err *err)
{
	struct item it;
	uint8_t *rows;
	size_t n = 0;
	int rc = find(e, QD_EXT_FEATURE_NAMES, 0, &it, err);

	if (rc < 0)
		return rc;
	rows = malloc((rc ? it.nbytes : 0) + QD_FEATURE_ROW);
	if (!rows)
		return qd_err_nomem(err, "the feature name table");
	for (size_t i = 0; rc && i + QD_FEATURE_ROW <= it.nbytes; i += QD_FEATURE_ROW) {
		const uint8_t *row = e->buf + it.off + HEAD + i;

		if (row[0] == QD_FEATURE_AUTOCLEAR && row[1] == bit)
			continue;
		memcpy(rows + n, row, QD_FEATURE_ROW);
		n += QD_FEATURE_ROW;
	}
	*ret_rows = rows;
	*ret_nbytes = n;
	return 0;
}

/* A table of 440 bytes that cannot be had is no failure. */
static int set_names(struct qd_ext_edit *e, const uint8_t *rows, size_t nbytes, struct qd_err *err)
{
	int rc = set(e, QD_EXT_FEATURE_NAMES, rows, nbytes, false, err);

	if (rc == QD_E_UNSUPPORTED) {
		qd_err_clear(err);
		rc = 0;
	}
	return rc;
}

int qd_ext_edit_name_autoclear(struct qd_ext_edit *e, unsigned bit, const char *name, struct qd_err *err)
{
	uint8_t *rows = NULL, *row;
	size_t n = 0;
	int rc = load_names(e, bit, &rows, &n, err);

	if (rc || !n) {
		free(rows);
		return rc;
	}
	row = rows + n;
	memset(row, 0, QD_FEATURE_ROW);
	row[0] = QD_FEATURE_AUTOCLEAR;
	row[1] = (uint8_t)bit;
	for (size_t i = 0; i < QD_FEATURE_ROW - 2 && name[i]; i++)
		row[2 + i] = (uint8_t)name[i];
	rc = set_names(e, rows, n + QD_FEATURE_ROW, err);
	free(rows);
	return rc;
}

int qd_ext_edit_unname_autoclear(struct qd_ext_edit *e, unsigned bit, struct qd_err *err)
{
	uint8_t *rows = NULL;
	size_t n = 0;
	int rc = load_names(e, bit, &rows, &n, err);

	if (rc == 0 && n)
		rc = set_names(e, rows, n, err);
	free(rows);
	return rc;
}
