/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Judging what the header extension announces.  The order of the questions is that of
 * the states: is there one (absent), is it this image's and whole (stale), did anybody
 * else write (partial).
 *
 * An embedded container must be where nobody else can write: each cluster of its run
 * referenced by the pin once, and by nothing else, which its refcount of 1 says.
 */
#include "dedup/container.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_file.h"
#include "dedup/pinned.h"
#include "format/entry.h"
#include "space/refcount.h"

#define MAX_RUN_CLUSTERS (1ull << 30)	/* what the largest directory describes in the smallest clusters, and more */

const char *qd_container_state_name(enum qd_container_state state)
{
	static const char *const names[] = {
		[QD_CONTAINER_ABSENT] = "absent",
		[QD_CONTAINER_VALID] = "valid",
		[QD_CONTAINER_PARTIAL] = "partial",
		[QD_CONTAINER_STALE] = "stale",
	};

	return names[state];
}

bool qd_container_is_impossible(const struct qd_header *h, const char **ret_why)
{
	const char *why = NULL;

	if (h->version < 3)
		why = "compat=0.10 has no feature bit that tells when somebody else wrote";
	else if (h->incompatible & QD_INCOMPAT_DATA_FILE)
		why = "an external data file can be written without the image noticing";
	else if (h->crypt_method != QD_CRYPT_NONE)
		why = "encrypted images keep their content to themselves";
	if (why && ret_why)
		*ret_why = why;
	return why != NULL;
}

static int stale(struct qd_container *c, const char *why)
{
	c->state = QD_CONTAINER_STALE;
	snprintf(c->why, sizeof(c->why), "%.199s", why);
	return 0;
}

/* An error that is about the container becomes its state; others are passed on. */
static int absorb(struct qd_container *c, int r, struct qd_err *local, struct qd_err *err)
{
	if (r == QD_E_CORRUPT || r == QD_E_UNSUPPORTED)
		return stale(c, local->msg);
	if (r)
		qd_err_copy(err, local);
	return r;
}

/* --- where an embedded one lies --- */

struct run_check {
	const struct qd_table_ext *ext;
	uint32_t cluster_bits;
	uint8_t *seen;			/* a bit for each cluster */
	uint64_t nseen;
	bool twice;
};

static int mark_slot(void *ctx, uint64_t entry, struct qd_err *err)
{
	struct run_check *k = ctx;
	uint64_t i;

	(void)err;
	if (!qd_table_ext_holds(k->ext, entry))
		return 0;
	i = (qd_entry_host_off(entry) - k->ext->container_off) >> k->cluster_bits;
	if (k->seen[i / 8] & 1u << i % 8) {
		k->twice = true;
	} else {
		k->seen[i / 8] |= (uint8_t)(1u << i % 8);
		k->nseen++;
	}
	return 0;
}

static int check_pinned(struct qd_container *c, const struct qd_image *img, uint64_t nclusters, struct qd_err *err)
{
	struct run_check k = { .ext = &c->ext, .cluster_bits = img->geom.cluster_bits };
	uint64_t bad;
	int r;

	k.seen = calloc(1, (size_t)(nclusters / 8 + 1));
	if (!k.seen)
		return qd_err_nomem(err, "the pin");
	r = qd_pinned_walk(img, mark_slot, &k, &bad, err);
	free(k.seen);
	if (r)
		return r;
	if (k.twice)
		return stale(c, "the pin references a cluster of it twice");
	if (k.nseen != nclusters)
		return stale(c, "the pin does not reference all of its clusters");
	return 0;
}

/* The refcount block with the counts of clusters from number `first` on; *ret_off 0: there is none. */
static int find_block(const struct qd_image *img, uint64_t first, uint64_t *ret_off, struct qd_err *err)
{
	const struct qd_geom *g = &img->geom;
	uint64_t index = first / g->block_entries, off;
	uint8_t entry[8];
	int r;

	*ret_off = 0;
	if (index >= (uint64_t)img->header.reftable_clusters << (g->cluster_bits - 3))
		return 0;
	r = qd_io_read_padded(img->io, entry, sizeof(entry), img->header.reftable_off + index * 8, err);
	off = qd_get_be64(entry) & QD_REFTABLE_OFFSET_MASK;
	if (!r && qd_is_aligned(off, g->cluster_size) && qd_range_within(off, g->cluster_size, img->file_size))
		*ret_off = off;
	return r;
}

static int check_refcounts(struct qd_container *c, const struct qd_image *img, uint64_t nclusters, struct qd_err *err)
{
	const struct qd_geom *g = &img->geom;
	uint64_t at = c->ext.container_off >> g->cluster_bits, end = at + nclusters;
	uint8_t *block = malloc((size_t)g->cluster_size);
	bool sound = true;
	int r = block ? 0 : qd_err_nomem(err, "refcounts");

	while (!r && sound && at < end) {
		uint64_t off, stop = qd_min_u64(end, (at / g->block_entries + 1) * g->block_entries);

		r = find_block(img, at, &off, err);
		if (!r && off)
			r = qd_io_read(img->io, block, (size_t)g->cluster_size, off, err);
		sound = off != 0;
		for (; !r && sound && at < stop; at++)
			sound = qd_refcount_get(block, g->refcount_order, at % g->block_entries) == 1;
	}
	free(block);
	return r || sound ? r : stale(c, "a cluster of it has another refcount than 1");
}

