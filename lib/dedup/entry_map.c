/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * At most half of the slots are in use, so that a search is short.
 */
#include "dedup/entry_map.h"

#include <stdlib.h>

#define FIRST_SLOTS 256u

static struct qd_entry_slot *find_slot(const struct qd_entry_map *m, uint64_t entry)
{
	uint64_t i = (entry * 0x9e3779b97f4a7c15ull) >> 17;

	for (i &= m->nslots - 1; m->slots[i].entry && m->slots[i].entry != entry;)
		i = (i + 1) & (m->nslots - 1);
	return &m->slots[i];
}

static int grow(struct qd_entry_map *m, struct qd_err *err)
{
	struct qd_entry_map larger = { .nslots = m->nslots ? m->nslots * 2 : FIRST_SLOTS, .used = m->used };

	larger.slots = calloc((size_t)larger.nslots, sizeof(*larger.slots));
	if (!larger.slots)
		return qd_err_nomem(err, "the index");
	for (uint64_t i = 0; i < m->nslots; i++)
		if (m->slots[i].entry)
			*find_slot(&larger, m->slots[i].entry) = m->slots[i];
	free(m->slots);
	*m = larger;
	return 0;
}

int qd_entry_map_set(struct qd_entry_map *m, uint64_t entry, uint64_t value, struct qd_err *err)
{
	struct qd_entry_slot *s;
	int rc = m->used >= m->nslots / 2 ? grow(m, err) : 0;

	if (rc)
		return rc;
	s = find_slot(m, entry);
	m->used += s->entry == 0;
	*s = (struct qd_entry_slot){ .entry = entry, .value = value };
	return 0;
}

uint64_t qd_entry_map_get(const struct qd_entry_map *m, uint64_t entry)
{
	const struct qd_entry_slot *s = m->nslots ? find_slot(m, entry) : NULL;

	return s && s->entry ? s->value : QD_ENTRY_MAP_NONE;
}

void qd_entry_map_free(struct qd_entry_map *m)
{
	free(m->slots);
	*m = (struct qd_entry_map){ .nslots = 0 };
}
