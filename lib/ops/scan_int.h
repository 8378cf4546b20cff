/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the files of the scan share.
 *
 *	scan_plan    sources -> images and views, each file of each chain once
 *	scan_read    a view -> records            (a pipeline; with scan_next, scan_hash, scan_share)
 *	scan_count   records -> tallies           (a pipeline over the partitions)
 *	scan_tally   groups of equal digest -> counts
 *	scan_report  counts -> report
 *	scan_merge   records of earlier runs -> one tally
 *
 * A record is key, then place (8 bytes, big-endian):
 *
 *	bit 63 .. 59   index of the cluster size
 *	    58 .. 0    number of the first unit, all views after one another
 *
 * A unit is a cluster of the smallest size.  Views are ordered by the name their records
 * carry, so that the order of places is that of (name, offset).
 *
 * The key of a cluster tells its content from every other of the same size.  At the
 * smallest size it is the digest.  At the larger ones it is the fingerprint of the keys of
 * its two halves, which costs next to nothing; only for records and shards, which are to
 * mean the same to strangers, it is the digest there, too (`named`).
 */
#ifndef QD_OPS_SCAN_INT_H
#define QD_OPS_SCAN_INT_H

#include "base/bytes.h"
#include "dedup/digest.h"
#include "dedup/spill.h"
#include "image/disk.h"
#include "ops/scan.h"
#include "ops/scan_files.h"

#define QD_SCAN_PLACE_BITS 59u

struct scan_share;

struct scan_image {
	char *name;
	const char *format;		/* to open it; NULL: the content decides */
	struct qd_io *io;		/* of a source that is no file; NULL otherwise or once taken */
	bool backing;
	bool bad;			/* left out */
	unsigned nsnapshots;
	unsigned nviews;		/* that have not been read */
	struct scan_share *share;	/* from the first to the last of them; or NULL */
	bool shares;			/* it was looked for */
	uint64_t virtual_size;
	uint64_t read_nbytes;
	uint64_t reused_nbytes;
};

struct scan_view {
	unsigned image;			/* index */
	char *snapshot;			/* ID; NULL: the active layer */
	char *label;			/* as records name it */
	uint64_t size;			/* bytes */
	uint64_t first_unit;
	/*
	 * In bytes, of which only the last cluster of a view may be a part: so the number of
	 * clusters is always bytes / size, rounded up.
	 */
	uint64_t zero_nbytes[QD_SCAN_NSIZES_MAX];
	uint64_t inherited_nbytes[QD_SCAN_NSIZES_MAX];
	uint64_t data_nbytes[QD_SCAN_NSIZES_MAX];	/* whatever the shard */
	/* Of a sample: bytes the metadata calls data, in the stretches that were read and in the others. */
	uint64_t sampled_nbytes, skipped_nbytes;
	uint64_t nsampled;		/* stretches that were read */
	uint64_t sampled_inherited[QD_SCAN_NSIZES_MAX];	/* bytes of inherited_nbytes that lie in the former */
	struct qd_disk *disk;		/* of a source that is no file: stays open */
};

struct scan {
	const struct qd_scan_opts *opts;
	const struct qd_digest *digest;
	bool named;			/* keys are digests at every size */
	bool merging;			/* records may have been added twice: they count once */
	uint32_t key_nbytes;
	uint32_t record_nbytes;
	unsigned nsizes;
	uint64_t sizes[QD_SCAN_NSIZES_MAX];
	uint64_t unit;			/* bytes: the smallest size */
	uint64_t stretch;		/* bytes read as one job; what a sample consists of */
	unsigned threads;
	uint64_t memory;
	bool matrix, strips;		/* asked for, and there is memory */

	struct scan_image *images;
	unsigned nimages;
	struct scan_files files;	/* that are images, or were left out */
	struct scan_view *views;	/* in the order of records */
	unsigned nviews;
	uint64_t nunits;
	struct qd_spill *spill;
};

static inline bool scan_in_shard(const struct qd_scan_opts *o, const uint8_t *key)
{
	return o->nshards <= 1 ||
	       (unsigned)((unsigned __int128)qd_get_be64(key) * o->nshards >> 64) == o->shard - 1;
}

/* ---- places ---- */

static inline uint64_t scan_place(unsigned size, uint64_t unit)
{
	return (uint64_t)size << QD_SCAN_PLACE_BITS | unit;
}

static inline unsigned scan_place_size(uint64_t place)
{
	return (unsigned)(place >> QD_SCAN_PLACE_BITS);
}

static inline uint64_t scan_place_unit(uint64_t place)
{
	return place & ((1ull << QD_SCAN_PLACE_BITS) - 1);
}

/* The view a unit lies in. */
unsigned qd_scan_view_of(const struct scan *s, uint64_t unit);

/* Less, equal or greater, as (label, offset) are. */
int qd_scan_compare_places(const struct scan *s, unsigned view_a, uint64_t off_a, unsigned view_b,
			   uint64_t off_b);

