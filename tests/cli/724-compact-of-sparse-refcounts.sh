#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Where an image has no refcount block, because nothing is in use there, one is made before anything moves there:
# the content is what it was, the file as short as it can be.
. "$(dirname "$0")/compact-lib.sh"

for options in cluster_size=512,refcount_bits=64 cluster_size=1K,refcount_bits=64; do
	qemu-img create -q -f qcow2 -o $options disk.qcow2 2M
	first=()	# all L2 tables come first, so that whole refcount blocks count data alone
	for ((i = 0; i < 64; i++)); do
		first+=(-c "write -P 9 $((i * 32))K 512")
	done
	qemu-io "${first[@]}" -c 'write -P 1 0 900K' -c 'write -P 3 1100K 300K' -c 'discard 20K 850K' disk.qcow2 >/dev/null
	qemu-img convert -O raw disk.qcow2 wanted.raw
	dropped=$("$_python" "$_top/tests/cli/emptyblocks.py" disk.qcow2)
	[ "$dropped" -ge 2 ] || die "$options: $dropped blocks count nothing: no test"
	check_clean disk.qcow2
	foretold=$("$QDEDUP" compact -n --output=json disk.qcow2)
	ok "$QDEDUP" compact --output=json disk.qcow2 >done.json
	check_clean disk.qcow2
	exits 0 "$QDEDUP" check -q disk.qcow2
	same wanted.raw disk.qcow2 raw qcow2
	[ "$(json done.json 'd["file-size-after"]')" -lt 800000 ] || die "$options: $foretold, $(cat done.json)"
	is False "$("$QDEDUP" compact --output=json disk.qcow2 | json - 'str(d["changed"])')" "a second run"
done
