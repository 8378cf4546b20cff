#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A virtual machine opens a crashed image before qdedup does: QEMU repairs it by itself.  A replay then
# refuses and says why; check --repair and rehash bring everything back.
. "$(dirname "$0")/dedup-lib.sh"

mkdata a.raw 640K 5 dup50
ok "$QDEDUP" convert -q -t unsafe -o cluster_size=4K a.raw disk.qcow2
ok "$QDEDUP" journal -q --size=16K create disk.qcow2
_run "$QDEDUP" io -q -c 'write -P 9 0 100K' -c 'write -s a.raw 200K 100K' -c 'discard 400K 20K' -c abort disk.qcow2
is 137 "$_status" "status of a run that aborts"
qemu-img info --output=json disk.qcow2 | prints '"dirty-flag": true' || die "not marked dirty: no test"
qemu-io -c 'write -P 7 500K 8K' disk.qcow2 >out 2>&1 || die "QEMU does not open it: $(cat out)"
check_clean -q disk.qcow2
layers disk.qcow2 before
fails 1 "$QDEDUP" journal replay disk.qcow2
echo "$ERR"
says 'check --repair' 'rehash'
same_layers disk.qcow2 before
ok "$QDEDUP" check -q --repair disk.qcow2 >out
ok "$QDEDUP" rehash -q disk.qcow2 >out
ok "$QDEDUP" verify --output=json disk.qcow2 >out.json
is valid "$(json out.json 'd["state"]')"
check_clean -q disk.qcow2
same_layers disk.qcow2 before
in_place_exactly disk.qcow2 4K
