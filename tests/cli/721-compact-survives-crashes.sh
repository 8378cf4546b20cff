#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Compaction interrupted at every write: no byte of any layer is lost, and each way back ends clean.
. "$(dirname "$0")/lib.sh"

# No bitmaps: qemu-img check -r all of QEMU 7.2 takes the snapshots for leaks in an image that has both.
make() {
	qemu-img create -q -f qcow2 -o "$2" "$1" 1M
	qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 64k 64k' -c 'write -c -P 9 256k 64k' -c 'write -c -P 10 320k 64k' \
		-c 'write -P 7 900k 60k' "$1" >/dev/null
	[ "$2" != "${2%refcount_bits=1}" ] || qemu-img snapshot -c one "$1"
	qemu-io -c 'write -P 3 32k 40k' -c 'write -P 4 600k 60k' "$1" >/dev/null
	[ "$2" != "${2%refcount_bits=1}" ] || qemu-img snapshot -c two "$1"
	qemu-io -c 'write -P 5 600k 20k' -c 'discard 0 128k' -c 'write -c -P 11 700k 64k' "$1" >/dev/null || true
	[ "$2" != "${2%refcount_bits=1}" ] || qemu-img snapshot -d one "$1"
	check_clean "$1"
}

n=0
for options in cluster_size=4K cluster_size=512 cluster_size=64K cluster_size=4K,lazy_refcounts=on \
	cluster_size=16K,extended_l2=on cluster_size=4K,refcount_bits=1; do
	make $n.qcow2 $options
	n=$((n + 1))
done
cp 0.qcow2 table.qcow2
ok "$QDEDUP" rehash -q table.qcow2
cp 0.qcow2 shared.qcow2
ok "$QDEDUP" dedup -q shared.qcow2
"${QD_CRASH:-$_top/build/release/crash}/crash_compact" -s 2 -m 600 -q 60 ./*.qcow2 >out
"${QD_CRASH:-$_top/build/release/crash}/crash_compact" -s 2 -m 400 -q 100 -M small shared.qcow2 table.qcow2 >>out
cat out
states=$(awk '{ n += $1 } END { print n }' out)
[ "$states" -ge 2500 ] || die "only $states crash states, expected at least 2500"
