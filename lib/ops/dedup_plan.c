/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The plan: clusters come in the order of the file, read and hashed by all threads, and are
 * decided one by one.
 *
 *	zeros          nothing keeps it afterwards
 *	known content  its references go to the first cluster with it that has room: the keeper
 *	new, or full   it becomes a keeper
 *
 * Invariants
 *  P1  a cluster is merged only into one whose bytes were compared with its own, and with
 *      extended L2 only if entries of both say the same about subclusters.
 *  P2  a keeper is never a victim, nor the other way round.
 *  P3  the plan depends on the image and the options alone.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "ops/dedup_int.h"

#define BYTES_PER_ENTRY 24u	/* of redo records: a changed entry or refcount, far from all others */
#define BYTES_PER_KEEPER 80u	/* likewise: its refcount, the COPIED flag of its owner, a slot of the pin */
#define ALL_ALLOCATED 0xffffffffull

struct batch {			/* what commit was given */
	struct qd_survey_content *v;
	unsigned n;
};

int dedup_add_move(struct dedup *d, const struct qd_move *move, struct qd_err *err)
{
	uint64_t entries = (uint64_t)move->references + move->places + move->pins;

	d->record_nbytes += entries * BYTES_PER_ENTRY + (move->to ? BYTES_PER_KEEPER : 0) + BYTES_PER_ENTRY;
	return qd_records_put(d->moves, d->nmoves++, move, err);
}

/* ---- comparing ---- */

/* What the entries say about subclusters; the same for all that hold everything. */
static uint64_t bitmap_of(const struct dedup *d, uint64_t entry, uint64_t bitmap)
{
	return d->geom->extended_l2 && !qd_l2_is_compressed(entry) ? bitmap : ALL_ALLOCATED;
}

static int read_plain(struct dedup *d, uint64_t entry, uint64_t bitmap, uint8_t *buf, struct qd_err *err)
{
	size_t nbytes = (size_t)1 << d->geom->subcluster_bits;
	int rc = qd_io_read_padded(d->io, buf, (size_t)d->geom->cluster_size, entry, err);

	for (unsigned i = 0; rc == 0 && d->geom->extended_l2 && i < 32; i++)
		if (!(bitmap >> i & 1))
			memset(buf + i * nbytes, 0, nbytes);
	return rc;
}

static int read_compressed(struct dedup *d, uint64_t entry, uint8_t *buf, struct qd_err *err)
{
	struct qd_compressed s = qd_l2_compressed(d->geom, entry);
	size_t nread;
	int rc = qd_io_read_upto(d->io, d->stream, (size_t)s.nbytes, s.host_off, &nread, err);

	return rc ? rc : qd_codec_decompress(d->codec, d->stream, nread, buf, err);
}

static int read_cluster(struct dedup *d, uint64_t entry, uint64_t bitmap, uint8_t *buf, struct qd_err *err)
{
	d->result->read_nbytes += d->geom->cluster_size;
	return qd_l2_is_compressed(entry) ? read_compressed(d, entry, buf, err) :
					    read_plain(d, entry, bitmap, buf, err);
}

static int same_digest(struct dedup *d, const struct qd_survey_content *x, uint64_t number, bool *ret_same,
		       struct qd_err *err)
{
	uint8_t digest[QD_DIGEST_MAX];
	int rc = qd_records_get(d->digests, number, digest, err);

	if (rc == 0)
		*ret_same = memcmp(digest, x->digest, d->digest->nbytes) == 0;
	return rc;
}

static int same_bytes(struct dedup *d, const struct batch *b, const struct qd_survey_content *x,
		      const struct dedup_keeper *k, uint64_t number, bool *ret_same, struct qd_err *err)
{
	size_t size = (size_t)d->geom->cluster_size;
	const uint8_t *data;
	int rc = 0;

	if (x->candidate == number) {
		*ret_same = x->verified;
		return 0;
	}
	data = number >= b->v[0].number ? b->v[number - b->v[0].number].data : NULL;
	if (!data) {
		rc = read_cluster(d, k->entry, k->bitmap, d->scratch, err);
		data = d->scratch;
	}
	if (rc == 0)
		*ret_same = memcmp(data, x->data, size) == 0;
	return rc;
}

