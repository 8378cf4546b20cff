/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * Refcounts as stored against references as counted: refcount blocks are streamed past
 * the counts, a range of clusters per job.
 *
 *	clusters   |      64 Ki chunk      |      64 Ki chunk      | ...
 *	blocks     |  block 0  |  block 1  |   (none)  |  block 3  |
 *	job buffer |  stored   |  stored   |   zeros   |  stored   |
 *
 * A job is one or more whole chunks, so that stored counts of every width begin at a
 * byte.  Where nothing was counted and no block is, nothing is done.  A job is looked at
 * until its list of findings is full; the rest is done in the commit stage.
 *
 * COPIED flags of L1 entries are judged here; for those of L2 entries it is only noted
 * that some are wrong (counts.h says how one knows), because saying which ones takes
 * another walk.
 */
#include "ops/check_int.h"

#include <stdlib.h>

#include "base/pipeline.h"
#include "space/refcount.h"

struct job {
	uint8_t *stored;	/* of clusters [first, end) */
	uint64_t first;
	uint64_t end;
	uint64_t at;		/* next cluster to look at */
	size_t l2_at;		/* next L2 table to judge the flags of */
	uint64_t last_used;	/* last cluster in use + 1, 0: none */
	bool need_report;
	bool unreadable;	/* some of it: nothing is judged */
	struct qd_chk_list found;
};

struct pass {
	struct chk *c;
	enum qd_chk_pass kind;
	uint64_t at;		/* next chunk */
	uint64_t end;
	uint64_t per_job;	/* chunks */
	uint64_t limit;		/* clusters that blocks can describe, at least those of the file */
};

static uint64_t stored_bytes(const struct chk *c, uint64_t nclusters)
{
	return ((nclusters << c->geom.refcount_order) + 7) >> 3;
}

/* The block that counts this cluster: its offset, 0, or CHK_UNKNOWN_BLOCK. */
static uint64_t block_of(const struct chk *c, uint64_t cluster)
{
	uint64_t i = cluster / c->geom.block_entries;

	return i < c->reftable_entries ? c->reftable[i] : 0;
}

static bool is_unknown(const struct chk *c, uint64_t cluster)
{
	return c->no_refcounts || block_of(c, cluster) == CHK_UNKNOWN_BLOCK;
}

static void host_found(const struct chk *c, struct job *j, enum qd_finding_type type, uint64_t cluster,
		       uint64_t v0, uint64_t v1, uint64_t v2)
{
	struct qd_finding f = {
		.type = type, .nitems = 1, .value = { v0, v1, v2 },
		.place = { QD_AT_HOST, 0, 0, QD_NOWHERE, cluster << c->geom.cluster_bits },
	};

	qd_chk_list_add(&j->found, &f);
}

/* A stored count that is not what was counted, or flags that may be wrong. */
static void judge(const struct chk *c, struct job *j, uint64_t cluster, uint64_t stored, uint64_t counted,
		  uint8_t byte)
{
	uint64_t max = c->geom.refcount_max;
	bool meta = (byte & QD_COUNT_META_MASK) == QD_COUNT_META;

	if (counted > max) {
		host_found(c, j, QD_F_REFCOUNT_OVERFLOW, cluster, stored, counted, max);
		counted = max;
	}
	if (stored < counted)
		host_found(c, j, QD_F_REFCOUNT_LOW, cluster, stored, counted, 0);
	else if (stored > counted && counted == 0)
		host_found(c, j, cluster < c->nclusters ? QD_F_LEAK : QD_F_REFCOUNT_PAST_END, cluster, stored,
			   0, 0);
	else if (stored > counted)
		host_found(c, j, QD_F_REFCOUNT_HIGH, cluster, stored, counted, 0);
	if (meta)
		return;
	if (byte & (stored == 1 ? QD_COUNT_CLEAR : QD_COUNT_COPIED))
		j->need_report = true;
	if (c->pin_layer && (byte & QD_COUNT_TWICE) && !(byte & QD_COUNT_PINNED))
		host_found(c, j, QD_F_UNPINNED, cluster, counted, 0, 0);
}

static bool flags_fit(uint64_t stored, uint8_t byte)
{
	return !(byte & (stored == 1 ? QD_COUNT_CLEAR : QD_COUNT_COPIED));
}

/* A piece of a chunk with its stored counts: clusters [first, end). */
struct piece {
	const uint8_t *stored;
	const _Atomic uint8_t *bytes;	/* of `first`; NULL: nothing counted */
	bool carries;			/* some count of the chunk goes over 15 */
	uint64_t first;
	uint64_t end;
};

