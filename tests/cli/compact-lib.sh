# shellcheck shell=bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Small images with holes, for compact to be disturbed in: make_holes IMAGE OPTIONS, make_all_holes.
. "$(dirname "${BASH_SOURCE[0]}")/lib.sh"

# No bitmaps: qemu-img check -r all of QEMU 7.2 takes the snapshots for leaks in an image that has both.
make_holes() {
	local snapshots=1
	[ "$2" = "${2%refcount_bits=1}" ] || snapshots=
	qemu-img create -q -f qcow2 -o "$2" "$1" 1M
	qemu-io -c 'write -P 1 0 64k' -c 'write -P 2 64k 64k' -c 'write -c -P 9 256k 64k' -c 'write -c -P 10 320k 64k' \
		-c 'write -P 7 900k 60k' "$1" >/dev/null || true
	[ -z "$snapshots" ] || qemu-img snapshot -c one "$1"
	qemu-io -c 'write -P 3 32k 40k' -c 'write -P 4 600k 60k' "$1" >/dev/null
	[ -z "$snapshots" ] || qemu-img snapshot -c two "$1"
	qemu-io -c 'write -P 5 600k 20k' -c 'discard 0 128k' -c 'write -c -P 11 700k 64k' "$1" >/dev/null || true
	[ -z "$snapshots" ] || qemu-img snapshot -d one "$1"
	check_clean "$1"
}

# Of every kind one, two of which have a hash table, and clusters that are shared.
make_all_holes() {
	make_holes plain.qcow2 cluster_size=4K
	make_holes 512.qcow2 cluster_size=512
	make_holes extended.qcow2 cluster_size=16K,extended_l2=on
	make_holes lazy.qcow2 cluster_size=4K,lazy_refcounts=on
	make_holes rb1.qcow2 cluster_size=4K,refcount_bits=1
	make_holes v2.qcow2 cluster_size=4K,compat=0.10
	cp plain.qcow2 table.qcow2
	ok "$QDEDUP" rehash -q -t unsafe table.qcow2
	cp plain.qcow2 shared.qcow2
	ok "$QDEDUP" dedup -q -t unsafe shared.qcow2
}
