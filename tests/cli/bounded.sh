#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# bounded.sh PROGRAM ARG...: with 2 GiB of address space.  An instrumented build reserves terabytes of it,
# cannot even tell its version with less, and runs without the bound.
bound=2097152
if [ "${QD_TIMES_SLOWER:-1}" -eq 1 ] && (ulimit -v $bound && exec "$1" --version) >/dev/null 2>&1; then
	ulimit -v $bound
fi
exec "$@"