/* Eight counts of 16 bits and eight bytes that all say: used once, by a COPIED entry. */
static inline bool eight_are_plain(const struct piece *p, uint64_t i)
{
	const uint64_t once = 0x0101010101010101ull * (QD_COUNT_COPIED | 1);
	uint64_t stored[2], bytes;

	memcpy(stored, p->stored + i * 2, sizeof(stored));
	memcpy(&bytes, (const void *)&p->bytes[i], sizeof(bytes));
	return bytes == once && stored[0] == stored[1] &&
	       qd_get_be64(p->stored + i * 2) == 0x0001000100010001ull;
}

/* From j->at to the end, or to where the list is full: j->at says. */
static void compare_piece(const struct chk *c, struct job *j, const struct piece *p)
{
	const uint32_t order = c->geom.refcount_order;
	uint64_t n = p->end - p->first, i = qd_max_u64(j->at, p->first) - p->first;

	j->at = p->end;
	if (!p->bytes && qd_is_zero(p->stored, (size_t)stored_bytes(c, n)))
		return;
	for (; i < n; i++) {
		uint64_t stored, counted;
		uint8_t byte;

		if (order == 4 && p->bytes && i + 8 <= n && eight_are_plain(p, i)) {
			j->last_used = p->first + i + 8;
			i += 7;
			continue;
		}
		byte = p->bytes ? atomic_load_explicit(&p->bytes[i], memory_order_relaxed) : 0;
		counted = byte & QD_COUNT_LOW;
		/* The width that nearly all images have, without a call. */
		stored = order == 4 ? qd_get_be16(p->stored + i * 2) : qd_refcount_get(p->stored, order, i);
		if (__builtin_expect(p->carries, 0))
			counted = qd_counts_get(c->counts, p->first + i);
		if (!(stored | counted))
			continue;
		if (counted || p->first + i < c->nclusters)
			j->last_used = p->first + i + 1;
		if (stored == counted && flags_fit(stored, byte) && !(byte & QD_COUNT_TWICE))
			continue;
		judge(c, j, p->first + i, stored, counted, byte);
		if (qd_chk_list_is_full(&j->found)) {
			j->at = p->first + i + 1;
			return;
		}
	}
}

/* Counts that nobody can compare: only what is used matters. */
static void skip_piece(const struct chk *c, struct job *j, const struct piece *p)
{
	for (uint64_t k = p->end; p->bytes && k > p->first; k--) {
		if (qd_counts_get(c->counts, k - 1)) {
			j->last_used = k;
			return;
		}
	}
}

static void verdict_piece(const struct chk *c, const struct piece *p, bool unknown)
{
	_Atomic uint8_t *bytes = (_Atomic uint8_t *)(uintptr_t)p->bytes;

	for (uint64_t i = 0; bytes && i < p->end - p->first; i++) {
		uint8_t byte = atomic_load_explicit(&bytes[i], memory_order_relaxed);
		unsigned v = unknown ? CHK_VERDICT_UNKNOWN : 0;

		if (!unknown && qd_refcount_get(p->stored, c->geom.refcount_order, i) == 1)
			v |= CHK_VERDICT_SOLE;
		if ((byte & QD_COUNT_META_MASK) == QD_COUNT_META)
			v |= CHK_VERDICT_META;
		atomic_store_explicit(&bytes[i], (uint8_t)v, memory_order_relaxed);
	}
}

static bool has_carries(const struct qd_counts_chunk *chunk)
{
	for (unsigned i = 0; i < QD_COUNTS_CHUNK >> QD_COUNTS_CARRY_BITS; i++)
		if (atomic_load_explicit(&chunk->carry[i], memory_order_relaxed))
			return true;
	return false;
}

