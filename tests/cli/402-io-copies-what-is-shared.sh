#!/usr/bin/env bash
# SPDX-License-Identifier: GPL-2.0-or-later
#
# Clusters shared with internal snapshots or by deduplication are copied before qdedup io writes to
# them: every snapshot keeps its content, the pin stays, refcounts and COPIED stay right.
. "$(dirname "$0")/io-lib.sh"

mkdup base.raw 3M 4K 40 402
for options in cluster_size=4K cluster_size=64K cluster_size=64K,extended_l2=on cluster_size=4K,lazy_refcounts=on \
	compat=0.10,cluster_size=4K; do
	cs=${options#*cluster_size=} cs=${cs%%,*}
	fresh disk.qcow2 twin.raw -c -o "$options"
	for name in one two; do
		rounds 1 disk.qcow2 twin.raw "$cs"
		qemu-img snapshot -c $name disk.qcow2
		cp twin.raw $name.raw
	done
	rounds 1 disk.qcow2 twin.raw "$cs"
	for name in one two; do
		rm -f out.raw
		qemu-img convert -l $name -O raw disk.qcow2 out.raw
		cmp $name.raw out.raw || die "snapshot $name has changed ($options)"
	done
	qemu-img snapshot -a one disk.qcow2
	cp one.raw twin.raw
	rounds 1 disk.qcow2 twin.raw "$cs"
	qemu-img snapshot -d one disk.qcow2
	qemu-img snapshot -d two disk.qcow2
	judge disk.qcow2 twin.raw
done

mkdup base.raw 2M 64K 5 403
for options in cluster_size=4K cluster_size=64K,extended_l2=on cluster_size=512,lazy_refcounts=on; do
	for how in '' -c; do
		cs=${options#cluster_size=} cs=${cs%%,*}
		rm -f disk.qcow2
		cp base.raw twin.raw
		# shellcheck disable=SC2086
		ok "$QDEDUP" convert -q -t unsafe $how -o "$options" base.raw disk.qcow2
		for n in 1 2; do
			rounds 1 disk.qcow2 twin.raw "$cs"
			walk disk.qcow2 >/dev/null || die "seed $seed: rules broken"
			is 1 "$(walk --get pin disk.qcow2)" "pins"
		done
		qemu-img snapshot -d qdedup disk.qcow2
		judge disk.qcow2 twin.raw
	done
done
