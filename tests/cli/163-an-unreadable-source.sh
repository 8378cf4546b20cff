#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# A source that cannot be read to its end, in data, tables or backing file: a message with the name, no
# partial output, the old target untouched.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 8M 163 random
echo precious >old.qcow2

refused() {
	local named=$1 target
	shift
	for target in new.qcow2 old.qcow2 new.raw; do
		before=$(listing old.qcow2)
		fails 1 "$QDEDUP" convert "$@" $target
		says "$named"
		is "$before" "$(listing old.qcow2)" "files after $*"
	done
	fails 1 "$QDEDUP" convert "$@" new.qcow2 --output=json
	tail -n 1 <<<"$ERR" >json.out
	is true "$(json json.out 'isinstance(d["error"]["message"], str) and "'"$named"'" in d["error"]["file"]')" "error in JSON"
}

# a compressed stream that is garbage, near the end
mkdata text.raw 4M 1631 text
qemu-img convert -c -O qcow2 text.raw garbage.qcow2
l2=$(($(peek garbage.qcow2 "$(peek garbage.qcow2 40 8)" 8) & 0xfffffffffffe00))
off=$(($(peek garbage.qcow2 $((l2 + 8 * 60)) 8) & 0x3fffffffffffff))
head -c 64 /dev/zero | tr '\0' '\377' | dd of=garbage.qcow2 bs=1 seek=$off conv=notrunc status=none
refused garbage.qcow2 garbage.qcow2

# a backing file that is missing, is no disk, is not what its format says
qemu-img create -q -f qcow2 -b gone.raw -F raw -u missing.qcow2 8M
refused gone.raw missing.qcow2
mkdir adir
qemu-img create -q -f qcow2 -b adir -F raw -u dir.qcow2 8M
refused adir dir.qcow2
qemu-img create -q -f qcow2 -b in.raw -F qcow2 -u format.qcow2 8M
refused in.raw format.qcow2

# a device that stops halfway
if [ "$(id -u)" -eq 0 ]; then
	cp in.raw under.img
	if dev=$(losetup -f --show under.img 2>/dev/null); then
		at_exit "losetup -d $dev"
		truncate -s 5M under.img
		blockdev --flushbufs "$dev"
		refused "$dev" "$dev"
		says 'Input/output error'
	fi
fi
