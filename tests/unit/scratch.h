/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * A directory of its own for a test, removed with everything in it afterwards, and a
 * few things to do with files in it.  Failures of the set-up itself end the run.
 */
#ifndef QD_TESTS_SCRATCH_H
#define QD_TESTS_SCRATCH_H

#include <stdbool.h>
#include <stddef.h>

struct scratch {
	char dir[64];
	char path[4096];	/* what scratch_path returned last */
};

void scratch_open(struct scratch *s);
void scratch_close(struct scratch *s);

/* DIR/name; valid until the next call. */
const char *scratch_path(struct scratch *s, const char *name);

/* Creates DIR/name with this content; returns its path like scratch_path. */
const char *scratch_file(struct scratch *s, const char *name, const void *data, size_t nbytes);

/* True when DIR/name is a regular file with exactly this content. */
bool scratch_holds(struct scratch *s, const char *name, const void *data, size_t nbytes);

/* The name of an entry that begins with '.', in s->path; "" when there is none. */
const char *scratch_hidden(struct scratch *s);

/* The number of entries in the directory. */
int scratch_count(struct scratch *s);

#endif
