#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Random writes by qdedup io into images of every cluster size, empty and full, extended L2 entries
# and compressed clusters among them.
. "$(dirname "$0")/io-lib.sh"

mkdata base.raw 5M 401 text
for cs in 512 1K 8K 32K 128K 1M 2M; do
	rm -f empty.qcow2 empty.raw
	qemu-img create -q -f qcow2 -o cluster_size=$cs empty.qcow2 5M
	truncate -s 5M empty.raw
	rounds 1 empty.qcow2 empty.raw $cs
	fresh packed.qcow2 twin.raw -c -o cluster_size=$cs
	rounds 1 packed.qcow2 twin.raw $cs
done
for cs in 16K 64K 2M; do
	for how in '' -c; do
		# shellcheck disable=SC2086
		fresh disk.qcow2 twin.raw $how -o cluster_size=$cs,extended_l2=on,compression_type=zstd
		rounds 2 disk.qcow2 twin.raw $cs
	done
done
