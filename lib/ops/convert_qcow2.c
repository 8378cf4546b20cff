/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The deduplicating qcow2 writer.
 *
 *	next     which guest bytes                                             in order
 *	prepare  read; zeros; fingerprints; look up and compare what is known  parallel
 *	         already; compress what is not
 *	commit   decide cluster by cluster: share or store; allocate; index    in order
 *	finish   write what is stored                                          parallel
 *
 * Invariants
 *  C1  decisions are taken in commit only, in guest order, and depend on nothing that
 *      threads or memory could change.  What prepare found out is a hint that saves work:
 *      commit looks up again and believes a comparison only for the same owner.
 *  C2  a cluster is shared only after its bytes were compared with the owner's: in the
 *      owner's batch while that is in flight (committed, not yet written), in the target
 *      (or, for compressed targets, the source) afterwards.  --trust-hash compares
 *      digests instead.
 *  C3  a batch leaves the list of those in flight, under the lock, after its bytes are
 *      written and before its buffer is used again.
 *  C4  index and builder are used under the lock.
 */
#include <assert.h>
#include <limits.h>
#include <pthread.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/pipeline.h"
#include "dedup/index.h"
#include "dedup/records.h"
#include "format/entry.h"
#include "image/bitmaps.h"
#include "image/build.h"
#include "image/codec.h"
#include "ops/convert_int.h"

#define NO_OWNER UINT64_MAX

enum cluster_kind {
	CLUSTER_SKIP,		/* reads right without an entry */
	CLUSTER_ZERO,		/* needs an entry that says zeros */
	CLUSTER_DATA,
};

struct cluster {
	enum cluster_kind kind;
	bool stored;			/* finish writes it */
	uint64_t guest;			/* guest cluster number */
	uint8_t *data;
	struct qd_fingerprint print;
	uint8_t digest[QD_DIGEST_MAX];	/* with --trust-hash */
	uint64_t candidate;		/* owner seen by prepare, or NO_OWNER */
	uint64_t candidate_entry;
	bool verified;			/* the candidate's bytes are ours */
	bool packed;			/* compression was tried: packed_nbytes 0 means in vain */
	uint8_t *out;			/* what is written: data, or the compressed stream */
	size_t out_nbytes;
	uint64_t host_off;
};

struct job {
	struct qd_batch batch;		/* first: the source fills it */
	struct cluster *clusters;
	unsigned nclusters;
	bool in_flight;
	uint8_t *packed;		/* compressed streams, one behind the other */
	size_t packed_used;
	uint8_t *scratch;		/* one cluster */
	uint8_t *stream;		/* one compressed cluster as its descriptor spans it */
	struct qd_codec *codec;
	struct qd_digester *digester;
};

struct writer {
	struct qd_convert *c;
	struct qd_build *build;
	struct qd_index *index;		/* NULL without deduplication */
	struct qd_records *digests;	/* by owner, with --trust-hash */
	const struct qd_digest *digest;
	const struct qd_geom *geom;
	bool zero_entries;		/* zeros must be said: there is a backing file */
	bool zero_as_data;		/* but the version cannot say it */
	bool fill;			/* preallocation: every guest cluster gets a host cluster */
	uint64_t next_fill;		/* guest cluster */
	pthread_mutex_t lock;
	struct job *jobs;
	unsigned njobs;
};

/* --- comparing with the owner of a candidate --- */

/* The owner's bytes if its batch is in flight (C3: stays so while the lock is held). */
static const uint8_t *find_in_flight(const struct writer *w, uint64_t owner)
{
	for (unsigned i = 0; i < w->njobs; i++) {
		const struct job *j = &w->jobs[i];
		unsigned lo = 0, hi;

		/* Of a job that is not in flight nothing else may be looked at: it may be refilled now. */
		if (!j->in_flight)
			continue;
		hi = j->nclusters;
		if (!hi || owner < j->clusters[0].guest || owner > j->clusters[hi - 1].guest)
			continue;
		while (hi - lo > 1) {
			unsigned mid = lo + (hi - lo) / 2;

			if (j->clusters[mid].guest <= owner)
				lo = mid;
			else
				hi = mid;
		}
		if (j->clusters[lo].guest == owner)
			return j->clusters[lo].data;
	}
	return NULL;
}

static int unpack_owner(const struct writer *w, struct job *j, uint64_t entry, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(w->geom, entry);
	size_t nread;
	int r = qd_io_read_upto(w->c->io, j->stream, (size_t)c.nbytes, c.host_off, &nread, err);

	return r ? r : qd_codec_decompress(j->codec, j->stream, nread, j->scratch, err);
}

