/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The journal against a model, on memory: what it says after every crash that the recorder
 * can make of it (J1..J6 of txn/journal.h), and after damage.
 */
#include "txn/journal.h"

#include <CUnit/CUnit.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "recorder.h"
#include "suites.h"

#define DIGEST 16u
#define LOG_NBYTES 65536u
#define REDO_NBYTES 32768u
#define OFF 8192u			/* of the journal in the file */
#define FILE_NBYTES (OFF + 2 * LOG_NBYTES + REDO_NBYTES)
#define NKEYS 300u			/* entries of the model: clusters 1..NKEYS */

static struct qd_journal_place place(void)
{
	struct qd_journal_place p = {
		.off = OFF, .log_nbytes = LOG_NBYTES, .redo_nbytes = REDO_NBYTES,
		.owner = { .identity_hi = 1, .identity_lo = 2, .container = 3 },
	};

	return p;
}

static uint64_t next_random(uint64_t *seed)
{
	*seed = *seed * 6364136223846793005ull + 1442695040888963407ull;
	return *seed >> 33;
}

static struct qd_journal *open_at(struct qd_io *io, const struct qd_journal_place *p)
{
	struct qd_journal *j = NULL;
	struct qd_err err;

	CU_ASSERT_EQUAL_FATAL(qd_journal_open(io, p, DIGEST, &j, &err), 0);
	return j;
}

static struct qd_journal *open_journal(struct qd_io *io)
{
	struct qd_journal_place p = place();

	return open_at(io, &p);
}

static struct qd_io *new_file(void)
{
	struct qd_io *io = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(NULL, FILE_NBYTES, true, &io, NULL), 0);
	return io;
}

static struct qd_journal_state state_of(const struct qd_journal *j)
{
	struct qd_journal_state s;

	qd_journal_state(j, &s);
	return s;
}

/* ---- the model: for each key nothing, a hash (its number), or revoked ---- */

#define REVOKED UINT32_MAX

struct model {
	uint32_t key[NKEYS];
};

static void add_hash(struct qd_journal *j, struct model *m, uint32_t key, uint32_t number)
{
	struct qd_record r = { .entry = (uint64_t)(key + 1) << 16, .guest = key };

	qd_put_be32(r.hash, number);
	CU_ASSERT_EQUAL(qd_journal_log_add(j, QD_JOURNAL_HASH, &r, NULL), 0);
	m->key[key] = number;
}

static void add_revoke(struct qd_journal *j, struct model *m, uint32_t key)
{
	struct qd_record r = { .entry = (uint64_t)(key + 1) << 16 };

	CU_ASSERT_EQUAL(qd_journal_log_add(j, QD_JOURNAL_REVOKE, &r, NULL), 0);
	m->key[key] = REVOKED;
}

static int note(void *ctx, enum qd_journal_type type, const struct qd_record *r, struct qd_err *err)
{
	struct model *m = ctx;
	uint64_t key = (r->entry >> 16) - 1;

	(void)err;
	CU_ASSERT_TRUE_FATAL(key < NKEYS);
	m->key[key] = type == QD_JOURNAL_REVOKE ? REVOKED : qd_get_be32(r->hash);
	return 0;
}

static struct model read_log(struct qd_journal *j)
{
	struct model m = { { 0 } };

	CU_ASSERT_EQUAL(qd_journal_log_walk(j, note, &m, NULL), 0);
	return m;
}

/* Odd keys are in the table: their revocation must last.  That of others may be forgotten. */
static int in_table(void *ctx, uint64_t entry, struct qd_err *err)
{
	(void)ctx;
	(void)err;
	return ((entry >> 16) - 1) % 2;
}

static const struct qd_journal_live live = { .in_table = in_table };

static bool means_same(const struct model *a, const struct model *b)
{
	for (uint32_t i = 0; i < NKEYS; i++) {
		uint32_t x = a->key[i], y = b->key[i];

		if (i % 2 == 0)
			x = x == REVOKED ? 0 : x, y = y == REVOKED ? 0 : y;
		if (x != y)
			return false;
	}
	return true;
}

/* ---- log ---- */

static void a_new_journal_is_sound_and_empty(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_journal_state s = state_of(j);

	CU_ASSERT_EQUAL(s.health, QD_JOURNAL_SOUND);
	CU_ASSERT_EQUAL(s.log_generation, 0);
	CU_ASSERT_EQUAL(s.entries, 0);
	CU_ASSERT_EQUAL(qd_journal_log_room(j), LOG_NBYTES / QD_JOURNAL_CLUSTER);
	CU_ASSERT_EQUAL(qd_journal_log_need(j), 0);
	qd_journal_close(j);
	qd_io_close(io);
}

