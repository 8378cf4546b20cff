#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What a running QEMU holds for writing is neither read nor replaced, and the message says so; -U reads
# it. What QEMU only reads is read, but not replaced.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 2M 170 dup50
qemu-img convert -O qcow2 base.raw disk.qcow2
qemu-img create -q -f qcow2 -b disk.qcow2 -F qcow2 top.qcow2
qemu-img create -q -f qcow2 -o data_file=ext.data,data_file_raw=on ext.qcow2 2M

refused() {
	local named=$1
	shift
	fails 1 timeout $((5 * slower)) "$QDEDUP" convert "$@"
	says "$named" 'in use|lock'
	[ ! -e new.qcow2 ] || die "convert $* left an output"
}

busy() {
	local img=$1 format=$2
	for how in io nbd; do
		case $how in
		io)
			hold io qemu-io -f "$format" "$img"
			tell io 'read 0 512'
			wait_for grep -q 'read 512' io.out
			;;
		nbd)
			hold nbd qemu-nbd -t -f "$format" -k "$PWD/nbd.sock" "$img"
			wait_for test -S nbd.sock
			;;
		esac
		before=$(sha256sum base.raw disk.qcow2 top.qcow2)
		refused "$img" "$img" new.qcow2
		refused "$img" "$img" -
		says force-share
		refused "$img" other.raw "$img"
		refused "$img" -n other.raw "$img"
		is "$before" "$(sha256sum base.raw disk.qcow2 top.qcow2)" "files"
		ok "$QDEDUP" convert -U -f "$format" "$img" new.qcow2
		same base.raw new.qcow2 raw qcow2
		rm new.qcow2
		[ "$img" != disk.qcow2 ] || refused disk.qcow2 top.qcow2 new.qcow2
		if [ $how = io ]; then tell io quit; else kill "${_held_pid[nbd]}"; fi
		release $how || true
		rm -f nbd.sock
	done
}
cp base.raw other.raw
busy disk.qcow2 qcow2
busy base.raw raw

# the external data file is an image's content as well
hold io qemu-io -f raw ext.data
tell io 'read 0 512'
wait_for grep -q 'read 512' io.out
refused ext.data ext.qcow2 new.qcow2
tell io quit
release io

# readers share, writers do not
hold io qemu-io -r -f qcow2 disk.qcow2
tell io 'read 0 512'
wait_for grep -q 'read 512' io.out
ok "$QDEDUP" convert disk.qcow2 new.qcow2
deduplicated new.qcow2 base.raw 64K
rm new.qcow2
before=$(sha256sum disk.qcow2)
refused disk.qcow2 other.raw disk.qcow2
is "$before" "$(sha256sum disk.qcow2)" "target"
tell io quit
release io
ok "$QDEDUP" convert other.raw disk.qcow2
deduplicated disk.qcow2 base.raw 64K
