/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/index_info.h"

#include <stdio.h>
#include <string.h>

#include "dedup/container.h"

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
	if (!c->ext.journal_off)
		info.journal = "absent";
	qd_container_close(c);
	*ret_info = info;
	return 0;
}