static void only_what_is_committed_counts(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct model m = { { 0 } }, got;
	struct qd_journal_state s;

	add_hash(j, &m, 1, 11);
	add_hash(j, &m, 2, 22);
	add_revoke(j, &m, 1);
	CU_ASSERT_EQUAL(qd_journal_log_need(j), 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
	s = state_of(j);
	CU_ASSERT_EQUAL(s.log_generation, 1);
	CU_ASSERT_EQUAL(s.log_clusters, 1);
	CU_ASSERT_EQUAL(s.entries, 3);
	CU_ASSERT_EQUAL(s.live, 2);
	got = m;
	add_hash(j, &m, 3, 33);
	qd_journal_close(j);
	j = open_journal(io);
	m = read_log(j);
	CU_ASSERT_EQUAL(memcmp(&m, &got, sizeof(m)), 0);
	qd_journal_close(j);
	qd_io_close(io);
}

static void a_full_log_refuses(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct model m = { { 0 } }, before;

	while (qd_journal_log_room(j)) {
		add_hash(j, &m, 5, qd_journal_log_room(j));
		CU_ASSERT_EQUAL_FATAL(qd_journal_log_commit(j, NULL), 0);
	}
	before = m;
	add_hash(j, &m, 6, 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), QD_E_INVALID);
	qd_journal_close(j);
	j = open_journal(io);
	m = read_log(j);
	CU_ASSERT_EQUAL(memcmp(&m, &before, sizeof(m)), 0);
	qd_journal_close(j);
	qd_io_close(io);
}

/* Inserts and deletes that leave nothing behind: the log is packed over and over, and never full. */
static void cycles_are_packed(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct model m = { { 0 } }, got;
	unsigned packed = 0;

	for (uint32_t round = 1; round < 500; round++) {
		uint32_t nclusters;

		add_hash(j, &m, round % NKEYS, round);
		add_revoke(j, &m, (round + NKEYS - 2) % NKEYS);
		if (qd_journal_log_need(j) > qd_journal_log_room(j)) {
			CU_ASSERT_EQUAL_FATAL(qd_journal_log_measure(j, &live, &nclusters, NULL), 0);
			CU_ASSERT_TRUE(nclusters <= 2);
			CU_ASSERT_EQUAL_FATAL(qd_journal_log_pack(j, &live, NULL), 0);
			CU_ASSERT_EQUAL(state_of(j).log_clusters, nclusters);
			packed++;
		}
		CU_ASSERT_EQUAL_FATAL(qd_journal_log_commit(j, NULL), 0);
	}
	CU_ASSERT_TRUE(packed > 20);
	qd_journal_close(j);
	j = open_journal(io);
	got = read_log(j);
	CU_ASSERT_TRUE(means_same(&got, &m));
	CU_ASSERT_TRUE(state_of(j).log_generation > 20);
	qd_journal_close(j);
	qd_io_close(io);
}

/* ---- crashes of the log ---- */

/* Writes a journal cluster at a time, so that a crash can lose any of a batch. */
struct by_cluster {
	struct qd_io io;
	struct qd_io *below;
};

static ssize_t pread_below(struct qd_io *io, void *buf, size_t nbytes, uint64_t off)
{
	struct qd_io *below = ((struct by_cluster *)io)->below;

	return below->ops->pread(below, buf, nbytes, off);
}

static ssize_t pwritev_below(struct qd_io *io, const struct iovec *iov, int niov, uint64_t off)
{
	struct qd_io *below = ((struct by_cluster *)io)->below;
	struct iovec one = iov[0];

	(void)niov;
	one.iov_len = (size_t)qd_min_u64(one.iov_len, QD_JOURNAL_CLUSTER);
	return below->ops->pwritev(below, &one, 1, off);
}

static int flush_below(struct qd_io *io)
{
	struct qd_io *below = ((struct by_cluster *)io)->below;

	return below->ops->flush(below);
}

static int size_below(struct qd_io *io, uint64_t *ret_nbytes)
{
	struct qd_io *below = ((struct by_cluster *)io)->below;

	return below->ops->size(below, ret_nbytes);
}

static const struct qd_io_ops by_cluster_ops = {
	.pread = pread_below, .pwritev = pwritev_below, .flush = flush_below, .size = size_below,
};

static struct by_cluster by_cluster(struct qd_io *below)
{
	struct by_cluster b = { .io = *below, .below = below };

	b.io.ops = &by_cluster_ops;
	return b;
}

#define NSTEPS 24u

struct history {
	struct model after[NSTEPS + 1];		/* what was committed after each step */
	size_t ended[NSTEPS + 1];		/* operations recorded by then */
	unsigned nsteps;
};

