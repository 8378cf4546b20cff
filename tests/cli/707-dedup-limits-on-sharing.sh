#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Every refcount width, and --max-share: nothing is referenced more often than it may be, what is over that is
# stored again, and there are as few clusters as that allows.
. "$(dirname "$0")/dedup-lib.sh"

# stored RAW CLUSTER CAP: how many clusters it takes
stored() {
	counted "$1" "$2" "$3"
	echo "$data"
}

mkdup base.raw 2M 4K 7 770
for bits in 2 4 8 16 32 64; do
	qemu-img convert -f raw -O qcow2 -o cluster_size=4K,refcount_bits=$bits base.raw disk.qcow2
	in_place disk.qcow2 4K
	cap=$(((1 << bits > 0 ? (1 << bits) - 1 : 1 << 40) / 2))
	[ $bits -lt 32 ] || cap=0
	[ $bits != 2 ] || cap=2
	is "$(stored base.raw 4K $cap)" "$(walk --get data disk.qcow2)" "data clusters with refcount_bits=$bits"
	ok "$QDEDUP" dedup disk.qcow2 >out
	grep -q 'nothing to do' out || die "refcount_bits=$bits: the second run: $(cat out)"
	qemu-img snapshot -c one disk.qcow2 || [ $bits = 2 ]
	[ $bits = 2 ] || check_clean -q disk.qcow2
	# compressed: several in one host cluster
	qemu-img convert -c -f raw -O qcow2 -o cluster_size=4K,refcount_bits=8 base.raw disk.qcow2
done
for max in 2 3 10 100; do
	qemu-img convert -f raw -O qcow2 -o cluster_size=4K base.raw disk.qcow2
	in_place disk.qcow2 4K --max-share=$max
	is "$(stored base.raw 4K $max)" "$(walk --get data disk.qcow2)" "data clusters with --max-share=$max"
	[ "$(walk --get max-share disk.qcow2)" -le $max ] || die "--max-share=$max: shared more often"
done
for bits in 2 4 8; do
	qemu-img convert -c -f raw -O qcow2 -o cluster_size=64K,refcount_bits=$bits base.raw disk.qcow2 2>err || continue
	in_place disk.qcow2 64K
done
