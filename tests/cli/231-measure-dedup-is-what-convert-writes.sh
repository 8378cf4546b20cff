#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
# measure --dedup tells the size of the file that convert then writes, and reads nothing into it.
. "$(dirname "$0")/lib.sh"

# exact FORMAT OPTIONS IMAGE
exact() {
	ok "$QDEDUP" measure --dedup -f "$1" -o "$2" --output=json "$3" >j
	ok "$QDEDUP" convert -q -t unsafe -f "$1" -o "$2" "$3" out
	is "$(stat -c %s out)" "$(json j 'd["required"]')" "$*"
	is "$(ok "$QDEDUP" stats --output=json out | json - '[d["references"], d["data-clusters"], d["shared-clusters"]]')" \
		"$(json j '[d["guest-clusters"], d["data-clusters"], d["shared-clusters"]]')" "$*"
	rm out
}

mkdata dup.raw 12M 5 dup50
mkdata sparse.raw 20M 6 sparse
: >empty.raw
head -c 70001 dup.raw >odd.raw
qemu-img convert -c -f raw -O qcow2 dup.raw packed
qemu-img create -q -f qcow2 -b packed -F qcow2 overlay
qemu-io -c 'write -P 3 1M 2M' -c 'write -z 4M 1M' overlay >/dev/null
for options in cluster_size=4k cluster_size=64k cluster_size=512,refcount_bits=2 cluster_size=16k,extended_l2=on; do
	for image in dup.raw sparse.raw empty.raw odd.raw; do
		exact raw $options $image
	done
	exact qcow2 $options packed
	exact qcow2 $options overlay
done
ok "$QDEDUP" measure --dedup --threads=1 --memory=16M -o cluster_size=4k dup.raw >one
ok "$QDEDUP" measure --dedup --threads=4 -o cluster_size=4k dup.raw >four
cmp one four
grep -q 'would be stored' one

fails 1 "$QDEDUP" measure --dedup -O raw dup.raw
says qcow2
fails 1 "$QDEDUP" measure --dedup --size 1M
fails 1 "$QDEDUP" measure --dedup -o refcount_bits=1 dup.raw
fails 1 "$QDEDUP" measure --dedup -o preallocation=full dup.raw
fails 1 "$QDEDUP" measure -O qcow2 -o cluster_size=auto dup.raw
says auto
