#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Deduplicating writes, journals created, packed and replayed, interrupted everywhere: what was
# flushed is there, a replay completes what was logged, once like twice, a repair leads back, stock
# QEMU's two ways of a sample as well, and no state's index says what is not so.
. "$(dirname "$0")/io-lib.sh"

crash() {
	"${QD_CRASH:-$_top/build/release/crash}/crash_journal" -S $seed "$@" >out
	cat out
	states=$((states + $(cut -d ' ' -f 1 out))) qemu=$((qemu + $(cut -d ' ' -f 6 out)))
}

mkdata a.raw 640K 5 dup50
for options in cluster_size=4K cluster_size=512,refcount_bits=64 cluster_size=4K,refcount_bits=4,lazy_refcounts=on \
	cluster_size=64K; do
	ok "$QDEDUP" convert -q -t unsafe -o "$options" a.raw "io-${options//[,=]/-}.qcow2"
done
ok "$QDEDUP" convert -q -c -t unsafe -o cluster_size=4K a.raw io-packed.qcow2
cp io-packed.qcow2 create.qcow2
for img in io-*.qcow2; do
	ok "$QDEDUP" journal -q --size=16K create "$img"
done
cp io-cluster_size-4K.qcow2 pack.qcow2
for n in 1 2 3; do
	ok "$QDEDUP" io -q -c "write -P $n 0 100K" -c 'discard 0 100K' pack.qcow2
done
cp io-cluster_size-4K.qcow2 replay.qcow2
_run "$QDEDUP" io -q -c 'write -P 9 0 100K' -c 'write -s a.raw 200K 100K' -c 'discard 400K 20K' -c abort replay.qcow2
is 137 "$_status"

states=0 qemu=0
seed=$((seed + 1))
echo "seed $seed"
crash -m 120 -q 3 io-*.qcow2
crash -M create -m 120 -q 2 create.qcow2
crash -M pack -m 60 -q 1 pack.qcow2
crash -M replay -m 100 -q 2 replay.qcow2
[ $states -ge 500 ] || die "only $states crash states"
# With those of 518, 500 at least.
[ $qemu -ge 270 ] || die "QEMU judged only $qemu crash states"
