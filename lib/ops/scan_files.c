/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_files.h"

#include <stdlib.h>

#include "dedup/digest.h"

/* Where a file is, or is to go. */
static struct scan_file *slot_of(const struct scan_files *t, const uint64_t id[2])
{
	size_t i = (size_t)qd_fingerprint_of(id, 2 * sizeof(*id)).lo & (t->nslots - 1);

	while (t->slots[i].taken && (t->slots[i].id[0] != id[0] || t->slots[i].id[1] != id[1]))
		i = (i + 1) & (t->nslots - 1);
	return &t->slots[i];
}

static int grow(struct scan_files *t, struct qd_err *err)
{
	struct scan_files larger = { .nslots = t->nslots ? 2 * t->nslots : 64, .n = t->n };

	larger.slots = calloc(larger.nslots, sizeof(*larger.slots));
	if (!larger.slots)
		return qd_err_nomem(err, "images");
	for (size_t i = 0; i < t->nslots; i++)
		if (t->slots[i].taken)
			*slot_of(&larger, t->slots[i].id) = t->slots[i];
	free(t->slots);
	*t = larger;
	return 0;
}

int qd_scan_files_add(struct scan_files *t, const uint64_t id[2], bool *ret_new, struct qd_err *err)
{
	int r = 2 * (t->n + 1) > t->nslots ? grow(t, err) : 0;
	struct scan_file *slot;

	if (r)
		return r;
	slot = slot_of(t, id);
	*ret_new = !slot->taken;
	if (*ret_new)
		t->n++;
	*slot = (struct scan_file){ { id[0], id[1] }, true };
	return 0;
}

void qd_scan_files_free(struct scan_files *t)
{
	free(t->slots);
	*t = (struct scan_files){ .slots = NULL };
}
