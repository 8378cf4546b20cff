/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The prepare stage: whatever can be known of a batch without deciding anything.
 */
#include "ops/convert_qcow2.h"

#include "base/bytes.h"
#include "format/entry.h"
#include "ops/convert_index.h"

static void split_batch(const struct qd_cv_writer *w, struct qd_cv_job *j)
{
	size_t size = (size_t)w->geom->cluster_size;

	j->nclusters = 0;
	for (unsigned i = 0; i < j->batch.nsegments; i++) {
		const struct qd_segment *s = &j->batch.segments[i];

		for (size_t off = 0; off < s->nbytes; off += size)
			j->clusters[j->nclusters++] = (struct qd_cv_cluster){
				.guest = (s->guest_off + off) >> w->geom->cluster_bits,
				.data = j->batch.buf + s->buf_off + off,
				.candidate = QD_CV_NO_OWNER,
			};
	}
}

/* What the backing file holds already needs no entry. */
static int compare_backing(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;
	int r;

	if (!j->batch.backing_reader)
		return 0;
	r = qd_reader_read(j->batch.backing_reader, cl->guest << w->geom->cluster_bits, nbytes, j->scratch, err);
	if (!r && !memcmp(j->scratch, cl->data, nbytes))
		cl->kind = QD_CV_SKIP;
	return r;
}

static int classify(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;

	for (unsigned i = 0; i < j->nclusters; i++) {
		struct qd_cv_cluster *cl = &j->clusters[i];
		int r;

		cl->kind = QD_CV_DATA;
		if (qd_is_zero(cl->data, nbytes) && !w->zero_as_data)
			cl->kind = w->zero_entries ? QD_CV_ZERO : QD_CV_SKIP;
		r = compare_backing(w, j, cl, err);
		if (r)
			return r;
	}
	return 0;
}

static int hash_clusters(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		struct qd_cv_cluster *cl = &j->clusters[i];

		if (cl->kind != QD_CV_DATA)
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
static int nominate(struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	unsigned n;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	for (unsigned i = 0; i < j->nclusters; i++)
		if (j->clusters[i].kind == QD_CV_DATA)
			qd_index_prefetch(w->index, j->clusters[i].print);
	for (unsigned i = 0; !r && i < j->nclusters; i++) {
		struct qd_cv_cluster *cl = &j->clusters[i];

		if (cl->kind != QD_CV_DATA)
			continue;
		r = qd_index_find(w->index, cl->print, values, &n, err);
		if (r || !n || qd_cv_owner_in_flight(w, values[0]))
			continue;
		cl->candidate = values[0];
		r = qd_build_entry(w->build, values[0], &cl->candidate_entry, err);
	}
	pthread_mutex_unlock(&w->lock);
	return r;
}

/* Clusters from number i on whose candidates lie one behind the other in the target, as many as scratch holds. */
static unsigned candidate_run(const struct qd_cv_writer *w, const struct qd_cv_job *j, unsigned i)
{
	const struct qd_cv_cluster *cl = &j->clusters[i];
	uint64_t size = w->geom->cluster_size;
	unsigned n = 1;

	if (qd_l2_is_compressed(cl->candidate_entry))
		return 1;
	while (i + n < j->nclusters && (n + 1) * size <= QD_CV_SCRATCH && cl[n].candidate != QD_CV_NO_OWNER &&
	       cl[n].candidate_entry == cl->candidate_entry + n * size)
		n++;
	return n;
}

static int verify_candidates(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	size_t size = (size_t)w->geom->cluster_size;
	unsigned n = 1;
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i += n) {
		struct qd_cv_cluster *cl = &j->clusters[i];

		n = 1;
		if (cl->candidate == QD_CV_NO_OWNER)
			continue;
		n = candidate_run(w, j, i);
		r = qd_cv_owner_read(w, j, cl->candidate, cl->candidate_entry, n, err);
		for (unsigned k = 0; !r && k < n; k++)
			cl[k].verified = !memcmp(j->scratch + k * size, cl[k].data, size);
	}
	return r;
}

int qd_cv_pack(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
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

static int pack_unknown(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	int r = 0;

	j->packed_used = 0;
	for (unsigned i = 0; !r && i < j->nclusters; i++)
		if (j->clusters[i].kind == QD_CV_DATA && !j->clusters[i].verified)
			r = qd_cv_pack(w, j, &j->clusters[i], err);
	return r;
}

static int hash_unknown(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++)
		if (j->clusters[i].kind == QD_CV_DATA && !j->clusters[i].verified)
			r = qd_cv_index_hash(w, j, &j->clusters[i], err);
	return r;
}

/* What is known to be there already has no new pieces. */
static int look_at_pieces(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_err *err)
{
	int r = 0;

	for (unsigned i = 0; !r && i < j->nclusters; i++)
		if (j->clusters[i].kind == QD_CV_DATA && !j->clusters[i].verified)
			r = qd_hint_look(&w->hint, j->clusters[i].data, &j->sample, err);
	return r;
}

int qd_cv_prepare(void *ctx, void *job, struct qd_err *err)
{
	struct qd_cv_writer *w = ctx;
	struct qd_cv_job *j = job;
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
	if (!r && w->table && w->digest->algorithm)
		r = hash_unknown(w, j, err);
	if (!r && w->hint.nsizes)
		r = look_at_pieces(w, j, err);
	if (!r && w->c->opts->compress)
		r = pack_unknown(w, j, err);
	return r;
}
