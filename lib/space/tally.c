/* SPDX-License-Identifier: GPL-2.0-or-later */
#include "space/tally.h"

#include <assert.h>

void qd_tally_init(struct qd_tally *t, uint64_t max)
{
	*t = (struct qd_tally){ .max = max > QD_TALLY_MAX ? QD_TALLY_MAX : max };
	t->wide = t->max > UINT16_MAX;
}

void qd_tally_free(struct qd_tally *t)
{
	qd_bigarray_free(&t->array);
}

static size_t width(const struct qd_tally *t)
{
	return t->wide ? sizeof(uint32_t) : sizeof(uint16_t);
}

uint64_t qd_tally_get(const struct qd_tally *t, uint64_t index)
{
	if (index >= t->array.nbytes / width(t))
		return 0;
	return t->wide ? ((const uint32_t *)t->array.p)[index] : ((const uint16_t *)t->array.p)[index];
}

int qd_tally_add(struct qd_tally *t, uint64_t index, uint32_t amount, struct qd_err *err)
{
	uint64_t sum = qd_tally_get(t, index) + amount;
	int r = qd_bigarray_need(&t->array, (index + 1) * width(t), "reference counts", err);

	if (r)
		return r;
	assert(sum <= t->max);
	if (t->wide)
		((uint32_t *)t->array.p)[index] = (uint32_t)sum;
	else
		((uint16_t *)t->array.p)[index] = (uint16_t)sum;
	return 0;
}