static void step(struct qd_journal *j, struct model *m, uint64_t *seed)
{
	uint32_t n = (uint32_t)(next_random(seed) % 3 == 0 ? next_random(seed) % 600 : next_random(seed) % 8);

	for (uint32_t i = 0; i <= n; i++) {
		uint32_t key = (uint32_t)(next_random(seed) % NKEYS);

		if (next_random(seed) % 3)
			add_hash(j, m, key, 1 + (uint32_t)next_random(seed) % 1000000);
		else
			add_revoke(j, m, key);
	}
	if (qd_journal_log_need(j) > qd_journal_log_room(j) || next_random(seed) % 6 == 0)
		CU_ASSERT_EQUAL_FATAL(qd_journal_log_pack(j, &live, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_journal_log_commit(j, NULL), 0);
}

static void record_history(struct recorder *r, struct history *h, uint64_t seed)
{
	struct by_cluster io = by_cluster(recorder_io(r));
	struct qd_journal *j = open_journal(&io.io);
	struct model m = read_log(j);

	h->after[0] = m;
	h->ended[0] = 0;
	for (h->nsteps = 0; h->nsteps < NSTEPS;) {
		step(j, &m, &seed);
		h->nsteps++;
		h->after[h->nsteps] = m;
		h->ended[h->nsteps] = recorder_nops(r);
		if (next_random(&seed) % 5 == 0) {
			qd_journal_close(j);
			j = open_journal(&io.io);
		}
	}
	qd_journal_close(j);
}

/* J2: the log is what it was after the last step that ended before the crash, or after the one begun. */
static bool is_in_history(const struct history *h, size_t nops, const struct model *got)
{
	unsigned s = 0;

	while (s < h->nsteps && h->ended[s + 1] <= nops)
		s++;
	return means_same(&h->after[s], got) || (s < h->nsteps && means_same(&h->after[s + 1], got));
}

/* What a crash left takes further commits, and the next crash of it is no different (J1, J4, J5). */
static void crash_again(struct qd_io *io, uint64_t seed)
{
	struct recorder *r = NULL;
	struct history *h = calloc(1, sizeof(*h));
	struct crash c;

	CU_ASSERT_PTR_NOT_NULL_FATAL(h);
	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &r, NULL), 0);
	record_history(r, h, seed);
	for (size_t i = seed % 7; recorder_plan(r, 1, seed, i, &c); i += 7) {
		struct qd_io *left = NULL;
		struct qd_journal *j;
		struct model m;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(r, &c, &left, NULL), 0);
		j = open_journal(left);
		CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
		m = read_log(j);
		CU_ASSERT_TRUE(is_in_history(h, c.nops, &m));
		qd_journal_close(j);
		qd_io_close(left);
	}
	recorder_free(r);
	free(h);
}

static void every_crash_leaves_a_committed_log(void)
{
	for (uint64_t seed = 1; seed <= 4; seed++) {
		struct recorder *r = NULL;
		struct history *h = calloc(1, sizeof(*h));
		struct crash c;

		CU_ASSERT_PTR_NOT_NULL_FATAL(h);
		CU_ASSERT_EQUAL_FATAL(recorder_new(new_file(), &r, NULL), 0);
		record_history(r, h, seed);
		for (size_t i = 0; recorder_plan(r, 3, seed, i, &c); i++) {
			struct qd_io *left = NULL;
			struct qd_journal *j;
			struct model m;

			CU_ASSERT_EQUAL_FATAL(recorder_crash(r, &c, &left, NULL), 0);
			j = open_journal(left);
			CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
			m = read_log(j);
			CU_ASSERT_TRUE(is_in_history(h, c.nops, &m));
			qd_journal_close(j);
			if (i % 5 == 0)
				crash_again(left, i + 1);	/* takes it */
			else
				qd_io_close(left);
		}
		recorder_free(r);
		free(h);
	}
}

/* ---- damage of the log ---- */

/* A closed log of several batches and generations; *ret_place: with what the extension recorded. */
static struct qd_io *closed_log(struct qd_journal_place *ret_place)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct model m = { { 0 } };
	struct qd_journal_state s;
	uint64_t seed = 5;

	for (unsigned i = 0; i < 12; i++)
		step(j, &m, &seed);
	s = state_of(j);
	*ret_place = place();
	ret_place->closed_generation = s.log_generation;
	ret_place->closed_clusters = s.log_clusters;
	ret_place->closed_crc = s.log_crc;
	qd_journal_close(j);
	return io;
}

enum { ZEROS, ONES, NOISE, NEIGHBOUR, NWAYS };

static void damage(struct qd_io *io, uint64_t off, int way)
{
	uint8_t buf[QD_JOURNAL_CLUSTER];
	uint64_t seed = off;

	memset(buf, way == ONES ? 0xff : 0, sizeof(buf));
	for (size_t i = 0; way == NOISE && i < sizeof(buf); i++)
		buf[i] = (uint8_t)next_random(&seed);
	if (way == NEIGHBOUR)
		CU_ASSERT_EQUAL(qd_io_read(io, buf, sizeof(buf), off + sizeof(buf), NULL), 0);
	CU_ASSERT_EQUAL(qd_io_write(io, buf, sizeof(buf), off, NULL), 0);
}

/* Clusters of a log of generation 0: there was none of that number, and there is none now. */
static void a_closed_log_that_never_was_is_damage(void)
{
	struct qd_journal_place p;
	struct qd_io *io = closed_log(&p);
	struct qd_journal *j;

	CU_ASSERT_EQUAL_FATAL(qd_io_fill_zeros(io, OFF, 2 * LOG_NBYTES, NULL), 0);
	p.closed_generation = 0;
	j = open_at(io, &p);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
	qd_journal_close(j);
	qd_io_close(io);
}

