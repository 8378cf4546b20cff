#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# What the hash table says of who reads a cluster first, in the active layer if any, is true after clusters
# were merged that come earlier on the disk than the one that stays, or that are in the active layer when
# that is in a snapshot: read by somebody else, and equal to what rehash writes.
. "$(dirname "$0")/dedup-lib.sh"

table() {
	"$_python" - "$1" "$_cli" <<-'END'
		import sys
		sys.path.insert(0, sys.argv[2])
		import indexread
		for r in indexread.Image(sys.argv[1]).table():
		    print(f"{r[0]:#x} {r[1]} {r[2]} {r[3].hex()}")
	END
}

as_rehash() {
	table "$1" >got
	cp "$1" again.qcow2
	ok "$QDEDUP" rehash -q --drop again.qcow2
	ok "$QDEDUP" rehash -q -t unsafe again.qcow2
	table again.qcow2 >wanted
	diff wanted got || die "$1: the table is not that of rehash"
}

# Host clusters in the order of the writes: those that stay are read far behind on the disk.
make() {
	qemu-img create -q -f qcow2 -o "$1" disk.qcow2 4M
	mkdata noise.raw 256K 717 random
	for at in 3M 1M 2560K 512K 768K; do
		qemu-io -c "write -s noise.raw $at 256K" disk.qcow2 >/dev/null
	done
	qemu-io -c 'write -P 7 2M 128K' -c 'write -P 7 128K 64K' disk.qcow2 >/dev/null
}

for options in cluster_size=4K cluster_size=64K,refcount_bits=4 cluster_size=16K,extended_l2=on; do
	make $options
	in_place disk.qcow2 "${options:13:3}" --compact
	as_rehash disk.qcow2
	qemu-img convert -O raw disk.qcow2 disk.raw
	"$_python" "$_cli/indexread.py" compare disk.qcow2 disk.raw >/dev/null ||
		die "$options: not what the disk holds"
done

# Kept by a snapshot alone, and merged with what the active layer reads.
for options in cluster_size=4K cluster_size=64K; do
	make $options
	qemu-img snapshot -c before disk.qcow2
	qemu-io -c 'write -P 9 3M 256K' -c 'write -P 8 2M 256K' -c 'discard 512K 256K' \
		-c 'write -P 7 64K 32K' disk.qcow2 >/dev/null
	in_place disk.qcow2 "${options:13:3}"
	as_rehash disk.qcow2
	ok "$QDEDUP" verify --output=json disk.qcow2 >verify.out
	is '[0, 0]' "$(json verify.out '[d["unknown"], d["bad-clusters"]]')" "what verify cannot tell"
done
