#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every cache mode, for source and target, gives the same bytes.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 3000001 193 dup50
ok "$QDEDUP" convert in.raw default.qcow2
ok "$QDEDUP" convert default.qcow2 default.raw
modes='writeback writethrough unsafe'
if qemu-img convert -q -T none -t none -O raw default.qcow2 direct.raw 2>/dev/null; then
	modes="$modes none directsync"
fi
for mode in $modes; do
	for option in -t -T; do
		rm -f out.*
		ok "$QDEDUP" convert $option "$mode" in.raw out.qcow2
		cmp default.qcow2 out.qcow2 || die "$option $mode"
		ok "$QDEDUP" convert $option "$mode" default.qcow2 out.raw
		cmp default.raw out.raw || die "$option $mode to raw"
	done
	rm -f out.*
	ok "$QDEDUP" convert -c -o cluster_size=4K -t "$mode" -T "$mode" default.qcow2 out.qcow2
	deduplicated out.qcow2 default.raw 4K
	# in place
	ok "$QDEDUP" convert -n -t "$mode" default.qcow2 out.qcow2
	check_clean -q out.qcow2
	same default.raw out.qcow2 raw qcow2
done
for option in -t -T; do
	fails 1 "$QDEDUP" convert $option nosuch in.raw none.qcow2
	says nosuch writethrough
done
[ ! -e none.qcow2 ] || die "a failure left an output"