static void damage_of_a_closed_log_is_seen(void)
{
	struct qd_journal_place p;
	struct qd_io *io = closed_log(&p);
	size_t nbytes;
	const uint8_t *bytes = qd_io_mem_data(io, &nbytes);
	uint8_t *saved = malloc(nbytes);
	struct qd_journal *j = open_at(io, &p);
	struct qd_journal_state s = state_of(j);

	CU_ASSERT_PTR_NOT_NULL_FATAL(saved);
	memcpy(saved, bytes, nbytes);
	CU_ASSERT_EQUAL(s.health, QD_JOURNAL_SOUND);
	qd_journal_close(j);
	for (uint32_t c = 0; c < s.log_clusters; c++) {
		for (int way = 0; way < NWAYS; way++) {
			struct qd_err err;

			damage(io, OFF + s.log_area * LOG_NBYTES + c * QD_JOURNAL_CLUSTER, way);
			j = open_at(io, &p);
			CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
			CU_ASSERT_TRUE(state_of(j).why[0] != '\0');
			CU_ASSERT_EQUAL(qd_journal_log_walk(j, note, NULL, &err), QD_E_CORRUPT);
			CU_ASSERT_EQUAL(qd_journal_log_pack(j, &live, &err), QD_E_CORRUPT);
			qd_journal_close(j);
			CU_ASSERT_EQUAL(qd_io_write(io, saved, nbytes, 0, NULL), 0);
		}
	}
	free(saved);
	qd_io_close(io);
}

/* Two copies of one image went on separately: no cluster of the one is taken for the other's. */
static void a_copy_that_went_on_is_told_apart(void)
{
	struct qd_io *io[2] = { new_file(), new_file() };
	struct qd_journal_place p = place();
	uint8_t cluster[2][QD_JOURNAL_CLUSTER];

	for (uint32_t i = 0; i < 2; i++) {
		struct qd_journal *j = open_journal(io[i]);
		struct model m = { { 0 } };

		add_hash(j, &m, 1, 1);
		CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
		add_hash(j, &m, 2, 2 + i);
		CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
		p.closed_generation = state_of(j).log_generation;
		p.closed_clusters = state_of(j).log_clusters;
		p.closed_crc = state_of(j).log_crc;
		qd_journal_close(j);
		CU_ASSERT_EQUAL(qd_io_read(io[i], cluster[i], QD_JOURNAL_CLUSTER, OFF + QD_JOURNAL_CLUSTER, NULL), 0);
	}
	CU_ASSERT_TRUE(qd_journal_cluster_is_valid(cluster[0], &p.owner, QD_JOURNAL_LOG, 1));
	for (uint32_t i = 0; i < 2; i++) {
		struct qd_journal *j;

		CU_ASSERT_EQUAL(qd_io_write(io[1], cluster[1 - i], QD_JOURNAL_CLUSTER, OFF + QD_JOURNAL_CLUSTER, NULL), 0);
		j = open_at(io[1], &p);
		CU_ASSERT_EQUAL(state_of(j).health, i ? QD_JOURNAL_DAMAGED : QD_JOURNAL_SOUND);
		qd_journal_close(j);
	}
	qd_io_close(io[0]);
	qd_io_close(io[1]);
}

/* J9 */
static void beside_the_image_there_is_no_log(void)
{
	struct qd_io *io = new_file();
	struct qd_journal_place p = place();
	struct model m = { { 0 } };
	struct qd_journal *j;

	p.no_log = true;
	j = open_at(io, &p);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	add_hash(j, &m, 1, 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), QD_E_INVALID);
	qd_journal_close(j);
	j = open_journal(io);
	add_hash(j, &m, 1, 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
	qd_journal_close(j);
	j = open_at(io, &p);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
	qd_journal_close(j);
	qd_io_close(io);
}

/* Whatever one byte of the areas becomes, no other log than the right one is read. */
static void no_changed_byte_is_believed(void)
{
	struct qd_journal_place p;
	struct qd_io *io = closed_log(&p);
	struct qd_journal *j = open_at(io, &p);
	struct model right = read_log(j);

	qd_journal_close(j);
	for (uint64_t off = OFF; off < FILE_NBYTES; off += 61) {
		uint8_t byte, other;

		CU_ASSERT_EQUAL(qd_io_read(io, &byte, 1, off, NULL), 0);
		other = (uint8_t)(byte ^ (1u << off % 8));
		CU_ASSERT_EQUAL(qd_io_write(io, &other, 1, off, NULL), 0);
		j = open_at(io, &p);
		if (state_of(j).health == QD_JOURNAL_SOUND) {
			struct model got = read_log(j);

			CU_ASSERT_EQUAL(memcmp(&got, &right, sizeof(got)), 0);
		}
		qd_journal_close(j);
		CU_ASSERT_EQUAL(qd_io_write(io, &byte, 1, off, NULL), 0);
	}
	qd_io_close(io);
}

