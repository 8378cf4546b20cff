#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each I/O call of a compaction fails once, or it and all after it, or moves less than asked: a message, no byte of
# any layer lost, and the next run finishes.
. "$(dirname "$0")/compact-lib.sh"

make_all_holes
mv 512.qcow2 512
out=$("${QD_FAULT:-$_top/build/release/fault}/fault_compact" ./*.qcow2) || die "$out"
echo "$out"
[ "${out%% *}" -ge 4000 ] || die "only ${out%% *} runs"
mv 512 512.qcow2
out=$("${QD_FAULT:-$_top/build/release/fault}/fault_compact" -s 5 512.qcow2) || die "$out"
echo "$out"
