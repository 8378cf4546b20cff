#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Each I/O call of a table being made, made anew and dropped fails once, or it and all after it, or moves
# less than asked: a message, no byte of any layer lost, no wrong hash believed, and a repair leads on.
. "$(dirname "$0")/convert-lib.sh"

mkdup mixed.raw 240K 4K 20 521
qemu-img convert -O qcow2 -o cluster_size=512 mixed.raw small.qcow2
ok "$QDEDUP" convert -q --no-index -o cluster_size=4K mixed.raw shared.qcow2
qemu-img snapshot -c one shared.qcow2
qemu-io -c 'write -P 1 0 40k' shared.qcow2 >/dev/null
ok "$QDEDUP" convert -q --no-index --no-pin -c -o cluster_size=4K mixed.raw packed.qcow2
qemu-img convert -O qcow2 -o cluster_size=16K,extended_l2=on mixed.raw extended.qcow2
out=$("${QD_FAULT:-$_top/build/release/fault}/fault_rehash" ./*.qcow2) || die "$out"
echo "$out"
[ "${out%% *}" -ge 1000 ] || die "only ${out%% *} runs"
