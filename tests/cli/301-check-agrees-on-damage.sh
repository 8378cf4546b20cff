#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# check agrees with qemu-img check on damage that programs leave behind: dirty images,
# leaks, refcounts and COPIED flags that are wrong, entries past the end.
. "$(dirname "$0")/check-lib.sh"

# A program that dies with refcounts not yet written
for options in cluster_size=4K cluster_size=64K refcount_bits=1 refcount_bits=64 extended_l2=on; do
	qemu-img create -q -f qcow2 -o lazy_refcounts=on,$options d.img 1G
	qemu-io -c 'write 0 1M' d.img >/dev/null
	qemu-io -c 'write 10M 3M' -c 'write 600M 1M' -c 'write 64k 1k' -c 'abort' d.img >/dev/null 2>&1 || true
	agrees d.img 2
	is true "$(json ours.json 'd["dirty"]')" "dirty"
	qemu-img check -q -r all d.img >/dev/null 2>&1 || true
	agrees d.img 0
done
qemu-img create -q -f qcow2 -o lazy_refcounts=on d.img 1G
qemu-io -c 'write 0 1M' d.img >/dev/null
qemu-img snapshot -c s d.img
qemu-io -c 'write 10M 3M' -c 'write 64k 1k' -c 'discard 128k 64k' -c 'abort' d.img >/dev/null 2>&1 || true
agrees d.img

qemu-img create -q -f qcow2 base.img 1G
qemu-io -c 'write 0 1M' -c 'write -c 2M 64k' -c 'write -c 2112k 64k' -c 'write 700M 256k' base.img >/dev/null
qemu-img snapshot -c s base.img
qemu-io -c 'write 0 128k' base.img >/dev/null

# try STATUS STATEMENT...: on a fresh copy
try() {
	local status=$1
	shift
	cp base.img x.img
	damage x.img "$@"
	agrees x.img "$status"
}

try 3 'byte[new] = 0' 'refcount[END - CLUSTER] = 1'
try 3 'refcount[host[256K]] = 7'
try 3 'refcount[header.l1_off] = 2'
try 2 'refcount[host[0]] = 0'
try 2 'refcount[host[256K]] = 0'
try 2 'refcount[host[256K]] = 1'
try 2 'l2[0] = host[0]'
try 2 'l2[256K] = l2[256K] | COPIED'
try 2 'l1[0] = table[0]'
try 2 'l1[1] = l1[1] | COPIED'
try 2 'l2[0] = l2[0] | 0x0100000000000000'
try 2 'l1[0] = l1[0] | 0x0100000000000000'
# (an entry past the end is one error here, and may be two there)
try 2 'l2[0] = END + CLUSTER * 3'
try 2 'l2[2M] = l2[2M] | COPIED'
try 2 'l2[2M] = COMPRESSED | END + CLUSTER * 3'
try 3 'l2[0] = 0'
try 3 'l1[0] = 0'
try 3 'snap[0].l1[0] = 0'
try 2 'l2[10M] = l2[256K]'
try 0 'header.incompatible = 1'
try 0 'l2[10M] = l2[256K]' 'refcount[host[256K]] += 1'
