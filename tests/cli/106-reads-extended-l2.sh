#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Extended L2 entries: subclusters written, zeroed, discarded and left to the backing file.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 4M 106 dup50
subclusters() {
	# shellcheck disable=SC2094
	qemu-io -d unmap "$1" >/dev/null <<-'END'
	write -P 1 0 2k
	write -P 2 6k 2k
	write -z 4k 2k
	write -P 3 64k 64k
	write -z 70k 4k
	discard 80k 8k
	write -z -u 90k 6k
	write -z 128k 128k
	write -P 4 130k 512
	write -P 5 1M 1k
	write -z -u 2M 256k
	write -P 6 2100k 1000
	discard 3M 64k
	write -P 7 3100k 700
	END
}
for cs in 16K 64K 2M; do
	for back in '' base.raw; do
		# shellcheck disable=SC2086
		qemu-img create -q -f qcow2 -o extended_l2=on,cluster_size=$cs ${back:+-b $back -F raw} in.qcow2 4M
		subclusters in.qcow2
		content in.qcow2
		from in.qcow2
		rm in.qcow2
	done
done
qemu-img convert -c -O qcow2 -o extended_l2=on,compression_type=zstd base.raw in.qcow2
subclusters in.qcow2
content in.qcow2
from in.qcow2
