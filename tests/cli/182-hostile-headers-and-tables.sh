#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Header fields and table entries that point outside, nowhere, or at too much: a clear error with the
# file's name, within a second and bounded memory, never a crash, nothing on stdout, no output file.
. "$(dirname "$0")/convert-lib.sh"

mkdata in.raw 4M 182 random
qemu-img convert -O qcow2 in.raw good.qcow2
qemu-img snapshot -c snap good.qcow2
qemu-io -c 'write -P 1 1M 64k' good.qcow2 >/dev/null
qemu-img convert -O raw good.qcow2 good.raw
size=$(stat -c %s good.qcow2)
l1=$(peek good.qcow2 40 8)
l2=$(($(peek good.qcow2 "$l1" 8) & 0xfffffffffffe00))
snapshots=$(peek good.qcow2 64 8)
far=$((1 << 50))

# bad WHAT OFFSET WIDTH VALUE: must be refused
bad() {
	local what=$1
	shift
	cp good.qcow2 bad.qcow2
	while [ $# -ge 3 ]; do
		poke bad.qcow2 "$1" "$2" "$3"
		shift 3
	done
	for target in out.qcow2 -; do
		hostile 1 "$QDEDUP" convert -O "$([ $target = - ] && echo raw || echo qcow2)" bad.qcow2 $target ||
			die "$what"
		says bad.qcow2
		is 1 "$(wc -l <<<"$ERR")" "lines of the message for $what: $ERR"
		[ ! -e out.qcow2 ] || die "$what: left an output"
	done
	echo "$what: $ERR"
}
# harmless WHAT OFFSET WIDTH VALUE: an error, or the content that it had before
harmless() {
	local what=$1 status=0
	shift
	cp good.qcow2 bad.qcow2
	poke bad.qcow2 "$@"
	rm -f out.raw
	timeout $((5 * slower)) "$_cli/bounded.sh" "$QDEDUP" convert -q bad.qcow2 out.raw 2>err || status=$?
	case $status in
	0) cmp good.raw out.raw || die "$what: other content" ;;
	1) grep -q bad.qcow2 err || die "$what: $(cat err)" ;;
	*) die "$what: status $status: $(cat err)" ;;
	esac
}
# odd WHAT OFFSET WIDTH VALUE: what qemu-img makes of it is right, and so is an error
odd() {
	local what=$1 status=0
	shift
	cp good.qcow2 bad.qcow2
	poke bad.qcow2 "$@"
	timeout $((5 * slower)) "$QDEDUP" convert bad.qcow2 out.raw 2>err || status=$?
	[ $status -le 1 ] || die "$what: status $status: $(cat err)"
	[ $status -eq 0 ] || { grep -q bad.qcow2 err && [ ! -e out.raw ]; } || die "$what: $(cat err)"
	if [ $status -eq 0 ]; then
		qemu-img convert -O raw bad.qcow2 theirs.raw 2>/dev/null || die "$what: QEMU refuses what we take"
		cmp theirs.raw out.raw || die "$what: other content than QEMU's"
	fi
	rm -f out.raw
}

bad "L1 table past the end" 40 8 $((size + 65536))
bad "L1 table far past the end" 40 8 $far
bad "L1 offset unaligned" 40 8 $((l1 + 8))
bad "L1 offset at the top of the range" 40 8 -65536
bad "L1 table huge" 36 4 $((1 << 22))
bad "L1 table absurd" 36 4 $((0xffffffff))
bad "L1 table too small for the size" 36 4 0
bad "virtual size absurd" 24 8 $((1 << 62))
bad "virtual size negative" 24 8 -512
harmless "refcount table past the end" 48 8 $far
harmless "refcount table unaligned" 48 8 $((65536 + 512))
harmless "refcount table huge" 56 4 $((1 << 28))
harmless "refcount table absurd" 56 4 $((0xffffffff))
bad "header length absurd" 100 4 $((0xffffffff))
bad "header length short" 100 4 72
bad "header length larger than a cluster" 100 4 65544
bad "backing name too long" 8 8 512 16 4 2000
bad "backing name past the end" 8 8 $far 16 4 10
bad "snapshot count absurd" 60 4 $((0xffffffff))
bad "snapshot count over the limit" 60 4 65537
bad "snapshots past the end" 64 8 $far
bad "snapshots unaligned" 64 8 $((snapshots + 4))
bad "extension longer than the header" 116 4 $((0x7fffffff))
bad "compression type unknown" 104 1 9 72 8 8
bad "compression type without its bit" 104 1 1

bad "L2 table past the end" "$l1" 8 $((size + (1 << 20) & ~65535 | 1 << 63))
bad "L2 table far past the end" "$l1" 8 $far
bad "L2 table unaligned" "$l1" 8 $((l2 + 512 | 1 << 63))
bad "data cluster past the end" "$l2" 8 $((size + (1 << 20) & ~65535 | 1 << 63))
bad "data cluster far past the end" "$l2" 8 $far
bad "data cluster unaligned" "$l2" 8 $((65536 * 6 + 512 | 1 << 63))
bad "compressed cluster far past the end" "$l2" 8 $((1 << 62 | 1 << 52))
bad "compressed cluster is no stream" "$l2" 8 $((1 << 62 | 65536 * 6))

odd "L1 reserved bits" "$l1" 1 $((0x40))
odd "L2 reserved bits" "$l2" 1 $((0x00))
odd "L2 table is the header" "$l1" 8 0
odd "L2 table is the L1 table" "$l1" 8 "$l1"
odd "L2 table is itself data" "$l1" 8 $((65536 * 6))
odd "data cluster is the header" "$l2" 8 0
odd "data cluster is its own table" "$l2" 8 "$l2"
odd "feature name table cut" 116 4 7

# a damaged snapshot table does not matter until a snapshot is asked for; a damaged snapshot neither
cp good.qcow2 bad.qcow2
poke bad.qcow2 "$snapshots" 8 $far
ok "$QDEDUP" convert bad.qcow2 out.raw
cmp out.raw good.raw
rm out.raw
hostile 1 "$QDEDUP" convert -l snap bad.qcow2 out.raw
says bad.qcow2
cp good.qcow2 bad.qcow2
poke bad.qcow2 $((snapshots + 8)) 4 $((0x7fffffff))
hostile 1 "$QDEDUP" convert -l snap bad.qcow2 out.raw
says bad.qcow2
[ ! -e out.raw ] || die "a damaged snapshot left an output"
