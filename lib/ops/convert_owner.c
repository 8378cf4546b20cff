/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Comparing a cluster with the owner of a candidate: C2 and C3 of convert_qcow2.h.
 */
#include "ops/convert_qcow2.h"

#include "format/entry.h"

const uint8_t *qd_cv_owner_in_flight(const struct qd_cv_writer *w, uint64_t owner)
{
	for (unsigned i = 0; i < w->njobs; i++) {
		const struct qd_cv_job *j = &w->jobs[i];
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

static int unpack_owner(const struct qd_cv_writer *w, struct qd_cv_job *j, uint64_t entry, struct qd_err *err)
{
	struct qd_compressed c = qd_l2_compressed(w->geom, entry);
	size_t nread;
	int r = qd_io_read_upto(w->c->io, j->stream, (size_t)c.nbytes, c.host_off, &nread, err);

	return r ? r : qd_codec_decompress(j->codec, j->stream, nread, j->scratch, err);
}

int qd_cv_owner_read(const struct qd_cv_writer *w, struct qd_cv_job *j, uint64_t owner, uint64_t entry,
		     unsigned n, struct qd_err *err)
{
	size_t nbytes = (size_t)w->geom->cluster_size;

	if (!qd_l2_is_compressed(entry))
		return qd_io_read(w->c->io, j->scratch, n * nbytes, qd_entry_host_off(entry), err);
	if (j->batch.reader)
		return qd_reader_read(j->batch.reader, owner << w->geom->cluster_bits, nbytes, j->scratch, err);
	return unpack_owner(w, j, entry, err);
}

int qd_cv_owner_equals(const struct qd_cv_writer *w, struct qd_cv_job *j, const struct qd_cv_cluster *cl,
		       uint64_t owner, uint64_t entry, bool *ret_equal, struct qd_err *err)
{
	int r = qd_cv_owner_read(w, j, owner, entry, 1, err);

	if (!r)
		*ret_equal = !memcmp(j->scratch, cl->data, (size_t)w->geom->cluster_size);
	return r;
}

int qd_cv_owner_has_digest(const struct qd_cv_writer *w, const struct qd_cv_cluster *cl, uint64_t owner,
			   bool *ret_equal, struct qd_err *err)
{
	uint8_t digest[QD_DIGEST_MAX];
	int r = qd_records_get(w->digests, owner, digest, err);

	if (!r)
		*ret_equal = !memcmp(digest, cl->digest, w->digest->nbytes);
	return r;
}
