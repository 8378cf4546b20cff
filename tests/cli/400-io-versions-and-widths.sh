#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Random writes, zero writes, discards and reads by qdedup io: versions, widths, lazy refcounts.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 2M $((seed % 1000)) sparse
for options in compat=0.10 refcount_bits={1,2,4,8,16,32,64} lazy_refcounts=on; do
	for cs in 512 4K 64K; do
		fresh disk.qcow2 twin.raw -o "$options,cluster_size=$cs"
		rounds 1 disk.qcow2 twin.raw $cs
	done
done