/* P1 */
static int is_same(struct dedup *d, const struct batch *b, const struct qd_survey_content *x,
		   const struct dedup_keeper *k, uint64_t number, bool *ret_same, struct qd_err *err)
{
	*ret_same = bitmap_of(d, x->c.entry, x->c.bitmap) == bitmap_of(d, k->entry, k->bitmap);
	if (!*ret_same)
		return 0;
	return d->digests ? same_digest(d, x, number, ret_same, err) :
			    same_bytes(d, b, x, k, number, ret_same, err);
}

/* ---- deciding ---- */

static struct qd_fingerprint print_of(const struct dedup *d, const struct qd_survey_content *x)
{
	uint64_t bitmap = bitmap_of(d, x->c.entry, x->c.bitmap) ^ ALL_ALLOCATED;

	return (struct qd_fingerprint){ qd_get_be64(x->digest) ^ bitmap * 0x9e3779b97f4a7c15ull,
					qd_get_be64(x->digest + 8) };
}

/* Pins a cluster that stays as it is and has nobody merged into it. */
static int pin_alone(struct dedup *d, struct dedup_keeper *k, struct qd_err *err)
{
	struct qd_move m = { .to = k->entry, .bitmap = k->bitmap, .pin = true };
	bool full;
	int rc = dedup_take_room(d, k, 0, &full, err);

	if (rc || full)
		return rc;
	k->pinned = true;
	d->result->pinned++;
	return dedup_add_move(d, &m, err);
}

static int keep(struct dedup *d, const struct qd_survey_content *x, bool replaces, uint64_t old,
		struct qd_err *err)
{
	const struct qd_surveyed *c = &x->c;
	uint64_t counted = (uint64_t)c->references + c->places + c->pins;
	struct dedup_keeper k = {
		.entry = c->entry, .bitmap = bitmap_of(d, c->entry, c->bitmap), .guest = c->guest,
		.references = c->references, .pinned = c->pins != 0, .in_active = c->in_active,
		.counted = (uint32_t)qd_min_u64(counted, UINT32_MAX),
		.partial = bitmap_of(d, c->entry, c->bitmap) != ALL_ALLOCATED,
	};
	int rc = 0;

	d->result->remaining++;
	if (qd_l2_is_compressed(c->entry))
		k.bitmap = 0;
	if (c->several && !k.pinned && !d->opts->no_pin)
		rc = pin_alone(d, &k, err);
	if (rc == 0)
		rc = qd_records_put(d->keepers, x->number, &k, err);
	if (rc == 0 && d->digests)
		rc = qd_records_put(d->digests, x->number, x->digest, err);
	if (rc == 0)
		rc = dedup_record(d, &k, x->digest, err);
	if (rc || x->number > QD_INDEX_VALUE_MAX)
		return rc;
	return replaces ? qd_index_replace(d->index, print_of(d, x), old, x->number, err) :
			  qd_index_insert(d->index, print_of(d, x), x->number, err);
}

static int give_up(struct dedup *d, const struct qd_surveyed *c, struct qd_move *m, struct qd_err *err)
{
	int rc;

	m->from = c->entry;
	m->references = c->references;
	m->places = c->places;
	m->pins = c->pins;
	rc = dedup_give_up(d, c, err);
	return rc ? rc : dedup_add_move(d, m, err);
}

/* The record names the first guest cluster, of the active layer if any, and c's entries come to k's. */
static bool takes_first_place(struct dedup_keeper *k, const struct qd_surveyed *c)
{
	if (c->in_active < k->in_active || (c->in_active == k->in_active && c->guest >= k->guest))
		return false;
	k->guest = c->guest;
	k->in_active = c->in_active;
	return true;
}

static int merge(struct dedup *d, const struct qd_survey_content *x, uint64_t number, struct dedup_keeper *k,
		 bool *ret_full, struct qd_err *err)
{
	struct qd_move m = { .to = k->entry, .bitmap = k->bitmap };
	int rc = dedup_take_room(d, k, x->c.references, ret_full, err);

	if (rc)
		return rc;
	if (*ret_full)
		return dedup_record_again(d, k, x->digest, true, err);
	m.pin = !k->pinned && !d->opts->no_pin;
	d->result->pinned += m.pin;
	d->result->freed++;
	k->pinned = k->pinned || m.pin;
	if (takes_first_place(k, &x->c))
		rc = dedup_record_again(d, k, x->digest, false, err);
	if (rc == 0)
		rc = qd_records_put(d->keepers, number, k, err);
	return rc ? rc : give_up(d, &x->c, &m, err);
}