static int check_place(struct qd_container *c, const struct qd_image *img, struct qd_err *err)
{
	uint64_t nclusters = c->ext.container_nbytes >> img->geom.cluster_bits;
	const struct qd_snapshot *pin = qd_image_find_pin(img);
	char id[16];
	int r;

	snprintf(id, sizeof(id), "%" PRIu32, c->ext.pin_id);
	if (strcmp(pin->id, id))
		return stale(c, "the pin is another one than it names");
	if (!qd_range_within(c->ext.container_off, c->ext.container_nbytes, img->file_size) || nclusters > MAX_RUN_CLUSTERS)
		return stale(c, "it lies past the end of the file");
	r = check_pinned(c, img, nclusters, err);
	return r || c->state == QD_CONTAINER_STALE ? r : check_refcounts(c, img, nclusters, err);
}

/* --- an external one --- */

static int check_head(struct qd_container *c, const struct qd_ext_copy *copy, struct qd_err *err)
{
	uint8_t head[QD_EXTERNAL_HEAD];
	uint64_t size;
	int r = qd_io_read_padded(c->io, head, sizeof(head), 0, err);

	if (!r)
		r = qd_io_size(c->io, &size, err);
	if (r)
		return r;
	if (memcmp(head, QD_EXTERNAL_MAGIC, 8))
		return stale(c, "the file is not an index of qdedup");
	if (memcmp(head + 8, copy->data, QD_TABLE_EXT_SIZE) ||
	    !qd_is_zero(head + 8 + QD_TABLE_EXT_SIZE, sizeof(head) - 8 - QD_TABLE_EXT_SIZE))
		return stale(c, "the file belongs to another image or to another state of this one");
	if (size < QD_EXTERNAL_HEAD || size - QD_EXTERNAL_HEAD < c->ext.container_nbytes)
		return stale(c, "the file is too short");
	return 0;
}

static int open_external(struct qd_container *c, const struct qd_ext_copy *copy, const char *path, bool writable,
			 struct qd_err *err)
{
	struct qd_file_opts opts = { .writable = writable, .no_lock = !writable };
	struct qd_err local = { 0 };
	int r;

	if (!path) {
		snprintf(c->why, sizeof(c->why), "it lies in a file of its own: name it with --index=FILE");
		return 0;
	}
	r = qd_io_file_open(path, &opts, &c->io, &local);
	if (r == QD_E_IO && local.sys_errno == ENOENT) {
		snprintf(c->why, sizeof(c->why), "there is no file %.150s", path);
		return 0;
	}
	if (r) {
		qd_err_copy(err, &local);
		return r;
	}
	c->off = QD_EXTERNAL_HEAD;
	return check_head(c, copy, err);
}

/* --- all of it --- */

/* Fills what can be known without the container's own bytes. */
static int judge_extension(struct qd_container *c, const struct qd_image *img, const struct qd_ext_copy *copy,
			   struct qd_err *err)
{
	struct qd_err local = { 0 };
	const char *why;
	int r = qd_table_ext_decode(copy->data, copy->nbytes, &c->ext, &local);

	if (r)
		return absorb(c, r, &local, err);
	c->external = c->ext.flags & QD_TABLE_EXTERNAL;
	if (!c->external && !qd_image_find_pin(img)) {
		c->state = QD_CONTAINER_ABSENT;
		c->ext = (struct qd_table_ext){ 0 };
		return 0;
	}
	c->state = img->header.autoclear & QD_AUTOCLEAR_INDEX ? QD_CONTAINER_VALID : QD_CONTAINER_PARTIAL;
	if (qd_container_is_impossible(&img->header, &why))
		return stale(c, why);
	if (c->ext.cluster_bits != img->geom.cluster_bits)
		return stale(c, "it was made for another cluster size");
	if (c->external)
		return 0;
	c->io = img->io;
	c->off = c->ext.container_off;
	return check_place(c, img, err);
}

static int open_table(struct qd_container *c, const struct qd_image *img, struct qd_err *err)
{
	struct qd_err local = { 0 };
	int r = qd_table_open(c->io, c->off, &c->ext, &img->geom, &c->table, &local);

	c->opened = !r;
	return absorb(c, r, &local, err);
}

static int judge(struct qd_container *c, struct qd_image *img, const char *index_path, bool writable,
		 struct qd_err *err)
{
	const struct qd_ext_copy *copy = qd_image_find_ext(img, QD_EXT_QDEDUP);
	int r;

	if (!copy)
		return 0;
	r = judge_extension(c, img, copy, err);
	if (!r && c->external && c->state != QD_CONTAINER_STALE)
		r = open_external(c, copy, index_path, writable, err);
	if (!r && c->io && (c->state == QD_CONTAINER_VALID || c->state == QD_CONTAINER_PARTIAL))
		r = open_table(c, img, err);
	return r;
}

int qd_container_open(struct qd_image *img, const char *index_path, bool writable,
		      struct qd_container **ret_container, struct qd_err *err)
{
	struct qd_container *c = calloc(1, sizeof(*c));
	int r;

	if (!c)
		return qd_err_nomem(err, "the index");
	r = judge(c, img, index_path, writable, err);
	if (r)
		qd_container_close(c);
	else
		*ret_container = c;
	return r;
}

void qd_container_close(struct qd_container *c)
{
	if (!c)
		return;
	qd_table_close(c->table);
	if (c->external)
		qd_io_close(c->io);
	free(c);
}
