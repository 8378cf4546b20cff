#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# -c: what compresses is smaller, at any level; what does not compress is stored plain; QEMU reads all of it.
. "$(dirname "$0")/convert-lib.sh"

mkdata text.raw 1536K 195 text
noise noise.raw 512K 196
cat text.raw noise.raw text.raw >in.raw
for how in zlib zstd; do
	for cs in 4K 64K 2M; do
		sizes=
		for level in 1 5 6 9; do
			rm -f out.qcow2
			ok "$QDEDUP" convert -t unsafe -c --compress-level=$level -o compression_type=$how,cluster_size=$cs in.raw out.qcow2
			deduplicated out.qcow2 in.raw $cs
			sizes="$sizes $(stat -c %s out.qcow2)"
			case $cs in
			2M) ;;
			*)
				noisy=$((524288 / $(bytes $cs)))
				is $((data - noisy)) "$(walk --get compressed out.qcow2)" "compressed clusters at $cs"
				;;
			esac
		done
		qemu-img convert -c -O qcow2 -o compression_type=$how,cluster_size=$cs text.raw theirs.qcow2
		ok "$QDEDUP" convert -t unsafe -c --compress-level=9 --no-dedup -o compression_type=$how,cluster_size=$cs text.raw ours.qcow2
		ours=$(stat -c %s ours.qcow2) theirs=$(stat -c %s theirs.qcow2)
		echo "$how $cs: levels$sizes; level 9 $ours, QEMU $theirs"
		[ "$ours" -le $((theirs + theirs / 50 + $(bytes $cs))) ] || die "$how at $cs, level 9: $ours bytes, QEMU $theirs"
		rm ours.qcow2
	done
done
for bad in 0 10 x; do
	fails 1 "$QDEDUP" convert -t unsafe -c --compress-level=$bad in.raw none.qcow2
	says "$bad"
	[ ! -e none.qcow2 ] || die "--compress-level=$bad left an output"
done
fails 1 "$QDEDUP" convert --compress-level=9 in.raw none.qcow2
says 'needs -c'