static int decide_data(struct dedup *d, const struct batch *b, struct qd_survey_content *x,
		       struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	struct dedup_keeper k;
	bool same = false, full = false;
	unsigned n;
	int rc = qd_index_find(d->index, print_of(d, x), values, &n, err);

	if (rc == 0 && n && !x->data && !d->digests) {
		x->data = d->own;
		rc = read_cluster(d, x->c.entry, x->c.bitmap, d->own, err);
	}
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		rc = qd_records_get(d->keepers, values[i], &k, err);
		if (rc == 0)
			rc = is_same(d, b, x, &k, values[i], &same, err);
		if (rc || !same)
			continue;
		rc = merge(d, x, values[i], &k, &full, err);
		return rc || !full ? rc : keep(d, x, true, values[i], err);
	}
	return rc ? rc : keep(d, x, false, 0, err);
}

/* Nothing reads it: a place kept for zeros, or what only the pin holds. */
static int decide_unread(struct dedup *d, const struct qd_surveyed *c, struct qd_err *err)
{
	struct qd_move m = { .to = 0 };

	if (c->places) {
		d->result->zero_freed++;
		return give_up(d, c, &m, err);
	}
	if (d->container_unknown || qd_table_ext_holds(&d->container->ext, c->entry))
		return 0;
	d->result->unpinned++;
	return give_up(d, c, &m, err);
}

static int decide(struct dedup *d, const struct batch *b, struct qd_survey_content *x, struct qd_err *err)
{
	struct qd_move m = { .to = 0 };
	int rc;

	d->pins_before += x->c.pins;
	d->streams = d->streams || qd_l2_is_compressed(x->c.entry);
	if (!x->c.references)
		return decide_unread(d, &x->c, err);
	d->result->scanned++;
	d->result->references += x->c.references;
	if ((!x->data && !x->known) || x->broken || x->c.mixed) {
		d->nunreadable++;
		d->result->remaining++;
		return 0;
	}
	if (x->data)
		d->result->read_nbytes += d->geom->cluster_size;
	if (!x->zero) {
		rc = decide_data(d, b, x, err);
		if (x->known)
			x->data = NULL;		/* it was in d->own */
		return rc;
	}
	d->result->zero_freed++;
	return give_up(d, &x->c, &m, err);
}

static bool is_readable(void *ctx, const struct qd_surveyed *c, uint64_t number)
{
	(void)ctx;
	(void)number;
	return !c->mixed;
}

/* ---- looking ahead ---- */

/*
 * What is found here saves work and decides nothing: commit looks up again, and believes
 * a comparison for the same keeper only.
 */
static int nominate(struct dedup *d, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	struct dedup_keeper k;
	unsigned found;
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; i < n; i++)
		if (v[i].data && !v[i].zero && !v[i].broken)
			qd_index_prefetch(d->index, print_of(d, &v[i]));
	for (unsigned i = 0; rc == 0 && i < n; i++) {
		if (!v[i].data || v[i].zero || v[i].broken)
			continue;
		rc = qd_index_find(d->index, print_of(d, &v[i]), values, &found, err);
		if (rc == 0 && found)
			rc = qd_records_get(d->keepers, values[0], &k, err);
		if (rc || !found || qd_l2_is_compressed(k.entry) || d->geom->extended_l2)
			continue;
		v[i].candidate = values[0];
		v[i].candidate_entry = k.entry;
	}
	pthread_mutex_unlock(&d->lock);
	return rc;
}

/* Clusters from number i on whose candidates lie one behind the other, as many as scratch holds. */
static unsigned candidate_run(const struct dedup *d, const struct qd_survey_content *v, unsigned n,
			      unsigned i)
{
	uint64_t size = d->geom->cluster_size;
	unsigned run = 1;

	while (i + run < n && (run + 1) * size <= QD_SURVEY_SCRATCH && v[i + run].candidate != UINT64_MAX &&
	       v[i + run].candidate_entry == v[i].candidate_entry + run * size)
		run++;
	return run;
}