/* The same areas at an earlier time, and those of an older container with an equal table. */
static void an_older_journal_is_not_believed(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_journal_place p = place();
	struct model m = { { 0 } };
	uint8_t *older = malloc(2 * LOG_NBYTES);

	CU_ASSERT_PTR_NOT_NULL_FATAL(older);
	add_hash(j, &m, 1, 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, older, 2 * LOG_NBYTES, OFF, NULL), 0);
	add_revoke(j, &m, 1);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
	p.closed_generation = state_of(j).log_generation;
	p.closed_clusters = state_of(j).log_clusters;
	p.closed_crc = state_of(j).log_crc;
	qd_journal_close(j);
	CU_ASSERT_EQUAL(qd_io_write(io, older, 2 * LOG_NBYTES, OFF, NULL), 0);
	j = open_at(io, &p);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
	qd_journal_close(j);
	p = place();
	p.owner.container++;
	j = open_at(io, &p);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	CU_ASSERT_EQUAL(state_of(j).entries, 0);
	qd_journal_close(j);
	free(older);
	qd_io_close(io);
}

static void places_that_cannot_be_are_refused(void)
{
	static const struct {
		uint64_t off, log_nbytes, redo_nbytes;
	} rows[] = {
		{ 0, 0, 4096 }, { 0, 4096, 0 }, { 0, 4095, 4096 }, { 0, 4096, 100 }, { UINT64_MAX, 4096, 4096 },
		{ INT64_MAX, 4096, 4096 }, { 0, QD_JOURNAL_MAX_AREA + 4096, 4096 }, { 0, 4096, UINT64_MAX - 4095 },
	};
	struct qd_io *io = new_file();

	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct qd_journal_place p = { .off = rows[i].off, .log_nbytes = rows[i].log_nbytes,
					      .redo_nbytes = rows[i].redo_nbytes };
		struct qd_journal *j = NULL;

		CU_ASSERT_EQUAL(qd_journal_open(io, &p, DIGEST, &j, NULL), QD_E_CORRUPT);
		CU_ASSERT_PTR_NULL(j);
	}
	qd_io_close(io);
}

/* ---- redo ---- */

/* Random writes of a few sections into the first OFF bytes, many of them over each other. */
static void fill_queue(struct qd_queue *q, uint64_t *seed)
{
	uint8_t data[1100];

	for (unsigned section = 0; section < 4; section++) {
		for (uint64_t i = 1 + next_random(seed) % 6; i > 0; i--) {
			size_t n = 1 + next_random(seed) % (next_random(seed) % 4 ? 40 : sizeof(data));
			uint64_t off = next_random(seed) % (OFF - n);

			if (next_random(seed) % 2)
				off = off % 1024;
			for (size_t k = 0; k < n; k++)
				data[k] = (uint8_t)next_random(seed);
			CU_ASSERT_EQUAL_FATAL(qd_queue_write(q, data, n, off, NULL), 0);
		}
		CU_ASSERT_EQUAL_FATAL(qd_queue_barrier(q, NULL), 0);
	}
}

/* One batch: logged, flushed to its places, marked. */
static void run_batch(struct recorder *r, struct qd_journal *j, uint64_t *seed, size_t *ret_logged)
{
	struct qd_queue *q = NULL;

	CU_ASSERT_EQUAL_FATAL(qd_queue_new(recorder_io(r), 1u << 20, &q, NULL), 0);
	fill_queue(q, seed);
	CU_ASSERT_EQUAL_FATAL(qd_journal_redo_log(j, q, recorder_io(r), NULL), 0);
	*ret_logged = recorder_nops(r);
	CU_ASSERT_EQUAL_FATAL(qd_queue_flush(q, NULL), 0);
	CU_ASSERT_EQUAL_FATAL(qd_journal_redo_applied(j, NULL), 0);
	qd_queue_free(q);
}

static bool begins_with(struct qd_io *io, const uint8_t *bytes)
{
	size_t nbytes;
	const uint8_t *data = qd_io_mem_data(io, &nbytes);

	return nbytes >= OFF && memcmp(data, bytes, OFF) == 0;
}

/* The replay of what a crash left, itself cut short in every way, ends in the same bytes. */
static void crash_in_replay(struct qd_io *io, const uint8_t *after, uint64_t seed)
{
	struct recorder *r = NULL;
	struct crash c;
	struct qd_journal *j;
	uint64_t n;

	CU_ASSERT_EQUAL_FATAL(recorder_new(io, &r, NULL), 0);
	j = open_journal(recorder_io(r));
	CU_ASSERT_EQUAL(qd_journal_replay(j, recorder_io(r), false, &n, NULL), 0);
	qd_journal_close(j);
	for (size_t i = 0; recorder_plan(r, 1, seed, i, &c); i++) {
		struct qd_io *left = NULL;

		CU_ASSERT_EQUAL_FATAL(recorder_crash(r, &c, &left, NULL), 0);
		j = open_journal(left);
		CU_ASSERT_EQUAL(qd_journal_replay(j, left, false, &n, NULL), 0);
		CU_ASSERT_TRUE(begins_with(left, after));
		qd_journal_close(j);
		qd_io_close(left);
	}
	recorder_free(r);
}

/* Replays a state; true when it then reads as after the batch, false: as before it. */
static bool replay_state(struct qd_io *io, const uint8_t *before, const uint8_t *after)
{
	struct qd_journal *j = open_journal(io);
	uint64_t would, n, again;
	struct qd_err err;
	bool is_after;

	CU_ASSERT_TRUE(state_of(j).health != QD_JOURNAL_DAMAGED);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, true, &would, &err), 0);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &n, &err), 0);
	CU_ASSERT_EQUAL(n, would);
	is_after = begins_with(io, after);
	CU_ASSERT_TRUE(is_after || begins_with(io, before));
	qd_journal_close(j);
	j = open_journal(io);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &again, &err), 0);
	CU_ASSERT_EQUAL(again, 0);
	CU_ASSERT_EQUAL(begins_with(io, after), is_after);
	qd_journal_close(j);
	return is_after;
}