/* Reads what the owner's entry names into scratch. */
static int read_owner(const struct writer *w, struct job *j, uint64_t owner, uint64_t entry, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;

	if (!qd_l2_is_compressed(entry))
		return qd_io_read(w->c->io, j->scratch, nbytes, qd_entry_host_off(entry), err);
	if (j->batch.reader)
		return qd_reader_read(j->batch.reader, owner << w->geom->cluster_bits, nbytes, j->scratch, err);
	return unpack_owner(w, j, entry, err);
}

static int compare_written(const struct writer *w, struct job *j, const struct cluster *cl, uint64_t owner,
			   uint64_t entry, bool *ret_equal, struct qd_err *err)
{
	int r = read_owner(w, j, owner, entry, err);

	if (!r)
		*ret_equal = !memcmp(j->scratch, cl->data, (size_t)w->geom->cluster_size);
	return r;
}

static int compare_digest(const struct writer *w, const struct cluster *cl, uint64_t owner, bool *ret_equal,
			  struct qd_err *err)
{
	uint8_t digest[QD_DIGEST_MAX];
	int r = qd_records_get(w->digests, owner, digest, err);

	if (!r)
		*ret_equal = !memcmp(digest, cl->digest, w->digest->nbytes);
	return r;
}

/* --- prepare --- */

static void split_batch(const struct writer *w, struct job *j)
{
	size_t size = (size_t)w->geom->cluster_size;

	j->nclusters = 0;
	for (unsigned i = 0; i < j->batch.nsegments; i++) {
		const struct qd_segment *s = &j->batch.segments[i];

		for (size_t off = 0; off < s->nbytes; off += size)
			j->clusters[j->nclusters++] = (struct cluster){
				.guest = (s->guest_off + off) >> w->geom->cluster_bits,
				.data = j->batch.buf + s->buf_off + off,
				.candidate = NO_OWNER,
			};
	}
}

/* What the backing file holds already needs no entry. */
static int compare_backing(const struct writer *w, struct job *j, struct cluster *cl, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;
	int r;

	if (!j->batch.backing_reader)
		return 0;
	r = qd_reader_read(j->batch.backing_reader, cl->guest << w->geom->cluster_bits, nbytes, j->scratch, err);
	if (!r && !memcmp(j->scratch, cl->data, nbytes))
		cl->kind = CLUSTER_SKIP;
	return r;
}

static int classify(const struct writer *w, struct job *j, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;

	for (unsigned i = 0; i < j->nclusters; i++) {
		struct cluster *cl = &j->clusters[i];
		int r;

		cl->kind = CLUSTER_DATA;
		if (qd_is_zero(cl->data, nbytes) && !w->zero_as_data)
			cl->kind = w->zero_entries ? CLUSTER_ZERO : CLUSTER_SKIP;
		r = compare_backing(w, j, cl, err);
		if (r)
			return r;
	}
	return 0;
}

static int hash_clusters(const struct writer *w, struct job *j, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		struct cluster *cl = &j->clusters[i];

		if (cl->kind != CLUSTER_DATA)
			continue;
		if (!w->digests) {
			cl->print = qd_fingerprint_of(cl->data, nbytes);
			continue;
		}
		r = qd_digester_compute(j->digester, cl->data, nbytes, cl->digest, err);
		if (!r)
			cl->print = (struct qd_fingerprint){ qd_get_be64(cl->digest), qd_get_be64(cl->digest + 8) };
	}
	return r;
}

/* Remembers the first candidate of each cluster that can be compared without the lock. */
static int nominate(struct writer *w, struct job *j, struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	unsigned n;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		struct cluster *cl = &j->clusters[i];

		if (cl->kind != CLUSTER_DATA)
			continue;
		r = qd_index_find(w->index, cl->print, values, &n, err);
		if (r || !n || find_in_flight(w, values[0]))
			continue;
		cl->candidate = values[0];
		r = qd_build_entry(w->build, values[0], &cl->candidate_entry, err);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

static int verify_candidates(const struct writer *w, struct job *j, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		struct cluster *cl = &j->clusters[i];

		if (cl->candidate != NO_OWNER)
			r = compare_written(w, j, cl, cl->candidate, cl->candidate_entry, &cl->verified, err);
	}
	return r;
}

