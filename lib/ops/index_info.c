/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/index_info.h"

#include <stdio.h>
#include <string.h>

#include "dedup/container.h"
#include "dedup/log.h"

static void take_extension(struct qd_index_info *info, const struct qd_container *c)
{
	const struct qd_digest *digest = qd_digest_by_id(c->ext.digest_id);

	if (!c->ext.version)
		return;
	info->location = c->external ? "file" : "embedded";
	info->hash = digest ? digest->name : NULL;
	info->nbytes = c->ext.container_nbytes;
	info->generation = c->ext.generation;
	info->journal_nbytes = 2ull * c->ext.log_nbytes + c->ext.redo_nbytes;
	if (c->opened) {
		info->has_entries = true;
		info->entries = qd_table_nrecords(c->table);
	}
}

static int take_journal(struct qd_index_info *info, const struct qd_container *c, struct qd_err *err)
{
	static const char *const names[] = {
		[QD_JOURNAL_SOUND] = "clean", [QD_JOURNAL_PENDING] = "pending", [QD_JOURNAL_DAMAGED] = "damaged",
	};
	struct qd_journal *j = NULL;
	struct qd_journal_state s;
	int r;

	if (!c->ext.journal_off)
		info->journal = "absent";
	if (!c->ext.journal_off || !c->io)
		return 0;
	r = qd_log_open(c->io, c->off, &c->ext, &j, err);
	if (r == QD_E_CORRUPT) {
		qd_err_clear(err);
		info->journal = names[QD_JOURNAL_DAMAGED];
		return 0;
	}
	if (r)
		return r;
	qd_journal_state(j, &s);
	qd_journal_close(j);
	info->journal = names[s.health];
	info->journal_used = s.log_used;
	info->journal_entries = s.entries;
	info->journal_live = s.live;
	return 0;
}

int qd_index_info_get(struct qd_image *img, struct qd_index_info *ret_info, struct qd_err *err)
{
	struct qd_index_info info = { 0 };
	struct qd_container *c = NULL;
	int r = qd_container_open(img, NULL, false, &c, err);

	if (r)
		return r;
	info.state = qd_container_state_name(c->state);
	snprintf(info.why, sizeof(info.why), "%s", c->why);
	take_extension(&info, c);
	r = take_journal(&info, c, err);
	qd_container_close(c);
	if (r)
		return r;
	*ret_info = info;
	return 0;
}