static void a_logged_batch_survives_every_crash(void)
{
	for (uint64_t round = 1; round <= 12; round++) {
		struct recorder *r = NULL;
		uint8_t *before = malloc(OFF), *after = malloc(OFF);
		struct qd_journal *j;
		size_t logged, warm;
		uint64_t seed = round;
		struct by_cluster io;
		struct crash c;

		CU_ASSERT_EQUAL_FATAL(recorder_new(new_file(), &r, NULL), 0);
		io = by_cluster(recorder_io(r));
		j = open_journal(&io.io);
		run_batch(r, j, &seed, &warm);	/* so that there is an older one in the area */
		CU_ASSERT_EQUAL(qd_io_read(recorder_io(r), before, OFF, 0, NULL), 0);
		warm = recorder_nops(r);
		run_batch(r, j, &seed, &logged);
		CU_ASSERT_EQUAL(qd_io_read(recorder_io(r), after, OFF, 0, NULL), 0);
		qd_journal_close(j);
		for (size_t i = 0; recorder_plan(r, 3, seed, i, &c); i++) {
			struct qd_io *left = NULL, *copy = NULL;
			size_t nbytes;
			const uint8_t *bytes;
			bool is_after;

			if (c.nops < warm)
				continue;
			CU_ASSERT_EQUAL_FATAL(recorder_crash(r, &c, &left, NULL), 0);
			bytes = qd_io_mem_data(left, &nbytes);
			CU_ASSERT_EQUAL_FATAL(qd_io_mem_new(bytes, nbytes, true, &copy, NULL), 0);
			is_after = replay_state(left, before, after);
			CU_ASSERT_TRUE(is_after || c.nops < logged);
			if (is_after && i % 5 == 0)
				crash_in_replay(copy, after, i);
			else
				qd_io_close(copy);
			qd_io_close(left);
		}
		recorder_free(r);
		free(before);
		free(after);
	}
}

/* J6: one byte that belongs to neither image, and nothing is written. */
static void replay_refuses_what_others_wrote(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_queue *q = NULL;
	uint8_t ones[300], byte = 7, now[OFF], then[OFF];
	struct qd_err err;
	uint64_t n = 9;

	memset(ones, 1, sizeof(ones));
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, ones, sizeof(ones), 4000, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_barrier(q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, ones, 8, 100, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), 0);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_PENDING);
	CU_ASSERT_EQUAL(state_of(j).pending_writes, 3);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, &err), QD_E_INVALID);
	CU_ASSERT_EQUAL(qd_io_write(io, &byte, 1, 4200, NULL), 0);
	CU_ASSERT_EQUAL(qd_io_read(io, then, OFF, 0, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, true, &n, &err), QD_E_CORRUPT);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &n, &err), QD_E_CORRUPT);
	CU_ASSERT_PTR_NOT_NULL(strstr(err.msg, "0x1000"));
	CU_ASSERT_EQUAL(n, 9);
	CU_ASSERT_EQUAL(qd_io_read(io, now, OFF, 0, NULL), 0);
	CU_ASSERT_EQUAL(memcmp(now, then, OFF), 0);
	byte = 0;
	CU_ASSERT_EQUAL(qd_io_write(io, &byte, 1, 4200, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &n, &err), 0);
	CU_ASSERT_EQUAL(n, 3);
	qd_queue_free(q);
	qd_journal_close(j);
	qd_io_close(io);
}

