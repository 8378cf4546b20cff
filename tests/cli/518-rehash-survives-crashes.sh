#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A table made, made again with another hash, dropped, and interrupted everywhere: the layers are as they
# were, no hash is believed that is not right, and every way back ends with a clean image.
. "$(dirname "$0")/io-lib.sh"

mkdup mixed.raw 480K 4K 40 518
qemu-img convert -f raw -O qcow2 -o cluster_size=4K mixed.raw plain.qcow2
qemu-img convert -f raw -O qcow2 -o cluster_size=512,refcount_bits=1 mixed.raw small.qcow2
qemu-img convert -c -f raw -O qcow2 -o cluster_size=16K,extended_l2=on mixed.raw packed.qcow2
qemu-img snapshot -c one packed.qcow2
qemu-io -c 'write -P 1 0 100K' packed.qcow2 >/dev/null
qemu-img create -q -f qcow2 -o cluster_size=1K -b mixed.raw -F raw overlay.qcow2
qemu-io -c 'write -P 1 0 100K' overlay.qcow2 >/dev/null
ok "$QDEDUP" convert -q -o cluster_size=4K mixed.raw shared.qcow2
qemu-img snapshot -c one shared.qcow2
qemu-io -c 'write -P 1 0 100K' shared.qcow2 >/dev/null
ok "$QDEDUP" convert -q --no-pin --no-index -o cluster_size=512 mixed.raw unpinned.qcow2
echo "seed $seed"
qemu=0
for mode in drop keep; do
	"${QD_CRASH:-$_top/build/release/crash}/crash_rehash" -S $seed -m 60 -q 2 -M $mode ./*.qcow2 >out
	cat out
	[ "$(cut -d ' ' -f 1 out)" -ge 200 ] || die 'too few crash states'
	qemu=$((qemu + $(cut -d ' ' -f 6 out)))
done
# With those of 540, 500 at least.
[ $qemu -ge 250 ] || die "QEMU judged only $qemu crash states"
