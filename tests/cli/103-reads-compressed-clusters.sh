#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sources with zlib and zstd clusters, mixed with plain ones, partly overwritten, convert.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 103 text
mkdata noise.raw 1M 3 random
dd if=noise.raw of=base.raw bs=64K seek=20 conv=notrunc status=none
for cs in 512 4K 64K 2M; do
	for how in zlib zstd; do
		qemu-img convert -c -O qcow2 -o cluster_size=$cs,compression_type=$how base.raw in.qcow2
		content in.qcow2
		to_raw in.qcow2
		scribble in.qcow2
		content in.qcow2
		if [ $cs = 512 ]; then to_raw in.qcow2; else from in.qcow2; fi
	done
done

# version 2, and compressed clusters written one by one between others
qemu-img create -q -f qcow2 -o compat=0.10 in.qcow2 4M
qemu-io -c 'write -c -P 7 64k 64k' -c 'write -P 8 128k 64k' -c 'write -c -P 7 192k 64k' \
	-c 'write -c -s base.raw 1M 1M' -c 'write -P 9 1100k 3k' in.qcow2 >/dev/null
content in.qcow2
from in.qcow2