/* J7: from the commit to the end of the batch no changed byte of it, and no mark that is gone, is a torn write. */
static void damage_of_a_committed_batch_is_seen(void)
{
	static const uint8_t nothing[QD_JOURNAL_CLUSTER];
	struct qd_io *io = new_file(), *older = NULL;
	struct qd_journal *j = open_journal(io);
	uint32_t redo = OFF + 2 * LOG_NBYTES, mark = FILE_NBYTES - QD_JOURNAL_CLUSTER, n;
	uint8_t noise[1100], was[QD_JOURNAL_CLUSTER], old[QD_JOURNAL_CLUSTER];
	struct qd_queue *q = NULL;
	uint64_t seed = 5, nwrites;
	struct qd_err err;

	for (unsigned batch = 0; batch < 2; batch++) {
		size_t nbytes;

		CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
		for (unsigned i = 0; i < 7; i++) {
			for (size_t k = 0; k < sizeof(noise); k++)
				noise[k] = (uint8_t)next_random(&seed);
			CU_ASSERT_EQUAL(qd_queue_write(q, noise, sizeof(noise), i * 1100, NULL), 0);
		}
		CU_ASSERT_EQUAL_FATAL(qd_journal_redo_log(j, q, io, NULL), 0);
		if (batch == 1)
			break;
		CU_ASSERT_EQUAL(qd_queue_flush(q, NULL), 0);
		CU_ASSERT_EQUAL(qd_io_mem_new(qd_io_mem_data(io, &nbytes), FILE_NBYTES, true, &older, NULL), 0);
		CU_ASSERT_EQUAL(qd_journal_redo_applied(j, NULL), 0);
		qd_queue_free(q);
	}
	qd_queue_free(q);
	qd_journal_close(j);
	for (n = 0; n < 3; n++) {
		uint32_t at = n < 2 ? redo + n * QD_JOURNAL_CLUSTER : mark;

		CU_ASSERT_EQUAL_FATAL(qd_io_read(io, was, sizeof(was), at, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_io_read(older, old, sizeof(old), at, NULL), 0);
		for (unsigned how = 0; how < 12; how++) {
			uint8_t now[QD_JOURNAL_CLUSTER];

			memcpy(now, was, sizeof(now));
			if (how < 10)
				now[next_random(&seed) % sizeof(now)] ^= (uint8_t)(1u << how % 8);
			else
				memcpy(now, how == 10 ? nothing : old, sizeof(now));
			/* Without its mark, or with an older one, a whole batch counts all the same. */
			if (how >= 10 && at == mark)
				continue;
			CU_ASSERT_EQUAL(qd_io_write(io, now, sizeof(now), at, NULL), 0);
			j = open_journal(io);
			CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
			CU_ASSERT_TRUE(state_of(j).redo_damaged);
			nwrites = 7;
			CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &nwrites, &err), QD_E_CORRUPT);
			CU_ASSERT_EQUAL(nwrites, 7);
			qd_journal_close(j);
		}
		CU_ASSERT_EQUAL(qd_io_write(io, was, sizeof(was), at, NULL), 0);
	}
	j = open_journal(io);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_PENDING);
	qd_journal_close(j);
	qd_io_close(older);
	qd_io_close(io);
}

/* Applied, and then the mark is gone: the batch does not come back. */
static void an_applied_batch_does_not_come_back(void)
{
	static const uint8_t nothing[QD_JOURNAL_CLUSTER];
	struct recorder *r = NULL;
	struct qd_journal *j;
	uint64_t seed = 9;
	size_t logged;

	CU_ASSERT_EQUAL_FATAL(recorder_new(new_file(), &r, NULL), 0);
	j = open_journal(recorder_io(r));
	run_batch(r, j, &seed, &logged);
	qd_journal_close(j);
	j = open_journal(recorder_io(r));
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	qd_journal_close(j);
	CU_ASSERT_EQUAL(qd_io_write(recorder_io(r), nothing, sizeof(nothing), FILE_NBYTES - QD_JOURNAL_CLUSTER,
				    NULL), 0);
	j = open_journal(recorder_io(r));
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_DAMAGED);
	qd_journal_close(j);
	recorder_free(r);
}

/* J8: whatever the journal says, nothing but metadata within the file is written to. */
static void replay_keeps_within_metadata(void)
{
	static const struct {
		uint64_t off;
		int code;
	} rows[] = {
		{ 0, QD_E_CORRUPT }, { 20, QD_E_CORRUPT }, { 40, 0 }, { 72, 0 }, { 112, QD_E_CORRUPT },
		{ 1016, QD_E_CORRUPT }, { 1024, 0 }, { OFF - 4, QD_E_CORRUPT }, { OFF + LOG_NBYTES, QD_E_CORRUPT },
		{ FILE_NBYTES, 0 },
	};
	struct qd_journal_place p = place();

	p.head_nbytes = 1024;
	p.own_off = OFF;
	p.own_nbytes = FILE_NBYTES - OFF;
	for (size_t i = 0; i < sizeof(rows) / sizeof(rows[0]); i++) {
		struct qd_io *io = new_file();
		struct qd_journal *j = open_at(io, &p);
		struct qd_queue *q = NULL;
		uint64_t n = 0, size = 0;

		CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
		CU_ASSERT_EQUAL(qd_queue_write(q, "abcdefgh", 8, rows[i].off, NULL), 0);
		CU_ASSERT_EQUAL_FATAL(qd_journal_redo_log(j, q, io, NULL), 0);
		qd_queue_free(q);
		qd_journal_close(j);
		j = open_at(io, &p);
		CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
		if (rows[i].off == FILE_NBYTES) {	/* grown by the batch; cut again by somebody */
			CU_ASSERT_EQUAL(size, FILE_NBYTES + 8);
			CU_ASSERT_EQUAL(qd_journal_replay(j, io, true, &n, NULL), 0);
			CU_ASSERT_EQUAL(qd_io_truncate(io, size - 1, NULL), 0);
			CU_ASSERT_EQUAL(qd_journal_replay(j, io, true, &n, NULL), QD_E_CORRUPT);
		} else {
			CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &n, NULL), rows[i].code);
		}
		qd_journal_close(j);
		qd_io_close(io);
	}
}

