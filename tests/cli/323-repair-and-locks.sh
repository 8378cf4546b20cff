#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An image that a program has open is not repaired, not even one that only reads; -U changes nothing of it.
. "$(dirname "$0")/check-lib.sh"

qemu-img create -q -f qcow2 disk.img 64M
qemu-io -c 'write 0 1M' disk.img >/dev/null
damage disk.img 'refcount[host[64K]] = 0'
cp disk.img was.img

for mode in '' -r; do
	# shellcheck disable=SC2086  # a word or none
	hold io qemu-io $mode -f qcow2 disk.img
	tell io 'read 0 512'
	wait_for grep -q 'read 512' io.out
	fails 1 timeout $((5 * slower)) "$QDEDUP" check --repair disk.img
	says 'in use|lock'
	fails 1 timeout $((5 * slower)) "$QDEDUP" check --repair -U disk.img
	exits 2 "$QDEDUP" check -n -U disk.img >/dev/null
	tell io quit
	release io
done
cmp disk.img was.img
ok "$QDEDUP" check --repair disk.img >/dev/null
check_clean disk.img
