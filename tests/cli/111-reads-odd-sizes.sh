#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Virtual sizes that are not a multiple of the cluster, raw sizes not a multiple of 512.
. "$(dirname "$0")/convert-lib.sh"

mkdata text.raw 1M 111 text
mkdata noise.raw 2M 111 dup50
cat text.raw noise.raw >base.raw
for size in 512 1536 65024 66048 1049088 2097664; do
	head -c $size base.raw >odd.raw
	qemu-img convert -O qcow2 odd.raw in.qcow2
	content in.qcow2
	from in.qcow2
	rm in.qcow2
done

for size in 1 511 513 4097 65537 1000001; do
	head -c $size base.raw >odd.raw
	content odd.raw -f raw
	to_raw odd.raw
	from odd.raw
	for cs in 512 4K 64K; do
		rm -f out.qcow2
		ok "$QDEDUP" convert -o cluster_size=$cs odd.raw out.qcow2
		deduplicated out.qcow2 odd.raw $cs
	done
done