/* What is left of a chunk, cut where blocks end, for either may be the smaller one. */
static void look_at_chunk(const struct pass *s, struct job *j, uint64_t chunk_no)
{
	struct chk *c = s->c;
	struct qd_counts_chunk *chunk =
		chunk_no < c->counts->nchunks ? qd_counts_peek(c->counts, chunk_no) : NULL;
	uint64_t begin = chunk_no << QD_COUNTS_CHUNK_BITS;
	uint64_t end = qd_min_u64(begin + QD_COUNTS_CHUNK, s->limit);
	struct piece p = { .carries = chunk && has_carries(chunk) };

	for (p.first = begin; p.first < end; p.first = p.end) {
		bool unknown = j->unreadable || is_unknown(c, p.first);

		p.end = qd_min_u64(end, (p.first / c->geom.block_entries + 1) * c->geom.block_entries);
		if (p.end <= j->at)
			continue;
		p.stored = j->stored + stored_bytes(c, p.first - j->first);
		p.bytes = chunk ? &chunk->byte[p.first - begin] : NULL;
		if (s->kind == CHK_PASS_VERDICT)
			verdict_piece(c, &p, unknown);
		else if (unknown)
			skip_piece(c, j, &p);
		else
			compare_piece(c, j, &p);
		if (qd_chk_list_is_full(&j->found))
			return;
	}
	j->at = begin + QD_COUNTS_CHUNK;
}

/* Is there a table left whose flags are to be judged? */
static bool has_l2(const struct chk *c, const struct job *j)
{
	return j->l2_at < c->l2.n && c->l2.v[j->l2_at].cluster < j->end;
}

/* From j->l2_at to the end, or until the list is full. */
static void judge_l1_flags(const struct chk *c, struct job *j)
{
	const struct qd_geom *g = &c->geom;

	for (; !qd_chk_list_is_full(&j->found) && has_l2(c, j); j->l2_at++) {
		const struct qd_l2ref *r = &c->l2.v[j->l2_at];
		struct qd_finding f = {
			.nitems = 1, .place = { QD_AT_L1_ENTRY, 0, r->l1_index,
						(uint64_t)r->l1_index << (g->l2_bits + g->cluster_bits),
						r->cluster << g->cluster_bits },
		};

		if (r->class != QD_L2_ACTIVE || r->bad || is_unknown(c, r->cluster))
			continue;
		f.value[0] = f.place.host_off | (r->copied ? QD_COPIED : 0);
		f.value[1] = qd_refcount_get(j->stored, g->refcount_order, r->cluster - j->first);
		f.type = r->copied ? QD_F_L1_COPIED_SET : QD_F_L1_COPIED_CLEAR;
		if (r->copied != (f.value[1] == 1))
			qd_chk_list_add(&j->found, &f);
	}
}

/* All that is left of the job, or until the list is full. */
static void look_at_job(const struct pass *s, struct job *j)
{
	while (j->at < j->end && !qd_chk_list_is_full(&j->found))
		look_at_chunk(s, j, j->at >> QD_COUNTS_CHUNK_BITS);
	if (s->kind == CHK_PASS_COMPARE && !j->unreadable && j->at >= j->end)
		judge_l1_flags(s->c, j);
}

static bool is_done(const struct pass *s, const struct job *j)
{
	bool flags = s->kind == CHK_PASS_COMPARE && !j->unreadable;

	return j->at >= j->end && !(flags && has_l2(s->c, j));
}

/* Reads the blocks' parts of a job, neighbours at once. */
static int read_stored(const struct pass *s, struct job *j, struct qd_err *err)
{
	struct chk *c = s->c;
	uint64_t entries = c->geom.block_entries, end;

	for (uint64_t k = j->first; k < j->end; k = end) {
		uint64_t block = block_of(c, k), run = 1;
		uint8_t *to = j->stored + stored_bytes(c, k - j->first);
		bool ok;
		int rc;

		end = qd_min_u64(j->end, (k / entries + 1) * entries);
		if (block == 0 || is_unknown(c, k)) {
			memset(to, 0, stored_bytes(c, end - k));
			continue;
		}
		while (end < j->end && block_of(c, end) == block + run * c->geom.cluster_size) {
			end = qd_min_u64(j->end, end + entries);
			run++;
		}
		rc = qd_chk_try_read(c, to, stored_bytes(c, end - k), block + stored_bytes(c, k % entries),
				     &ok, err);
		if (rc)
			return rc;
		if (!ok) {
			j->unreadable = true;
			if (s->kind == CHK_PASS_COMPARE)
				host_found(c, j, QD_F_UNREADABLE, block >> c->geom.cluster_bits,
					   block + stored_bytes(c, k % entries), stored_bytes(c, end - k), 0);
		}
	}
	return 0;
}

static int prepare(void *ctx, void *job, struct qd_err *err)
{
	struct pass *s = ctx;
	struct job *j = job;
	int rc;

	rc = read_stored(s, j, err);
	if (rc)
		return rc;
	j->at = j->first;
	j->l2_at = qd_l2set_lower_bound(&s->c->l2, j->first);
	look_at_job(s, j);
	return 0;
}

