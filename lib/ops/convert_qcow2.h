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
 *
 *	convert_qcow2.c     sets up, next, finish
 *	convert_prepare.c   prepare
 *	convert_commit.c    commit
 *	convert_owner.c     comparing with clusters that are stored already (C2, C3)
 *	convert_index.c     the hash table that goes with the image
 *	convert_hint.c      whether another cluster size would have been better
 */
#ifndef QD_OPS_CONVERT_QCOW2_H
#define QD_OPS_CONVERT_QCOW2_H

#include <pthread.h>

#include "dedup/index.h"
#include "dedup/records.h"
#include "dedup/table.h"
#include "image/build.h"
#include "image/codec.h"
#include "ops/convert_hint.h"
#include "ops/convert_int.h"

#define QD_CV_NO_OWNER UINT64_MAX
#define QD_CV_SCRATCH 65536u		/* bytes */

enum qd_cv_kind {
	QD_CV_SKIP,		/* reads right without an entry */
	QD_CV_ZERO,		/* needs an entry that says zeros */
	QD_CV_DATA,
};

struct qd_cv_cluster {
	enum qd_cv_kind kind;
	bool stored;			/* finish writes it */
	uint64_t guest;			/* guest cluster number */
	uint8_t *data;
	struct qd_fingerprint print;
	uint8_t digest[QD_DIGEST_MAX];	/* with --trust-hash, or when hashed */
	bool hashed;			/* for the hash table */
	uint64_t candidate;		/* owner seen by prepare, or QD_CV_NO_OWNER */
	uint64_t candidate_entry;
	bool verified;			/* the candidate's bytes are ours */
	bool packed;			/* compression was tried: packed_nbytes 0 means in vain */
	uint8_t *out;			/* what is written: data, or the compressed stream */
	size_t out_nbytes;
	uint64_t host_off;
};

struct qd_cv_job {
	struct qd_batch batch;		/* first: the source fills it */
	struct qd_cv_cluster *clusters;
	unsigned nclusters;
	bool in_flight;
	uint8_t *packed;		/* compressed streams, one behind the other */
	size_t packed_used;
	uint8_t *scratch;		/* QD_CV_SCRATCH bytes or one cluster, whichever is more */
	uint8_t *stream;		/* one compressed cluster as its descriptor spans it */
	struct qd_codec *codec;
	struct qd_digester *digester;
	struct qd_hint_sample sample;
};

struct qd_cv_writer {
	struct qd_convert *c;
	struct qd_build *build;
	struct qd_index *index;		/* NULL without deduplication */
	struct qd_records *digests;	/* by owner, with --trust-hash */
	const struct qd_digest *digest;
	struct qd_table_maker *table;	/* NULL: no hash table is stored */
	struct qd_hint hint;		/* its nsizes is 0: nobody wants one */
	const struct qd_geom *geom;
	bool zero_entries;		/* zeros must be said: there is a backing file */
	bool zero_as_data;		/* but the version cannot say it */
	bool fill;			/* preallocation: every guest cluster gets a host cluster */
	uint64_t next_fill;		/* guest cluster */
	pthread_mutex_t lock;
	struct qd_cv_job *jobs;
	unsigned njobs;
};

/* The owner's bytes if its batch is in flight (C3: they stay so while the lock is held), else NULL. */
const uint8_t *qd_cv_owner_in_flight(const struct qd_cv_writer *w, uint64_t owner);

/*
 * Reads what the owner's entry names into scratch: n clusters in a row, which is 1 for a
 * compressed one.
 */
int qd_cv_owner_read(const struct qd_cv_writer *w, struct qd_cv_job *j, uint64_t owner, uint64_t entry,
		     unsigned n, struct qd_err *err);

/* Compares with an owner that is written already; `entry` is the owner's L2 entry. */
int qd_cv_owner_equals(const struct qd_cv_writer *w, struct qd_cv_job *j, const struct qd_cv_cluster *cl,
		       uint64_t owner, uint64_t entry, bool *ret_equal, struct qd_err *err);

int qd_cv_owner_has_digest(const struct qd_cv_writer *w, const struct qd_cv_cluster *cl, uint64_t owner,
			   bool *ret_equal, struct qd_err *err);

/* Compresses one cluster behind the streams the job has already; sets cl->out. */
int qd_cv_pack(const struct qd_cv_writer *w, struct qd_cv_job *j, struct qd_cv_cluster *cl, struct qd_err *err);

/* The stages, as pipeline.h calls them: ctx is the writer. */
int qd_cv_prepare(void *ctx, void *job, struct qd_err *err);
int qd_cv_commit(void *ctx, void *job, struct qd_err *err);

/* With preallocation: host clusters for the guest clusters below `guest` that hold zeros. */
int qd_cv_fill(struct qd_cv_writer *w, uint64_t guest, struct qd_err *err);

#endif
