#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# Damaged bitmaps are removed, a damaged table entry becomes "all dirty"; the disk stays as it is.
. "$(dirname "$0")/check-lib.sh"

qemu-img create -q -f qcow2 base.img 64M
qemu-io -c 'write -P 1 0 1M' base.img >/dev/null
qemu-img bitmap --add base.img one
qemu-img bitmap --add base.img two

try() {
	local kind=$1
	shift
	cp base.img disk.img
	damage disk.img "$@"
	exits 2 "$QDEDUP" check disk.img | prints "^corruption $kind" || die "not found: $kind"
	exits 0 "$QDEDUP" check --repair disk.img >/dev/null
	check_clean disk.img
	exits 0 "$QDEDUP" check -q disk.img >/dev/null
	same disk.img base.img
	qemu-io -f qcow2 -c 'write -P 2 2M 64k' disk.img >/dev/null
	check_clean disk.img
}

bitmaps() {
	qemu-img info --output=json disk.img | json - 'len(d["format-specific"]["data"].get("bitmaps", []))'
}

try bitmap-directory 'ext[BITMAPS].be64[16] = END + CLUSTER'
is 0 "$(bitmaps)" bitmaps
try bitmap-extension 'ext[BITMAPS].be32[0] = 3'
try bitmap-entry 'ext[BITMAPS].be32[0] = 1'
try bitmap-table 'be64[ext[BITMAPS].be64[16]] = END + 3 * CLUSTER'
try overlap 'ext[BITMAPS].be64[16] = header.l1_off'
try bitmap-table-entry 'be64[be64[ext[BITMAPS].be64[16]]] = 0x0100000000000000'
is 2 "$(bitmaps)" bitmaps