/* ---- plan ---- */

/* Fills images and views.  Sources that cannot be opened are told and left out. */
int qd_scan_plan(struct scan *s, struct qd_err *err);
void qd_scan_clear(struct scan *s);

/* Sorts the views and gives them places, when all are there. */
int qd_scan_number_units(struct scan *s, struct qd_err *err);

/* A new image, a new view of one; snapshot (NULL: the active layer) is copied. */
int qd_scan_add_image(struct scan *s, const char *name, struct scan_image **ret_image, struct qd_err *err);
int qd_scan_add_view(struct scan *s, unsigned image, const char *snapshot, uint64_t size, struct qd_err *err);

/* Opens what a view shows. */
int qd_scan_open_view(struct scan *s, const struct scan_view *v, struct qd_disk **ret_disk,
		      struct qd_err *err);

/* Tells an image that cannot be read and leaves it out; an error that is not the image's is returned. */
int qd_scan_leave_out(struct scan *s, struct scan_image *image, int rc, struct qd_err *err);

/* ---- reading ---- */

/* Adds the records of a view to the spill.  *ret_fatal: the failure is not the image's. */
int qd_scan_read_view(struct scan *s, struct scan_view *v, bool *ret_fatal, struct qd_err *err);

/* ---- counting ---- */

struct scan_count {		/* one image at one size */
	uint64_t clusters;
	uint64_t distinct;
	uint64_t shared;
	uint64_t padding;		/* bytes: of last clusters, past the end of their views */
};

struct scan_best {		/* a content among those with the most references */
	uint64_t references;
	unsigned view;
	uint64_t offset;
	uint8_t key[QD_DIGEST_MAX];
};

struct scan_size_count {
	uint64_t clusters;
	uint64_t unique;
	uint64_t shared_contents;
	uint64_t max_references;
	uint64_t histogram[QD_SCAN_BUCKETS];
	uint64_t in_one, in_two;	/* contents found in one stretch only, in two */
	unsigned nbest;
	struct scan_best *best;		/* opts->top of them, best first */
	uint64_t *matrix;
};

struct scan_tally;

int qd_scan_tally_new(const struct scan *s, struct scan_tally **ret_tally, struct qd_err *err);
void qd_scan_tally_free(struct scan_tally *t);

/* One cluster.  Equal keys of one size must come one after the other, in any order of places. */
int qd_scan_tally_add(struct scan_tally *t, const uint8_t *key, unsigned size, unsigned view, uint64_t offset,
		      struct qd_err *err);

/* After the last cluster. */
void qd_scan_tally_end(struct scan_tally *t);

/* Adds what b counted to a; both have ended. */
void qd_scan_tally_merge(struct scan_tally *a, const struct scan_tally *b);

/* Images or views were added to the scan. */
int qd_scan_tally_grow(struct scan_tally *t, struct qd_err *err);

const struct scan_count *qd_scan_tally_image(const struct scan_tally *t, unsigned size, unsigned image);
const struct scan_size_count *qd_scan_tally_size(const struct scan_tally *t, unsigned size);
/* Columns of a matrix: the images there is room for. */
unsigned qd_scan_tally_nimages(const struct scan_tally *t);
/* QD_SCAN_STRIP parts; NULL unless strips are wanted. */
const struct qd_scan_part *qd_scan_tally_strip(const struct scan_tally *t, unsigned size, unsigned image);

/* Seals the spill, counts all, writes records; adds to *t. */
int qd_scan_count(struct scan *s, struct scan_tally *t, struct qd_err *err);

/* ---- what a scan and a merge have in common ---- */

/* From the options, but for the cluster sizes and the digest; then these. */
int qd_scan_take_opts(struct scan *s, const struct qd_scan_opts *opts, struct qd_err *err);
int qd_scan_take_sizes(struct scan *s, const uint64_t *sizes, unsigned nsizes, struct qd_err *err);
void qd_scan_take_digest(struct scan *s, const struct qd_digest *digest, bool named);

/* An empty spill for the images and views there are. */
int qd_scan_start(struct scan *s, struct qd_err *err);

/* From what was spilled to the report. */
int qd_scan_finish(struct scan *s, struct qd_scan_report *ret_report, struct qd_err *err);

/* ---- estimates ---- */

struct scan_estimate {
	uint64_t clusters;
	uint64_t clusters_low, clusters_high;
	uint64_t unique;
	uint64_t unique_low, unique_high;
};

/* Views get what their stretches that were not read may hold: before the report is made. */
void qd_scan_estimate_views(struct scan *s);

/* The part of the data that was read, 0..1. */
double qd_scan_sampled_part(const struct scan *s);

struct scan_estimate qd_scan_estimate(const struct scan *s, unsigned size, const struct scan_size_count *c);

/* ---- report ---- */

int qd_scan_make_report(struct scan *s, const struct scan_tally *t, struct qd_scan_report *ret_report,
			struct qd_err *err);

#endif
