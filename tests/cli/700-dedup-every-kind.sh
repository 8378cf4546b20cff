#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Images of stock QEMU deduplicated in place, at every cluster size, plain, zlib and zstd: content as before,
# both checks clean, as many data clusters as there are contents and as convert stores, less on disk.
. "$(dirname "$0")/dedup-lib.sh"

mkdup small.raw 1M 4K 60 700
mkdup large.raw 12M 2M 3 701
truncate -s $((1024 * 1024 - 1536)) small.raw
for raw in small large; do
	for options in cluster_size=512 cluster_size=4K cluster_size=64K cluster_size=2M cluster_size=4K,refcount_bits=64 \
		cluster_size=16K,extended_l2=on cluster_size=4K,lazy_refcounts=on; do
		for how in plain zlib zstd; do
			case $raw$options in
			large*512 | small*2M) continue ;;
			esac
			c=-c
			[ $how != plain ] || c=
			cs=${options#*=} cs=${cs%%,*}
			# shellcheck disable=SC2086
			qemu-img convert $c -f raw -O qcow2 -o "$options,compression_type=${how/plain/zlib}" $raw.raw disk.qcow2
			in_place_exactly disk.qcow2 $cs
			same $raw.raw disk.qcow2 raw qcow2
			is "$(walk --get shared disk.qcow2)" "$(walk --get pinned disk.qcow2)" "pinned clusters, of $raw $options"
			[ $how = plain ] || continue
			ok "$QDEDUP" convert -q -t unsafe -o "$options" $raw.raw again.qcow2
			is "$(walk --get data again.qcow2)" "$(walk --get data disk.qcow2)" "data clusters beside convert's"
		done
	done
done