/* Zeros past the end are part of the file, too. */
static void replay_makes_the_file_as_long(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_queue *q = NULL;
	uint8_t table[1024] = { 1 };
	uint64_t size = 0, n = 0;

	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, table, sizeof(table), FILE_NBYTES + 4096, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_barrier(q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, table, 8, FILE_NBYTES + 4096 + 600, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_replay(j, io, false, &n, NULL), 0);
	CU_ASSERT_EQUAL(n, 2);
	CU_ASSERT_EQUAL(qd_io_size(io, &size, NULL), 0);
	CU_ASSERT_EQUAL(size, FILE_NBYTES + 4096 + sizeof(table));
	qd_queue_free(q);
	qd_journal_close(j);
	qd_io_close(io);
}

static void a_batch_too_large_writes_nothing(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_queue *q = NULL;
	uint8_t *noise = malloc(REDO_NBYTES);
	uint64_t seed = 3;

	CU_ASSERT_PTR_NOT_NULL_FATAL(noise);
	for (size_t i = 0; i < REDO_NBYTES; i++)
		noise[i] = (uint8_t)(1 + next_random(&seed) % 255);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, noise, REDO_NBYTES, FILE_NBYTES, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), QD_E_INVALID);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	qd_queue_free(q);
	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_TRUE(qd_journal_redo_room(j) > REDO_NBYTES / 4);
	for (uint64_t i = 0; i + 8 <= qd_journal_redo_room(j); i += 8)
		CU_ASSERT_EQUAL(qd_queue_write(q, noise, 8, FILE_NBYTES + 3 * i, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), 0);
	qd_queue_free(q);
	qd_journal_close(j);
	free(noise);
	qd_io_close(io);
}

static void what_changes_nothing_is_no_batch(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct qd_queue *q = NULL;
	uint8_t zeros[4096] = { 0 };

	CU_ASSERT_EQUAL_FATAL(qd_queue_new(io, 1u << 20, &q, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), 0);
	CU_ASSERT_EQUAL(qd_queue_write(q, zeros, sizeof(zeros), 0, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_redo_log(j, q, io, NULL), 0);
	CU_ASSERT_EQUAL(state_of(j).health, QD_JOURNAL_SOUND);
	CU_ASSERT_EQUAL(state_of(j).redo_generation, 0);
	qd_queue_free(q);
	qd_journal_close(j);
	qd_io_close(io);
}

static int count_items(void *ctx, const struct qd_journal_item *item, struct qd_err *err)
{
	unsigned *counts = ctx;

	(void)err;
	counts[item->entry.type]++;
	CU_ASSERT_TRUE(item->off >= OFF && item->off < FILE_NBYTES);
	CU_ASSERT_TRUE(item->valid);
	CU_ASSERT_TRUE(item->committed);
	return 0;
}

static void a_walk_shows_every_entry(void)
{
	struct qd_io *io = new_file();
	struct qd_journal *j = open_journal(io);
	struct model m = { { 0 } };
	unsigned counts[256] = { 0 };

	for (uint32_t i = 0; i < 200; i++)
		add_hash(j, &m, i % 64, i + 1);
	add_revoke(j, &m, 7);
	CU_ASSERT_EQUAL(qd_journal_log_commit(j, NULL), 0);
	CU_ASSERT_EQUAL(qd_journal_walk(j, count_items, counts, NULL), 0);
	CU_ASSERT_EQUAL(counts[0], 2);
	CU_ASSERT_EQUAL(counts[QD_JOURNAL_HASH], 200);
	CU_ASSERT_EQUAL(counts[QD_JOURNAL_REVOKE], 1);
	CU_ASSERT_EQUAL(counts[QD_JOURNAL_COMPLETE], 1);
	CU_ASSERT_EQUAL(counts[QD_JOURNAL_COMMIT], 1);
	CU_ASSERT_EQUAL(counts[QD_JOURNAL_END], 2);
	qd_journal_close(j);
	qd_io_close(io);
}

static const struct qd_test tests[] = {
	QD_TEST(a_new_journal_is_sound_and_empty),
	QD_TEST(only_what_is_committed_counts),
	QD_TEST(a_full_log_refuses),
	QD_TEST(cycles_are_packed),
	QD_TEST(every_crash_leaves_a_committed_log),
	QD_TEST(a_closed_log_that_never_was_is_damage),
	QD_TEST(damage_of_a_closed_log_is_seen),
	QD_TEST(a_copy_that_went_on_is_told_apart),
	QD_TEST(beside_the_image_there_is_no_log),
	QD_TEST(no_changed_byte_is_believed),
	QD_TEST(an_older_journal_is_not_believed),
	QD_TEST(places_that_cannot_be_are_refused),
	QD_TEST(a_logged_batch_survives_every_crash),
	QD_TEST(replay_refuses_what_others_wrote),
	QD_TEST(damage_of_a_committed_batch_is_seen),
	QD_TEST(an_applied_batch_does_not_come_back),
	QD_TEST(replay_keeps_within_metadata),
	QD_TEST(replay_makes_the_file_as_long),
	QD_TEST(a_batch_too_large_writes_nothing),
	QD_TEST(what_changes_nothing_is_no_batch),
	QD_TEST(a_walk_shows_every_entry),
};

CU_ErrorCode suite_journal(void)
{
	return QD_SUITE_ADD("journal", tests);
}
