/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "ops/scan_names.h"

#include <stdlib.h>
#include <string.h>

#include "dedup/digest.h"

/* Where text is, or is to go. */
static struct scan_name *slot_of(const struct scan_names *t, const char *text)
{
	size_t i = (size_t)qd_fingerprint_of(text, strlen(text)).lo & (t->nslots - 1);

	while (t->slots[i].text && strcmp(t->slots[i].text, text) != 0)
		i = (i + 1) & (t->nslots - 1);
	return &t->slots[i];
}

bool qd_scan_names_find(const struct scan_names *t, const char *text, unsigned *ret_number)
{
	const struct scan_name *slot = t->nslots ? slot_of(t, text) : NULL;

	if (!slot || !slot->text)
		return false;
	*ret_number = slot->number;
	return true;
}

static int grow(struct scan_names *t, struct qd_err *err)
{
	struct scan_names larger = { .nslots = t->nslots ? 2 * t->nslots : 64, .n = t->n };

	larger.slots = calloc(larger.nslots, sizeof(*larger.slots));
	if (!larger.slots)
		return qd_err_nomem(err, "names");
	for (size_t i = 0; i < t->nslots; i++)
		if (t->slots[i].text)
			*slot_of(&larger, t->slots[i].text) = t->slots[i];
	free(t->slots);
	*t = larger;
	return 0;
}

int qd_scan_names_add(struct scan_names *t, const char *text, unsigned number, struct qd_err *err)
{
	int r = 2 * (t->n + 1) > t->nslots ? grow(t, err) : 0;

	if (r)
		return r;
	*slot_of(t, text) = (struct scan_name){ text, number };
	t->n++;
	return 0;
}

void qd_scan_names_free(struct scan_names *t)
{
	free(t->slots);
	*t = (struct scan_names){ .slots = NULL };
}
