/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commit stage: every decision, in guest order (C1 of convert_qcow2.h).
 */
#include "ops/convert_index.h"

static int equals_owner(const struct qd_cv_writer *w, struct qd_cv_job *j, const struct qd_cv_cluster *cl, uint64_t owner,
			bool *ret_equal, struct qd_err *err)
{
	const uint8_t *in_flight;
	uint64_t entry;
	int r;

	if (w->digests)
		return qd_cv_owner_has_digest(w, cl, owner, ret_equal, err);
	if (cl->candidate == owner) {
		*ret_equal = cl->verified;
		return 0;
	}
	in_flight = qd_cv_owner_in_flight(w, owner);
	if (in_flight) {
		*ret_equal = !memcmp(in_flight, cl->data, (size_t)w->geom->cluster_size);
		return 0;
	}
	r = qd_build_entry(w->build, owner, &entry, err);
	return r ? r : qd_cv_owner_equals(w, j, cl, owner, entry, ret_equal, err);
}

/* The owner of equal content, or QD_CV_NO_OWNER. */
static int find_owner(const struct qd_cv_writer *w, struct qd_cv_job *j, const struct qd_cv_cluster *cl, uint64_t *ret_owner,
		      struct qd_err *err)
{
	uint64_t values[QD_INDEX_CANDIDATES];
	bool equal = false;
	unsigned n;
	int r = qd_index_find(w->index, cl->print, values, &n, err);

	*ret_owner = QD_CV_NO_OWNER;
	for (unsigned i = 0; !r && !equal && i < n; i++) {
		r = equals_owner(w, j, cl, values[i], &equal, err);
		if (!r && equal)
			*ret_owner = values[i];
	}
	return r;
}

static int store(struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	size_t size = (size_t)w->geom->cluster_size;
	int r = 0;

	cl->stored = true;
	if (!w->c->opts->compress) {
		cl->out = cl->data;
		cl->out_nbytes = size;
	} else if (!cl->packed) {
		r = qd_cv_pack(w, j, cl, err);
	}
	if (r)
		return r;
	if (cl->out_nbytes < size)
		r = qd_build_add_compressed(w->build, cl->guest, cl->out_nbytes, &cl->host_off, err);
	else
		r = qd_build_add_data(w->build, cl->guest, &cl->host_off, err);
	return r ? r : qd_cv_index_stored(w, j, cl, err);
}

static int store_new(struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, uint64_t old_owner, struct qd_err *err)
{
	int r = store(w, j, cl, err);

	/* The index cannot number what lies past 128 PiB (of 2M clusters): that is shared with nobody. */
	if (r || cl->guest > QD_INDEX_VALUE_MAX)
		return r;
	if (w->digests)
		r = qd_records_put(w->digests, cl->guest, cl->digest, err);
	if (r)
		return r;
	if (old_owner == QD_CV_NO_OWNER)
		return qd_index_insert(w->index, cl->print, cl->guest, err);
	return qd_index_replace(w->index, cl->print, old_owner, cl->guest, err);
}

/* Shares with the owner of equal content; at the share cap the cluster becomes the owner. */
static int dedup(struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	uint64_t owner;
	bool full = false;
	int r = find_owner(w, j, cl, &owner, err);

	if (r)
		return r;
	if (owner == QD_CV_NO_OWNER)
		return store_new(w, j, cl, QD_CV_NO_OWNER, err);
	r = qd_build_share(w->build, cl->guest, owner, &full, err);
	if (!r && (full || qd_build_is_full(w->build, owner)))
		r = qd_cv_index_full(w, j, cl, owner, err);
	return r || !full ? r : store_new(w, j, cl, owner, err);
}

/* A new file reads as zeros where nobody writes; a device holds whatever was there before. */
static int clear_filled(const struct qd_cv_writer *w, uint64_t host_off, uint64_t nbytes, struct qd_err *err)
{
	return w->c->io->is_device && !w->c->data_io ? qd_io_zero(w->c->io, host_off, nbytes, err) : 0;
}

/* Host clusters for the guest clusters up to `guest` that hold zeros. */
int qd_cv_fill(struct qd_cv_writer *w, uint64_t guest, struct qd_err *err)
{
	uint64_t off, first = 0, nbytes = 0;
	int r = 0;

	while (w->fill && !r && w->next_fill < guest) {
		r = qd_build_add_data(w->build, w->next_fill++, &off, err);
		if (!r && off != first + nbytes) {
			r = clear_filled(w, first, nbytes, err);
			first = off;
			nbytes = 0;
		}
		nbytes += w->geom->cluster_size;
	}
	return r ? r : clear_filled(w, first, nbytes, err);
}

static int commit_cluster(struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err)
{
	int r;

	if (w->fill) {
		r = qd_cv_fill(w, cl->guest, err);
		w->next_fill = cl->guest + 1;
		return r ? r : store(w, j, cl, err);
	}
	if (cl->kind == QD_CV_ZERO)
		return qd_build_add_zero(w->build, cl->guest, err);
	if (cl->kind == QD_CV_DATA)
		return w->index ? dedup(w, j, cl, err) : store(w, j, cl, err);
	return 0;
}

int qd_cv_commit(void *ctx, void *job, struct qd_err *err)
{
	struct qd_cv_writer *w = ctx;
	struct qd_cv_job *j = job;
	int r = 0;

	pthread_mutex_lock(&w->lock);
	j->in_flight = true;
	for (unsigned i = 0; !r && i < j->nclusters; i++)
		r = commit_cluster(w, j, &j->clusters[i], err);
	qd_hint_take(&w->hint, &j->sample);
	pthread_mutex_unlock(&w->lock);
	return r;
}
