#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Compaction interrupted at every write: no byte of any layer is lost, and each way back ends clean.
. "$(dirname "$0")/compact-lib.sh"

crash=${QD_CRASH:-$_top/build/release/crash}/crash_compact
seed=${SEED:-$RANDOM}
echo "seed $seed"
make_all_holes
"$crash" -S "$seed" -q 10 ./*.qcow2 >out
"$crash" -S "$seed" -q 10 -M small ./shared.qcow2 ./table.qcow2 >>out
cat out
read -r states qemu < <(awk '{ n += $1; q += $6 } END { print n, q }' out)
[ "$states" -ge 4000 ] || die "only $states crash states, expected at least 4000"
[ "$qemu" -ge 300 ] || die "only $qemu of them judged by QEMU"
