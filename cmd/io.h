/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * The commands of `qdedup io`: a line of words -> a struct.
 *
 *	read [-P BYTE] [-v] OFF LEN      write [-P BYTE | -s FILE] OFF LEN      write -z OFF LEN
 *	discard OFF LEN                  flush                                  abort
 */
#ifndef QD_CMD_IO_H
#define QD_CMD_IO_H

#include <stdbool.h>
#include <stdint.h>

#include "base/err.h"

enum io_verb { IO_NOTHING, IO_READ, IO_WRITE, IO_DISCARD, IO_FLUSH, IO_ABORT };

struct io_command {
	enum io_verb verb;	/* IO_NOTHING: an empty line or a comment */
	uint64_t off;
	uint64_t nbytes;
	bool has_pattern;
	uint8_t pattern;
	bool zero;		/* write -z */
	bool dump;		/* read -v */
	char *file;		/* write -s; owned */
};

/* QD_E_INVALID says what is wrong with the line.  io_command_free in every case. */
int io_command_parse(const char *line, struct io_command *ret_command, struct qd_err *err);
void io_command_free(struct io_command *c);

#endif
