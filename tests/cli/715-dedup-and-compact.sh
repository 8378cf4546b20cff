#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# --compact: the file is at most 2 % larger than what convert makes of the same disk, and holds the same.
. "$(dirname "$0")/dedup-lib.sh"

mkdup base.raw 8M 4K 900 715
for options in cluster_size=4K cluster_size=64K cluster_size=16K,extended_l2=on; do
	for c in '' -c; do
		cs=${options#*=} cs=${cs%%,*}
		# shellcheck disable=SC2086
		qemu-img convert $c -f raw -O qcow2 -o "$options" base.raw disk.qcow2
		in_place_exactly disk.qcow2 $cs --compact
		[ -z "$c" ] || continue
		ok "$QDEDUP" convert -q -t unsafe -o "$options" base.raw fresh.qcow2
		is "$(walk --get data fresh.qcow2)" "$(walk --get data disk.qcow2)" "data clusters beside convert's"
		fresh=$(stat -c %s fresh.qcow2) size=$(stat -c %s disk.qcow2)
		[ "$size" -le $((fresh * 102 / 100 + 3 * $(bytes $cs))) ] || die "$options: $size bytes, convert makes $fresh"
	done
done
fails 1 "$QDEDUP" dedup -n --compact disk.qcow2