static int pack(const struct writer *w, struct job *j, struct cluster *cl, struct qd_err *err)
{
	uint8_t *out = j->packed + j->packed_used;
	int r = qd_codec_compress(j->codec, cl->data, out, &cl->out_nbytes, err);

	cl->packed = true;
	if (!cl->out_nbytes) {
		cl->out = cl->data;
		cl->out_nbytes = (size_t)w->geom->cluster_size;
	} else {
		cl->out = out;
		j->packed_used += cl->out_nbytes;
	}
	return r;
}

static int pack_unknown(const struct writer *w, struct job *j, struct qd_err *err)
{
	int r = 0;

	j->packed_used = 0;
	for (unsigned i = 0; !r && i < j->nclusters; i++)
		if (j->clusters[i].kind == CLUSTER_DATA && !j->clusters[i].verified)
			r = pack(w, j, &j->clusters[i], err);
	return r;
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	struct job *j = job;
	int r = qd_batch_read(&j->batch, w->c->src, err);

	if (r)
		return r;
	split_batch(w, j);
	r = classify(w, j, err);
	if (!r && w->index)
		r = hash_clusters(w, j, err);
	if (!r && w->index && !w->digests) {
		r = nominate(w, j, err);
		if (!r)
			r = verify_candidates(w, j, err);
	}
	if (!r && w->c->opts->compress)
		r = pack_unknown(w, j, err);
	return r;
}

/* --- commit --- */

static int equals_owner(const struct writer *w, struct job *j, const struct cluster *cl, uint64_t owner,
			bool *ret_equal, struct qd_err *err)
{
	const uint8_t *in_flight;
	uint64_t entry;
	int r;

	if (w->digests)
		return compare_digest(w, cl, owner, ret_equal, err);
	if (cl->candidate == owner) {
		*ret_equal = cl->verified;
		return 0;
	}
	in_flight = find_in_flight(w, owner);
	if (in_flight) {
		*ret_equal = !memcmp(in_flight, cl->data, (size_t)w->geom->cluster_size);
		return 0;
	}
	r = qd_build_entry(w->build, owner, &entry, err);
	return r ? r : compare_written(w, j, cl, owner, entry, ret_equal, err);
}

/* The owner of equal content, or NO_OWNER. */
static int find_owner(const struct writer *w, struct job *j, const struct cluster *cl, uint64_t *ret_owner,
		      struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	bool equal = false;
	unsigned n;
	int r = qd_index_find(w->index, cl->print, values, &n, err);

	*ret_owner = NO_OWNER;
	for (unsigned i = 0; !r && !equal && i < n; i++) {
		r = equals_owner(w, j, cl, values[i], &equal, err);
		if (!r && equal)
			*ret_owner = values[i];
	}
	return r;
}

static int store(struct writer *w, struct job *j, struct cluster *cl, struct qd_err *err)
{
	size_t size = (size_t)w->geom->cluster_size;
	int r = 0;

	cl->stored = true;
	if (!w->c->opts->compress) {
		cl->out = cl->data;
		cl->out_nbytes = size;
	} else if (!cl->packed) {
		r = pack(w, j, cl, err);
	}
	if (r)
		return r;
	if (cl->out_nbytes < size)
		return qd_build_add_compressed(w->build, cl->guest, cl->out_nbytes, &cl->host_off, err);
	return qd_build_add_data(w->build, cl->guest, &cl->host_off, err);
}

static int store_new(struct writer *w, struct job *j, struct cluster *cl, uint64_t old_owner, struct qd_err *err)
{
	int r = store(w, j, cl, err);

	if (!r && w->digests)
		r = qd_records_put(w->digests, cl->guest, cl->digest, err);
	if (r)
		return r;
	if (old_owner == NO_OWNER)
		return qd_index_insert(w->index, cl->print, cl->guest, err);
	return qd_index_replace(w->index, cl->print, old_owner, cl->guest, err);
}

/* Shares with the owner of equal content; at the share cap the cluster becomes the owner. */
static int dedup(struct writer *w, struct job *j, struct cluster *cl, struct qd_err *err)
{
	uint64_t owner;
	bool full = false;
	int r = find_owner(w, j, cl, &owner, err);

	if (r)
		return r;
	if (owner == NO_OWNER)
		return store_new(w, j, cl, NO_OWNER, err);
	r = qd_build_share(w->build, cl->guest, owner, &full, err);
	return r || !full ? r : store_new(w, j, cl, owner, err);
}

/* Host clusters for the guest clusters up to `guest` that hold zeros. */
static int fill_up_to(struct writer *w, uint64_t guest, struct qd_err *err)
{
	uint64_t unused;
	int r = 0;

	while (w->fill && !r && w->next_fill < guest)
		r = qd_build_add_data(w->build, w->next_fill++, &unused, err);
	return r;
}

