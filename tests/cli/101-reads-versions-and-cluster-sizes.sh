#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Sources of version 2 and 3 at the smallest, common and largest cluster sizes convert to the
# content qemu-img gives, and back to every cluster size and compression.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 101 dup50
for version in 0.10 1.1; do
	for cs in 512 4K 64K 2M; do
		qemu-img convert -O qcow2 -o compat=$version,cluster_size=$cs base.raw in.qcow2
		scribble in.qcow2
		content in.qcow2
		from in.qcow2
	done
done
