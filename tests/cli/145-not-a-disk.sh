#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Directories, missing files and directories, empty and truncated images, FIFOs and character devices.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 1M 145 dup50
mkdir dir
: >empty
mkfifo pipe
ln -s loop loop

refused() {
	local status=$1
	shift
	fails "$status" timeout $((5 * slower)) "$QDEDUP" convert "$@"
	[ ! -e out.qcow2 ] || die "convert $* left an output"
	is 1 "$(wc -l <<<"$ERR")" "lines of the message: $ERR"
}
refused 1 dir out.qcow2
says dir directory
refused 1 nosuch.raw out.qcow2
says nosuch.raw 'No such file'
refused 1 dir/nosuch/in.raw out.qcow2
refused 1 in.raw/x out.qcow2
says 'in.raw/x' 'Not a directory'
refused 1 loop out.qcow2
says loop
refused 1 pipe out.qcow2
says pipe
refused 1 /dev/null out.qcow2
says /dev/null
refused 1 /dev/zero out.qcow2
says /dev/zero

refused 1 in.raw dir
says dir directory
refused 1 in.raw nosuch/out.qcow2
says nosuch/out.qcow2 'No such file'
refused 1 in.raw pipe
says pipe
refused 1 -O raw in.raw /dev/null
says /dev/null
[ -p pipe ] || die "the FIFO is gone"
[ -c /dev/null ] || die "/dev/null is gone"

# an empty file is a raw disk of 0 bytes; said to be qcow2, it is not one
ok "$QDEDUP" convert empty out.qcow2
check_clean -q out.qcow2
rm out.qcow2
refused 1 -f qcow2 empty out.qcow2
says empty

# a qcow2 image that ends too early, in header, tables and data
qemu-img convert -O qcow2 in.raw whole.qcow2
size=$(stat -c %s whole.qcow2)
for n in 4 71 103 112 512 65536 196608 $((size - 65536)) $((size - 1)); do
	head -c "$n" whole.qcow2 >cut.qcow2
	if qemu-img convert -O raw cut.qcow2 cut.raw 2>/dev/null; then
		# QEMU reads zeros past the end of the file
		if timeout $((5 * slower)) "$QDEDUP" convert cut.qcow2 out.qcow2 >/dev/null 2>err; then
			same cut.raw out.qcow2 raw qcow2
			rm out.qcow2
		else
			grep -q cut.qcow2 err || die "cut at $n: $(cat err)"
			[ ! -e out.qcow2 ] || die "cut at $n: left an output"
		fi
	else
		refused 1 cut.qcow2 out.qcow2
		says cut.qcow2
	fi
done

# usage
refused 1
says -- --help
refused 1 in.raw
refused 1 in.raw out.qcow2 more.qcow2
refused 1 --nosuch in.raw out.qcow2
says nosuch
refused 1 -O vmdk in.raw out.qcow2
says vmdk
