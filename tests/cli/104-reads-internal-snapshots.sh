#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -l takes an internal snapshot by ID or by name, at the size the disk had then.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 3M 104 dup50
for options in compat=0.10 cluster_size=4K extended_l2=on; do
	qemu-img convert -O qcow2 -o $options base.raw in.qcow2
	qemu-img convert -O raw in.qcow2 at-first.raw
	qemu-img snapshot -c first in.qcow2
	[ $options = compat=0.10 ] || qemu-img resize -q in.qcow2 5M
	scribble_end=$(qemu-img info --output=json in.qcow2 | grep -c '"name"' || true)
	is 1 "$scribble_end" "snapshots"
	qemu-io -c 'write -P 5 1M 1M' -c 'write -z 2M 512k' -c 'write -P 6 0 5k' in.qcow2 >/dev/null
	qemu-img convert -O raw in.qcow2 at-second.raw
	qemu-img snapshot -c 'the second' in.qcow2
	[ $options = compat=0.10 ] || qemu-img resize -q --shrink in.qcow2 2M
	qemu-io -c 'write -P 7 0 2M' in.qcow2 >/dev/null
	content in.qcow2
	from in.qcow2

	for pair in 1:first first:first 2:second "the second:second"; do
		ok "$QDEDUP" convert -l "${pair%:*}" in.qcow2 out.raw
		cmp "at-${pair#*:}.raw" out.raw || die "-l ${pair%:*} with $options"
		rm -f out.qcow2
		ok "$QDEDUP" convert -l "${pair%:*}" in.qcow2 out.qcow2
		deduplicated out.qcow2 "at-${pair#*:}.raw" 64K
	done
done

# By ID before name: a snapshot whose name is another one's ID
qemu-img snapshot -c 1 in.qcow2
ok "$QDEDUP" convert -l 1 in.qcow2 out.raw
cmp at-first.raw out.raw || die "-l 1 is not the ID 1"
ok "$QDEDUP" convert -l 3 in.qcow2 out.raw
cmp content.raw out.raw || die "-l 3 is not the ID 3"

rm -f none.*
fails 1 "$QDEDUP" convert -l nosuch in.qcow2 none.qcow2
says in.qcow2 nosuch
fails 1 "$QDEDUP" convert -l first base.raw none.qcow2
says base.raw
[ ! -e none.qcow2 ] || die "a failed -l left an output"
