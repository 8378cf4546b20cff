#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The refcount structure grows with the file, and what is discarded goes back to the host and is used
# again before the file grows.
. "$(dirname "$0")/io-lib.sh"

# 512 bytes, 64 bits: a block counts 64 clusters, a table of one cluster counts 2 MiB
for options in refcount_bits=64 refcount_bits=64,lazy_refcounts=on refcount_bits=16 compat=0.10; do
	rm -f disk.qcow2
	qemu-img create -q -f qcow2 -o cluster_size=512,$options disk.qcow2 24M
	tables=$(peek disk.qcow2 56 4)
	ok "$QDEDUP" io -q -t unsafe -c 'write -P 1 0 9M' -c 'write -P 2 9M 9000000' disk.qcow2
	[ "$(peek disk.qcow2 56 4)" -gt "$tables" ] || die "$options: the refcount table has not grown"
	check_clean -q disk.qcow2
	ok "$QDEDUP" check -q disk.qcow2
	ok "$QDEDUP" io -q -c 'read -P 1 0 9M' -c 'read -P 2 9M 9000000' -c 'read -P 0 18437184 6M' disk.qcow2
done

for options in cluster_size=4K cluster_size=64K,extended_l2=on cluster_size=64K,lazy_refcounts=on; do
	rm -f disk.qcow2
	qemu-img create -q -f qcow2 -o $options disk.qcow2 16M
	ok "$QDEDUP" io -q -t unsafe -c 'write 0 8M' disk.qcow2
	size=$(stat -c %s disk.qcow2)
	used=$(stat -c %b disk.qcow2)
	ok "$QDEDUP" io -q -t unsafe -c 'discard 0 4M' -c 'write -z 4M 2M' disk.qcow2
	[ $(((used - $(stat -c %b disk.qcow2)) * 512)) -ge $((6 << 20)) ] || die "$options: no holes"
	ok "$QDEDUP" io -q -t unsafe -c 'write 8M 6M' disk.qcow2
	[ "$(stat -c %s disk.qcow2)" -le $((size + (64 << 10))) ] || die "$options: the holes are not used again"
	check_clean -q disk.qcow2
	ok "$QDEDUP" io -q -t unsafe -c 'discard 8M 6M' -c flush -c 'write 0 6M' disk.qcow2
	[ "$(stat -c %s disk.qcow2)" -le $((size + (64 << 10))) ] || die "$options: not used again in one run"
	check_clean -q disk.qcow2
done