static int look_ahead(void *ctx, struct qd_survey_content *v, unsigned n, uint8_t *scratch,
		      struct qd_err *err)
{
	struct dedup *d = ctx;
	size_t size = (size_t)d->geom->cluster_size;
	unsigned run = 1;
	int rc = d->digests ? 0 : nominate(d, v, n, err);

	for (unsigned i = 0; rc == 0 && i < n; i += run) {
		run = 1;
		if (v[i].candidate == UINT64_MAX)
			continue;
		run = candidate_run(d, v, n, i);
		rc = qd_io_read_padded(d->io, scratch, run * size, v[i].candidate_entry, err);
		for (unsigned k = 0; rc == 0 && k < run; k++)
			v[i + k].verified = memcmp(scratch + k * size, v[i + k].data, size) == 0;
	}
	return rc;
}

static int commit(void *ctx, struct qd_survey_content *v, unsigned n, struct qd_err *err)
{
	struct dedup *d = ctx;
	struct batch b = { v, n };
	int rc = 0;

	pthread_mutex_lock(&d->lock);
	for (unsigned i = 0; rc == 0 && i < n; i++)
		rc = decide(d, &b, &v[i], err);
	pthread_mutex_unlock(&d->lock);
	return rc;
}

/* ---- setting up ---- */

static int init(struct dedup *d, struct qd_err *err)
{
	size_t size = (size_t)d->geom->cluster_size;
	const char *tmpdir = d->opts->tmpdir;
	uint64_t m = d->memory;
	int rc = qd_index_new(m / 4, tmpdir, &d->index, err);

	if (rc == 0)
		rc = qd_records_new(sizeof(struct dedup_keeper), m / 8, tmpdir, &d->keepers, err);
	if (rc == 0)
		rc = qd_records_new(sizeof(struct qd_move), m / 16, tmpdir, &d->moves, err);
	if (rc == 0)
		rc = qd_records_new(16, m / 32, tmpdir, &d->room, err);
	if (rc == 0 && d->opts->trust_hash)
		rc = qd_records_new(d->digest->nbytes, m / 16, tmpdir, &d->digests, err);
	if (rc == 0)
		rc = qd_change_open(d->img, m / 32, &d->counts, err);
	if (rc == 0)
		rc = qd_codec_new(d->img->header.compression_type, size, 0, &d->codec, err);
	d->stream = malloc(2 * size);
	d->scratch = malloc(size);
	d->own = malloc(size);
	if (rc == 0 && (!d->stream || !d->scratch || !d->own))
		rc = qd_err_nomem(err, "a cluster");
	return rc ? rc : dedup_index_begin(d, err);
}

int dedup_plan(struct dedup *d, struct qd_err *err)
{
	static const struct qd_survey_ops ops = { .want = is_readable, .know = dedup_index_knows,
						   .prepare = look_ahead, .commit = commit };
	struct qd_survey_opts so = { .digest = d->digest, .threads = d->opts->threads,
				     .memory = d->memory / 4, .progress = d->progress };
	uint64_t bad = 0;
	int rc;

	pthread_mutex_init(&d->lock, NULL);
	rc = init(d, err);
	if (rc == 0)
		rc = qd_survey_walk(d->img, &so, &ops, d, &bad, err);
	if (rc == 0 && bad)
		rc = qd_err_set(err, QD_E_CORRUPT, "some L2 entries cannot be true: qdedup check tells more");
	qd_index_free(d->index);
	qd_records_free(d->keepers);
	qd_records_free(d->digests);
	qd_records_free(d->room);
	d->index = NULL;
	d->keepers = d->digests = d->room = NULL;
	qd_change_free(d->counts);
	d->counts = NULL;
	pthread_mutex_destroy(&d->lock);
	return rc;
}

void dedup_plan_free(struct dedup *d)
{
	qd_records_free(d->moves);
	qd_codec_free(d->codec);
	free(d->stream);
	free(d->scratch);
	free(d->own);
}
