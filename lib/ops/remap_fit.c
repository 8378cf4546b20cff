/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * How many moves fit one batch: the bytes of its redo records the area, its writes the
 * queue.  Nothing is changed; what each move costs is counted where its entries lie:
 *
 *	L2 tables, page by page    | ..a..b. | ....... | .b..... |
 *	                             a: record, page     b: record, page
 *	                             b: record
 *
 * A page is on the account of the first of the moves that change it, so that the sum over
 * the first m moves is what a batch of these takes.
 *
 * An estimate: too much costs another batch, too little a batch without records.
 */
#include <stdlib.h>

#include "base/bytes.h"
#include "format/entry.h"
#include "ops/remap_int.h"

#define RECORD 14u		/* bytes of a WRITE besides those that it writes */
#define SECTOR 512u
#define NEAR 16u		/* bytes between two changes that share a record, at most */
#define PER_PAGE 1400u		/* what a page in the queue takes besides its bytes, pieces of its sectors included */

struct cost {
	uint64_t record;	/* bytes of the redo area */
	uint64_t queue;		/* bytes of memory */
};

struct fit {
	struct qd_remap *r;
	const struct qd_geom *geom;
	struct cost *costs;		/* of each move */
	uint8_t *raised, *lowered;	/* refcount blocks, a bit each: counted already */
	uint64_t nblocks;
	uint64_t last;			/* cluster whose refcount was the last to fall */
};

struct page {				/* of an L2 table, in one step */
	uint32_t first;			/* of the moves that change it */
	uint64_t at;			/* byte of the table behind the last change; 0: none */
};

/* An entry at byte `at` of the table is changed by the move. */
static void count_entry(struct fit *f, struct page *p, uint32_t move, uint64_t at)
{
	uint64_t size = f->geom->l2_entry_size, gap = at - p->at;
	bool joins = p->at && gap < NEAR && at / SECTOR == (p->at - 1) / SECTOR;

	f->costs[move].record += joins ? gap + size + 1 : RECORD + size + 1;
	p->at = at + size;
	if (move < p->first)
		p->first = move;
}

static void end_page(struct fit *f, struct page *p)
{
	if (p->first != REMAP_NONE)
		f->costs[p->first].queue += REMAP_PAGE + PER_PAGE;	/* a smaller table has one to itself */
	p->first = REMAP_NONE;
}

static int count_table(void *ctx, uint64_t l2_off, uint8_t *entries, struct qd_err *err)
{
	struct fit *f = ctx;
	const struct qd_geom *g = f->geom;
	struct page owners = { .first = REMAP_NONE }, readers = { .first = REMAP_NONE };

	(void)l2_off;
	(void)err;
	for (uint64_t i = 0; i < g->l2_entries; i++) {
		uint64_t at = i * g->l2_entry_size, entry = qd_get_be64(entries + at), key = remap_key(entry);
		uint32_t move;

		if (at % REMAP_PAGE == 0) {
			end_page(f, &owners);
			end_page(f, &readers);
		}
		move = key && entry & QD_COPIED ? remap_map_get(&f->r->to, key) : REMAP_NONE;
		if (move != REMAP_NONE) {
			count_entry(f, &owners, move, at);
			f->costs[move].record += 2 * RECORD;	/* it cuts a record of the next step in three */
		}
		move = key ? remap_map_get(&f->r->from, key) : REMAP_NONE;
		if (move != REMAP_NONE)
			count_entry(f, &readers, move, at);
	}
	end_page(f, &owners);
	end_page(f, &readers);
	return 0;
}

/* The record of a refcount: those that fall come in the order of the file. */
static uint64_t refcount_record(struct fit *f, uint64_t cluster, bool falls)
{
	uint64_t gap = cluster - f->last, bits = f->geom->refcount_bits;	/* large when it is not behind */

	if (!falls)
		return RECORD + 8;
	f->last = cluster;
	return gap < SECTOR && gap * bits <= 8 * NEAR / 2 ? gap * bits / 8 + 2 : RECORD + 8;
}

/* The refcounts of what the entry names, one step; blocks leave the queue whole. */
static void count_refcounts(struct fit *f, struct cost *c, uint64_t entry, bool falls)
{
	uint8_t *seen = falls ? f->lowered : f->raised;
	const struct qd_geom *g = f->geom;
	uint64_t first = entry >> g->cluster_bits, last = first;

	if (!entry)
		return;
	if (qd_l2_is_compressed(entry))
		qd_compressed_clusters(g, qd_l2_compressed(g, entry), &first, &last);
	for (; first <= last; first++) {
		uint64_t block = first / g->block_entries;

		c->record += refcount_record(f, first, falls);
		if (block >= f->nblocks || (seen[block / 8] & 1u << block % 8))
			continue;
		seen[block / 8] |= (uint8_t)(1u << block % 8);
		c->queue += qd_div_up(g->cluster_size, REMAP_PAGE) * (REMAP_PAGE + PER_PAGE);
	}
}

static void count_move(struct fit *f, uint32_t i)
{
	const struct qd_move *m = &f->r->moves[i];
	struct cost *c = &f->costs[i];

	if (m->to && !m->own && remap_map_get(&f->r->to, m->to) == i)
		count_refcounts(f, c, m->to, false);
	if (m->from)
		count_refcounts(f, c, m->from, true);
	if (m->pin || (m->own && m->pins)) {
		c->record += 2 * f->geom->l2_entry_size;
		c->queue += 4 * f->geom->l2_entry_size;
	}
	if (m->pins) {
		c->record += m->pins * (RECORD + f->geom->l2_entry_size);
		c->queue += REMAP_PAGE + PER_PAGE;
	}
}

static uint64_t sum_up(const struct fit *f, uint64_t n)
{
	/* A cluster of the journal has a header, and ends with up to a record unused. */
	uint64_t room = qd_journal_redo_area(f->r->opts.journal) / QD_JOURNAL_CLUSTER *
			(QD_JOURNAL_CLUSTER - QD_JOURNAL_HEADER - 256);
	uint64_t memory = f->r->opts.memory / 4, records = 0, queue = memory / 8, fit;

	for (fit = 0; fit < n; fit++) {
		records += f->costs[fit].record;
		queue += f->costs[fit].queue;
		if (records > room || queue > memory)
			break;
	}
	return qd_max_u64(fit, 1);
}

int remap_fit(struct qd_remap *r, uint64_t n, uint64_t *ret_n, struct qd_err *err)
{
	struct fit f = { .r = r, .geom = r->geom, .nblocks = qd_alloc_nblocks(r->change->alloc) };
	int rc = 0;

	f.costs = calloc(n, sizeof(*f.costs));
	f.raised = calloc(1, f.nblocks / 8 + 1);
	f.lowered = calloc(1, f.nblocks / 8 + 1);
	if (!f.costs || !f.raised || !f.lowered)
		rc = qd_err_nomem(err, "a batch");
	if (rc == 0)
		rc = remap_walk_tables(r->img, NULL, &r->tables, count_table, &f, err);
	for (uint64_t i = 0; rc == 0 && i < n; i++)
		count_move(&f, (uint32_t)i);
	if (rc == 0)
		*ret_n = sum_up(&f, n);
	free(f.costs);
	free(f.raised);
	free(f.lowered);
	return rc;
}
