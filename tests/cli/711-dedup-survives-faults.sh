#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each I/O call of a run fails once, or it and all after it, or moves less than asked: a message, no byte of any
# layer lost, and the next run finishes.
. "$(dirname "$0")/dedup-crash.sh"

for kind in plain packed snapshots again; do
	mkdir $kind
	cd $kind
	make_images $kind
	cd ..
done
out=$("${QD_FAULT:-$_top/build/release/fault}/fault_dedup" ./*/*4K.qcow2 ./*/*extended*.qcow2) || die "$out"
echo "$out"
[ "${out%% *}" -ge 3000 ] || die "only ${out%% *} runs"