static int commit_cluster(struct writer *w, struct job *j, struct cluster *cl, struct qd_err *err)
{
	int r;

	if (w->fill) {
		r = fill_up_to(w, cl->guest, err);
		w->next_fill = cl->guest + 1;
		return r ? r : store(w, j, cl, err);
	}
	if (cl->kind == CLUSTER_ZERO)
		return qd_build_add_zero(w->build, cl->guest, err);
	if (cl->kind == CLUSTER_DATA)
		return w->index ? dedup(w, j, cl, err) : store(w, j, cl, err);
	return 0;
}

static int commit(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	struct job *j = job;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	j->in_flight = true;
	for (unsigned i = 0; !r && i < j->nclusters; i++)
		r = commit_cluster(w, j, &j->clusters[i], err);
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* --- finish --- */

#define MAX_VECTORS 64

struct gather {
	struct iovec iov[MAX_VECTORS];
	int niov;
	uint64_t host_off;
	uint64_t nbytes;
};

static int write_gathered(const struct writer *w, struct gather *g, struct qd_err *err)
{
	struct qd_io *io = w->c->data_io ? w->c->data_io : w->c->io;
	int r = g->niov ? qd_io_writev(io, g->iov, g->niov, g->host_off, err) : 0;

	g->niov = 0;
	g->nbytes = 0;
	return r;
}

static void gather_piece(struct gather *g, uint8_t *data, size_t nbytes)
{
	struct iovec *last = g->niov ? &g->iov[g->niov - 1] : NULL;

	if (last && (uint8_t *)last->iov_base + last->iov_len == data)
		last->iov_len += nbytes;
	else
		g->iov[g->niov++] = (struct iovec){ .iov_base = data, .iov_len = nbytes };
	g->nbytes += nbytes;
}

/* Writes what the batch stores in as few calls as its places in the file allow. */
static int write_batch(const struct writer *w, struct job *j, struct qd_err *err)
{
	struct gather g = { .niov = 0 };
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		const struct cluster *cl = &j->clusters[i];

		if (!cl->stored)
			continue;
		if (g.niov && (g.host_off + g.nbytes != cl->host_off || g.niov == MAX_VECTORS))
			r = write_gathered(w, &g, err);
		if (!g.niov)
			g.host_off = cl->host_off;
		gather_piece(&g, cl->out, cl->out_nbytes);
	}
	return r ? r : write_gathered(w, &g, err);
}

static int finish(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	struct job *j = job;
	int r = write_batch(w, j, err);

	pthread_mutex_lock(&w->lock);
	j->in_flight = false;
	pthread_mutex_unlock(&w->lock);
	return r ? r : qd_progress_add(w->c->progress, j->batch.progress, err);
}

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct writer *w = ctx;
	struct job *j = job;
	int r = qd_source_next(w->c->src, &j->batch, err);

	j->nclusters = 0;
	return r;
}

/* --- setting up --- */

static int init_job(const struct writer *w, struct job *j, struct qd_err *err)
{
	size_t size = (size_t)w->geom->cluster_size;
	const struct qd_convert_opts *o = w->c->opts;
	int r = qd_batch_init(&j->batch, w->c->src, err);

	if (r)
		return r;
	j->clusters = calloc(w->c->src->batch_nbytes / size, sizeof(*j->clusters));
	j->scratch = aligned_alloc(4096, qd_align_up(size, 4096));
	if (!j->clusters || !j->scratch)
		return qd_err_nomem(err, "a batch");
	if (o->compress) {
		j->packed = malloc(w->c->src->batch_nbytes);
		j->stream = malloc(2 * size);
		if (!j->packed || !j->stream)
			return qd_err_nomem(err, "a batch");
		r = qd_codec_new(w->c->layout->compression_type, size,
				 o->compress_level ? o->compress_level : QD_CODEC_DEFAULT_LEVEL, &j->codec, err);
	}
	return r || !w->digests ? r : qd_digester_new(w->digest, &j->digester, err);
}

static void free_job(struct job *j)
{
	qd_batch_free(&j->batch);
	free(j->clusters);
	free(j->packed);
	free(j->scratch);
	free(j->stream);
	qd_codec_free(j->codec);
	qd_digester_free(j->digester);
}

