#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# 8 TiB with a few clusters of data take a moment, from raw and from qcow2, to qcow2 and to raw.
. "$(dirname "$0")/convert-lib.sh"

truncate -s 8T in.raw 2>/dev/null || skip "needs a file system with files of 8 TiB"
for at in 0 1T 4398046515200 8796093018112; do
	qemu-io -f raw -c "write -P 0x55 $at 4k" in.raw >/dev/null
done
soon() {
	local status=0
	timeout $((3 * slower)) "$@" || status=$?
	[ $status -ne 124 ] || die "not done after $((3 * slower)) s: $*"
	is 0 $status "$*"
}
rm -f ./*.qcow2
soon "$QDEDUP" convert in.raw out.qcow2
check_clean -q out.qcow2
is "3 4" "$(walk --fresh --get data --get references out.qcow2 | xargs)" "data clusters and references"
soon qemu-img compare -q -f raw -F qcow2 in.raw out.qcow2
soon "$QDEDUP" convert out.qcow2 back.raw
is $((8 << 40)) "$(stat -c %s back.raw)" "size"
soon cmp -s <(qemu-img map --output=json -f raw in.raw) <(qemu-img map --output=json -f raw back.raw)
soon "$QDEDUP" convert -c out.qcow2 packed.qcow2
check_clean -q packed.qcow2
soon "$QDEDUP" convert -o cluster_size=4K out.qcow2 small.qcow2 || true
qemu-img create -q -f qcow2 -b in.raw -F raw over.qcow2
qemu-io -c 'write -P 1 7T 64k' over.qcow2 >/dev/null
soon "$QDEDUP" convert over.qcow2 flat.qcow2
soon qemu-img compare -q over.qcow2 flat.qcow2

# An L1 table past QEMU's limit of 32 MiB is refused before anything is written.
fails 1 timeout $((3 * slower)) "$QDEDUP" convert -o cluster_size=512 in.raw none.qcow2
says 'larger clusters'
[ ! -e none.qcow2 ] || die "a refused conversion left an output"

# The largest disk a qcow2 can hold: what lies past what the index can number is stored all the same.
qemu-img create -q -f qcow2 -o cluster_size=2M huge.qcow2 1E
for at in 0 $(((1 << 60) - (9 << 21))) $(((1 << 60) - (8 << 21))); do
	qemu-io -c "write -P 0x66 $at 2M" huge.qcow2 >/dev/null
done
for options in '' '-c --trust-hash'; do
	rm -f far.qcow2
	# shellcheck disable=SC2086
	ok "$QDEDUP" convert -t unsafe $options -o cluster_size=2M huge.qcow2 far.qcow2
	check_clean -q far.qcow2
	is "1 3" "$(walk --fresh --get data --get references far.qcow2 | xargs)" "data clusters and references"
	qemu-io -r -c "read -P 0x66 $(((1 << 60) - (8 << 21))) 2M" far.qcow2 >/dev/null || die "content at the end"
done
fails 1 "$QDEDUP" convert huge.qcow2 none.qcow2
says 'larger clusters'