/* Anything stored or counted in this chunk?  If not, *ret_skip chunks can be passed over. */
static bool is_empty(const struct pass *s, uint64_t chunk, uint64_t *ret_skip)
{
	const struct chk *c = s->c;
	uint64_t first = chunk << QD_COUNTS_CHUNK_BITS, end = qd_min_u64(first + QD_COUNTS_CHUNK, s->limit),
		 k;

	*ret_skip = 1;
	if (chunk < c->counts->nchunks && qd_counts_peek(c->counts, chunk))
		return false;
	if (c->no_refcounts)
		return true;
	for (k = first; k < end; k = (k / c->geom.block_entries + 1) * c->geom.block_entries)
		if (block_of(c, k) > CHK_UNKNOWN_BLOCK)
			return false;
	/* A large block that is not there is passed over at once where nothing can be counted. */
	if (chunk >= c->counts->nchunks)
		*ret_skip = qd_max_u64(1, (k >> QD_COUNTS_CHUNK_BITS) - chunk);
	return true;
}

static int next(void *ctx, void *job, struct qd_err *err)
{
	struct pass *s = ctx;
	struct job *j = job;
	uint64_t first, skip;

	(void)err;
	while (s->at < s->end && is_empty(s, s->at, &skip))
		s->at += skip;
	if (s->at >= s->end)
		return 0;
	first = s->at;
	while (s->at < s->end && s->at - first < s->per_job && !is_empty(s, s->at, &skip))
		s->at++;
	j->first = first << QD_COUNTS_CHUNK_BITS;
	/* Whole chunks, so that a last count of less than a byte is never cut. */
	j->end = s->at << QD_COUNTS_CHUNK_BITS;
	j->last_used = 0;
	j->need_report = false;
	j->unreadable = false;
	return 1;
}

static int commit(void *ctx, void *job, struct qd_err *err)
{
	struct pass *s = ctx;
	struct chk *c = s->c;
	struct job *j = job;
	int rc = qd_chk_list_emit(c, &j->found, err);

	while (rc == 0 && !is_done(s, j)) {
		look_at_job(s, j);
		rc = qd_chk_list_emit(c, &j->found, err);
	}
	c->past_last = qd_max_u64(c->past_last, j->last_used);
	c->need_report = c->need_report || j->need_report;
	return rc ? rc : qd_progress_add(c->progress, stored_bytes(c, j->end - j->first), err);
}

/* Clusters that the last block describes, or that the file has. */
static uint64_t described(const struct chk *c)
{
	uint64_t n = c->reftable_entries;

	while (n > 0 && c->reftable[n - 1] <= CHK_UNKNOWN_BLOCK)
		n--;
	return qd_max_u64(n * c->geom.block_entries, c->counts->nclusters);
}

int qd_chk_refcounts(struct chk *c, enum qd_chk_pass kind, uint64_t first, uint64_t end, struct qd_err *err)
{
	static const struct qd_pipeline_ops ops = { .next = next, .prepare = prepare, .commit = commit };
	struct pass s = { .c = c, .kind = kind, .at = first, .end = end, .limit = described(c) };
	size_t size = qd_chk_buffer_size(c, stored_bytes(c, QD_COUNTS_CHUNK));
	unsigned njobs = qd_chk_njobs(c, size);
	struct job *jobs = calloc(njobs, sizeof(*jobs));
	uint8_t *bufs = malloc(size * njobs);
	int rc = jobs && bufs ? 0 : qd_err_nomem(err, "refcount blocks");

	/* The last window also takes what blocks say of clusters past the end of the file. */
	if (kind == CHK_PASS_COMPARE && end == c->counts->nchunks)
		s.end = qd_div_up(s.limit, QD_COUNTS_CHUNK);
	s.per_job = size / stored_bytes(c, QD_COUNTS_CHUNK);
	for (unsigned i = 0; rc == 0 && i < njobs; i++) {
		jobs[i].stored = bufs + i * size;
		qd_chk_list_init(&jobs[i].found, c, njobs);
	}
	if (rc == 0)
		rc = qd_pipeline_run(&ops, &s, jobs, sizeof(*jobs), njobs, c->threads, err);
	for (unsigned i = 0; jobs && i < njobs; i++)
		free(jobs[i].found.v);
	free(jobs);
	free(bufs);
	return rc;
}
