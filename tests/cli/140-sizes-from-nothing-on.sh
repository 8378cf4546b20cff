#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Disks of 0 bytes, of one, of one byte around a sector and around a cluster.
. "$(dirname "$0")/convert-lib.sh"

mkdata base.raw 132K 140 random
for size in 0 1 511 512 513 4095 4096 4097 65535 65536 65537 131073; do
	head -c $size base.raw >in.raw
	for options in cluster_size=512 cluster_size=64K cluster_size=2M,compat=0.10 extended_l2=on; do
		for c in '' -c; do
			rm -f out.qcow2 out.raw
			# shellcheck disable=SC2086
			ok "$QDEDUP" convert -t unsafe $c -o $options in.raw out.qcow2
			check_clean -q out.qcow2
			ok "$QDEDUP" convert -t unsafe out.qcow2 out.raw
			is $(((size + 511) / 512 * 512)) "$(stat -c %s out.raw)" "bytes of a disk of $size"
			cmp -n $size in.raw out.raw || die "content of $size bytes with $options $c"
			is 0 "$(tail -c +$((size + 1)) out.raw | tr -d '\0' | wc -c)" "bytes past $size that are not zero"
		done
	done
	ok "$QDEDUP" convert -t unsafe - stdin.qcow2 <in.raw
	deduplicated stdin.qcow2 in.raw 64K
	rm stdin.qcow2
done
