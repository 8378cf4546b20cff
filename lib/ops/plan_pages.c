/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Open addressing for the slots; frames leave in the order in which they came, for plans
 * are made from the front to the back.  A page that comes back from the file keeps its
 * record there, so that the file never holds more than each page once.
 */
#include "ops/plan_pages.h"

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io.h"
#include "base/tmpfile.h"

#define MIN_FRAMES 64u
#define MIN_SLOTS 256u
#define NOWHERE UINT32_MAX

struct slot {
	uint64_t number;
	uint32_t steps : 8;	/* 0: the slot is empty */
	uint32_t frame : 24;	/* NO_FRAME: in the file */
	uint32_t record;	/* NOWHERE: has never been in the file */
};

#define NO_FRAME ((1u << 24) - 1)

struct frame {
	uint64_t number;
	struct qd_plan_page page;
};

struct qd_plan_pages {
	uint64_t limit;
	const char *tmpdir;
	struct slot *slots;
	size_t nslots;
	size_t npages;
	struct frame **frames;
	size_t nframes;
	size_t capacity;	/* of frames */
	size_t hand;		/* the frame that leaves next */
	struct qd_io *file;
	uint32_t nrecords;
};

int qd_plan_pages_new(uint64_t limit, const char *tmpdir, struct qd_plan_pages **ret_pages,
		      struct qd_err *err)
{
	struct qd_plan_pages *p = calloc(1, sizeof(*p));

	if (!p)
		return qd_err_nomem(err, "the plan");
	p->limit = limit;
	p->tmpdir = tmpdir ? tmpdir : "/tmp";
	*ret_pages = p;
	return 0;
}

void qd_plan_pages_free(struct qd_plan_pages *p)
{
	if (!p)
		return;
	for (size_t i = 0; i < p->nframes; i++)
		free(p->frames[i]);
	free(p->frames);
	free(p->slots);
	qd_io_close(p->file);
	free(p);
}

size_t qd_plan_pages_count(const struct qd_plan_pages *p)
{
	return p->npages;
}

/* ---- slots ---- */

/* The page's slot, or the empty one where it would be. */
static struct slot *slot_of(const struct qd_plan_pages *p, uint64_t number)
{
	size_t i = (size_t)((number * 0x9e3779b97f4a7c15ull) >> 20) & (p->nslots - 1);

	while (p->slots[i].steps && p->slots[i].number != number)
		i = (i + 1) & (p->nslots - 1);
	return &p->slots[i];
}

static const struct slot *find(const struct qd_plan_pages *p, uint64_t number)
{
	const struct slot *s = p->nslots ? slot_of(p, number) : NULL;

	return s && s->steps ? s : NULL;
}

/* Room for one more: at most three quarters of the slots are in use. */
static int grow_slots(struct qd_plan_pages *p, struct qd_err *err)
{
	struct slot *old = p->slots;
	size_t n = p->nslots;

	if ((p->npages + 1) * 4 <= n * 3)
		return 0;
	p->slots = calloc(n ? n * 2 : MIN_SLOTS, sizeof(*p->slots));
	if (!p->slots) {
		p->slots = old;
		return qd_err_nomem(err, "the plan");
	}
	p->nslots = n ? n * 2 : MIN_SLOTS;
	for (size_t i = 0; i < n; i++)
		if (old[i].steps)
			*slot_of(p, old[i].number) = old[i];
	free(old);
	return 0;
}

/* ---- the file ---- */

static int file_error(const struct qd_plan_pages *p, int rc, struct qd_err *err)
{
	return qd_err_prefix(err, rc, "the plan, in a temporary file in %s (TMPDIR names another directory)",
			     p->tmpdir);
}

static int put_record(struct qd_plan_pages *p, uint32_t *record, const struct qd_plan_page *page,
		      struct qd_err *err)
{
	int rc = p->file ? 0 : qd_tmpfile_open(p->tmpdir, &p->file, err);

	if (rc)
		return rc;
	if (*record == NOWHERE && p->nrecords == NOWHERE)
		return qd_err_set(err, QD_E_UNSUPPORTED, "the plan of the repair has too many pages");
	if (*record == NOWHERE)
		*record = p->nrecords++;
	rc = qd_io_write(p->file, page, sizeof(*page), (uint64_t)*record * sizeof(*page), err);
	return rc ? file_error(p, rc, err) : 0;
}

/* Part of a record. */
static int get_part(const struct qd_plan_pages *p, uint32_t record, size_t from, void *buf, size_t nbytes,
		    struct qd_err *err)
{
	uint64_t off = (uint64_t)record * sizeof(struct qd_plan_page) + from;
	int rc = qd_io_read(p->file, buf, nbytes, off, err);

	return rc ? file_error(p, rc, err) : 0;
}

/* ---- frames ---- */

/* Frames that the limit allows besides the slots, half of which are there twice while they grow. */
static size_t most_frames(const struct qd_plan_pages *p)
{
	uint64_t slots = p->nslots * sizeof(*p->slots) / 2 * 3;
	uint64_t left = p->limit > slots ? p->limit - slots : 0;
	uint64_t most = left / (sizeof(struct frame) + 2 * sizeof(void *));

	return (size_t)qd_min_u64(NO_FRAME, qd_max_u64(MIN_FRAMES, most));
}

