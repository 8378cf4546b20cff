#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Stock QEMU writes at random to an image deduplicated in place, then it is deduplicated again, and so on: it
# stays a twin of a raw file, snapshots keep their content, and both checks stay clean.
. "$(dirname "$0")/dedup-lib.sh"

seed=${SEED:-$RANDOM}
mkdup base.raw 2M 4K 60 750
for options in cluster_size=4K cluster_size=64K cluster_size=16K,extended_l2=on \
	cluster_size=4K,lazy_refcounts=on,refcount_bits=8; do
	cs=${options#*=} cs=${cs%%,*}
	cp base.raw twin.raw
	qemu-img convert -c -f raw -O qcow2 -o "$options" twin.raw disk.qcow2
	ok "$QDEDUP" dedup -q -t unsafe disk.qcow2
	for round in 1 2 3; do
		seed=$((seed + 1))
		echo "seed $seed: $options, round $round"
		twin_write disk.qcow2 twin.raw $seed $cs 60
		check_clean -q disk.qcow2
		walk disk.qcow2 >/dev/null || die "seed $seed: rules broken by QEMU's writes"
		same twin.raw disk.qcow2 raw qcow2
		[ $round != 2 ] || qemu-img snapshot -c kept disk.qcow2
		in_place disk.qcow2 $cs
		same twin.raw disk.qcow2 raw qcow2
		is 0 "$(ok "$QDEDUP" stats --output=json disk.qcow2 | json - 'd["pinned-unused"]')" "clusters only pinned"
	done
done
