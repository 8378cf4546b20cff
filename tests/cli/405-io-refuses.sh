#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What qdedup io does not write to is refused by name, the file untouched; -r and reads leave it as it
# is; the first write clears the autoclear bits, a clean end the dirty bit.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 1M 405 random
qemu-img convert -f raw -O qcow2 -o lazy_refcounts=on base.raw good.qcow2

# refused IMG PATTERN...
refused() {
	local before
	before=$(sha256sum "$1"; stat -c %y "$1")
	fails 1 "$QDEDUP" io -c 'write 0 1' "$1"
	says "$@"
	is "$before" "$(sha256sum "$1"; stat -c %y "$1")" "$1"
}
with() {
	cp good.qcow2 bad.qcow2
	poke bad.qcow2 "$@"
	refused bad.qcow2 "${wanted[@]}"
}
wanted=('marked corrupt' 'qdedup check --repair')
with 72 8 2
wanted=('not closed cleanly' 'qdedup check --repair')
with 72 8 1
wanted=('feature bit 17')
with 72 8 $((1 << 17))
wanted=('reftable_clusters|refcount table')
with 56 4 100
wanted=('same place')
with 40 8 0
refused base.raw 'only qcow2'
qemu-img create -q -f qcow2 -o data_file=ext.raw external.qcow2 1M
refused external.qcow2 'external data file'
cp good.qcow2 bitmap.qcow2
qemu-img bitmap --add bitmap.qcow2 b0
refused bitmap.qcow2 'persistent bitmaps' 'qemu-img bitmap --remove'
for ((try = 0; try < 20; try++)); do
	! qemu-img create -q --object secret,id=s,data=abc -f qcow2 \
		-o encrypt.format=luks,encrypt.key-secret=s,encrypt.iter-time=10 luks.qcow2 1M 2>/dev/null || break
done
refused luks.qcow2 'encrypted \(LUKS\)'

# reading
autoclear=$((1 << 40))
poke good.qcow2 88 8 $autoclear
before=$(sha256sum good.qcow2; stat -c %y good.qcow2)
for options in '' -r '-r -U'; do
	# shellcheck disable=SC2086
	ok "$QDEDUP" io -q $options -c 'read 0 1M' -c flush good.qcow2
done
fails 1 "$QDEDUP" io -r -c 'write 0 1' good.qcow2
says 'for reading only'
fails 1 "$QDEDUP" io -U -c 'write 0 1' good.qcow2
says 'needs -r'
for range in '1048576 1' '0 1048577' '7E 7E'; do
	for verb in read write 'write -z' discard; do
		fails 1 "$QDEDUP" io -c "$verb $range" good.qcow2
		says 'do not lie within the disk'
	done
done
ok "$QDEDUP" io -q -c 'read 1048576 0' -c 'write 1M 0' -c 'discard 1M 0' good.qcow2
is "$before" "$(sha256sum good.qcow2; stat -c %y good.qcow2)" "good.qcow2"

# writing
ok "$QDEDUP" io -q -c 'write -P 1 1000 9' good.qcow2
is 0 "$(peek good.qcow2 88 8)" "autoclear bits after a write"
ok "$QDEDUP" io -q -c 'discard 0 1M' good.qcow2
is 0 $(($(peek good.qcow2 72 8))) "incompatible bits after the end"
check_clean -q good.qcow2

# locks, both ways
qemu_writes() {
	timeout $((5 * slower)) qemu-io -c 'write 0 512' good.qcow2 </dev/null 2>&1
}
hold ours "$QDEDUP" io good.qcow2
tell ours 'read 0 1'
wait_for grep -q 'read 1 bytes' ours.out
! qemu_writes >out 2>&1 || ! grep -q wrote out || die "QEMU writes to what qdedup io holds"
fails 1 "$QDEDUP" io -r -c 'read 0 1' good.qcow2
says 'in use'
ok "$QDEDUP" io -q -r -U -c 'read 0 1' good.qcow2
release ours
hold theirs qemu-io good.qcow2
tell theirs 'write 0 512'
wait_for grep -q wrote theirs.out
refused_while_held() { fails 1 "$QDEDUP" io "$@" good.qcow2; says 'in use'; }
refused_while_held -c 'write 0 1'
refused_while_held -r -c 'read 0 1'
release theirs