static int more_frames(struct qd_plan_pages *p, struct qd_err *err)
{
	size_t capacity = p->capacity ? p->capacity * 2 : MIN_FRAMES;
	struct frame **frames;

	if (p->nframes < p->capacity)
		return 0;
	frames = realloc(p->frames, capacity * sizeof(struct frame *));
	if (!frames)
		return qd_err_nomem(err, "the plan");
	p->frames = frames;
	p->capacity = capacity;
	return 0;
}

static int add_frame(struct qd_plan_pages *p, size_t *ret_index, struct qd_err *err)
{
	int rc = more_frames(p, err);

	if (rc)
		return rc;
	p->frames[p->nframes] = malloc(sizeof(struct frame));
	if (!p->frames[p->nframes])
		return qd_err_nomem(err, "the plan");
	*ret_index = p->nframes++;
	return 0;
}

/* The page in the frame goes into the file. */
static int put_out(struct qd_plan_pages *p, size_t index, struct qd_err *err)
{
	struct slot *s = slot_of(p, p->frames[index]->number);
	uint32_t record = s->record;
	int rc = put_record(p, &record, &p->frames[index]->page, err);

	if (rc)
		return rc;
	s->record = record;
	s->frame = NO_FRAME;
	return 0;
}

/* A frame that no page is in. */
static int free_frame(struct qd_plan_pages *p, size_t *ret_index, struct qd_err *err)
{
	size_t most = most_frames(p);
	int rc = 0;

	if (p->nframes < most)
		return add_frame(p, ret_index, err);
	/* The more slots, the fewer frames. */
	while (rc == 0 && p->nframes > most) {
		rc = put_out(p, p->nframes - 1, err);
		if (rc == 0)
			free(p->frames[--p->nframes]);
	}
	p->hand = p->hand < p->nframes ? p->hand : 0;
	if (rc == 0)
		rc = put_out(p, p->hand, err);
	if (rc == 0)
		*ret_index = p->hand++;
	return rc;
}

/* ---- pages ---- */

unsigned qd_plan_pages_steps(const struct qd_plan_pages *p, uint64_t number)
{
	const struct slot *s = find(p, number);

	return s ? s->steps : 0;
}

int qd_plan_pages_get(const struct qd_plan_pages *p, uint64_t number, struct qd_plan_page *ret_page,
		      struct qd_err *err)
{
	const struct slot *s = find(p, number);

	if (s->frame == NO_FRAME)
		return get_part(p, s->record, 0, ret_page, sizeof(*ret_page), err);
	*ret_page = p->frames[s->frame]->page;
	return 0;
}

int qd_plan_pages_overlay(const struct qd_plan_pages *p, uint64_t number, size_t from, void *buf,
			  size_t nbytes, struct qd_err *err)
{
	const struct slot *s = find(p, number);

	if (!s)
		return 0;
	if (s->frame == NO_FRAME)
		return get_part(p, s->record, offsetof(struct qd_plan_page, data) + from, buf, nbytes, err);
	memcpy(buf, p->frames[s->frame]->page.data + from, nbytes);
	return 0;
}

/* Into a frame comes what the file has of the page, or zeros. */
static int load(struct qd_plan_pages *p, struct slot *s, uint64_t number, struct qd_err *err)
{
	size_t index = 0;
	int rc = free_frame(p, &index, err);

	if (rc)
		return rc;
	p->frames[index]->number = number;
	if (s->steps)
		rc = get_part(p, s->record, 0, &p->frames[index]->page, sizeof(struct qd_plan_page), err);
	else
		memset(&p->frames[index]->page, 0, sizeof(struct qd_plan_page));
	if (rc)
		return rc;
	s->frame = (uint32_t)index & NO_FRAME;
	return 0;
}

int qd_plan_pages_touch(struct qd_plan_pages *p, uint64_t number, unsigned step,
			struct qd_plan_page **ret_page, bool *ret_new, struct qd_err *err)
{
	struct slot *s;
	int rc = grow_slots(p, err);

	if (rc)
		return rc;
	s = slot_of(p, number);
	*ret_new = s->steps == 0;
	if (s->steps == 0 || s->frame == NO_FRAME)
		rc = load(p, s, number, err);
	if (rc)
		return rc;
	if (*ret_new) {
		s->number = number;
		s->record = NOWHERE;
		p->npages++;
	}
	s->steps = (uint8_t)(s->steps | 1u << step);
	*ret_page = &p->frames[s->frame]->page;
	return 0;
}

static int compare(const void *pa, const void *pb)
{
	uint64_t a = *(const uint64_t *)pa, b = *(const uint64_t *)pb;

	return a < b ? -1 : a > b;
}

int qd_plan_pages_numbers(const struct qd_plan_pages *p, uint64_t **ret_numbers, struct qd_err *err)
{
	uint64_t *numbers = malloc((p->npages + 1) * sizeof(*numbers));
	size_t n = 0;

	if (!numbers)
		return qd_err_nomem(err, "the plan");
	for (size_t i = 0; i < p->nslots; i++)
		if (p->slots[i].steps)
			numbers[n++] = p->slots[i].number;
	qsort(numbers, n, sizeof(*numbers), compare);
	*ret_numbers = numbers;
	return 0;
}
