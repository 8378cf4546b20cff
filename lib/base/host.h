/* SPDX-License-Identifier: GPL-2.0-or-later */
/*
 * What the machine offers: the defaults of --threads and --memory, and numbers that no other has.
 */
#ifndef QD_BASE_HOST_H
#define QD_BASE_HOST_H

#include <stdint.h>

#include "base/err.h"

/* Processors this process may use, at least 1. */
unsigned qd_cpu_count(void);

/* The default of --memory: a quarter of RAM, at most 1 GiB. */
uint64_t qd_default_memory(void);

/* A number other than 0 that nobody can foresee. */
int qd_draw_number(uint64_t *ret_number, struct qd_err *err);

#endif
