#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Zero flags with and without a host cluster, preallocated images, and images with nothing in them.
. "$(dirname "$0")/convert-lib.sh"

for prealloc in off metadata falloc full; do
	for cs in 4K 64K; do
		qemu-img create -q -f qcow2 -o preallocation=$prealloc,cluster_size=$cs in.qcow2 4M
		content in.qcow2
		to_raw in.qcow2
		qemu-io -c 'write -P 1 0 1M' -c 'write -z 0 256k' -c 'write -z -u 512k 256k' \
			-c 'write -z 2M 1M' -c 'write -P 2 2060k 4k' -c 'write -P 3 3M 1' in.qcow2 >/dev/null
		content in.qcow2
		if [ $cs = 4K ]; then to_raw in.qcow2; else from in.qcow2; fi
		rm in.qcow2
	done
done

# zeros over a backing file that has data hide it; in the output they are zeros too
mkdata base.raw 2M 108 random
qemu-img create -q -f qcow2 -b base.raw -F raw in.qcow2
qemu-io -c 'write -z 0 1M' -c 'write -z -u 1M 512k' in.qcow2 >/dev/null
content in.qcow2
from in.qcow2
ok "$QDEDUP" convert in.qcow2 eight.qcow2
is 8 "$(walk --get data eight.qcow2)" "data clusters"
