#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clusters of zeros become entries that say so, also over a backing file, which must not show; clusters kept
# for zeros are given up; with extended L2 what is not allocated goes on showing the backing file.
. "$(dirname "$0")/dedup-lib.sh"

noise back.raw 2M 720
for options in cluster_size=4K cluster_size=64K cluster_size=64K,extended_l2=on cluster_size=16K,extended_l2=on; do
	for back in '' '-b back.raw -F raw'; do
		cs=${options#*=} cs=${cs%%,*}
		# shellcheck disable=SC2086
		qemu-img create -q -f qcow2 -o "$options" $back disk.qcow2 2M
		qemu-io -d unmap -c 'write -P 0 0 256k' -c 'write -P 5 256k 128k' -c 'write -P 5 512k 128k' -c 'write -P 0 768k 1k' \
			-c 'write -P 6 900k 2k' -c 'write -P 9 1M 64k' -c 'write -z 1M 64k' -c 'write -P 9 1152k 64k' \
			-c 'write -z 1160k 8k' -c 'write -P 0 1300k 40k' -c 'write -P 6 964k 2k' disk.qcow2 >/dev/null
		qemu-img snapshot -c one disk.qcow2
		qemu-io -d unmap -c 'write -P 0 256k 64k' -c 'write -P 5 1800k 64k' disk.qcow2 >/dev/null
		in_place disk.qcow2 $cs
		[ "$(json out.json 'd["zero-clusters-freed"]')" -gt 0 ] || die "no zeros were freed: no test"
		is 0 "$(walk --get prealloc disk.qcow2)" "clusters kept for zeros"
		[ -n "$back" ] || [ "$options" != "${options%on}" ] ||
			is "$(distinct_in before $cs)" "$(walk --get data disk.qcow2)" "data clusters"
		ok "$QDEDUP" dedup -t unsafe disk.qcow2 >second
		grep -q 'nothing to do' second || die "the second run: $(cat second)"
	done
done

# Everything preallocated: nothing but zeros.
for preallocation in metadata falloc full; do
	qemu-img create -q -f qcow2 -o preallocation=$preallocation disk.qcow2 4M
	in_place_exactly disk.qcow2 64K
	is 0 "$(walk --get data disk.qcow2)" "data clusters"
done
