/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * -o NAME=VALUE,...: the options of a new qcow2 image, as several commands take them.
 */
#include <string.h>

#include "cmd.h"
#include "ops/layout.h"

static void print_help(bool with_size)
{
	printf("Options of a new qcow2 image (-o NAME=VALUE,...; a comma in a value is written ,,):\n");
	for (const struct qd_layout_help *row = qd_layout_help(); row->name; row++)
		if (with_size || strcmp(row->name, "size") != 0)
			printf("  %-18s %s\n", row->name, row->text);
}

int layout_option(struct qd_layout *layout, const char *text, bool with_size, struct qd_err *err)
{
	if (strcmp(text, "help") == 0 || strcmp(text, "?") == 0) {
		print_help(with_size);
		return OPTIONS_DONE;
	}
	return qd_layout_parse(layout, text, err);
}
