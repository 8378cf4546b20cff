#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# --repair=leaks gives back what nothing uses, and nothing while other damage is there.
. "$(dirname "$0")/check-lib.sh"

qemu-img create -q -f qcow2 base.img 64M
qemu-io -c 'write -P 1 0 1M' base.img >/dev/null

cp base.img disk.img
damage disk.img 'byte[new] = 0' 'refcount[END - CLUSTER] = 1' 'refcount[host[64K]] = 2'
exits 2 "$QDEDUP" check disk.img >/dev/null
ok "$QDEDUP" check --repair=leaks --output=json disk.img >out.json
is 2 "$(json out.json 'd["leaks-fixed"]')" leaks-fixed
check_clean disk.img
same disk.img base.img

cp base.img disk.img
damage disk.img 'byte[new] = 0' 'refcount[END - CLUSTER] = 1'
exits 3 "$QDEDUP" check disk.img >/dev/null
ok "$QDEDUP" check -r leaks disk.img >/dev/null
check_clean disk.img

cp base.img disk.img
damage disk.img 'l2[0] = END + CLUSTER'
cp disk.img was.img
exits 2 "$QDEDUP" check -r leaks disk.img | prints '^No repair'
cmp disk.img was.img
exits 0 "$QDEDUP" check -r all disk.img >/dev/null
check_clean disk.img
