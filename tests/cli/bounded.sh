#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bounded.sh COMMAND...: with 2 GiB of address space.  An instrumented build reserves terabytes of it and
# runs without the bound.
[ "${QD_TIMES_SLOWER:-1}" -ne 1 ] || ulimit -v 2097152
exec "$@"
