#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# The output holds each distinct non-zero cluster once, counted independently on both sides, its
# refcounts, COPIED flags and pin are right, at every cluster size, plain, zlib and zstd.
. "$(dirname "$0")/convert-lib.sh"

mkdata mixed.raw 8M 120 dup50
mkdup small.raw 4M 512 900 1201
mkdup large.raw 12M 2M 3 1202
for raw in mixed small large; do
	for cs in 512 1K 4K 16K 64K 2M; do
		for how in plain zlib zstd; do
			c=-c
			[ $how != plain ] || c=
			rm -f out.qcow2
			# shellcheck disable=SC2086
			ok "$QDEDUP" convert -t unsafe $c -o "cluster_size=$cs,compression_type=${how/plain/zlib}" $raw.raw out.qcow2
			deduplicated out.qcow2 $raw.raw $cs
		done
	done
done

# extended L2 entries
for cs in 16K 64K 2M; do
	for c in '' -c; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $c -o cluster_size=$cs,extended_l2=on mixed.raw out.qcow2
		deduplicated out.qcow2 mixed.raw $cs
	done
done

# all the same, nothing the same, nothing at all
mkdup same.raw 4M 4K 0 1
mkdup one.raw 2M 4K 1 2
mkdata random.raw 4M 1203 random
mkdata zeros.raw 4M 1204 zeros
for raw in same one random zeros; do
	for c in '' -c; do
		rm -f out.qcow2
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -t unsafe $c -o cluster_size=4K $raw.raw out.qcow2
		deduplicated out.qcow2 $raw.raw 4K
	done
done
