#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# While qdedup reads a source, QEMU can read it too but not write it; with -U it can. A target that is
# written in place, or that is going to be replaced, is locked for both.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 2M 171 random
qemu-img convert -O qcow2 base.raw mid.qcow2
qemu-img create -q -f qcow2 -b mid.qcow2 -F qcow2 top.qcow2
qio() {
	timeout $((5 * slower)) qemu-io "$@" </dev/null 2>&1
}
can() { qio "$@" | prints 'read 512'; }
cannot() {
	local out
	out=$(qio "$@" || true)
	grep -q 'Failed to get' <<<"$out" || die "qemu-io $* is not refused: $out"
}

# a pipe that nobody reads holds the conversion up after 64 KiB
held_up() {
	mkfifo out.in
	env --default-signal=PIPE "$QDEDUP" convert "$@" - >out.in 2>err.out &
	pid=$!
	exec 9<out.in
	head -c 1 <&9 >/dev/null
}
go_on() {
	cat <&9 >/dev/null
	exec 9<&-
	wait $pid || die "the conversion failed: $(cat err.out)"
	rm out.in
}
held_up top.qcow2
for img in top mid; do
	can -r -f qcow2 -c 'read 0 512' $img.qcow2 || die "$img cannot be read meanwhile"
	cannot -f qcow2 -c 'read 0 512' $img.qcow2
done
go_on
can -f qcow2 -c 'read 0 512' mid.qcow2 || die "mid is still locked"
held_up -U top.qcow2
can -f qcow2 -c 'read 0 512' top.qcow2 || die "top is locked in spite of -U"
go_on
held_up base.raw
cannot -f raw -c 'read 0 512' base.raw
can -r -f raw -c 'read 0 512' base.raw || die "base.raw cannot be read meanwhile"
go_on

# in place
cp base.raw target.raw
hold run "$QDEDUP" convert -n - target.raw
feed run base.raw
cannot -f raw -c 'read 0 512' target.raw
cannot -r -f raw -c 'read 0 512' target.raw
release run
cmp base.raw target.raw

# an old target is locked from the start, until the new one has its name
hold run "$QDEDUP" convert - mid.qcow2
feed run base.raw
cannot -f qcow2 -c 'read 0 512' mid.qcow2
cannot -r -f qcow2 -c 'read 0 512' mid.qcow2
cannot -r -f qcow2 -c 'read 0 512' top.qcow2
release run
deduplicated mid.qcow2 base.raw 64K
can -f qcow2 -c 'read 0 512' mid.qcow2 || die "the new file is still locked"
