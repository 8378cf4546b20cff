#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Random writes interrupted everywhere: what was flushed is there, snapshots too, a check finds leaks at
# worst (or the dirty bit), and a repair ends with the same disk, stock QEMU's two of a sample as well.
. "$(dirname "$0")/io-lib.sh"

mkdup mixed.raw 640K 4K 50 408
for options in cluster_size=4K cluster_size=512,refcount_bits=64 cluster_size=4K,refcount_bits=1 \
	cluster_size=4K,lazy_refcounts=on compat=0.10,cluster_size=4K cluster_size=16K,extended_l2=on; do
	name=${options//[,=]/-}
	qemu-img convert -f raw -O qcow2 -o "$options" mixed.raw plain-$name.qcow2
	[ "$options" != cluster_size=4K,refcount_bits=1 ] || continue
	qemu-img convert -c -f raw -O qcow2 -o "$options" mixed.raw packed-$name.qcow2
	cp packed-$name.qcow2 snapshots-$name.qcow2
	qemu-img snapshot -c one snapshots-$name.qcow2
	ok "$QDEDUP" io -q -c 'write -P 1 0 100K' snapshots-$name.qcow2
	qemu-img snapshot -c two snapshots-$name.qcow2
	[ "$options" = compat=0.10,cluster_size=4K ] ||
		ok "$QDEDUP" convert -q -t unsafe -o "$options" mixed.raw dedup-$name.qcow2 >/dev/null
done
states=0 qemu=0
for ((n = 0; n < 2; n++)); do
	seed=$((seed + 1))
	echo "seed $seed"
	"${QD_CRASH:-$_top/build/release/crash}/crash_io" -S $seed -m 120 -q 50 ./*.qcow2 >out
	cat out
	states=$((states + $(cut -d ' ' -f 1 out))) qemu=$((qemu + $(cut -d ' ' -f 6 out)))
done
[ $states -ge 2000 ] || die "only $states crash states, expected at least 2000"
[ $qemu -ge 20 ] || die "QEMU judged only $qemu crash states"