static int init_build(struct writer *w, struct qd_err *err)
{
	const struct qd_layout *l = w->c->layout;
	const struct qd_convert_opts *o = w->c->opts;
	struct qd_build_opts bo = {
		.version = l->version,
		.cluster_bits = (uint32_t)__builtin_ctzll(l->cluster_size),
		.refcount_order = (uint32_t)__builtin_ctz(l->refcount_bits),
		.lazy_refcounts = l->lazy_refcounts,
		.extended_l2 = l->extended_l2,
		.compression = l->compression_type,
		.backing_name = l->backing_file,
		.backing_format = l->backing_fmt,
		.data_file_name = l->data_file,
		.data_file_raw = l->data_file_raw,
		.pin = !o->no_dedup && !o->no_pin,
		.max_share = o->max_share,
		.memory = w->c->memory / 4,
	};
	uint64_t size = qd_max_u64(w->c->virtual_size, w->c->src->virtual_size);
	int r = qd_build_new(w->c->io, size, &bo, &w->build, err);

	if (r)
		return r;
	w->geom = qd_build_geom(w->build);
	w->zero_entries = l->backing_file != NULL;
	w->zero_as_data = w->zero_entries && l->version < 3;
	w->fill = l->preallocation != QD_PREALLOC_OFF || (o->sparse_given && !o->sparse_size);
	return 0;
}

static int init_dedup(struct writer *w, struct qd_err *err)
{
	const struct qd_convert_opts *o = w->c->opts;
	int r;

	if (o->no_dedup)
		return 0;
	w->digest = qd_digest_find(o->hash ? o->hash : QD_DIGEST_DEFAULT);
	r = qd_index_new(w->c->memory / 2, o->tmpdir, &w->index, err);
	if (!r && o->trust_hash)
		r = qd_records_new(w->digest->nbytes, w->c->memory / 8, o->tmpdir, &w->digests, err);
	return r;
}

static int run(struct writer *w, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit, .finish = finish };
	struct qd_batch_plan plan;
	void **slots = NULL;
	int r = 0;

	qd_batch_plan(w->c->memory, w->c->nthreads, w->geom->cluster_size, w->c->opts->compress ? 2 : 1, &plan);
	w->c->src->unit = w->geom->cluster_size;
	w->c->src->batch_nbytes = plan.batch_nbytes;
	w->njobs = plan.njobs;
	w->jobs = calloc(plan.njobs, sizeof(*w->jobs));
	slots = calloc(plan.njobs, sizeof(*slots));
	if (!w->jobs || !slots)
		r = qd_err_nomem(err, "batches");
	for (unsigned i = 0; !r && i < plan.njobs; i++) {
		slots[i] = &w->jobs[i];
		r = init_job(w, &w->jobs[i], err);
	}
	if (!r)
		r = qd_pipeline_run(&ops, w, slots, plan.njobs, plan.nthreads, err);
	free(slots);
	return r;
}

static int complete(struct writer *w, struct qd_err *err)
{
	struct qd_convert *c = w->c;
	uint64_t size = qd_max_u64(c->virtual_size, c->src->virtual_size);
	const struct qd_image *img = c->opts->bitmaps && size && c->src->disk ? c->src->disk->img : NULL;
	struct qd_build_stats stats;
	int r = fill_up_to(w, qd_div_up(size, w->geom->cluster_size), err);

	if (!r && img)
		r = qd_bitmaps_copy(img, w->build, c->io, err);
	if (!r)
		r = qd_build_finish(w->build, size,
				    img && qd_bitmaps_count(img) ? QD_AUTOCLEAR_BITMAPS : 0, &stats, err);
	if (r)
		return r;
	c->result.virtual_size = size;
	c->result.cluster_size = w->geom->cluster_size;
	c->result.guest_clusters = stats.references;
	c->result.data_clusters = stats.data_clusters;
	c->result.shared_clusters = stats.shared_clusters;
	c->result.file_size = stats.file_size;
	return c->data_io ? qd_io_truncate(c->data_io, size, err) : 0;
}

int qd_convert_to_qcow2(struct qd_convert *c, struct qd_err *err)
{
	struct writer w = { .c = c };
	int r;

	pthread_mutex_init(&w.lock, NULL);
	r = init_build(&w, err);
	if (!r)
		r = init_dedup(&w, err);
	if (!r)
		r = run(&w, err);
	if (!r)
		r = complete(&w, err);
	for (unsigned i = 0; i < w.njobs && w.jobs; i++)
		free_job(&w.jobs[i]);
	free(w.jobs);
	qd_index_free(w.index);
	qd_records_free(w.digests);
	qd_build_free(w.build);
	pthread_mutex_destroy(&w.lock);
	return r;
}
