/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A journal of any bytes.
 *
 *	| target, 4096 bytes | log A | log B | redo |   areas of 4, 4 and 3 clusters
 *
 * Magic, identity, sequence and checksum of a cluster are made right where its first byte
 * says so, for else no input would get past them; what they then contain is the input's.
 *
 * Opening must end; a sound journal takes commits and can be packed and stays sound;
 * what replays once changes nothing the second time.
 */
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/io_mem.h"
#include "txn/journal.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

#define MUST(claim)                                                           \
	do {                                                                  \
		if (!(claim)) {                                               \
			fprintf(stderr, "%s:%d: %s\n", __FILE__, __LINE__, #claim); \
			abort();                                              \
		}                                                             \
	} while (0)

#define OFF 4096u
#define LOG_CLUSTERS 4u
#define REDO_CLUSTERS 3u
#define NCLUSTERS (2 * LOG_CLUSTERS + REDO_CLUSTERS)
#define DIGEST 16u

static const struct qd_journal_place place = {
	.off = OFF, .log_nbytes = LOG_CLUSTERS * QD_JOURNAL_CLUSTER,
	.redo_nbytes = REDO_CLUSTERS * QD_JOURNAL_CLUSTER, .owner = { 1, 2, 3 },
};

/* The input's bytes of a cluster decide what is made right: small numbers, so that clusters fit together. */
static void seal(uint8_t *cluster, uint32_t number)
{
	struct qd_journal_header h;
	uint32_t area = number < 2 * LOG_CLUSTERS ? number / LOG_CLUSTERS : 2;
	uint8_t how = cluster[0];

	if (!(how & 1))
		return;
	qd_journal_header_decode(cluster, &h);
	h.identity_hi = 1;
	h.identity_lo = 2;
	h.container = 3;
	h.generation = 1 + (how >> 1 & 3);
	h.batch = 1 + (how >> 3 & 3);
	h.sequence = number - area * LOG_CLUSTERS;
	h.kind = area < 2 ? QD_JOURNAL_LOG : QD_JOURNAL_REDO;
	if (h.used < QD_JOURNAL_HEADER || h.used > QD_JOURNAL_CLUSTER)
		h.used = (uint16_t)(QD_JOURNAL_HEADER + h.used % (QD_JOURNAL_CLUSTER - QD_JOURNAL_HEADER + 1));
	if (how & 0x20) {	/* one entry that is right: the batch's COMMIT, first */
		size_t pos = QD_JOURNAL_HEADER;
		uint8_t n[8];

		qd_put_be64(n, h.batch);
		if (how & 0x40)
			qd_journal_entry_append(cluster, &pos, QD_JOURNAL_COMPLETE, NULL, 0);
		if (how & 0x80)
			qd_journal_entry_append(cluster, &pos, QD_JOURNAL_WRITE, cluster + 300, 20);
		qd_journal_entry_append(cluster, &pos, QD_JOURNAL_COMMIT, n, 8);
		h.used = (uint16_t)(h.used < pos ? pos : h.used);
	}
	qd_journal_cluster_close(&h, cluster);
}

static int count(void *ctx, const struct qd_journal_item *item, struct qd_err *err)
{
	(void)err;
	MUST(item->off >= OFF && item->off < OFF + NCLUSTERS * QD_JOURNAL_CLUSTER);
	MUST(item->entry.type == 0 || item->valid);
	++*(uint64_t *)ctx;
	return 0;
}

static int count_records(void *ctx, enum qd_journal_type type, const struct qd_record *r, struct qd_err *err)
{
	(void)r;
	(void)err;
	MUST(type == QD_JOURNAL_HASH || type == QD_JOURNAL_REVOKE);
	++*(uint64_t *)ctx;
	return 0;
}

static int in_table(void *ctx, uint64_t entry, struct qd_err *err)
{
	(void)ctx;
	(void)err;
	return entry & 1;
}

static struct qd_journal *open_journal(struct qd_io *io)
{
	struct qd_journal *j = NULL;

	MUST(qd_journal_open(io, &place, DIGEST, &j, NULL) == 0);
	return j;
}

/* A commit, a pack and another commit; each must be there after opening again. */
static void use_log(struct qd_io *io, struct qd_journal *j)
{
	static const struct qd_journal_live live = { .in_table = in_table };
	struct qd_record r = { .entry = 0x70000 };
	struct qd_journal_state s;

	MUST(qd_journal_log_pack(j, &live, NULL) == 0);
	MUST(qd_journal_log_add(j, QD_JOURNAL_HASH, &r, NULL) == 0);
	if (qd_journal_log_need(j) > qd_journal_log_room(j))
		return;
	MUST(qd_journal_log_commit(j, NULL) == 0);
	j = open_journal(io);
	qd_journal_state(j, &s);
	MUST(s.health != QD_JOURNAL_DAMAGED && s.entries > 0 && s.live <= s.entries);
	qd_journal_close(j);
}

static void replay_twice(struct qd_io *io, struct qd_journal *j)
{
	uint64_t would = 0, n = 0;
	int dry = qd_journal_replay(j, io, true, &would, NULL);
	int rc = qd_journal_replay(j, io, false, &n, NULL);

	MUST(rc == dry && (rc || n == would));
	if (rc)
		return;
	MUST(qd_journal_replay(j, io, false, &n, NULL) == 0 && n == 0);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
	static uint8_t file[OFF + NCLUSTERS * QD_JOURNAL_CLUSTER];
	struct qd_journal_state s;
	struct qd_io *io = NULL;
	struct qd_journal *j;
	uint64_t items = 0, records = 0;

	memset(file, 0, sizeof(file));
	memcpy(file, data, size < sizeof(file) ? size : sizeof(file));
	for (uint32_t i = 0; i < NCLUSTERS; i++)
		seal(file + OFF + (size_t)i * QD_JOURNAL_CLUSTER, i);
	MUST(qd_io_mem_new(file, sizeof(file), true, &io, NULL) == 0);
	j = open_journal(io);
	qd_journal_state(j, &s);
	MUST((s.health == QD_JOURNAL_DAMAGED) == (s.why[0] != '\0'));
	MUST(qd_journal_walk(j, count, &items, NULL) == 0);
	if (s.health != QD_JOURNAL_DAMAGED) {
		MUST(qd_journal_log_walk(j, count_records, &records, NULL) == 0);
		MUST(records == s.entries && records <= items);
		use_log(io, j);
	}
	qd_journal_close(j);
	j = open_journal(io);
	replay_twice(io, j);
	qd_journal_close(j);
	qd_io_close(io);
	return 0;
}
