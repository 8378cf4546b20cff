#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# An image that a program holds for writing is not checked, but with -U.
. "$(dirname "$0")/check-lib.sh"

qemu-img create -q -f qcow2 disk.img 64M
qemu-io -c 'write 0 1M' disk.img >/dev/null

hold io qemu-io -f qcow2 disk.img
tell io 'read 0 512'
wait_for grep -q 'read 512' io.out
fails 1 timeout $((5 * slower)) "$QDEDUP" check disk.img
says 'in use|lock' force-share
exits 0 "$QDEDUP" check -U disk.img >/dev/null
tell io quit
release io

hold nbd qemu-nbd -t -f qcow2 -k "$PWD/nbd.sock" disk.img
wait_for test -S nbd.sock
fails 1 timeout $((5 * slower)) "$QDEDUP" check disk.img
exits 0 "$QDEDUP" check --force-share disk.img >/dev/null
kill "${_held_pid[nbd]}"
release nbd || true

hold io qemu-io -r -f qcow2 disk.img
tell io 'read 0 512'
wait_for grep -q 'read 512' io.out
exits 0 "$QDEDUP" check disk.img >/dev/null
tell io quit
release io
