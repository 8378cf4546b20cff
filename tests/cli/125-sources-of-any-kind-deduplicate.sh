#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Deduplication sees guest content: compressed, shared, zeroed and backed source clusters count by
# what they read as; converting a deduplicated image gives the same clusters again.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 6M 125 dup50
qemu-img convert -c -O qcow2 -o cluster_size=2M base.raw packed.qcow2
qemu-img create -q -f qcow2 -o cluster_size=512 -b packed.qcow2 -F qcow2 in.qcow2
scribble in.qcow2
content in.qcow2
for cs in 512 4K 64K; do
	ok "$QDEDUP" convert -t unsafe -o cluster_size=$cs in.qcow2 first$cs.qcow2
	deduplicated first$cs.qcow2 content.raw $cs
	for again in 512 4K 64K; do
		rm -f out.qcow2
		ok "$QDEDUP" convert -t unsafe -c -o cluster_size=$again first$cs.qcow2 out.qcow2
		deduplicated out.qcow2 content.raw $again
	done
done
ok "$QDEDUP" convert -t unsafe out.qcow2 out.raw
cmp out.raw content.raw

# written zeros are zeros: a 4K block of them costs nothing, neither does a tail
is 0 "$(qemu-img map --output=json --start-offset=$((1200 << 10)) --max-length=4096 first4K.qcow2 | grep -c '"data": true' || true)" \
	"data at written zeros"
