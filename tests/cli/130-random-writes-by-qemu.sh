#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stock QEMU writes, zeroes and discards at random over the sharers of a deduplicated image: content
# stays that of a raw twin, qemu-img check stays 0, refcounts, COPIED and pin stay right.
. "$(dirname "$0")/convert-lib.sh"

mkdup base4K.raw 3M 4K 40 130
mkdup base64K.raw 6M 64K 5 131
seed=${SEED:-$RANDOM}
for cs in 4K 64K; do
	for how in plain zlib zstd; do
		for options in '' ,extended_l2=on ,lazy_refcounts=on; do
			[ "$options$cs" != ,extended_l2=on4K ] || continue
			c=-c
			[ $how != plain ] || c=
			cp base$cs.raw twin.raw
			rm -f disk.qcow2
			# shellcheck disable=SC2086
			ok "$QDEDUP" convert -t unsafe $c -o "cluster_size=$cs,compression_type=${how/plain/zlib}$options" twin.raw disk.qcow2
			for round in 1 2 3; do
				seed=$((seed + 1))
				echo "seed $seed: $cs $how $options, round $round"
				twin_write disk.qcow2 twin.raw $seed $cs 60
				check_clean -q disk.qcow2
				same twin.raw disk.qcow2 raw qcow2
				walk disk.qcow2 >/dev/null || die "seed $seed: rules broken"
			done
			qemu-img snapshot -d qdedup disk.qcow2
			check_clean -q disk.qcow2
			same twin.raw disk.qcow2 raw qcow2
			walk disk.qcow2 >/dev/null || die "seed $seed: rules broken after the pin is gone"
			is 0 "$(walk --get pin disk.qcow2)" "pins"
			rm -f again.qcow2
			ok "$QDEDUP" convert -t unsafe -o cluster_size=$cs disk.qcow2 again.qcow2
			deduplicated again.qcow2 twin.raw $cs
		done
	done
done
