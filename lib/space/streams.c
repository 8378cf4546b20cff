/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Records are appended and, when the room is used up, sorted and merged.  Images
 * written in one go offer them in order already, which is noticed.
 */
#include "space/streams.h"

#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"

#define PINNED 1u

struct record {
	uint64_t stream;		/* the descriptor */
	uint64_t counts;		/* references << 1 | pinned */
};

struct qd_streams {
	struct qd_geom geom;
	struct record *records;
	uint64_t nrecords;
	uint64_t capacity;
	uint64_t max_records;
	uint64_t lo;
	uint64_t hi;
	uint64_t offered;		/* descriptors within the range, kept or not */
	bool sorted;
	bool overflow;
};

int qd_streams_new(const struct qd_geom *g, uint64_t memory, struct qd_streams **ret_streams, struct qd_err *err)
{
	struct qd_streams *s = calloc(1, sizeof(*s));

	if (!s)
		return qd_err_nomem(err, "compressed clusters");
	s->geom = *g;
	s->max_records = qd_max_u64(memory / sizeof(struct record), 1024);
	*ret_streams = s;
	return 0;
}

void qd_streams_free(struct qd_streams *s)
{
	if (!s)
		return;
	free(s->records);
	free(s);
}

void qd_streams_begin(struct qd_streams *s, uint64_t lo, uint64_t hi)
{
	s->nrecords = 0;
	s->lo = lo;
	s->hi = hi;
	s->offered = 0;
	s->sorted = true;
	s->overflow = false;
}

static int compare_records(const void *pa, const void *pb)
{
	const struct record *a = pa, *b = pb;

	return a->stream < b->stream ? -1 : a->stream > b->stream;
}

static void merge(struct qd_streams *s)
{
	uint64_t n = 0;

	if (!s->sorted)
		qsort(s->records, s->nrecords, sizeof(*s->records), compare_records);
	s->sorted = true;
	for (uint64_t i = 0; i < s->nrecords; i++) {
		if (n && s->records[n - 1].stream == s->records[i].stream) {
			s->records[n - 1].counts += s->records[i].counts & ~(uint64_t)PINNED;
			s->records[n - 1].counts |= s->records[i].counts & PINNED;
		} else {
			s->records[n++] = s->records[i];
		}
	}
	s->nrecords = n;
}

/* Makes room for one more record, or gives the pass up. */
static int make_room(struct qd_streams *s, struct qd_err *err)
{
	uint64_t capacity = qd_min_u64(s->capacity ? s->capacity * 2 : 1024, s->max_records);
	struct record *records;

	if (s->capacity == s->max_records) {
		merge(s);
		s->overflow = s->nrecords > s->max_records / 4 * 3;
		return 0;
	}
	records = realloc(s->records, capacity * sizeof(*records));
	if (!records)
		return qd_err_nomem(err, "compressed clusters");
	s->records = records;
	s->capacity = capacity;
	return 0;
}

int qd_streams_add(struct qd_streams *s, uint64_t entry, uint64_t references, bool pinned, struct qd_err *err)
{
	uint64_t stream = entry & (QD_COMPRESSED - 1);
	uint64_t host_off = stream & ((1ull << s->geom.csize_shift) - 1);
	int r;

	if (host_off < s->lo || host_off >= s->hi)
		return 0;
	s->offered++;
	if (s->overflow)
		return 0;
	if (s->nrecords == s->capacity) {
		r = make_room(s, err);
		if (r || s->overflow)
			return r;
	}
	if (s->nrecords && s->records[s->nrecords - 1].stream > stream)
		s->sorted = false;
	s->records[s->nrecords++] = (struct record){ .stream = stream, .counts = references << 1 | pinned };
	return 0;
}

bool qd_streams_end(struct qd_streams *s, struct qd_usage_sum *sum, uint64_t *stored, uint64_t *saved)
{
	if (s->overflow)
		return false;
	merge(s);
	for (uint64_t i = 0; i < s->nrecords; i++) {
		uint64_t references = s->records[i].counts >> 1;
		uint64_t nbytes = qd_l2_compressed(&s->geom, s->records[i].stream).nbytes;

		qd_usage_sum_add(sum, references, s->records[i].counts & PINNED);
		if (references) {
			*stored += nbytes;
			*saved += (references - 1) * nbytes;
		}
	}
	return true;
}

uint64_t qd_streams_guess(const struct qd_streams *s, uint64_t file_size)
{
	uint64_t passes = qd_div_up(s->offered, qd_max_u64(s->max_records / 2, 1));

	return file_size / qd_max_u64(passes, 1) + 1;
}
