#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The judge of the tests that follow, qcow2walk.py, is content with what stock QEMU makes and finds
# what is wrong: a COPIED flag, a refcount, a reference to nowhere, data past the last cluster.
. "$(dirname "$0")/convert-lib.sh"

qemu-img create -q -f qcow2 good.qcow2 8M
qemu-io -c 'write -P 1 0 1M' -c 'write -z 2M 64k' -c 'write -c -P 3 3M 64k' good.qcow2 >/dev/null
qemu-img snapshot -c s1 good.qcow2
qemu-io -c 'write -P 2 512k 1M' good.qcow2 >/dev/null
qemu-img bitmap --add good.qcow2 b0
walk good.qcow2 >/dev/null || die "QEMU's own image displeases"
is 33 "$(walk --get data good.qcow2)"
is 1 "$(walk --get compressed good.qcow2)"

for o in compat=0.10 refcount_bits=1 refcount_bits=4 refcount_bits=64,cluster_size=512 extended_l2=on; do
	qemu-img convert -O qcow2 -o $o good.qcow2 other.qcow2
	walk --fresh other.qcow2 >/dev/null || die "QEMU's image with $o displeases"
done

l1=$(peek good.qcow2 40 8)
l2=$(($(peek good.qcow2 "$l1" 8) & 0xfffffffffffe00))
reftable=$(peek good.qcow2 48 8)
block=$(peek good.qcow2 "$reftable" 8)

displeases() {
	local what=$1
	cp good.qcow2 bad.qcow2
	poke bad.qcow2 "$2" "$3" "$4"
	! walk --fresh bad.qcow2 >out 2>&1 || die "not found: $what"
	grep -q "^$5: " out || die "$what: not named: $(cat out)"
}

entry=$(peek good.qcow2 "$l2" 8)
displeases "COPIED set on a shared cluster" "$l2" 1 128 copied
displeases "COPIED clear on a cluster of its own" $((l2 + 8 * 8)) 1 0 copied
displeases "refcount too large" $((block + 2 * (entry >> 16 & 0xffff))) 2 7 refcount
displeases "one entry more to the same cluster" $((l2 + 100 * 8)) 8 "$entry" refcount
displeases "reserved bits" $((l2 + 7)) 1 2 reserved

qemu-img convert -O qcow2 other.qcow2 good.qcow2
qemu-img snapshot -c qdedup good.qcow2
displeases "a pin that QEMU can revert to" 4 4 3 pin
snapshots=$(peek good.qcow2 64 8)
displeases "a pin that references what is not shared" $((snapshots + 48)) 8 4097 pin

qemu-img convert -O qcow2 other.qcow2 good.qcow2
head -c 65536 /dev/zero >>good.qcow2
! walk --fresh good.qcow2 2>out >/dev/null || die "a tail was not found"
grep -q '^tail: ' out || die "a tail was not named"
