#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clusters that are shared as often as --max-share allows, or more, get their slot of the pin all the same: also
# those that a snapshot refers to as well.
. "$(dirname "$0")/dedup-lib.sh"

# unpinned IMG: how many shared clusters the pin does not hold
unpinned() {
	ok "$QDEDUP" check --output=json "$1" >check.json
	json check.json 'd["finding-counts"].get("unpinned", 0)'
}

mkdup base.raw 1M 4K 50 717
for options in '' '--max-share=2'; do
	for bits in 4 16; do
		rm -f disk.qcow2
		ok "$QDEDUP" convert -q --no-pin -o cluster_size=4K,refcount_bits=$bits base.raw disk.qcow2
		qemu-img snapshot -c one disk.qcow2
		[ "$(walk --get max-share disk.qcow2)" -gt 1 ] || die "nothing is shared: no test"
		# shellcheck disable=SC2086
		in_place disk.qcow2 4K $options
		is 0 "$(unpinned disk.qcow2)" "clusters without a pin after dedup $options with refcount_bits=$bits"
	done
done
